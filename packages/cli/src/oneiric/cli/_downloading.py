"""A download while it goes on: one line on stderr, drawn in place on a terminal, and gone when it is over."""

import os
import sys
import time
from contextlib import suppress
from types import TracebackType
from typing import Final, Self

from oneiric.cli._options import RootOptions
from oneiric.cli._output import printable

__all__ = ["DownloadBar", "is_bar_wanted"]

#: Often enough to look alive, seldom enough to cost nothing.
_DRAW_SECONDS: Final = 0.1
_CELLS: Final = 24
_MOST_NAME: Final = 40
_KIB: Final = 1024.0


def is_bar_wanted(options: RootOptions) -> bool:
    """Tell whether somebody looks at stderr who can see a line change, and nothing else is written there."""
    if options.json or options.quiet or options.verbose or options.debug:
        return False
    return sys.stderr.isatty() and os.environ.get("TERM") != "dumb" and not os.environ.get("CI")


class DownloadBar:
    """Draws how far a download is, again and again; left, nothing of it is there any more.

    Args:
        enabled: False draws nothing.
    """

    def __init__(self, *, enabled: bool) -> None:
        self._enabled = enabled
        self._name: str | None = None
        self._drawn_at = 0.0

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        if self._name is not None:
            _put("")

    def __call__(self, name: str, received_bytes: int, signed_bytes: int) -> None:
        """Take note that *received_bytes* of the *signed_bytes* of *name* have arrived."""
        now = time.monotonic()
        if not self._enabled or (name == self._name and now - self._drawn_at < _DRAW_SECONDS):
            return
        self._name, self._drawn_at = name, now
        share = min(1.0, received_bytes / max(1, signed_bytes))
        cells = "#" * int(share * _CELLS)
        amount = f"{_size(received_bytes)} of {_size(signed_bytes)}"
        _put(f"{printable(name)[:_MOST_NAME]}  [{cells.ljust(_CELLS)}] {share:4.0%}  {amount}")


def _put(line: str) -> None:
    # A line that wraps could not be drawn over: the terminal is told not to. A terminal that is gone ends no download.
    with suppress(OSError):
        sys.stderr.write(f"\r\x1b[2K\x1b[?7l{line}\x1b[?7h" if line else "\r\x1b[2K")
        sys.stderr.flush()


def _size(count: float) -> str:
    if count < _KIB:
        return f"{count:.0f} B"
    for unit in ("KiB", "MiB"):
        count /= _KIB
        if count < _KIB:
            return f"{count:.1f} {unit}"
    return f"{count / _KIB:.1f} GiB"
