"""The role of orchestrator: one process at a time holds it for a state directory.

The lock is on the role and not on the stores: workers and commands open those beside a running orchestrator. It is the
operating system's lock on an open file, so that a killed process holds nothing and no stale file has to be judged.

Source: flock(2).
"""

import errno
import fcntl
import os
from pathlib import Path

from oneiric.core.errors import LifecycleError, StoreError

__all__ = ["RoleLock"]


class RoleLock:
    """Hold the orchestrator's role for a state directory from `start` to `stop`.

    Args:
        state_dir: The directory; made, for this user alone, if it is not there.
    """

    name = "role"

    def __init__(self, state_dir: str | os.PathLike[str]) -> None:
        self._path = Path(state_dir) / "orchestrator.lock"
        self._descriptor: int | None = None

    async def start(self) -> None:
        """Take the role.

        Raises:
            LifecycleError: Another process has it; its number is named.
            StoreError: The lock's file cannot be opened.
        """
        self.acquire()

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
        descriptor, self._descriptor = self._descriptor, None
        if descriptor is not None:
            os.ftruncate(descriptor, 0)
            os.close(descriptor)
