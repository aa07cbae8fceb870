"""Results as JSON: what is kept is what was returned, or is refused."""

import json
import json.encoder
from collections.abc import Callable
from typing import Any, Final

from oneiric.core.errors import WorkflowError

__all__ = ["encoded", "written"]

#: Of one result: a checkpoint is no place for files.
_MOST_BYTES: Final = 16 * 1024 * 1024
_encoder: Final = json.JSONEncoder(separators=(",", ":"), allow_nan=False, check_circular=False)
_decode: Final = json.JSONDecoder().raw_decode  # of what has nothing around it
_ATOMS: Final = frozenset((str, int, bool, type(None)))


def _made() -> Callable[[Any], str]:
    """Return what writes JSON; `JSONEncoder.encode` makes its C encoder anew for each value, at thrice the price."""
    make = getattr(json.encoder, "c_make_encoder", None)
    if make is None:
        return _encoder.encode
    write = make(
        None, _encoder.default, json.encoder.encode_basestring_ascii, None, ":", ",", False, False, False
    )  # fmt: skip
    return lambda value: "".join(write(value, 0))


_encode: Final = _made()


def written(value: Any, what: str = "its result") -> tuple[str, Any]:
    """Return a value as JSON, and as it will be read back: that is what nodes see, after a crash or not.

    Tuples become lists.

    Raises:
        WorkflowError: It is no plain data, would be read back as something else, or is too large.
    """
    if value is None:
        return "null", None
    try:
        text = _encode(value)
        again = value if type(value) in _ATOMS else _decode(text)[0]
    except (TypeError, ValueError, RecursionError) as error:
        raise WorkflowError(f"{what} is no plain data: {error}", "texts, numbers, lists and maps") from error
    if again != value and (where := _difference(value, "")):
        raise WorkflowError(f"{what} is no plain data: {where}", "texts, numbers, lists and maps")
    if len(text) > _MOST_BYTES:
        raise WorkflowError(f"{what} takes {len(text)} bytes, and {_MOST_BYTES} at most may be", "a path to it")
    return text, again


def encoded(value: Any) -> str:
    """Return as JSON what is known to be plain data, of any size."""
    return _encode(value)


def _difference(value: Any, where: str) -> str | None:
    """Return what of a value JSON cannot hold; tuples are as good as lists."""
    if isinstance(value, dict):
        for name, each in value.items():
            if not isinstance(name, str):
                return f"the name {name!r} in {where or 'it'} is no text"
            if found := _difference(each, f"{where}.{name}"):
                return found
    elif isinstance(value, list | tuple):
        for place, each in enumerate(value):
            if found := _difference(each, f"{where}.{place}"):
                return found
    return None
