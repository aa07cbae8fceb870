"""TOML, and the line of every key that has one of its own."""

import re
import tomllib
from typing import Final

from oneiric.core.errors import ConfigurationError
from oneiric.runtime.settings._document import MAX_DEPTH, Document, too_deep
from oneiric.runtime.settings._origin import Path

__all__ = ["parse_toml"]

# Strings first, so that nothing inside one is taken for syntax. An unclosed one runs to the end, which
# keeps the scan linear whatever the text is.
_TOKEN = re.compile(
    r'"""(?:[^"\\]|\\.|"(?!""))*+(?:"{3,5}|\Z)'
    r"|'''(?:[^']|'(?!''))*+(?:'{3,5}|\Z)"
    r'|"(?:[^"\\\n]|\\.)*+"?'
    r"|'[^'\n]*+'?"
    r"|\#[^\n]*"
    r"|[\[\]{}=,.\n]"
    r"|[^\s\[\]{}=,.\"'#]+",
    re.DOTALL,
)
_OPENING: Final = frozenset("[{")
_CLOSING: Final = frozenset("]}")
_AT = re.compile(r"\(at line (\d+), column \d+\)")


def parse_toml(text: str, file: str) -> Document:
    """Parse a TOML document.

    Raises:
        ConfigurationError: The text is not TOML, or is nested too deep; file and, where known, line are
            named.
    """
    scan = _Scan(file)
    # First, and on anything: it bounds what the parser recurses into, and the keys it takes quadratic time
    # for.
    scan.run(text.replace("\r\n", "\n"))
    problem, line = "", None
    try:
        return Document(tomllib.loads(text), scan.lines, scan.spread)
    except tomllib.TOMLDecodeError as error:
        problem, at = str(error), _AT.search(str(error))
        line = int(at[1]) if at else None
        problem = problem[: at.start()].rstrip() if at else problem
    except RecursionError:
        problem = "it is nested too deep"
    except ValueError as error:  # an integer longer than Python reads
        problem = str(error)
    # Raised out here: newer releases of the parser's error carry the whole document, and that may hold a
    # secret.
    raise ConfigurationError(f"is not valid TOML: {problem}", None, file, line)


class _Scan:
    """Follow headers and keys. Tokens only: whether the text is TOML is for the parser to say."""

    def __init__(self, file: str) -> None:
        self.lines: dict[Path, int] = {}
        self.spread: set[Path] = set()
        self._file = file
        self._line = 1
        self._table: Path = ()
        self._tables: dict[Path, int] = {}  # arrays of tables → the place of the latest one
        self._parts: list[str] = []
        self._brackets = 0  # open ones of a value; of a header, how many it began with
        self._dots = 0
        self._state = "start"  # start → header | key → value → start, at each end of a line
        self._key: Path = ()
        self._begun = 1

    def run(self, text: str) -> None:
        for match in _TOKEN.finditer(text):
            lexeme = match[0]
            self._bound(lexeme)
            if lexeme == "\n":
                self._end_of_line()
                self._line += 1
            elif not lexeme.startswith("#"):
                getattr(self, f"_in_{self._state}")(lexeme)
                self._line += lexeme.count("\n")
        self._end_of_line()

    def _bound(self, lexeme: str) -> None:
        if lexeme == ".":
            self._dots += 1
        elif lexeme in _OPENING or lexeme in _CLOSING or lexeme in {",", "=", "\n"}:
            self._dots = 0
        if self._dots > MAX_DEPTH or self._brackets > MAX_DEPTH:
            raise too_deep(self._file, self._line)

    def _in_start(self, lexeme: str) -> None:
        self._parts, self._begun = [], self._line
        if lexeme == "[":
            self._state, self._brackets = "header", 1
        else:
            self._state = "key"
            self._in_key(lexeme)

    def _in_header(self, lexeme: str) -> None:
        if lexeme == "[":
            self._brackets += 1
        elif lexeme not in {".", "]"}:
            self._parts.append(_bare(lexeme))

    def _in_key(self, lexeme: str) -> None:
        if lexeme == "=":
            self._key = self._absolute(self._parts, self._table)
            for length in range(len(self._table) + 1, len(self._key) + 1):
                self.lines.setdefault(self._key[:length], self._begun)
            self._state, self._brackets = "value", 0
        elif lexeme != ".":
            self._parts.append(_bare(lexeme))

    def _in_value(self, lexeme: str) -> None:
        if lexeme in _OPENING:
            self._brackets += 1
        elif lexeme in _CLOSING:
            self._brackets -= 1

    def _end_of_line(self) -> None:
        if self._state == "header":
            self._open_table()
        elif self._state == "value":
            if self._brackets > 0:
                return
            if self._line > self._begun:
                self.spread.add(self._key)
        self._state, self._brackets = "start", 0

    def _open_table(self) -> None:
        path = self._absolute(self._parts[:-1], ())
        if self._parts:
            path = (*path, self._parts[-1])
        for length in range(1, len(path) + 1):
            self.lines.setdefault(path[:length], self._begun)
        if self._brackets > 1:
            self._tables[path] = self._tables.get(path, -1) + 1
        if path in self._tables:
            path = (*path, self._tables[path])
            self.lines.setdefault(path, self._begun)
        self._table = path

    def _absolute(self, parts: list[str], table: Path) -> Path:
        """Return where a dotted key stands, through the latest table of every array of tables on the way."""
        path = table
        for part in parts:
            path = (*path, part)
            if path in self._tables:
                path = (*path, self._tables[path])
        return path


def _bare(lexeme: str) -> str:
    """Return the name a part of a key stands for."""
    if lexeme.startswith("'"):
        return lexeme.strip("'")
    if lexeme.startswith('"'):
        try:
            return str(tomllib.loads(f"key = {lexeme}")["key"])
        except tomllib.TOMLDecodeError:
            return lexeme  # the parser refuses the document in a moment
    return lexeme
