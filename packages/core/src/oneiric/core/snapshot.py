"""State files: JSON documents for readers outside the process, written atomically and off the event loop.

One writer for all of them (`write_json`), and one way to keep a file up to date (`StateFile`). A reader sees the old
document or the new one, never half of either, whenever the writer is killed. The truth stays in memory: what cannot be
written is reported and tried again, and stops nothing.
"""

import asyncio
import errno
import json
import os
import stat
import tempfile
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import Any, Final

__all__ = ["SnapshotWriter", "StateFile", "read_json", "read_snapshot", "write_json", "write_snapshot"]

#: Changes that follow each other within this time are written once.
_COALESCE_SECONDS: Final = 0.05
#: How soon a failed write is tried again: a disk that was full heals without anybody's help.
_RETRY_SECONDS: Final = 1.0
_MOST_BYTES: Final = 64 * 1024 * 1024
#: A temporary file as old as this belongs to a writer that was killed.
_ABANDONED_SECONDS: Final = 60.0


def write_json(path: str | os.PathLike[str], document: object, *, max_bytes: int = _MOST_BYTES) -> None:
    """Replace a file by a JSON document: a reader sees the old one or the new one, never half of either.

    The file is 0600, and a directory that has to be made 0700. When this returns, both the document and its name
    are on the disk.

    Args:
        path: The file; a symbolic link there is replaced, not followed.
        document: Anything JSON can say, without NaN and infinities.
        max_bytes: The longest text that is written.

    Raises:
        OSError: It cannot be written, or everyone may write into the directory; the old file is untouched.
        ValueError: It is longer than *max_bytes*, refers to itself, or holds NaN or an infinity.
        TypeError: It holds something JSON cannot say.
    """
    text = json.dumps(document, indent=1, allow_nan=False).encode() + b"\n"
    if len(text) > max_bytes:
        raise ValueError(f"{os.fspath(path)} would be {len(text)} bytes, and {max_bytes} is the most")
    target = Path(path)
    _prepare(target.parent)
    # mkstemp: O_EXCL and mode 0600, in the same directory so that the rename stays on one file system.
    descriptor, temporary = tempfile.mkstemp(prefix=f".{target.name}.", dir=target.parent)
    try:
        with os.fdopen(descriptor, "wb") as file:
            file.write(text)
            file.flush()
            os.fsync(file.fileno())
        Path(temporary).replace(target)
    except BaseException:
        Path(temporary).unlink(missing_ok=True)
        raise
    _sync_directory(target.parent)


def read_json(path: str | os.PathLike[str], default: Any = None, *, max_bytes: int = _MOST_BYTES) -> Any:
    """Return the document of a state file, or *default* when there is no such file.

    Args:
        path: The file; it must be a regular one, and no symbolic link.
        default: What stands for a file that is not there.
        max_bytes: The longest file that is read.

    Raises:
        OSError: It is there and cannot be read.
        ValueError: It is no JSON document, is nested too deeply, or is longer than *max_bytes*.
    """
    try:
        # Without O_NONBLOCK the opening of a pipe put in the file's place would never return.
        descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    except FileNotFoundError:
        return default
    with os.fdopen(descriptor, "rb") as file:
        if not stat.S_ISREG(os.fstat(descriptor).st_mode):
            raise ValueError(f"{os.fspath(path)} is not a regular file")
        text = file.read(max_bytes + 1)
    if len(text) > max_bytes:
        raise ValueError(f"{os.fspath(path)} is longer than {max_bytes} bytes")
    try:
        return json.loads(text)
    except RecursionError as error:
        raise ValueError(f"{os.fspath(path)} is nested too deeply") from error
    except ValueError as error:
        raise ValueError(f"{os.fspath(path)} is no JSON document: {error}") from error


def write_snapshot(path: str | os.PathLike[str], statuses: Sequence[dict[str, Any]]) -> None:
    """Replace the snapshot by *statuses*, as `write_json` does.

    Raises:
        OSError: It cannot be written; the old file is untouched.
    """
    write_json(path, list(statuses))


def read_snapshot(path: str | os.PathLike[str]) -> list[dict[str, Any]]:
    """Return the statuses of a snapshot, or an empty list when there is none.

    Raises:
        OSError: It is there and cannot be read.
        ValueError: It is not a snapshot.
    """
    statuses = read_json(path, [])
    if not isinstance(statuses, list) or not all(isinstance(status, dict) for status in statuses):
        raise ValueError(f"{os.fspath(path)} is not a lifecycle snapshot: it must hold a JSON list of objects")
    return statuses


