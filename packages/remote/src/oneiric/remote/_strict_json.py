"""JSON, read the one way that leaves no two readers of the same bytes with two opinions.

Refused: duplicate names, NaN and infinities, integers beyond what every reader holds exactly, lone surrogates, text
that is not UTF-8, and nesting or size that only an attacker needs.

Source: RFC 8259; RFC 7493 (I-JSON).
"""

import json
from collections.abc import Mapping
from typing import Any, Final

import msgspec
from pydantic_core import from_json

from oneiric.core.errors import SchemaError

__all__ = ["MAX_DEPTH", "MAX_INTEGER", "MAX_NODES", "check_plain", "parse_json"]

MAX_DEPTH: Final = 32
#: Values and names of one document; a manifest of 10,000 entries has about 200,000.
MAX_NODES: Final = 4_000_000
#: The greatest integer that a double holds exactly, with all below it (RFC 7493, section 2.2).
MAX_INTEGER: Final = 2**53 - 1
_INFINITY: Final = float("inf")


def parse_json(data: bytes, what: str, *, max_bytes: int) -> Any:
    """Return the value of a JSON text.

    Args:
        data: The text, in UTF-8.
        what: What errors call it, such as ``"manifest"``.
        max_bytes: The longest text that is looked at.

    Raises:
        SchemaError: It is longer, is not JSON, or holds what is refused here.
    """
    if len(data) > max_bytes:
        raise SchemaError(f"{what} is {len(data)} bytes long, and {max_bytes} is the most")
    try:
        value = from_json(data, allow_inf_nan=False)
    except ValueError as error:
        raise SchemaError(f"{what} is not JSON: {_clause(error)}") from error
    check_plain(value, what)
    # A text that comes out again as it was states no name twice: an object that was read has each once.
    if msgspec.json.encode(value) != data:
        _refuse_duplicates(data, what)
    return value


def check_plain(value: object, what: str) -> None:
    """Refuse a value that strict JSON could not say, such as one read from YAML.

    Raises:
        SchemaError: It holds an integer or a number out of range, too many values, or is nested too deeply.
    """
    nodes, depth = 0, 0
    level: list[Any] = [[value]]
    while level:
        if depth > MAX_DEPTH:
            raise SchemaError(f"{what} is nested more than {MAX_DEPTH} deep")
        depth += 1
        below: list[Any] = []
        for container in level:
            nodes += len(container)
            values = container
            if type(container) is dict:
                values = container.values()
            for each in values:
                kind = type(each)
                if kind is str:
                    continue
                if kind is dict or kind is list:
                    below.append(each)
                elif kind is int:
                    if not -MAX_INTEGER <= each <= MAX_INTEGER:
                        raise SchemaError(f"{what} holds an integer beyond ±(2^53 - 1), which not every reader keeps")
                elif kind is float and not abs(each) < _INFINITY:
                    raise SchemaError(f"{what} holds a number beyond what a double can say")
        if nodes > MAX_NODES:
            raise SchemaError(f"{what} holds more than {MAX_NODES} values")
        level = below


def _refuse_duplicates(data: bytes, what: str) -> None:
    def object_of(pairs: list[tuple[str, Any]]) -> Mapping[str, Any]:
        found = dict(pairs)
        if len(found) != len(pairs):
            seen: set[str] = set()
            twice = next(name for name, _ in pairs if name in seen or seen.add(name))  # type: ignore[func-returns-value]  # add says nothing
            raise SchemaError(f"{what} states {twice[:60]!r} twice in one object")
        return found

    try:
        json.loads(data, object_pairs_hook=object_of)
    except SchemaError:
        raise
    except (ValueError, RecursionError) as error:
        raise SchemaError(f"{what} is not JSON: {_clause(error)}") from error


def _clause(error: Exception) -> str:
    text = " ".join(str(error).split())
    return text if len(text) <= 200 else f"{text[:200]}…"
