"""Where a store lies: made private, refused where others could have put it, set aside when damaged.

Knows files and directories, and nothing of SQL. The database file itself is never opened here: closing any descriptor
of a file drops every lock this process holds on it.
"""

import errno
import fcntl
import os
import stat
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

from oneiric.core.errors import StoreError

__all__ = [
    "JOURNALS",
    "identity",
    "is_at_rest",
    "is_on_network",
    "place_error",
    "prepare",
    "refuse_unsafe",
    "resolved",
    "set_aside",
    "turn",
]

#: What SQLite keeps beside a database.
JOURNALS: Final = ("-journal", "-wal", "-shm")
_MOUNTS: Final = Path("/proc/self/mountinfo")
#: File systems where shared memory, which write-ahead mode needs, does not reach the other clients.
_NETWORK: Final = frozenset(
    {"9p", "afs", "ceph", "cifs", "glusterfs", "gfs2", "lustre", "ncpfs", "nfs", "nfs4", "ocfs2", "smb3", "smbfs"}
)
_POLL_SECONDS: Final = 0.01
_FULL: Final = frozenset({errno.ENOSPC, errno.EDQUOT})
_READONLY: Final = frozenset({errno.EACCES, errno.EPERM, errno.EROFS})


def resolved(path: str | os.PathLike[str]) -> Path:
    """Return *path* with its directory free of symbolic links; the file's own name is left as it is."""
    path = Path(path)
    return path.parent.resolve() / path.name


def prepare(path: Path) -> None:
    """Create directory (0700) and file (0600) where missing; refuse what another user could have put there.

    Raises:
        StoreError: The place is not safe, or cannot be written.
    """
    try:
        for each in (*reversed(path.parent.parents), path.parent):
            if not each.exists():
                each.mkdir(mode=0o700, exist_ok=True)
        refuse_unsafe(path)
        try:
            os.close(os.open(path, os.O_CREAT | os.O_EXCL | os.O_RDWR | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600))
        except FileExistsError:
            refuse_unsafe(path)
    except (OSError, ValueError) as error:  # a path with a NUL in it is a ValueError
        raise place_error(error, path) from error


def refuse_unsafe(path: Path, *, repair: bool = True) -> None:
    """Refuse a directory everyone may write into, and a file or journal that is a link or another user's.

    Args:
        path: The store.
        repair: Whether files of this user that others may read are made private.

    Raises:
        StoreError: For one of these, of kind ``"foreign"``.
        OSError: The directory cannot be looked at.
    """
    mode = path.parent.stat().st_mode
    if mode & stat.S_IWOTH and not mode & stat.S_ISVTX:
        raise StoreError(
            f"store directory {str(path.parent)!r} is writable by everybody", "chmod o-w, or another path", "foreign"
        )
    for each in (path, *(Path(f"{path}{suffix}") for suffix in JOURNALS)):
        try:
            found = each.lstat()
        except FileNotFoundError:
            continue
        if not stat.S_ISREG(found.st_mode):
            what = "a symbolic link" if stat.S_ISLNK(found.st_mode) else "no regular file"
            raise StoreError(f"store {str(each)!r} is {what}", "another path", "foreign")
        if found.st_uid != os.geteuid():
            raise StoreError(f"store {str(each)!r} belongs to another user", "another path", "foreign")
        if repair and found.st_mode & 0o077:
            each.chmod(0o600)


def place_error(error: OSError | ValueError, path: Path) -> StoreError:
    """Say in a sentence why the place of a store cannot be used."""
    number = getattr(error, "errno", None)
    reason = getattr(error, "strerror", None) or str(error)
    message = f"store {str(path)!r} cannot be used: {reason}"
    if number in _FULL:
        return StoreError(message, "free some space", "full")
    if number in _READONLY:
        return StoreError(message, "the permissions of the directory and its file system", "readonly")
    return StoreError(message, "another path", "io")


def identity(path: Path) -> tuple[int, int] | None:
    """Return what tells this file from another one put in its place; None when there is none."""
    try:
        found = path.lstat()
    except OSError:
        return None
    return found.st_dev, found.st_ino


def is_at_rest(path: Path) -> bool:
    """Say whether no connection, open or killed, has left a journal beside a store."""
    return not any(Path(f"{path}{suffix}").exists() for suffix in ("-wal", "-journal"))


def set_aside(path: Path) -> Path:
    """Rename a damaged store and its journals; return where the store is kept.

    Journals first: one that stayed would be played back into the new file.
    """
    kept = Path(f"{path}.corrupt-{time.time_ns()}")
    for suffix in (*JOURNALS, ""):
        source = Path(f"{path}{suffix}")
        if source.exists():
            source.rename(f"{kept}{suffix}")
    return kept


@contextmanager
def turn(path: Path, wait_seconds: float) -> Iterator[None]:
    """Open stores of a directory one after the other, over all processes.

    Raises:
        StoreError: Another process was at it for longer than *wait_seconds*, kind ``"locked"``.
        OSError: The directory cannot be opened.
    """
    descriptor = os.open(path.parent, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        until = time.monotonic() + wait_seconds
        while True:
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except BlockingIOError:
                if time.monotonic() >= until:
                    raise StoreError(
                        f"store {str(path)!r} is being opened by another process for {wait_seconds:g} s",
                        "again when that process is done, or end it",
                        "locked",
                    ) from None
                time.sleep(_POLL_SECONDS)
        yield
    finally:
        os.close(descriptor)


def is_on_network(path: Path, mounts: Path = _MOUNTS) -> bool:
    """Say whether a file lies on a network file system; False where the system does not tell.

    Args:
        path: The file, free of symbolic links.
        mounts: The kernel's list of mounts, as in proc(5).
    """
    if not sys.platform.startswith("linux"):
        return False
    try:
        lines = mounts.read_text(encoding="utf-8", errors="surrogateescape").splitlines()
    except OSError:
        return False
    kind, longest = "", -1
    for line in lines:
        before, separator, after = line.partition(" - ")
        fields = before.split(" ")
        if not separator or len(fields) < 5:
            continue
        point = _unescaped(fields[4])
        # Later mounts cover earlier ones at the same place.
        if path.is_relative_to(point) and len(point) >= longest:
            kind, longest = after.split(" ")[0], len(point)
    return kind in _NETWORK or kind.startswith("fuse.")


def _unescaped(point: str) -> str:
    for escape, character in (("\\040", " "), ("\\011", "\t"), ("\\012", "\n"), ("\\134", "\\")):
        point = point.replace(escape, character)
    return point
