"""The file of the SQLite cache: opened safely, recognised as ours, set aside when damaged.

Owns permissions, the schema, the journal mode and the wording of SQLite's failures. It runs on the thread
that owns the connection and knows nothing of event loops.
"""

import fcntl
import logging
import os
import sqlite3
import stat
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Final

from oneiric.core.errors import StoreError

__all__ = ["APPLICATION_ID", "journal_mode", "open_file", "store_error"]

APPLICATION_ID: Final = 0x4F4E4341  # "ONCA"; told apart from any other application's database
_SCHEMA_VERSION: Final = 1
_HEADER_BYTES: Final = 100
_DAMAGE: Final = frozenset({sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB})

#: ``id`` grows with every write of a key, so it orders entries by their last write. The triggers keep the
#: count exact however many processes write.
_SCHEMA: Final = (
    """CREATE TABLE entries (
           id INTEGER PRIMARY KEY, key BLOB NOT NULL UNIQUE, value BLOB NOT NULL, expires_at INTEGER)""",
    "CREATE INDEX entries_by_expiry ON entries (expires_at) WHERE expires_at IS NOT NULL",
    "CREATE TABLE size (entries INTEGER NOT NULL)",
    "INSERT INTO size VALUES (0)",
    "CREATE TRIGGER entry_added AFTER INSERT ON entries BEGIN UPDATE size SET entries = entries + 1; END",
    "CREATE TRIGGER entry_removed AFTER DELETE ON entries BEGIN UPDATE size SET entries = entries - 1; END",
    f"PRAGMA application_id = {APPLICATION_ID}",
    f"PRAGMA user_version = {_SCHEMA_VERSION}",
)

_log = logging.getLogger("oneiric.adapters.cache")


def journal_mode(version: tuple[int, int, int]) -> str:
    """Return the journal mode that is safe with several connections on SQLite *version*.

    Source: SQLite's WAL-reset bug (3.7.0 to 3.51.2) can corrupt a file that two connections write and
    checkpoint at once; the rollback journal is not affected.
    """
    return "WAL" if version >= (3, 51, 3) else "DELETE"


def store_error(error: sqlite3.Error, path: Path) -> StoreError:
    """Say in a sentence what SQLite's *error* about *path* means, and what to try."""
    code = (getattr(error, "sqlite_errorcode", None) or 0) & 0xFF
    found, hint = {
        sqlite3.SQLITE_BUSY: (
            "is locked by another process",
            "a longer busy_timeout_seconds, or end that process",
        ),
        sqlite3.SQLITE_LOCKED: (
            "is locked by another process",
            "a longer busy_timeout_seconds, or end that process",
        ),
        sqlite3.SQLITE_CORRUPT: ("is corrupt", "a restart, which sets the file aside and begins a new one"),
        sqlite3.SQLITE_NOTADB: ("is not a database", "another path; or remove the file if it was a cache"),
        sqlite3.SQLITE_FULL: (
            "cannot grow: the disk, or its quota, is full",
            "free some space, or lower max_entries",
        ),
        sqlite3.SQLITE_READONLY: ("cannot be written, or was moved away", "its permissions, or a restart"),
        sqlite3.SQLITE_CANTOPEN: ("cannot be opened", "the permissions of the file and its directory"),
        sqlite3.SQLITE_PERM: ("may not be opened", "the permissions of the file and its directory"),
        sqlite3.SQLITE_IOERR: ("met an input/output error", "the state of the disk, and its free space"),
    }.get(code, (f"failed ({getattr(error, 'sqlite_errorname', None) or type(error).__name__})", None))
    return StoreError(f"cache file {str(path)!r} {found}", hint)


def open_file(path: Path, busy_timeout_seconds: float) -> sqlite3.Connection:
    """Open the cache at *path*, creating what is missing; a damaged one of ours is set aside first.

    Raises:
        StoreError: It cannot be opened, is not ours, is not safe to use, or is locked.
    """
    try:
        _prepare(path)
        try:
            return _connect(path, busy_timeout_seconds)
        except sqlite3.DatabaseError as error:
            if not _is_damage(error) or not _is_ours(path):
                raise
            return _rebuild(path, busy_timeout_seconds)
    except sqlite3.Error as error:
        raise store_error(error, path) from error
    except (OSError, ValueError) as error:  # a path with a NUL in it is a ValueError
        reason = getattr(error, "strerror", None) or str(error)
        hint = "another path, or its permissions"
        raise StoreError(f"cache file {str(path)!r} cannot be used: {reason}", hint) from error


