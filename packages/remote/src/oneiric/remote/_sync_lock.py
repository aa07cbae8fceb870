"""One sync at a time on a cache directory, whichever process it is of.

What is committed to, and what is removed as nothing needs it any more, is decided between the fetch and the commit:
two processes that did so at once would put back what the other had moved on from. It is the operating system's lock on
an open file, so that a killed process holds nothing.

Source: flock(2).
"""

import asyncio
import errno
import fcntl
import os
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Final

from oneiric.core.errors import StoreError

__all__ = ["LOCK_FILE", "DirectoryLock"]

LOCK_FILE: Final = "remote.lock"
#: Where nothing can be written, nobody is in anybody's way.
_READ_ONLY: Final = frozenset({errno.EROFS, errno.EACCES, errno.EPERM})
_POLL_SECONDS: Final = 0.05


class DirectoryLock:
    """Hold a cache directory against other processes, and against other loaders of this one.

    Args:
        directory: The directory.
        wait_seconds: How long to wait for whoever holds it.
    """

    def __init__(self, directory: str | os.PathLike[str], wait_seconds: float) -> None:
        self._path = Path(directory) / LOCK_FILE
        self._wait_seconds = wait_seconds

    @asynccontextmanager
    async def held(self) -> AsyncIterator[None]:
        """Hold the directory, which is made, for this user alone, if it is not there; a read-only one needs no holding.

        Raises:
            StoreError: Another process did not let go of it in time, and is named; or the lock's file cannot be opened.
        """
        descriptor = await self._taken()
        try:
            yield
        finally:
            if descriptor is not None:
                os.ftruncate(descriptor, 0)
                # A process that was forked meanwhile has it open too: closing alone would leave it locked.
                fcntl.flock(descriptor, fcntl.LOCK_UN)
                os.close(descriptor)

    async def _taken(self) -> int | None:
        deadline = time.monotonic() + self._wait_seconds
        while True:
            descriptor = self._opened()
            if descriptor is None or self._is_locked(descriptor):
                return descriptor
            holder = os.pread(descriptor, 32, 0).decode("ascii", "replace").strip() or "unknown"
            os.close(descriptor)
            if time.monotonic() >= deadline:
                raise StoreError(
                    f"cache directory {str(self._path.parent)!r} is in use by pid {holder}, which syncs there",
                    "once it is done, or another remote.cache_dir",
                )
            await asyncio.sleep(_POLL_SECONDS)

    def _opened(self) -> int | None:
        try:
            self._path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            return os.open(self._path, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
        except OSError as error:
            if error.errno in _READ_ONLY:
                return None
            raise StoreError(
                f"{self._path} cannot be opened: {error.strerror}", "a writable remote.cache_dir"
            ) from error

    def _is_locked(self, descriptor: int) -> bool:
        """Try once; one that was removed meanwhile is not the lock any more."""
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            if not os.path.samestat(os.fstat(descriptor), self._path.lstat()):
                return False
        except FileNotFoundError:
            return False
        except OSError as error:
            if error.errno in {errno.EWOULDBLOCK, errno.EACCES}:
                return False
            os.close(descriptor)
            raise StoreError(f"{self._path} cannot be locked: {error.strerror}") from error
        os.ftruncate(descriptor, 0)
        os.pwrite(descriptor, f"{os.getpid()}\n".encode(), 0)
        return True
