"""JSON of a request, strictly: one object of bounded depth, no key twice, no NaN, no infinity."""

import json
import re
from math import isinf
from typing import Any, Final, Never

from oneiric.runtime.http._asgi import RefusalError

__all__ = ["parse_body"]

_MOST_DEEP: Final = 32
# An unclosed string runs to the end of the text, so that scanning stays linear whatever the text is.
_BRACKET: Final = re.compile(r'"(?:[^"\\]|\\.)*+(?:"|\Z)|[{}\[\]]', re.DOTALL)


def parse_body(body: bytes) -> dict[str, Any]:
    """Return the object a body holds.

    Raises:
        RefusalError: It is not strict JSON (400), or no object (422).
    """
    try:
        text = body.decode("utf-8")
        _bound_depth(text)  # first: the parser recurses
        data = json.loads(
            text, object_pairs_hook=_unique, parse_constant=_refuse_constant, parse_float=_finite, strict=True
        )
    except RefusalError:
        raise
    except (ValueError, RecursionError) as error:
        what = error.msg if isinstance(error, json.JSONDecodeError) else "it is not UTF-8, or a number is too long"
        raise RefusalError(400, f"the body is not valid JSON: {what}", "one JSON object in UTF-8") from None
    if not isinstance(data, dict):
        raise RefusalError(422, f"the body is a JSON {type(data).__name__}, not an object", '{"domain": "adapter"}')
    return data


def _bound_depth(text: str) -> None:
    depth = 0
    for match in _BRACKET.finditer(text):
        lexeme = match[0]
        if lexeme in "{[":
            depth += 1
            if depth > _MOST_DEEP:
                raise RefusalError(400, f"the body is nested deeper than {_MOST_DEEP} levels")
        elif lexeme in "}]":
            depth -= 1


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for name, value in pairs:
        if name in found:
            raise RefusalError(400, f"the body gives the key {name[:100]!r} twice", "give it once")
        found[name] = value
    return found


def _refuse_constant(name: str) -> Never:
    raise RefusalError(400, f"the body is not valid JSON: {name} is no JSON number")


def _finite(digits: str) -> float:
    value = float(digits)
    if isinf(value):
        raise RefusalError(400, "the body holds a number too large to read")
    return value
