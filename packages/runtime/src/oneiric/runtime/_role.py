"""The role of orchestrator: one process at a time holds it for a state directory.

The lock is on the role and not on the stores: workers and commands open those beside a running orchestrator. It is the
operating system's lock on an open file, so that a killed process holds nothing and no stale file has to be judged.

Source: flock(2).
"""

import asyncio
import errno
import fcntl
import os
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Final

from oneiric.core.errors import LifecycleError, StoreError

__all__ = ["RoleLock"]


#: How often it is looked whether the lock's file is still the one that is locked.
_LOOK_SECONDS: Final = 2.0


class RoleLock:
    """Hold the orchestrator's role for a state directory from `start` to `stop`.

    Where somebody removes the file, or the whole directory, the role is taken again; a second orchestrator that was
    quicker ends this one.

    Args:
        state_dir: The directory; made, for this user alone, if it is not there.
        retaken: Called after the role was taken again: what else was in the directory is gone too.
        look_seconds: How often that is looked for.
    """

    name = "role"

    def __init__(
        self,
        state_dir: str | os.PathLike[str],
        *,
        retaken: Callable[[], Awaitable[None]] | None = None,
        look_seconds: float = _LOOK_SECONDS,
    ) -> None:
        self._path = Path(state_dir) / "orchestrator.lock"
        self._retaken = retaken
        self._look_seconds = look_seconds
        self._descriptor: int | None = None

    async def start(self) -> None:
        """Take the role.

        Raises:
            LifecycleError: Another process has it; its number is named.
            StoreError: The lock's file cannot be opened.
        """
        self.acquire()

    async def wait(self) -> None:
        """Hold the role for as long as nobody else has it.

        Raises:
            LifecycleError: The directory was removed, and another process has taken the role in a new one.
            StoreError: It was removed and cannot be made again.
        """
        while True:
            await asyncio.sleep(self._look_seconds)
            if not self._is_in_place():
                self._let_go()
                self.acquire()
                if self._retaken is not None:
                    await self._retaken()

    def _is_in_place(self) -> bool:
        if self._descriptor is None:
            return True
        held = os.fstat(self._descriptor)
        try:
            found = self._path.lstat()
        except OSError:
            return False
        return (found.st_dev, found.st_ino) == (held.st_dev, held.st_ino)

    async def stop(self) -> None:
        """Give the role back."""
        self.release()

    def acquire(self) -> None:
        """Take the role, without an event loop.

        Raises:
            LifecycleError: Another process has it; its number is named.
            StoreError: The lock's file cannot be opened.
        """
        if self._descriptor is not None:
            return
        try:
            self._path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            flags = os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC
            descriptor = os.open(self._path, flags, 0o600)
        except OSError as error:
            raise StoreError(
                f"{self._path} cannot be opened: {error.strerror}", "a writable runtime_paths.cache_dir"
            ) from error
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            holder = os.read(descriptor, 32).decode("ascii", "replace").strip() or "unknown"
            os.close(descriptor)
            if error.errno not in {errno.EWOULDBLOCK, errno.EACCES}:
                raise StoreError(f"{self._path} cannot be locked: {error.strerror}") from error
            raise LifecycleError(
                f"another orchestrator (pid {holder}) runs on {self._path.parent}",
                "oneiric status, or another runtime_paths.cache_dir for a second system",
            ) from error
        os.ftruncate(descriptor, 0)
        os.pwrite(descriptor, f"{os.getpid()}\n".encode(), 0)
        self._descriptor = descriptor

    def release(self) -> None:
        """Give the role back; safe without having it."""
        if self._descriptor is not None:
            os.ftruncate(self._descriptor, 0)
        self._let_go()

    def _let_go(self) -> None:
        descriptor, self._descriptor = self._descriptor, None
        if descriptor is not None:
            os.close(descriptor)