def _prepare(path: Path) -> None:
    """Create directory (0700) and file (0600) where missing; refuse what another user could have put there."""
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    parent = path.parent.stat()
    if parent.st_mode & stat.S_IWOTH and not parent.st_mode & stat.S_ISVTX:
        raise StoreError(f"cache directory {str(path.parent)!r} is writable by everybody", "chmod o-w, or another path")
    try:
        os.close(os.open(path, os.O_CREAT | os.O_EXCL | os.O_RDWR | os.O_CLOEXEC, 0o600))
    except FileExistsError:
        # Looked at, not opened: closing any descriptor of a file drops all of this process's locks on it.
        found = path.lstat()
        if not stat.S_ISREG(found.st_mode):
            raise StoreError(f"cache file {str(path)!r} is no regular file", "another path") from None
        if found.st_uid != os.geteuid():
            raise StoreError(f"cache file {str(path)!r} belongs to another user", "another path") from None
        if found.st_mode & 0o077:
            path.chmod(0o600)


def _connect(path: Path, busy_timeout_seconds: float) -> sqlite3.Connection:
    connection = sqlite3.connect(path, timeout=busy_timeout_seconds, isolation_level=None, cached_statements=64)
    try:
        connection.execute("PRAGMA trusted_schema = OFF")
        connection.execute("PRAGMA mmap_size = 0")
        _identify(connection, path)
        _check(connection)
        connection.execute(f"PRAGMA journal_mode = {journal_mode(sqlite3.sqlite_version_info)}").fetchone()
        # A cache may lose its last writes with the power, not its integrity: synced once a commit, not twice.
        connection.execute("PRAGMA synchronous = NORMAL")
    except BaseException:
        connection.close()
        raise
    return connection


def _identify(connection: sqlite3.Connection, path: Path) -> None:
    """Create the schema in an empty file; refuse a file that is somebody else's or of a later version."""
    if _marks(connection) == (0, 0):
        connection.execute("BEGIN IMMEDIATE")
        try:
            # Asked again under the lock: another process may have created it in between.
            if _marks(connection) == (0, 0) and not connection.execute("SELECT 1 FROM sqlite_schema").fetchone():
                for statement in _SCHEMA:
                    connection.execute(statement)
            connection.execute("COMMIT")
        except BaseException:
            if connection.in_transaction:
                connection.execute("ROLLBACK")
            raise
    application, version = _marks(connection)
    if application != APPLICATION_ID:
        raise StoreError(f"file {str(path)!r} is a database, but not a cache of Oneiric's", "another path")
    if version != _SCHEMA_VERSION:
        raise StoreError(
            f"cache file {str(path)!r} has schema version {version}, not {_SCHEMA_VERSION}",
            "the release that wrote it, or another path",
        )


def _marks(connection: sqlite3.Connection) -> tuple[int, int]:
    return (
        connection.execute("PRAGMA application_id").fetchone()[0],
        connection.execute("PRAGMA user_version").fetchone()[0],
    )


def _check(connection: sqlite3.Connection) -> None:
    verdict = str(connection.execute("PRAGMA quick_check(1)").fetchone()[0])
    if verdict != "ok":
        error = sqlite3.DatabaseError(verdict)
        error.sqlite_errorcode, error.sqlite_errorname = sqlite3.SQLITE_CORRUPT, "SQLITE_CORRUPT"
        raise error


def _is_damage(error: sqlite3.DatabaseError) -> bool:
    return (getattr(error, "sqlite_errorcode", None) or 0) & 0xFF in _DAMAGE


def _is_ours(path: Path) -> bool:
    """Say whether the header still bears our mark; a file that does not is left where it is.

    A file that is gone or empty by now was set aside by another process, which is about to begin the new one.
    """
    try:
        with path.open("rb") as file:
            header = file.read(_HEADER_BYTES)
    except FileNotFoundError:
        return True
    return not header or (header.startswith(b"SQLite format 3\x00") and header[68:72] == APPLICATION_ID.to_bytes(4))


def _rebuild(path: Path, busy_timeout_seconds: float) -> sqlite3.Connection:
    """Set the damaged file aside, with its journals, and begin a new one; say so in the log."""
    with _rebuild_lock(path):
        try:
            # Another process may have done it while this one waited for the lock.
            _prepare(path)
            return _connect(path, busy_timeout_seconds)
        except sqlite3.DatabaseError as error:
            if not _is_damage(error) or not _is_ours(path):
                raise
        aside = f"{path}.corrupt-{time.time_ns()}"
        # Journals first: one that stayed would be played back into the new file.
        for suffix in ("-journal", "-wal", "-shm", ""):
            source = Path(f"{path}{suffix}")
            if source.exists():
                source.rename(f"{aside}{suffix}")
        _log.warning("cache file %s was corrupt: it is kept as %s, and the cache begins empty", path, aside)
        _prepare(path)
        return _connect(path, busy_timeout_seconds)


@contextmanager
def _rebuild_lock(path: Path) -> Iterator[None]:
    flags = os.O_CREAT | os.O_RDWR | os.O_CLOEXEC | os.O_NOFOLLOW
    with closing(os.fdopen(os.open(f"{path}.lock", flags, 0o600), "rb")) as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield
