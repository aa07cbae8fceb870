"""The file of the SQLite queue: opened safely, recognised as ours, never replaced.

Owns permissions, the schema, the journal mode and the wording of SQLite's failures. It runs on the thread that
owns the connection and knows nothing of event loops.
"""

import os
import sqlite3
import stat
from pathlib import Path
from typing import Final, Literal

from oneiric.core.errors import StoreError

__all__ = ["APPLICATION_ID", "journal_mode", "open_file", "store_error"]

APPLICATION_ID: Final = 0x4F4E5155  # "ONQU"; told apart from any other application's database
_SCHEMA_VERSION: Final = 1

#: A message is ready (0), not due yet (1), or with a consumer (2). ``place`` is its turn among the ready ones.
#: ``until`` is when a wait of state 1 or 2 ends, by the machine's monotonic clock, in milliseconds; ``due_at`` is
#: when it would by the wall clock, for another boot of the machine.
_SCHEMA: Final = (
    """CREATE TABLE messages (
           seq INTEGER PRIMARY KEY, queue TEXT NOT NULL, id TEXT NOT NULL UNIQUE, body BLOB NOT NULL,
           headers TEXT NOT NULL, enqueued_at REAL NOT NULL, attempts INTEGER NOT NULL, state INTEGER NOT NULL,
           place INTEGER NOT NULL, until INTEGER NOT NULL, due_at REAL NOT NULL, token INTEGER NOT NULL)""",
    "CREATE INDEX messages_ready ON messages (queue, place) WHERE state = 0",
    "CREATE INDEX messages_held ON messages (queue, until) WHERE state > 0",
    """CREATE TABLE dead (
           seq INTEGER PRIMARY KEY, queue TEXT NOT NULL, id TEXT NOT NULL UNIQUE, body BLOB NOT NULL,
           headers TEXT NOT NULL, enqueued_at REAL NOT NULL, attempts INTEGER NOT NULL, reason TEXT NOT NULL,
           dead_at REAL NOT NULL)""",
    "CREATE INDEX dead_by_queue ON dead (queue, seq)",
    """CREATE TABLE seen (
           queue TEXT NOT NULL, dedup_id TEXT NOT NULL, id TEXT NOT NULL, expires_at REAL NOT NULL,
           PRIMARY KEY (queue, dedup_id)) WITHOUT ROWID""",
    "CREATE INDEX seen_by_expiry ON seen (expires_at)",
    "CREATE TABLE counter (value INTEGER NOT NULL, boot TEXT NOT NULL)",
    "INSERT INTO counter VALUES (0, '')",
    f"PRAGMA application_id = {APPLICATION_ID}",
    f"PRAGMA user_version = {_SCHEMA_VERSION}",
)

type _Kind = Literal["locked", "corrupt", "full", "readonly", "io"]

#: SQLite's primary code → kind, what was found, what to try.
_MEANINGS: Final[dict[int, tuple[_Kind, str, str]]] = {
    sqlite3.SQLITE_BUSY: (
        "locked", "is locked by another process", "a longer busy_timeout_seconds, or end that process",
    ),
    sqlite3.SQLITE_LOCKED: (
        "locked", "is locked by another process", "a longer busy_timeout_seconds, or end that process",
    ),
    sqlite3.SQLITE_CORRUPT: ("corrupt", "is corrupt", "a backup; or move it away, and begin an empty queue"),
    sqlite3.SQLITE_NOTADB: ("corrupt", "is not a database", "another path; or move the file away"),
    sqlite3.SQLITE_FULL: ("full", "cannot grow: the disk, or its quota, is full", "free some space"),
    sqlite3.SQLITE_READONLY: (
        "readonly", "cannot be written, or was moved away", "its permissions, or a restart",
    ),
    sqlite3.SQLITE_PERM: ("readonly", "may not be opened", "the permissions of the file and its directory"),
    sqlite3.SQLITE_CANTOPEN: ("io", "cannot be opened", "the permissions of the file and its directory"),
    sqlite3.SQLITE_IOERR: ("io", "met an input/output error", "the state of the disk, and its free space"),
}  # fmt: skip


def journal_mode(version: tuple[int, int, int]) -> str:
    """Return the journal mode that is safe with several connections on SQLite *version*.

    Source: SQLite's WAL-reset bug (3.7.0 to 3.51.2) can corrupt a file that two connections write and
    checkpoint at once; the rollback journal is not affected.
    """
    return "WAL" if version >= (3, 51, 3) else "DELETE"


def store_error(error: sqlite3.Error, path: Path) -> StoreError:
    """Say in a sentence what SQLite's *error* about *path* means, and what to try."""
    code = (getattr(error, "sqlite_errorcode", None) or 0) & 0xFF
    if code in _MEANINGS:
        kind, found, hint = _MEANINGS[code]
        return StoreError(f"queue file {str(path)!r} {found}", hint, kind)
    return StoreError(f"queue file {str(path)!r} failed ({getattr(error, 'sqlite_errorname', type(error).__name__)})")


def open_file(path: Path, busy_timeout_seconds: float) -> sqlite3.Connection:
    """Open the queue at *path*, creating what is missing.

    A damaged file is an error and stays where it is: it holds work that somebody may still want to save.

    Raises:
        StoreError: It cannot be opened, is not ours, is not safe to use, is damaged, or is locked.
    """
    try:
        _prepare(path)
        return _connect(path, busy_timeout_seconds)
    except sqlite3.Error as error:
        raise store_error(error, path) from error
    except (OSError, ValueError) as error:  # a path with a NUL in it is a ValueError
        reason = getattr(error, "strerror", None) or str(error)
        hint = "another path, or its permissions"
        raise StoreError(f"queue file {str(path)!r} cannot be used: {reason}", hint, "io") from error


def _prepare(path: Path) -> None:
    """Create directory (0700) and file (0600) where missing; refuse what another user could have put there."""
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    parent = path.parent.stat()
    if parent.st_mode & stat.S_IWOTH and not parent.st_mode & stat.S_ISVTX:
        raise StoreError(f"queue directory {str(path.parent)!r} is writable by everybody", "chmod o-w, or another path")
    try:
        os.close(os.open(path, os.O_CREAT | os.O_EXCL | os.O_RDWR | os.O_CLOEXEC, 0o600))
    except FileExistsError:
        # Looked at, not opened: closing any descriptor of a file drops all of this process's locks on it.
        found = path.lstat()
        if not stat.S_ISREG(found.st_mode):
            raise StoreError(f"queue file {str(path)!r} is no regular file", "another path") from None
        if found.st_uid != os.geteuid():
            raise StoreError(f"queue file {str(path)!r} belongs to another user", "another path") from None
        if found.st_mode & 0o077:
            path.chmod(0o600)


def _connect(path: Path, busy_timeout_seconds: float) -> sqlite3.Connection:
    connection = sqlite3.connect(path, timeout=busy_timeout_seconds, isolation_level=None, cached_statements=64)
    try:
        connection.execute("PRAGMA trusted_schema = OFF")
        connection.execute("PRAGMA mmap_size = 0")
        _identify(connection, path)
        _check(connection)
        mode = journal_mode(sqlite3.sqlite_version_info)
        connection.execute(f"PRAGMA journal_mode = {mode}").fetchone()
        # What was answered must survive a power failure. With a rollback journal the commit is the journal's
        # removal, so its directory is synced too.
        connection.execute(f"PRAGMA synchronous = {'FULL' if mode == 'WAL' else 'EXTRA'}")
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
        raise StoreError(f"file {str(path)!r} is a database, but not a queue of Oneiric's", "another path", "foreign")
    if version != _SCHEMA_VERSION:
        raise StoreError(
            f"queue file {str(path)!r} has schema version {version}, not {_SCHEMA_VERSION}",
            "the release that wrote it, or another path",
            "newer",
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
