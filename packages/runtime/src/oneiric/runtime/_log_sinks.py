"""Where log lines go. A sink never raises, and never makes who logs wait for a network.

What a sink cannot take it counts.
"""

import fcntl
import os
import stat
import threading
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any, Protocol, TextIO

from oneiric.runtime._telemetry_metrics import count

__all__ = ["CountingSink", "FileSink", "Sink", "StreamSink", "status_of"]


class Sink(Protocol):
    """Takes lines.

    Attributes:
        target: What settings call it.
        written: Lines it has taken; of a network, that have arrived.
        dropped: Lines it could not take.
        last_error: Why not, the last time; None while nothing was wrong.
    """

    target: str
    written: int
    dropped: int
    last_error: str | None

    def write(self, text: str) -> None:
        """Take a line, without its end."""

    def close(self, seconds: float) -> None:
        """Deliver what waits, for at most so long, and let go of everything."""


class CountingSink:
    """What every sink says of itself."""

    target = ""

    def __init__(self) -> None:
        self.written = 0
        self.dropped = 0
        self.last_error: str | None = None

    def _lost(self, error: object, lines: int = 1) -> None:
        self.dropped += lines
        self.last_error = f"{type(error).__name__}: {error}" if isinstance(error, BaseException) else str(error)
        count("oneiric_log_dropped_lines_total", lines, target=self.target)


class StreamSink(CountingSink):
    """Writes lines to a stream of this process.

    Args:
        target: ``stdout`` or ``stderr``.
        stream: Returns the stream; asked for each line, because it may be replaced.
    """

    def __init__(self, target: str, stream: Callable[[], TextIO]) -> None:
        super().__init__()
        self.target = target
        self._stream = stream
        self._lock = threading.Lock()

    def write(self, text: str) -> None:
        """Write a line; one that a closed or full pipe does not take is dropped."""
        with self._lock:
            try:
                stream = self._stream()
                try:
                    stream.write(f"{text}\n")
                except UnicodeEncodeError:
                    stream.write(f"{text.encode('ascii', 'backslashreplace').decode()}\n")
                stream.flush()
            except (OSError, ValueError) as error:  # ValueError: it is closed
                self._lost(error)
            else:
                self.written += 1

    def close(self, seconds: float) -> None:
        """Leave the stream as it is: it belongs to the process."""


class FileSink(CountingSink):
    """Appends lines to a file that is for this user alone, and rotates it by size.

    Several processes may write one file: a line is one write, and who finds the file replaced opens the new one
    (so an external rotation works too). A file that cannot be written is tried again with the next line.

    Args:
        path: The file; it must be a regular one, and no symbolic link. Its directory is made if it is missing.
        max_bytes: Size at which it is rotated; 0 never does.
        backup_count: How many rotated files are kept, ``NAME.1`` the youngest; with 0 the file starts anew.

    Raises:
        OSError: The file cannot be opened.
    """

    target = "file"

    def __init__(self, path: Path, *, max_bytes: int, backup_count: int) -> None:
        super().__init__()
        self.path = path
        self._max_bytes = max_bytes
        self._backup_count = backup_count
        self._lock = threading.Lock()
        self._is_torn = False
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        self._descriptor: int | None = self._opened()

    def write(self, text: str) -> None:
        """Append a line."""
        with self._lock:
            try:
                self._append(f"{text}\n".encode("utf-8", "backslashreplace"))
            except OSError as error:
                self._lost(error)
            else:
                self.written += 1

    def close(self, seconds: float) -> None:  # noqa: ARG002 - a file is never waited for
        """Close the file; a line after that opens it again."""
        with self._lock:
            self._let_go()

    def _append(self, line: bytes) -> None:
        descriptor = self._current(len(line))
        if self._is_torn:  # a full disk took the beginning of a line
            line = b"\n" + line
        done = os.write(descriptor, line)
        self._is_torn = done < len(line)
        if self._is_torn:
            self._is_torn = os.write(descriptor, line[done:]) < len(line) - done

    def _current(self, more: int) -> int:
        """Return the file to append to: opened again where it was replaced, rotated where it would grow too long."""
        if self._descriptor is None:
            self._descriptor = self._opened()
        ours = os.fstat(self._descriptor)
        if not self._is_in_place(ours):
            self._let_go()
            self._descriptor = self._opened()
            ours = os.fstat(self._descriptor)
        if self._max_bytes and ours.st_size and ours.st_size + more > self._max_bytes:
            self._rotate(self._descriptor)
            self._let_go()
            self._descriptor = self._opened()
        return self._descriptor

    def _is_in_place(self, ours: os.stat_result) -> bool:
        try:
            found = os.stat(self.path, follow_symlinks=False)  # noqa: PTH116 - Path.stat costs each line twice as much
        except FileNotFoundError:
            return False
        return (found.st_ino, found.st_dev) == (ours.st_ino, ours.st_dev)

    def _rotate(self, descriptor: int) -> None:
        fcntl.flock(descriptor, fcntl.LOCK_EX)  # until it is closed; of two processes the second finds it done
        if not self._is_in_place(os.fstat(descriptor)):
            return
        names = [self.path, *(self.path.with_name(f"{self.path.name}.{n}") for n in range(1, self._backup_count + 1))]
        if self._backup_count == 0:
            self.path.unlink(missing_ok=True)
        for older, younger in zip(reversed(names[1:]), reversed(names[:-1]), strict=True):
            with suppress(FileNotFoundError):
                younger.replace(older)

    def _opened(self) -> int:
        # Without O_NONBLOCK the opening of a pipe put in the file's place would never return.
        flags = os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
        descriptor = os.open(self.path, flags, 0o600)
        try:
            found = os.fstat(descriptor)
            if not stat.S_ISREG(found.st_mode):
                raise OSError(f"{self.path} is not a regular file")
            if stat.S_IMODE(found.st_mode) != 0o600:
                os.fchmod(descriptor, 0o600)
        except BaseException:
            os.close(descriptor)
            raise
        return descriptor

    def _let_go(self) -> None:
        if self._descriptor is not None:
            os.close(self._descriptor)
            self._descriptor = None


def status_of(sink: Sink) -> dict[str, Any]:
    """Return plain data of a sink."""
    return {
        "target": sink.target,
        "written": sink.written,
        "dropped": sink.dropped,
        "last_error": sink.last_error,
    }
