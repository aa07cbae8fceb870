"""The one value model of the family: what may be stored, how it is written, how long it lives.

Every provider asks here, so that swapping one for another cannot change an answer. A value is written as
compact JSON in UTF-8, except for bytes, which follow a NUL (no JSON begins with one). Integers are therefore
plain decimals: that is what lets a Redis server add to them.
"""

from collections.abc import Iterable, Mapping
from json import JSONDecoder, JSONEncoder
from math import ceil, inf, isfinite
from typing import Any, Final

from oneiric.core.errors import InactiveError, RejectedError

__all__ = [
    "MAX_TTL",
    "MAX_VALUE_BYTES",
    "add",
    "check_delta",
    "check_items",
    "check_key",
    "check_keys",
    "closed",
    "decode",
    "encode",
    "is_immutable",
    "lifetime_ms",
]

MAX_KEY_CHARACTERS: Final = 65_536
#: What a Redis server takes in one string; the others keep to it.
MAX_VALUE_BYTES: Final = 512 * 1024 * 1024
#: Seconds, about 31 years: past that a millisecond clock of some provider would overflow; ``math.inf`` means
#: forever.
MAX_TTL: Final = 1e9

_INT64: Final = 2**63
_BYTES_MARK: Final = b"\x00"
_IMMUTABLE: Final = frozenset({type(None), bool, int, float, str, bytes})
_KINDS: Final = "None, bool, int, finite float, str, bytes, or lists and str-keyed dicts of these without bytes"

_to_json = JSONEncoder(ensure_ascii=False, allow_nan=False, separators=(",", ":")).encode
_decoder = JSONDecoder()
_from_json = _decoder.decode
_scan = _decoder.raw_decode


def encode(value: object) -> bytes:
    """Write *value*, or refuse what would not come back equal.

    Raises:
        RejectedError: The value is of another kind, or larger than `MAX_VALUE_BYTES`.
    """
    if isinstance(value, bytes):
        data = _BYTES_MARK + value
    else:
        try:
            text = _to_json(value)
            # JSON would quietly turn tuples into lists and every dictionary key into a string.
            comes_back = type(value) in _IMMUTABLE or bool(_from_json(text) == value)
        except (TypeError, ValueError, RecursionError) as error:
            raise _refused(value) from error
        if not comes_back:
            raise _refused(value)
        data = text.encode("utf-8", "surrogatepass")
    if len(data) > MAX_VALUE_BYTES:
        raise RejectedError(f"cache value of {len(data)} bytes is over the limit of {MAX_VALUE_BYTES}")
    return data


def decode(data: bytes) -> Any:
    """Read what `encode` wrote.

    Raises:
        RejectedError: Something else wrote it.
    """
    if data[:1] == _BYTES_MARK:
        return data[1:]
    try:
        text = data.decode("utf-8", "surrogatepass")
        # What `encode` wrote has no white space around it, which JSONDecoder.decode would look for with two patterns.
        value, end = _scan(text)
        if end != len(text):
            raise ValueError("trailing text")
    except (ValueError, RecursionError) as error:
        raise RejectedError(
            "cache entry was not written by an Oneiric cache",
            "a key_prefix of its own",
        ) from error
    return value


def _refused(value: object) -> RejectedError:
    # The value itself stays out of the message: caches hold what logs must not.
    return RejectedError(f"cache value of type {type(value).__name__!r} would not come back equal", f"{_KINDS}")


def is_immutable(value: object) -> bool:
    """Say whether *value* may be kept as it is: a plain scalar that `encode` would take."""
    kind = type(value)
    if kind is str or kind is bytes:
        return len(value) <= MAX_VALUE_BYTES // 4  # type: ignore[arg-type]  # a str or bytes; 4 bytes a character
    if kind is int:
        return -_INT64 <= value < _INT64  # type: ignore[operator]  # an int
    if kind is float:
        return isfinite(value)  # type: ignore[arg-type]  # a float
    return value is None or kind is bool


def check_key(key: object) -> str:
    """Return *key* if every provider can hold it.

    Raises:
        RejectedError: It is no string, empty, longer than 65,536 characters, or has no UTF-8 form.
    """
    if not isinstance(key, str):
        raise RejectedError(f"cache key must be a str, not {type(key).__name__!r}")
    if not 0 < len(key) <= MAX_KEY_CHARACTERS:
        raise RejectedError(f"cache key has {len(key)} characters, not 1 to {MAX_KEY_CHARACTERS}")
    if not key.isascii():
        try:
            key.encode()
        except UnicodeEncodeError as error:
            raise RejectedError(f"cache key {key[:40]!r} has no UTF-8 form") from error
    return key


def check_keys(keys: Iterable[str]) -> list[str]:
    """Return *keys*, each once; a lone string is refused: its characters are never meant."""
    if isinstance(keys, str):
        raise RejectedError("cache keys must be an iterable of str, not one str", "a list with that key in it")
    return list(dict.fromkeys(check_key(key) for key in keys))


def check_items(items: Mapping[str, Any]) -> dict[str, bytes]:
    """Write every value of *items* before any is stored."""
    return {check_key(key): encode(value) for key, value in items.items()}


def lifetime_ms(ttl: float | None, default_ttl: float | None) -> int | None:
    """Return whole milliseconds, rounded up, or None for forever.

    Raises:
        RejectedError: *ttl* is no number, not above 0, or finite and over `MAX_TTL`.
    """
    if ttl is None:
        ttl = default_ttl
    if ttl is None or ttl == inf:
        return None
    if type(ttl) not in (int, float) or not 0 < ttl <= MAX_TTL:
        raise RejectedError(
            f"cache ttl must be seconds above 0 and up to {MAX_TTL:g}, not {ttl!r}",
            "math.inf for an entry that stays, delete() for one that goes",
        )
    # A whole number of milliseconds is not rounded up for the last bit of its float.
    return max(1, ceil(ttl * 1000 - 1e-6))


def check_delta(delta: object) -> int:
    """Return *delta* if it is an integer of 64 bits.

    Raises:
        RejectedError: It is not.
    """
    if isinstance(delta, bool) or not isinstance(delta, int) or not -_INT64 <= delta < _INT64:
        raise RejectedError(f"cache increment must be an int of 64 bits, not {delta!r:.40}")
    return delta


def add(current: object, delta: int) -> int:
    """Return ``current + delta``, where both and the sum must be integers of 64 bits, as on a Redis server.

    Raises:
        RejectedError: The value is none, or the sum does not fit.
    """
    if type(current) is not int or not -_INT64 <= current < _INT64:
        raise RejectedError(f"cache value of type {type(current).__name__!r} is not an integer of 64 bits")
    if not -_INT64 <= current + delta < _INT64:
        raise RejectedError("cache increment would leave 64 bits")
    return current + delta


def closed(provider: str, *, was_open: bool) -> InactiveError:
    """Say that an instance cannot be used: it is closed, or was never initialised."""
    if was_open:
        return InactiveError(f"cache provider {provider!r} is closed", "a lease, which keeps its instance open")
    return InactiveError(f"cache provider {provider!r} is not initialised", "await init() first")
