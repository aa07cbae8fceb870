"""One log line: plain data, without secrets, named as spans and metrics name things, and one physical line as text."""

import json
import math
import re
import sys
import traceback
from collections.abc import Callable, Iterable, Mapping
from datetime import UTC, date, datetime
from functools import lru_cache
from itertools import islice
from pathlib import PurePath
from types import TracebackType
from typing import Any, Final

from oneiric.core import Secret
from oneiric.runtime._secret_redaction import REDACTOR
from oneiric.runtime._telemetry_tags import TAGS

__all__ = ["as_json", "as_text", "exception_text", "now_iso", "plain", "trace_context"]

_MASK: Final = "***"
_LONGEST_TEXT: Final = 8192
_LONGEST_NAME: Final = 128
#: A text of one word that is no longer holds at most a name.
_SURELY_SHORT: Final = 256
_LONGEST_TRACEBACK: Final = 16_384
_MOST_ITEMS: Final = 100
_DEEPEST: Final = 6
#: Integers of more bits are written in hexadecimal and cut: Python refuses to write very long ones in decimal.
_LONGEST_BITS: Final = 256

#: A value whose name says that it is a secret is never written, whoever logs it. Asked of snake_case.
_SECRET_NAME: Final = re.compile(
    r"(?:^|[^a-z])(?:passwords?|passwd|passphrase|passcode|pwd|secrets?|token|api_?key|access_?key|private_?key|"
    r"credentials?|authorization|cookie|bearer)(?:$|[^a-z])"
)
_ID_OF_A_SECRET: Final = re.compile(r"(?:^|[^a-z])secret_ids?$")
_HUMP: Final = re.compile(r"(?<=[a-z0-9])(?=[A-Z])")
#: Credentials in texts: the password of a URL, and what follows the name of an authentication scheme.
_URL_PASSWORD: Final = re.compile(r"(?<=://)[^/\s@]*:[^/\s@]+(?=@)")
_SCHEME: Final = re.compile(r"\b(Bearer|Basic)\s+[A-Za-z0-9+/._~=-]{6,}", re.IGNORECASE)
#: ``password='…'`` in the repr of an object.
_NAMED_VALUE: Final = re.compile(r"(\w+)(\s*[=:]\s*)('[^']*'|\"[^\"]*\"|[^\s,;)}\]'\"]+)")

_COLOURS: Final = {"debug": 36, "info": 32, "warning": 33, "error": 31, "critical": 31}
#: Fields that a person at a terminal knows.
_UNSAID: Final = frozenset(
    {"timestamp", "level", "event", "logger", "exception", "stack", "service.name", "service.version"}
    | {"deployment.environment"}
)
_encode: Final = json.JSONEncoder(allow_nan=False).encode
_NEEDS_QUOTES: Final = re.compile(r"[\s\"=]|^$")


def plain(line: Mapping[str, Any]) -> dict[str, Any]:
    """Return a line as data that JSON can say, bounded, with its tags named alike and its secrets masked by name."""
    found: dict[str, Any] = {}
    for name, value in islice(line.items(), _MOST_ITEMS):
        kind = type(value)
        called, is_masked = _called(name)
        if value is not None and is_masked:
            found[called] = _MASK
        elif kind is bool or (kind is str and len(value) <= _SURELY_SHORT and "@" not in value and " " not in value):
            found[called] = value  # most of what is logged: nothing in it can be long or hold credentials
        else:
            found[called] = _plain(value, _DEEPEST)
    return found


def exception_text(told: object) -> str | None:
    """Return the traceback that ``exc_info`` stands for: True, an exception, or a triple of `sys.exc_info`."""
    error: BaseException | None = None
    if isinstance(told, BaseException):
        error = told
    elif isinstance(told, tuple) and len(told) == 3 and isinstance(told[1], BaseException):
        error = told[1]
    elif told:
        error = sys.exc_info()[1]
    if error is None:
        return None
    where: TracebackType | None = error.__traceback__
    text = "".join(traceback.format_exception(type(error), error, where)).rstrip("\n")
    if len(text) > _LONGEST_TRACEBACK:  # what raised stands at the end; a secret is found while it is whole
        text = REDACTOR.mask(text)
        text = f"{text[: _LONGEST_TRACEBACK // 4]}\n…\n{text[-_LONGEST_TRACEBACK * 3 // 4 :]}"
    return _without_credentials(text)


def trace_context() -> dict[str, str]:
    """Return ``trace_id`` and ``span_id`` of the span that is open here; empty where there is none."""
    api = sys.modules.get("opentelemetry.trace")
    if api is None:
        return {}
    context = api.get_current_span().get_span_context()
    if not context.is_valid:
        return {}
    return {"trace_id": f"{context.trace_id:032x}", "span_id": f"{context.span_id:016x}"}


def as_json(line: Mapping[str, Any]) -> str:
    """Render a line as one JSON object of ASCII characters: nothing in it can end the line or steer a terminal."""
    return _encode(line).replace("\x7f", "\\u007f")


