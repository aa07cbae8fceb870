"""The status snapshot: ``lifecycle_status.json``, written atomically and off the event loop."""

import asyncio
import json
import os
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Final

__all__ = ["SnapshotWriter", "read_snapshot", "write_snapshot"]

#: Changes that follow each other within this time are written once.
_COALESCE_SECONDS: Final = 0.05


def write_snapshot(path: str | os.PathLike[str], statuses: Sequence[dict[str, Any]]) -> None:
    """Replace the snapshot by *statuses*: a reader sees the old list or the new one, never half of either.

    Raises:
        OSError: It cannot be written; the old file is untouched.
    """
    target = Path(path)
    target.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    # mkstemp: O_EXCL and mode 0600, in the same directory so that the rename stays on one file system.
    descriptor, temporary = tempfile.mkstemp(prefix=f".{target.name}.", dir=target.parent)
    try:
        with os.fdopen(descriptor, "w", encoding="utf-8") as file:
            json.dump(list(statuses), file, indent=1)
            file.write("\n")
            file.flush()
            os.fsync(file.fileno())
        Path(temporary).replace(target)
    except BaseException:
        Path(temporary).unlink(missing_ok=True)
        raise
    directory = os.open(target.parent, os.O_RDONLY)
    try:
        os.fsync(directory)
    finally:
        os.close(directory)


def read_snapshot(path: str | os.PathLike[str]) -> list[dict[str, Any]]:
    """Return the statuses of a snapshot, or an empty list when there is none.

    Raises:
        OSError: It is there and cannot be read.
        ValueError: It is not a snapshot.
    """
    try:
        statuses = json.loads(Path(path).read_text(encoding="utf-8"))
    except FileNotFoundError:
        return []
    if not isinstance(statuses, list) or not all(isinstance(status, dict) for status in statuses):
        raise ValueError(f"{os.fspath(path)} is not a lifecycle snapshot: it must hold a JSON list of objects")
    return statuses


class SnapshotWriter:
    """Write the snapshot soon after each change, one write at a time.

    Attributes:
        last_error: Why the last write failed, or None.
    """

    __slots__ = ("_dirty", "_path", "_statuses", "_timer", "_writing", "last_error")

    def __init__(self, path: str | os.PathLike[str], statuses: Callable[[], Sequence[dict[str, Any]]]) -> None:
        self._path = path
        self._statuses = statuses
        self._timer: asyncio.TimerHandle | None = None
        self._writing: asyncio.Task[None] | None = None
        self._dirty = False
        self.last_error: str | None = None

    def mark(self) -> None:
        """Note that something changed; costs nothing while a write is due."""
        self._dirty = True
        if self._timer is None and self._writing is None:
            self._timer = asyncio.get_running_loop().call_later(_COALESCE_SECONDS, self._start)

    def _start(self) -> None:
        self._timer = None
        self._writing = asyncio.get_running_loop().create_task(self._write())

    async def _write(self) -> None:
        try:
            self._dirty = False
            await asyncio.to_thread(write_snapshot, self._path, self._statuses())
            self.last_error = None
        except OSError as error:
            # A full disk must not stop a swap: the snapshot is for readers outside, the truth is in memory.
            self.last_error = str(error)
        finally:
            self._writing = None
            if self._dirty and self.last_error is None:
                self.mark()

    async def flush(self) -> None:
        """Write what is due now."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        while self._writing is not None:
            await asyncio.wait((self._writing,))
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        if self._dirty:
            await self._write()
            if self._timer is not None:
                self._timer.cancel()
                self._timer = None
