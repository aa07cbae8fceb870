"""The two SQLite libraries behind one small face: which of them is used, how it connects, what its errors mean.

``apsw`` brings a SQLite of its own and is preferred where it is installed; ``sqlite3`` is whatever the interpreter was
linked with. Nothing above this module knows which one is at work.
"""

import importlib
import importlib.util
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Final, Literal, Protocol
from urllib.parse import quote

from oneiric.core.errors import MissingExtraError, StoreError

__all__ = ["Connection", "Kind", "Library", "LibraryName", "Parameters", "library_named", "store_error"]

type LibraryName = Literal["sqlite3", "apsw"]
type Kind = Literal["locked", "corrupt", "full", "readonly", "io", "newer", "foreign"]
type Parameters = Sequence[Any] | Mapping[str, Any]

#: Up to 3.51.2, two connections that write and checkpoint at once can corrupt a file in write-ahead mode.
_WAL_IS_SAFE_FROM: Final = (3, 51, 3)
_STATEMENTS: Final = 128
_NO_CHECKPOINT_ON_CLOSE: Final = 1006  # SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE

# SQLite's primary result codes; the same in every library.
_PERM, _BUSY, _LOCKED, _READONLY, _IOERR, _CORRUPT, _FULL, _CANTOPEN, _PROTOCOL, _NOTADB = (
    3, 5, 6, 8, 10, 11, 13, 14, 15, 26,
)  # fmt: skip

#: Code → kind, what was found, what to try.
_MEANINGS: Final[dict[int, tuple[Kind, str, str]]] = {
    _BUSY: ("locked", "is locked by another process", "again when that process is done, or end it"),
    _LOCKED: ("locked", "is locked by another process", "again when that process is done, or end it"),
    _PROTOCOL: ("locked", "is locked by another process", "again when that process is done, or end it"),
    _CORRUPT: ("corrupt", "is corrupt", "a backup beside it; or move it away and begin anew"),
    _NOTADB: ("corrupt", "is not a database", "another path; or move the file away"),
    _FULL: ("full", "cannot grow: the disk, or its quota, is full", "free some space"),
    _READONLY: ("readonly", "cannot be written", "the permissions of the file, its directory and its file system"),
    _PERM: ("readonly", "may not be opened", "the permissions of the file and its directory"),
    _CANTOPEN: ("io", "cannot be opened", "the permissions of the file and its directory"),
    _IOERR: ("io", "met an input/output error", "the state of the disk"),
}


class Connection(Protocol):
    """What both libraries' connections can do."""

    def execute(self, sql: str, parameters: Any = ..., /) -> Any:
        """Run a statement and return its cursor."""

    def cursor(self) -> Any:
        """Return a cursor of its own."""

    def close(self) -> None:
        """Give the file back."""

    @property
    def in_transaction(self) -> bool:
        """Whether a transaction is open."""


class Library:
    """One of the two libraries.

    Args:
        name: Which.

    Attributes:
        name: Which.
        version: Of the SQLite in it.
        error: The root of what it raises.
    """

    def __init__(self, name: LibraryName) -> None:
        self.name: LibraryName = name
        self._module = importlib.import_module(name)
        text = self._module.sqlite_version if name == "sqlite3" else self._module.sqlite_lib_version()
        self.version: tuple[int, ...] = tuple(int(part) for part in text.split("."))
        self.error: type[Exception] = self._module.Error

    @property
    def is_safe_with_wal(self) -> bool:
        """Whether several connections may write one file in write-ahead mode.

        Source: SQLite's WAL-reset bug, 3.7.0 to 3.51.2, fixed in 3.51.3.
        """
        return self.version >= _WAL_IS_SAFE_FROM

    def connect(self, path: Path, busy_seconds: float, *, mode: str) -> Connection:
        """Open a file that exists.

        Args:
            path: The file; no part of it a symbolic link.
            busy_seconds: How long a statement waits for another process's lock.
            mode: The query of SQLite's file URI, such as ``"mode=rw"``.
        """
        uri = f"file:{quote(str(path))}?{mode}"
        connection: Any
        if self.name == "sqlite3":
            connection = self._module.connect(
                uri, uri=True, timeout=busy_seconds, isolation_level=None, cached_statements=_STATEMENTS
            )
            return connection  # type: ignore[no-any-return]  # the module is only known when it runs
        flags = self._module.SQLITE_OPEN_URI | self._module.SQLITE_OPEN_NOFOLLOW | self._module.SQLITE_OPEN_READWRITE
        connection = self._module.Connection(uri, flags=flags, statementcachesize=_STATEMENTS)
        connection.set_busy_timeout(round(busy_seconds * 1000))
        return connection  # type: ignore[no-any-return]

    def code(self, error: BaseException) -> int | None:
        """Return the primary result code of an error of this library; None for any other, or without a code."""
        if not isinstance(error, self.error):
            return None
        found = getattr(error, "sqlite_errorcode" if self.name == "sqlite3" else "result", None)
        return None if found is None else int(found) & 0xFF

    def let_go(self, connection: Connection) -> None:
        """Close a connection and leave the journals at its path: they are somebody else's by now, or evidence."""
        configure: Any = getattr(connection, "setconfig" if self.name == "sqlite3" else "config")
        try:
            configure(_NO_CHECKPOINT_ON_CLOSE, True)
        finally:
            connection.close()


_loaded: Final[dict[LibraryName, Library]] = {}


def library_named(name: LibraryName | None) -> Library:
    """Return a library; for None apsw where it is installed, else sqlite3.

    Raises:
        MissingExtraError: apsw was asked for and is not installed.
    """
    if name is None:
        name = "apsw" if importlib.util.find_spec("apsw") else "sqlite3"
    if name not in _loaded:
        try:
            _loaded[name] = Library(name)
        except ModuleNotFoundError as error:
            raise MissingExtraError("apsw", "oneiric-runtime[sqlite]", name) from error
    return _loaded[name]


def store_error(error: BaseException, path: Path, library: Library) -> StoreError:
    """Say in a sentence what a library's *error* about the store at *path* means, and what to try."""
    code = library.code(error)
    if code not in _MEANINGS:
        return StoreError(f"store {str(path)!r} refused the work: {error}")
    kind, found, hint = _MEANINGS[code]
    if code in {_CANTOPEN, _IOERR}:
        # SQLite cannot say why a journal could not be made or grown.
        if not _is_writable(path.parent):
            kind, found, hint = _MEANINGS[_READONLY]
        elif _is_full(path.parent):
            kind, found, hint = _MEANINGS[_FULL]
    return StoreError(f"store {str(path)!r} {found}", hint, kind)


def _is_writable(directory: Path) -> bool:
    return os.access(directory, os.W_OK | os.X_OK)


def _is_full(directory: Path) -> bool:
    try:
        return os.statvfs(directory).f_bavail == 0
    except OSError:
        return False
