"""What a message may be, and how it is written: the same for every provider, so that swapping one changes nothing.

A payload is compact JSON in UTF-8; headers are a JSON object too, where the backend has none of its own.
"""

import json
import re
from collections.abc import Mapping
from json import JSONDecoder, JSONEncoder
from math import isfinite
from typing import Any, Final

from oneiric.core.errors import InactiveError, RejectedError

__all__ = [
    "MAX_DELAY_SECONDS",
    "MAX_MESSAGES",
    "check_count",
    "check_dedup_id",
    "check_headers",
    "check_reason",
    "check_seconds",
    "closed",
    "encode",
    "read_headers",
    "read_payload",
    "write_headers",
]

MAX_DELAY_SECONDS: Final = 30 * 86_400.0
MAX_MESSAGES: Final = 256
MAX_HEADERS_BYTES: Final = 8192
MAX_REASON_CHARACTERS: Final = 2000
MAX_DEDUP_CHARACTERS: Final = 256
_KINDS: Final = "str-keyed dicts of None, bool, int, finite float, str, lists and dicts"
_HEADER_NAME: Final = re.compile(r"[A-Za-z0-9_-]{1,128}\Z")
_HEADER_VALUE: Final = re.compile(r"[!-~](?:[ -~]*[!-~])?\Z|\Z")
#: Names under which the providers keep what is theirs.
_RESERVED: Final = ("oneiric-", "nats-")
_SCALARS: Final = frozenset({type(None), bool, int, str})

_to_json = JSONEncoder(ensure_ascii=False, allow_nan=False, separators=(",", ":")).encode
_from_json = JSONDecoder().decode


def encode(payload: object, limit_bytes: int) -> bytes:
    """Write a payload, or refuse what would not come back equal.

    Raises:
        RejectedError: It is no JSON object, or larger than *limit_bytes*.
    """
    if not isinstance(payload, Mapping):
        raise RejectedError(f"a message is a JSON object, not {type(payload).__name__}", f"a dict: {_KINDS}")
    try:
        stated = dict(payload)
        _check(stated)
        data = _to_json(stated).encode()
    except (TypeError, ValueError, RecursionError) as error:
        # The reason names types only: a message may hold what must not be read in a log.
        reason = "nesting too deep" if isinstance(error, RecursionError) else str(error)
        if isinstance(error, UnicodeEncodeError):
            reason = "text with half a surrogate pair"
        raise RejectedError(f"a message cannot hold this: {reason}", _KINDS) from None
    if len(data) > limit_bytes:
        raise RejectedError(
            f"a message has {len(data)} bytes, and this queue takes {limit_bytes}",
            "store the data elsewhere and enqueue where; or raise max_payload_bytes",
        )
    return data


def _check(value: object) -> None:
    """Refuse what JSON would quietly turn into something else.

    Raises:
        TypeError: A value is of another kind, or a key is no string.
    """
    kind = type(value)
    if kind in _SCALARS:
        return
    if isinstance(value, float):
        if not isfinite(value):
            raise TypeError("a number that is not finite")
    elif isinstance(value, dict):
        for key, inner in value.items():
            if type(key) is not str:
                raise TypeError(f"a key of type {type(key).__name__}")
            _check(inner)
    elif isinstance(value, list):
        for inner in value:
            _check(inner)
    else:
        raise TypeError(f"a value of type {kind.__name__}")


def read_payload(data: bytes) -> dict[str, Any] | None:
    """Read a payload; None when it is no JSON object, as a foreign producer may have written."""
    try:
        found = _from_json(data.decode())
    except (ValueError, RecursionError):
        return None
    return found if isinstance(found, dict) else None


def check_headers(headers: Mapping[str, str] | None) -> dict[str, str]:
    """Return headers that every backend can carry unchanged.

    Raises:
        RejectedError: A name or a value is not, or all together are too large.
    """
    stated: dict[Any, Any] = dict(headers or {})  # what a caller hands over may be of any type
    for name, value in stated.items():
        if not isinstance(name, str) or not _HEADER_NAME.match(name):
            raise RejectedError(f"a message has no header {name!r}", "letters, digits, - and _")
        if name.lower().startswith(_RESERVED):
            raise RejectedError(f"the header {name!r} is the queue's own", "another name")
        if not isinstance(value, str) or not _HEADER_VALUE.match(value):
            raise RejectedError(f"the header {name!r} is no line of printable ASCII", "put other data in the payload")
    size = sum(len(name) + len(value) for name, value in stated.items())
    if size > MAX_HEADERS_BYTES:
        raise RejectedError(
            f"headers have {size} bytes, and a message takes {MAX_HEADERS_BYTES}", "put data in the payload"
        )
    return stated


def write_headers(headers: Mapping[str, str]) -> str:
    """Write headers as one text; empty for none."""
    return _to_json(dict(headers)) if headers else ""


def read_headers(text: str) -> dict[str, str]:
    """Read what `write_headers` wrote."""
    found: dict[str, str] = json.loads(text) if text else {}
    return found


def check_seconds(value: object, name: str, most: float = MAX_DELAY_SECONDS) -> float:
    """Return a number of seconds from 0 to *most*.

    Raises:
        RejectedError: It is none.
    """
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value <= most:
        raise RejectedError(f"{name} is 0 to {most:g} seconds, not {value!r}")
    return float(value)


def check_count(value: object, name: str, most: int = MAX_MESSAGES) -> int:
    """Return a number from 1 to *most*.

    Raises:
        RejectedError: It is none.
    """
    if type(value) is not int or not 1 <= value <= most:
        raise RejectedError(f"{name} is 1 to {most}, not {value!r}")
    return value


def check_dedup_id(value: object) -> str | None:
    """Return a deduplication id, or None.

    Raises:
        RejectedError: It is empty, too long, or no line of printable ASCII.
    """
    if value is None:
        return None
    if not isinstance(value, str) or not value or len(value) > MAX_DEDUP_CHARACTERS or not _HEADER_VALUE.match(value):
        raise RejectedError(
            f"a dedup_id is 1 to {MAX_DEDUP_CHARACTERS} characters of printable ASCII, not {value!r}",
            "a digest of what makes the message the same",
        )
    return value


def check_reason(value: object) -> str:
    """Return why a message is given up, cut to a length every backend keeps.

    Raises:
        RejectedError: There is no reason.
    """
    if not isinstance(value, str) or not value.strip():
        raise RejectedError("a dead letter has a reason", "what failed, in words")
    return value.encode("utf-8", "replace").decode()[:MAX_REASON_CHARACTERS]


def closed(provider: str, *, was_open: bool) -> InactiveError:
    """Return what to raise for a call on an instance that does not serve."""
    if was_open:
        return InactiveError(f"{provider} queue is closed", "take a lease: it keeps the instance open")
    return InactiveError(f"{provider} queue is not open yet", "await its init() first")
