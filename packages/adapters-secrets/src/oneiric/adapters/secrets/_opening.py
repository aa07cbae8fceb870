"""Open a file of secrets by its directory, without being led elsewhere, and judge it by the descriptor that is read.

What is checked is what is open: there is no moment between looking and reading. A symbolic link is followed in one
case, the one in which Kubernetes mounts a volume: ``name -> ..data/name`` and ``..data -> ..2026_01_02_…``, both inside
the directory.
"""

import errno
import logging
import os
import stat
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from typing import Final, Literal, NoReturn

from oneiric.core.errors import ConfigurationError, UnavailableError

__all__ = ["Permissions", "SecretFile", "Signature", "open_directory", "open_file"]

type Permissions = Literal["refuse", "warn", "allow"]
#: What tells one file from another: device, inode, size, and when content and attributes last changed, in ns.
type Signature = tuple[int, int, int, int, int]

_log = logging.getLogger("oneiric.adapters.secrets")
_VERSIONS: Final = "..data"
_DIRECTORY: Final = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
# Without O_NONBLOCK the opening of a named pipe waits for a writer that never comes.
_FILE: Final = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
_ABSENT: Final = frozenset({errno.ENOENT, errno.ENOTDIR, errno.ENAMETOOLONG})
_LINK: Final = frozenset({errno.ELOOP, errno.EMLINK})
_ATTEMPTS: Final = 5


class SecretFile:
    """A file that is open and was found fit.

    Attributes:
        signature: What it is now.
        modified_at: When its content last changed, in nanoseconds since the epoch.
    """

    __slots__ = ("_descriptor", "_name", "modified_at", "signature")

    def __init__(self, descriptor: int, name: str) -> None:
        self._descriptor, self._name = descriptor, name
        self.signature, self.modified_at = _signature(descriptor)

    def read(self, max_bytes: int) -> bytes:
        """Return its content, as it was at one moment.

        Raises:
            ConfigurationError: It is larger than *max_bytes*.
            UnavailableError: It kept changing while it was read, or cannot be read.
        """
        for _ in range(_ATTEMPTS):
            before, _at = _signature(self._descriptor)
            data = self._bytes(max_bytes)
            self.signature, self.modified_at = _signature(self._descriptor)
            if before == self.signature:
                return data
        raise UnavailableError(f"{self._name} kept changing while it was read", "replace it by a rename")

    def _bytes(self, max_bytes: int) -> bytes:
        parts: list[bytes] = []
        position = 0
        try:
            while position <= max_bytes:
                part = os.pread(self._descriptor, max_bytes + 1 - position, position)
                if not part:
                    return b"".join(parts)
                parts.append(part)
                position += len(part)
        except OSError as error:
            raise UnavailableError(f"{self._name} cannot be read: {error.strerror}") from error
        raise ConfigurationError(f"is larger than {max_bytes} bytes", "a smaller file, or max_bytes", self._name)


def _signature(descriptor: int) -> tuple[Signature, int]:
    found = os.fstat(descriptor)
    return (found.st_dev, found.st_ino, found.st_size, found.st_mtime_ns, found.st_ctime_ns), found.st_mtime_ns


@contextmanager
def open_directory(path: str) -> Iterator[int]:
    """Open the directory that the operator named; its own name may be a link.

    Raises:
        ConfigurationError: Anybody may replace what lies in it.
        UnavailableError: It is missing, or cannot be opened.
    """
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    except OSError as error:
        raise UnavailableError(f"directory of secrets {path} cannot be opened: {error.strerror}") from error
    try:
        _judge_directory(os.fstat(descriptor).st_mode, path)
        yield descriptor
    finally:
        os.close(descriptor)


@contextmanager
def open_file(directory: int, name: str, shown: str, permissions: Permissions) -> Iterator[SecretFile | None]:
    """Open *name* below an open directory, and judge it; None when there is no file of that name.

    Args:
        directory: The descriptor of the directory.
        name: Segments divided by ``/``.
        shown: How errors call the file.
        permissions: What to do when others than its owner may read it.

    Raises:
        ConfigurationError: It is a link that leads anywhere else than a mounted volume does, no regular file, somebody
            else's, or open to others.
        UnavailableError: It cannot be opened.
    """
    with ExitStack() as opened:
        descriptor = _descend(directory, name.split("/"), shown, opened)
        found = None if descriptor is None else os.fstat(descriptor)
        if descriptor is None or found is None or stat.S_ISDIR(found.st_mode):
            yield None
            return
        _judge(found, shown, permissions)
        yield SecretFile(descriptor, shown)


def _descend(directory: int, segments: list[str], shown: str, opened: ExitStack) -> int | None:
    for _ in range(_ATTEMPTS):
        if _link(directory, segments[0]) is None:
            return _open_below(directory, segments, shown, opened)
        version = _version_of(directory, segments[0], shown, opened)
        found = None if version is None else _open_below(version, segments, shown, opened)
        if found is not None:
            return found
        # Not there, or the volume was replaced at this moment: a few more looks tell.
    return None


def _open_below(directory: int, segments: list[str], shown: str, opened: ExitStack) -> int | None:
    at: int | None = directory
    for segment in segments[:-1]:
        if at is not None:
            at = _open(at, segment, _DIRECTORY, shown, opened)
    return None if at is None else _open(at, segments[-1], _FILE, shown, opened)


def _version_of(directory: int, segment: str, shown: str, opened: ExitStack) -> int | None:
    """Return the directory that holds the volume's present version; None when it is gone again."""
    if _link(directory, segment) != f"{_VERSIONS}/{segment}":
        _refuse_link(shown)
    version = _link(directory, _VERSIONS)
    if version is None:
        return None
    if not version.startswith("..") or version == ".." or "/" in version:
        _refuse_link(shown)
    return _open(directory, version, _DIRECTORY, shown, opened)


def _link(directory: int, name: str) -> str | None:
    try:
        return os.readlink(name, dir_fd=directory)
    except OSError:
        return None


def _open(directory: int, name: str, flags: int, shown: str, opened: ExitStack) -> int | None:
    try:
        descriptor = os.open(name, flags, dir_fd=directory)
    except OSError as error:
        # A link where a directory is wanted answers "not a directory", where a file is wanted "too many links".
        if error.errno in _LINK or (error.errno in _ABSENT and _link(directory, name) is not None):
            _refuse_link(shown)
        if error.errno in _ABSENT:
            return None
        raise UnavailableError(f"secrets file {shown} cannot be opened: {error.strerror}") from error
    opened.callback(os.close, descriptor)
    if flags == _DIRECTORY:
        _judge_directory(os.fstat(descriptor).st_mode, shown)
    return descriptor


def _refuse_link(shown: str) -> NoReturn:
    raise ConfigurationError("is reached through a symbolic link", "the file itself", shown)


def _judge_directory(mode: int, shown: str) -> None:
    if mode & stat.S_IWOTH and not mode & stat.S_ISVTX:
        raise ConfigurationError("lies where anybody may replace it", "chmod o-w on the directory", shown)


def _judge(found: os.stat_result, shown: str, permissions: Permissions) -> None:
    if not stat.S_ISREG(found.st_mode):
        raise ConfigurationError("is no regular file", "a file", shown)
    if found.st_mode & stat.S_IWOTH:
        raise ConfigurationError("can be written by anybody", "chmod 600", shown)
    if permissions == "allow":
        return
    problem = None
    if found.st_uid not in {0, os.geteuid()}:
        problem = f"belongs to user {found.st_uid}, neither to this process's nor to root"
    elif found.st_mode & 0o077:
        problem = f"is open to others than its owner (mode {stat.S_IMODE(found.st_mode):04o})"
    if problem is None:
        return
    if permissions == "warn":
        _log.warning("secrets file %s %s", shown, problem)
        return
    raise ConfigurationError(
        problem, "chmod 600; for a mount whose mode you cannot choose, permissions = 'warn' or 'allow'", shown
    )