class StateFile:
    """Keep a file up to date: write it soon after each change, one write at a time, in a thread.

    Belongs to the event loop that is first seen when a change is marked. A failed write is tried again soon, and stays
    due until it succeeds.

    Args:
        path: The file.
        render: Returns the document; called in the event loop, so that it is of one moment.
        coalesce_seconds: Changes that follow each other within this time are written once.
        retry_seconds: How soon a failed write is tried again.
        max_bytes: The longest text that is written.
        write: Writes a document; by default `write_json`.

    Attributes:
        path: The file.
        last_error: Why the last write failed, or None.
        writes: How often it was written.
    """

    __slots__ = (
        "_coalesce_seconds",
        "_dirty",
        "_loop",
        "_render",
        "_retry_seconds",
        "_swept",
        "_timer",
        "_write",
        "_writing",
        "last_error",
        "path",
        "writes",
    )

    def __init__(
        self,
        path: str | os.PathLike[str],
        render: Callable[[], object],
        *,
        coalesce_seconds: float = _COALESCE_SECONDS,
        retry_seconds: float = _RETRY_SECONDS,
        max_bytes: int = _MOST_BYTES,
        write: Callable[[Path, object], None] | None = None,
    ) -> None:
        self.path = Path(path)
        self._render = render
        self._coalesce_seconds = coalesce_seconds
        self._retry_seconds = retry_seconds
        self._write = partial(write_json, max_bytes=max_bytes) if write is None else write
        self._loop: asyncio.AbstractEventLoop | None = None
        self._timer: asyncio.TimerHandle | None = None
        self._writing: asyncio.Task[None] | None = None
        self._dirty = False
        self._swept = False
        self.last_error: str | None = None
        self.writes = 0

    def mark(self) -> None:
        """Note that something changed; costs nothing while a write is due.

        May be called from any thread. Where no event loop was ever seen, the write waits for the next call from
        one, or for `flush`.
        """
        self._dirty = True
        if self._timer is None and self._writing is None:
            try:
                loop = asyncio.get_running_loop()
            except RuntimeError:
                self._mark_from_thread()
                return
            if self._loop is None:
                self._loop = loop
            elif self._loop is not loop:
                self._mark_from_thread()
                return
            self._schedule(self._coalesce_seconds)

    def _mark_from_thread(self) -> None:
        if self._loop is not None:
            with suppress(RuntimeError):  # closed: whoever flushes in the next loop writes it
                self._loop.call_soon_threadsafe(self.mark)

    def _schedule(self, seconds: float) -> None:
        self._timer = asyncio.get_running_loop().call_later(seconds, self._start)

    def _start(self) -> None:
        self._timer = None
        self._writing = asyncio.get_running_loop().create_task(self._write_in_turn())

    async def _write_in_turn(self, *, tries_again: bool = True) -> None:
        try:
            await self._write_now()
        finally:
            self._writing = None
            if self._dirty and self.last_error is None:
                self._schedule(self._coalesce_seconds)
            elif self._dirty and tries_again:
                self._schedule(self._retry_seconds)

    async def _write_now(self) -> None:
        self._dirty = False
        try:
            await asyncio.to_thread(self._written, self._render())
        except Exception as error:  # noqa: BLE001 - the file is for readers outside; nothing in the process hangs on it
            self._dirty = True
            self.last_error = f"{type(error).__name__}: {error}"
        except BaseException:
            self._dirty = True
            raise
        else:
            self.last_error = None
            self.writes += 1

    def _written(self, document: object) -> None:
        self._write(self.path, document)
        if not self._swept:
            self._swept = True
            _sweep(self.path)

    async def flush(self) -> None:
        """Write what is due now; what fails stays due, until the next change or the next flush."""
        self._loop = asyncio.get_running_loop()
        self._cancel_timer()
        while self._writing is not None:
            await asyncio.wait((self._writing,))
        self._cancel_timer()
        if self._dirty:
            self._writing = self._loop.create_task(self._write_in_turn(tries_again=False))
            await asyncio.shield(self._writing)

    def _cancel_timer(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None


#: The lifecycle's name for it.
SnapshotWriter = StateFile


def _prepare(directory: Path) -> None:
    """Make a directory, and those above it, for this user alone; refuse one that everyone may write into."""
    if not directory.exists():
        for each in (*reversed(directory.parents), directory):
            if not each.exists():
                each.mkdir(mode=0o700, exist_ok=True)
    mode = directory.stat().st_mode
    if mode & stat.S_IWOTH and not mode & stat.S_ISVTX:
        raise PermissionError(errno.EACCES, "everyone may write into this directory", os.fspath(directory))


def _sync_directory(directory: Path) -> None:
    descriptor = os.open(directory, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    except OSError as error:
        if error.errno != errno.EINVAL:  # some file systems cannot, and need not
            raise
    finally:
        os.close(descriptor)


def _sweep(target: Path) -> None:
    """Remove what writers that were killed left beside the file."""
    oldest = time.time() - _ABANDONED_SECONDS
    for abandoned in target.parent.glob(f".{target.name}.*"):
        with suppress(OSError):
            if abandoned.stat().st_mtime < oldest:
                abandoned.unlink()
