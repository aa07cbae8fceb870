"""What a command answers with, and how it is printed: text for people, one JSON document for programs.

Nothing here needs rich, and json is loaded only by who asks for JSON.
"""

import os
import sys
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any, Final, TextIO

__all__ = [
    "Printed",
    "Result",
    "Style",
    "compact",
    "counted",
    "json_line",
    "json_text",
    "make_stdio_safe",
    "printable",
    "table",
    "write",
]

_CODES: Final = {"bold": "1", "dim": "2", "red": "31", "green": "32", "yellow": "33"}


class Style:
    """Colour for a terminal that wants it; plain text for everything else.

    Args:
        enabled: Whether to write escape sequences.
    """

    __slots__ = ("enabled",)

    def __init__(self, *, enabled: bool = False) -> None:
        self.enabled = enabled

    @classmethod
    def of(cls, stream: TextIO) -> "Style":
        """Return the style of a stream: colour on a terminal, unless ``NO_COLOR`` or ``TERM=dumb`` is set."""
        wanted = not os.environ.get("NO_COLOR") and os.environ.get("TERM") != "dumb"
        return cls(enabled=wanted and stream.isatty())

    def __call__(self, name: str, text: str) -> str:
        """Return *text* in the style *name*: ``bold dim red green yellow``."""
        return f"\x1b[{_CODES[name]}m{text}\x1b[0m" if self.enabled else text


@dataclass(frozen=True, slots=True)
class Result:
    """The answer of a command.

    Attributes:
        document: Plain data, for ``--json``.
        text: Gives the lines for people; called only when they are wanted.
        notes: Lines for stderr, unless ``--quiet``: what is worth knowing and is not the answer.
        exit_code: What the process exits with.
        as_json: Print the document also where ``--json`` was not said.
    """

    document: Any
    text: Callable[[Style], Iterable[str]]
    notes: Sequence[str] = field(default=())
    exit_code: int = 0
    as_json: bool = False


@dataclass(frozen=True, slots=True)
class Printed:
    """The end of a command that has printed its answer itself, as it came.

    Attributes:
        exit_code: What the process exits with.
    """

    exit_code: int = 0


def json_line(document: Any) -> str:
    """Return a document as JSON in one line of ASCII, for a command that prints many."""
    import json  # noqa: PLC0415 - text output never pays for it

    return json.dumps(document, separators=(",", ":"))


def json_text(document: Any) -> str:
    """Return a document as indented JSON in ASCII, with a newline at its end."""
    import json  # noqa: PLC0415 - text output never pays for it

    return json.dumps(document, indent=2) + "\n"


def compact(value: object) -> str:
    """Return a setting's value in one line: text as it is, anything else as JSON."""
    if isinstance(value, str):
        return value
    if value is None:
        return "-"
    import json  # noqa: PLC0415 - as above

    return json.dumps(value, ensure_ascii=False, default=str)


def counted(things: int, one: str, many: str) -> str:
    """Return a number with its noun."""
    return f"{things} {one if things == 1 else many}"


def printable(text: object) -> str:
    """Return text that cannot move a terminal's cursor: what is not printable is escaped."""
    shown = str(text)
    if shown.isprintable():
        return shown
    return "".join(letter if letter.isprintable() else _escaped(letter) for letter in shown)


def _escaped(letter: str) -> str:
    return " " if letter in "\n\t" else letter.encode("unicode_escape").decode("ascii")


def table(
    headings: Sequence[str], rows: Iterable[Sequence[object]], style: Style | None = None, indent: str = ""
) -> list[str]:
    """Return aligned columns, two spaces apart; numbers stand to the right.

    Args:
        headings: One a column.
        rows: As many cells each; None is shown as ``-``.
        style: How headings look.
        indent: Put before each line.
    """
    style = style or Style()
    raw = [tuple(row) for row in rows]
    cells = [["-" if cell is None else printable(cell) for cell in row] for row in raw]
    numeric = [
        bool(raw) and all(cell is None or isinstance(cell, int | float) for cell in column)
        for column in (zip(*raw, strict=True) if raw else [()] * len(headings))
    ]
    widths = [max(map(len, column)) for column in zip(headings, *cells, strict=True)]

    def line(values: Sequence[str]) -> str:
        placed = (
            value.rjust(width) if right else value.ljust(width)
            for value, width, right in zip(values, widths, numeric, strict=True)
        )
        return f"{indent}{'  '.join(placed)}".rstrip()

    return [style("bold", line(headings)), *(line(row) for row in cells)]


def write(stream: TextIO, lines: Iterable[str]) -> None:
    """Write lines and hand them on at once, so that what reads them is told, and tells, in time."""
    for line in lines:
        stream.write(f"{line}\n")
    stream.flush()


def make_stdio_safe() -> None:
    """Let no character that a terminal's encoding lacks end a command."""
    for stream in (sys.stdout, sys.stderr):
        reconfigure = getattr(stream, "reconfigure", None)
        if reconfigure is not None:
            reconfigure(errors="backslashreplace")
