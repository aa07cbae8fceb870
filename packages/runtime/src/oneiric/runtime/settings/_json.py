"""JSON, strictly: no duplicate keys, no NaN; and the line of every node."""

import json
import re
from typing import Any, Never

from oneiric.core.errors import ConfigurationError
from oneiric.runtime.settings._document import MAX_DEPTH, MAX_NODES, Document, too_deep, too_many
from oneiric.runtime.settings._origin import Path, dotted

__all__ = ["parse_json", "parse_json_value"]

# An unclosed string runs to the end of the text, so that scanning stays linear whatever the text is.
_TOKEN = re.compile(r'"(?:[^"\\]|\\.)*+(?:"|\Z)|[{}\[\],:\n]|[^\s"{}\[\],:]+', re.DOTALL)


def parse_json(text: str, file: str) -> Document:
    """Parse a JSON document whose root is an object.

    Raises:
        ConfigurationError: The text is not JSON, repeats a key, or breaks a limit; file, line and key are
            named.
    """
    scan = _Scan(file)
    scan.run(text)  # first, and on anything: it bounds the depth that the parser then recurses into
    data = parse_json_value(text, file)
    if not isinstance(data, dict):
        raise ConfigurationError("must be an object of settings", '{"section": {…}}', file)
    if scan.duplicate is not None:
        path, line = scan.duplicate
        raise ConfigurationError("is given twice", "remove one of the two", file, line, dotted(path))
    return Document(data, scan.lines)


def parse_json_value(text: str, file: str | None = None) -> Any:
    """Parse any JSON value.

    Raises:
        ConfigurationError: The text is not JSON.
    """
    problem, line = "", None
    try:
        return json.loads(text, parse_constant=_refuse_constant)
    except json.JSONDecodeError as error:
        problem, line = error.msg, error.lineno
    except RecursionError:
        problem = "it is nested too deep"
    except ValueError as error:  # a constant refused, or an integer longer than Python reads
        problem = str(error)
    # Raised out here: JSONDecodeError carries the whole document, and that may hold a secret.
    raise ConfigurationError(f"is not valid JSON: {problem}", None, file, line)


def _refuse_constant(name: str) -> Never:
    raise ValueError(f"{name} is not a JSON number")


class _Open:
    """An object or array the scan is inside of."""

    __slots__ = ("key", "keys", "path", "place")

    def __init__(self, path: Path, *, is_object: bool) -> None:
        self.path = path
        self.keys: set[str] | None = set() if is_object else None
        self.key: str | None = None  # of the value that comes next, once its colon was seen
        self.place = 0

    def child(self) -> Path:
        return (*self.path, self.place) if self.keys is None else (*self.path, self.key or "")


class _Scan:
    """Find the line of every node. Tokens only: whether the text is JSON is for the parser to say."""

    def __init__(self, file: str) -> None:
        self.lines: dict[Path, int] = {}
        self.duplicate: tuple[Path, int] | None = None
        self._file = file
        self._line = 1
        self._nodes = 0
        self._open: list[_Open] = []

    def run(self, text: str) -> None:
        for match in _TOKEN.finditer(text):
            lexeme = match[0]
            if lexeme == "\n":
                self._line += 1
            elif lexeme in "}]":
                del self._open[-1:]
            elif lexeme == ",":
                self._next()
            elif lexeme != ":":
                self._value_or_key(lexeme)
            self._line += lexeme.count("\n") if len(lexeme) > 1 else 0

    def _next(self) -> None:
        if self._open:
            self._open[-1].place += 1
            self._open[-1].key = None

    def _value_or_key(self, lexeme: str) -> None:
        inside = self._open[-1] if self._open else None
        if inside is not None and inside.keys is not None and inside.key is None:
            self._key(inside, lexeme)
            return
        path = () if inside is None else inside.child()
        self.lines.setdefault(path, self._line)
        self._nodes += 1
        if self._nodes > MAX_NODES:
            raise too_many(self._file, self._line)
        if lexeme in "{[":
            if len(self._open) > MAX_DEPTH:
                raise too_deep(self._file, self._line)
            self._open.append(_Open(path, is_object=lexeme == "{"))

    def _key(self, inside: _Open, lexeme: str) -> None:
        try:
            key = str(json.loads(lexeme))
        except ValueError:
            key = lexeme  # the parser refuses the document in a moment
        path = (*inside.path, key)
        keys = inside.keys if inside.keys is not None else set()
        if key in keys and self.duplicate is None:
            self.duplicate = (path, self._line)
        keys.add(key)
        inside.key = key
        self.lines[path] = self._line
