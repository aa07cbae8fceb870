"""The control socket: where it is, and how exactly one process listens on it."""

import errno
import fcntl
import hashlib
import os
import socket
import stat
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Final

from oneiric.core.errors import ConfigurationError, LifecycleError

__all__ = ["check_fallback_directory", "connect", "control_socket_path", "listen_on_control_socket", "unlink_if_same"]

_NAME: Final = "control.sock"
#: The longest path a socket can be bound to: sun_path without its final NUL.
_MOST_BYTES: Final = 103 if sys.platform == "darwin" else 107
_BACKLOG: Final = 128


def control_socket_path(state_dir: str | os.PathLike[str]) -> Path:
    """Return where the control socket of a state directory is; server and client find the same place.

    It is ``control.sock`` in that directory. Where that is longer than a socket's path can be, it is a name made from
    the directory's, in ``/tmp/oneiric-<uid>`` (which no environment variable moves).

    Args:
        state_dir: The directory; need not exist.
    """
    home = Path(state_dir).resolve()
    path = home / _NAME
    if len(os.fsencode(path)) <= _MOST_BYTES:
        return path
    digest = hashlib.sha256(os.fsencode(home)).hexdigest()[:16]
    return _fallback_directory() / f"{digest}.sock"


def _fallback_directory() -> Path:
    return Path(f"/tmp/oneiric-{os.geteuid()}")  # noqa: S108 - its owner and mode are checked before it is used


def check_fallback_directory(path: Path) -> None:
    """Refuse a socket in the shared directory if another user may have put it there.

    Raises:
        ConfigurationError: The directory is a link, another user's, or open to others.
    """
    directory = path.parent
    if directory != _fallback_directory():
        return
    try:
        found = directory.lstat()
    except FileNotFoundError:
        return
    if not stat.S_ISDIR(found.st_mode) or found.st_uid != os.geteuid() or stat.S_IMODE(found.st_mode) & 0o077:
        raise ConfigurationError(
            f"{directory} is not a directory of this user alone, so its sockets cannot be trusted",
            f"rm -r {directory}, or a shorter runtime_paths.cache_dir",
        )


def connect(path: Path, timeout_seconds: float) -> socket.socket:
    """Connect to a control socket.

    Raises:
        OSError: Nobody listens, or the deadline has passed.
        ConfigurationError: The socket cannot be trusted.
    """
    check_fallback_directory(path)
    connection = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        connection.settimeout(timeout_seconds)
        connection.connect(str(path))
    except BaseException:
        connection.close()
        raise
    return connection


def listen_on_control_socket(path: Path) -> socket.socket:
    """Listen on a control socket, 0600, in place of one that nobody listens on any more.

    Args:
        path: As `control_socket_path` says; its directory is made (0700) when it is missing.

    Returns:
        The listening socket. Whoever closes it also unlinks *path*, if that is still this socket.

    Raises:
        LifecycleError: A process listens there already.
        ConfigurationError: Something else than a socket is there, the directory cannot be trusted, or the path cannot
            be used.
    """
    try:
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        check_fallback_directory(path)
        with _directory_locked(path.parent):
            _refuse_live(path)
            return _bound(path)
    except OSError as error:
        raise ConfigurationError(
            f"the control socket {path} cannot be made: {error.strerror or error}", "another runtime_paths.cache_dir"
        ) from error


def _bound(path: Path) -> socket.socket:
    """Bind beside the path and rename onto it: whoever finds the name finds somebody listening, and mode 0600."""
    temporary = path.with_name(f".c{os.urandom(4).hex()}")
    listening = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        with suppress(OSError):  # on Linux the file is made with these rights; elsewhere chmod below sets them
            os.fchmod(listening.fileno(), 0o600)
        listening.bind(str(temporary))
        temporary.chmod(0o600)
        listening.listen(_BACKLOG)
        listening.setblocking(False)
        temporary.rename(path)
    except BaseException:
        listening.close()
        temporary.unlink(missing_ok=True)
        raise
    return listening


def _refuse_live(path: Path) -> None:
    try:
        found = path.lstat()
    except FileNotFoundError:
        return
    if not stat.S_ISSOCK(found.st_mode):
        raise ConfigurationError(f"{path} is no socket, and is left alone", f"rm {path}, if it is not needed")
    try:
        connect(path, timeout_seconds=5).close()
    except OSError as error:
        if error.errno in {errno.ECONNREFUSED, errno.ENOENT}:
            return  # left behind by a process that was killed
        if not isinstance(error, TimeoutError) and error.errno != errno.EAGAIN:
            raise
    raise LifecycleError(f"another process listens on {path}", "oneiric status shows it; stop it first")


@contextmanager
def _directory_locked(directory: Path) -> Iterator[None]:
    """Let one process at a time look and replace; the lock is on the directory, so that it leaves no file."""
    descriptor = os.open(directory, os.O_RDONLY)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield
    finally:
        os.close(descriptor)


def unlink_if_same(path: Path, listening: socket.socket, inode: int) -> None:
    """Close a listening control socket and remove its name, unless another process has replaced it."""
    listening.close()
    with suppress(OSError):
        if path.lstat().st_ino == inode:
            path.unlink()
