"""Plain data as it is typed: JSON, a file of it, and ``name=value``; and what a component returned, as plain data."""

import sys
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, Final

from oneiric.core.errors import ConfigurationError

__all__ = ["headers_from", "json_from", "object_from", "plain"]

_SHOWN: Final = 60
_MOST_BYTES: Final = 16 * 1024 * 1024


def json_from(option: str, text: str) -> Any:
    """Return the value of JSON text, of the file that ``@FILE`` names, or of stdin for ``-``.

    Args:
        option: Who asks, for the error.
        text: As it was typed.

    Raises:
        ConfigurationError: The file cannot be read, or it is no JSON; what and where is named.
    """
    import json  # noqa: PLC0415 - only who asks

    told, source = _read(option, text)
    try:
        return json.loads(told, parse_constant=_refuse)
    except (ValueError, RecursionError) as error:
        where = "" if source is None else f" in {source}"
        shown = "" if source is not None or len(told) > _SHOWN else f": {told!r}"
        raise ConfigurationError(
            f"{option} is no JSON{where}: {error}{shown}", f'{option} \'{{"name": "value"}}\', or {option} @FILE'
        ) from error


def object_from(option: str, text: str | None) -> dict[str, Any] | None:
    """Return a JSON object as `json_from` reads it; None for None.

    Raises:
        ConfigurationError: It is no JSON object.
    """
    if text is None:
        return None
    value = json_from(option, text)
    if not isinstance(value, dict):
        raise ConfigurationError(f"{option} must be a JSON object, not {value!r:.60}", f"{option} '{{}}'")
    return value


def headers_from(stated: str | None, named: Iterable[str]) -> dict[str, str]:
    """Return headers: those of a JSON object, and each ``NAME=VALUE``, which is the stronger.

    Raises:
        ConfigurationError: One is malformed, or no text.
    """
    headers = object_from("--headers", stated) or {}
    for each in named:
        name, equals, value = each.partition("=")
        if not (name and equals):
            raise ConfigurationError(f"--header must be NAME=VALUE, not {each[:_SHOWN]!r}", "--header tenant=acme")
        headers[name] = value
    wrong = [name for name, value in headers.items() if not isinstance(value, str)]
    if wrong:
        raise ConfigurationError(f"header {wrong[0]!r} must be text, not {headers[wrong[0]]!r}", "--header NAME=VALUE")
    return headers


def plain(value: Any) -> Any:
    """Return a value as JSON can say it; what it cannot say, as the text that Python shows of it."""
    if value is None or isinstance(value, str | bool | int):
        return value
    if isinstance(value, float):
        return value if value - value == 0 else str(value)  # no JSON says infinity
    if isinstance(value, Mapping):
        return {str(name): plain(each) for name, each in value.items()}
    if isinstance(value, list | tuple):
        return [plain(each) for each in value]
    return repr(value)


def _read(option: str, text: str) -> tuple[str, str | None]:
    if text == "-":
        return sys.stdin.read(_MOST_BYTES), "stdin"
    if not text.startswith("@"):
        return text, None
    try:
        with Path(text[1:]).open(encoding="utf-8") as file:
            return file.read(_MOST_BYTES), text[1:]
    except (OSError, UnicodeDecodeError) as error:
        why = error.strerror if isinstance(error, OSError) else "it is no UTF-8"
        raise ConfigurationError(f"{option} {text} cannot be read: {why}", f"{option} @FILE") from error


def _refuse(name: str) -> float:
    raise ValueError(f"{name} is no number of JSON")