def as_text(line: Mapping[str, Any], *, colours: bool = False) -> str:
    """Render a line for people. What is not printable is escaped; lines of a traceback begin with ``  | ``."""
    level = str(line.get("level", ""))
    moment = escaped(str(line.get("timestamp", "")))
    severity = _coloured(f"{level:8}", _COLOURS.get(level, 0), colours=colours)
    said = [moment, severity, escaped(str(line.get("event", "")))]
    said += [f"{escaped(name)}={_quoted(value)}" for name, value in line.items() if name not in _UNSAID]
    if "logger" in line:
        said.append(f"({escaped(str(line['logger']))})")
    text = " ".join(said)
    for name in ("exception", "stack"):
        if name in line:
            text += "".join(f"\n  | {escaped(each)}" for each in str(line[name]).splitlines())
    return text


def escaped(text: str) -> str:
    """Return a text in which every character that is not printable is written as an escape."""
    if text.isprintable():
        return text
    return "".join(each if each.isprintable() else ascii(each)[1:-1] for each in text)


@lru_cache(maxsize=2048)
def is_secret(name: str) -> bool:
    """Tell whether a name says that its value is a secret: ``db_password``, ``apiToken``, ``API-Key``."""
    snake = _HUMP.sub("_", name).lower().replace("-", "_")
    return _SECRET_NAME.search(snake) is not None and _ID_OF_A_SECRET.search(snake) is None


@lru_cache(maxsize=2048)
def _called(name: object) -> tuple[str, bool]:
    """Return how a field is called, and whether it says that its value is a secret."""
    text = str(name)[:_LONGEST_NAME]
    return TAGS.get(text, text), is_secret(text)


def _bounded(items: Mapping[Any, Any]) -> Iterable[tuple[str, Any]]:
    return ((str(name)[:_LONGEST_NAME], value) for name, value in islice(items.items(), _MOST_ITEMS))


def _named(name: str, value: object, depth: int) -> Any:
    return _MASK if value is not None and is_secret(name) else _plain(value, depth)


def _plain(value: object, depth: int) -> Any:
    if value is None or isinstance(value, bool | int | float):
        return _plain_number(value)
    if isinstance(value, str):
        return _without_credentials(_cut(value))
    if isinstance(value, Secret):
        return _MASK
    if isinstance(value, Mapping | list | tuple | set | frozenset):
        return "…" if depth == 0 else _plain_container(value, depth - 1)
    return _cut(_described(value))


def _plain_number(value: bool | float | None) -> Any:  # noqa: FBT001 - a value like any other
    if isinstance(value, float):
        return float(value) if math.isfinite(value) else str(value)
    if value is None or isinstance(value, bool):
        return value
    return int(value) if value.bit_length() <= _LONGEST_BITS else _cut(hex(value))


def _plain_container(value: Any, depth: int) -> Any:
    if isinstance(value, Mapping):
        return {name: _named(name, below, depth) for name, below in _bounded(value)}
    return [_plain(below, depth) for below in islice(value, _MOST_ITEMS)]


def _described(value: object) -> str:
    describe: Callable[[Any], str] = repr
    if isinstance(value, datetime | date):
        describe = type(value).isoformat
    elif isinstance(value, PurePath):
        describe = str
    elif isinstance(value, BaseException):
        describe = _error
    try:
        text = describe(value)
    except Exception as error:  # noqa: BLE001 - the repr of somebody's class must not stop a line of the log
        return f"<{type(value).__qualname__} whose repr raised {type(error).__name__}>"
    return _NAMED_VALUE.sub(_masked_if_secret, _without_credentials(text[: 2 * _LONGEST_TEXT]))


def _error(error: BaseException) -> str:
    return f"{type(error).__name__}: {error}"


def _masked_if_secret(found: re.Match[str]) -> str:
    return f"{found[1]}{found[2]}{_MASK}" if is_secret(found[1]) else found[0]


def _without_credentials(text: str) -> str:
    if "://" in text and "@" in text:
        text = _URL_PASSWORD.sub(_MASK, text)
    if "earer" in text or "asic" in text or "EARER" in text or "ASIC" in text:
        text = _SCHEME.sub(rf"\1 {_MASK}", text)
    return text


def _cut(text: str) -> str:
    """Cut a long text; a secret that the cut would divide is masked before, because its halves are not known."""
    if len(text) <= _LONGEST_TEXT:
        return text
    return f"{REDACTOR.mask(text[: 2 * _LONGEST_TEXT])[:_LONGEST_TEXT]}… ({len(text) - _LONGEST_TEXT} more)"


def _quoted(value: object) -> str:
    text = value if isinstance(value, str) else json.dumps(value, ensure_ascii=False, default=str)
    return escaped(json.dumps(text, ensure_ascii=False) if _NEEDS_QUOTES.search(text) else text)


def _coloured(text: str, colour: int, *, colours: bool) -> str:
    return f"\x1b[{colour}m{text}\x1b[0m" if colours and colour else text


def now_iso(at: float) -> str:
    """Return seconds since the epoch as ISO 8601 in UTC, ending in Z."""
    return f"{datetime.fromtimestamp(at, UTC).isoformat(timespec='microseconds')[:-6]}Z"
