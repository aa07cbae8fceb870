"""Looking again and again: a table that stays in place on a terminal, one document a line with ``--json``."""

import shutil
import sys
import time
from collections.abc import Callable, Iterable
from typing import Final

from oneiric.cli._output import Printed, Result, Style, json_line, printable, write
from oneiric.core.errors import OneiricError

__all__ = ["watch"]

_CLEAR: Final = "\x1b[2J"
_HOME: Final = "\x1b[H"
_REST_OF_LINE: Final = "\x1b[K"
_REST_OF_SCREEN: Final = "\x1b[J"
_INTERRUPTED: Final = 130


def watch(look: Callable[[], Result], seconds: float, *, as_json: bool) -> Printed:
    """Show what *look* returns until it is interrupted.

    Args:
        look: Called for each showing. What it raises the first time ends it; later that is shown, and it goes on.
        seconds: How long to wait between two showings.
        as_json: One document a line, instead of text.
    """
    show = _as_lines if as_json else _Screen() if sys.stdout.isatty() else _as_blocks
    is_first = True
    try:
        while True:
            try:
                result = look()
            except OneiricError as error:
                if is_first:
                    raise
                result = _failed(error)
            show(result)
            is_first = False
            time.sleep(seconds)
    except KeyboardInterrupt:
        return Printed(_INTERRUPTED)


def _failed(error: OneiricError) -> Result:
    document = {"error": {"type": type(error).__name__, "message": error.message, "hint": error.hint}}
    return Result(document=document, text=lambda style: [f"{style('red', 'error:')} {printable(error.message)}"])


def _as_lines(result: Result) -> None:
    write(sys.stdout, [json_line(result.document)])


def _as_blocks(result: Result) -> None:
    write(sys.stdout, [*result.text(Style.of(sys.stdout)), ""])


class _Screen:
    """A terminal: each showing is written over the one before, so that it does not flicker."""

    def __init__(self) -> None:
        self._was_used = False

    def __call__(self, result: Result) -> None:
        rows = max(1, shutil.get_terminal_size().lines - 1)
        lines = list(self._fitting(result.text(Style.of(sys.stdout)), rows))
        start = _HOME if self._was_used else _CLEAR + _HOME
        sys.stdout.write(start + "".join(f"{line}{_REST_OF_LINE}\n" for line in lines) + _REST_OF_SCREEN)
        sys.stdout.flush()
        self._was_used = True

    @staticmethod
    def _fitting(lines: Iterable[str], rows: int) -> Iterable[str]:
        told = list(lines)
        if len(told) <= rows:
            return told
        return [*told[: rows - 1], f"… and {len(told) - rows + 1} more lines"]
