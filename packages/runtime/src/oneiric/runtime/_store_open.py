"""The opening of a store: recognised as ours, checked, given its journal mode, brought to the current schema.

Runs on the thread that will own the connection, one process at a time per directory.
"""

import logging
import os
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import count
from pathlib import Path
from typing import Final, Literal

from oneiric.core.errors import StoreError
from oneiric.runtime._store_database import Database
from oneiric.runtime._store_library import Connection, Library, store_error
from oneiric.runtime._store_place import (
    identity,
    is_at_rest,
    is_on_network,
    place_error,
    prepare,
    refuse_unsafe,
    set_aside,
    turn,
)

__all__ = ["Migration", "Opened", "StoreSpec", "open_file"]

type Migration = str | Callable[[Database], object]

_RETRY_SECONDS: Final = 0.01
_openings: Final = count(1)
_log: Final = logging.getLogger("oneiric.runtime.store")


@dataclass(frozen=True, slots=True, kw_only=True)
class StoreSpec:
    """What a store is to be; the fields are the arguments of `oneiric.runtime.store.SqliteStore`."""

    path: Path
    application_id: int
    migrations: Sequence[Migration]
    adopts: str | None
    busy_seconds: float
    synchronous: Literal["full", "normal"]
    on_corrupt: Literal["refuse", "set_aside"]
    readonly: bool
    library: Library


@dataclass(frozen=True, slots=True, kw_only=True)
class Opened:
    """An open store.

    Attributes:
        connection: Of this thread alone.
        database: What work is given.
        identity: Of the file it is open on.
        journal: ``"wal"`` or ``"delete"``; empty where the store is only read.
        set_aside: Where a damaged file was put to make room for this one, or None.
        at_rest: Whether it was opened as a file that nobody writes.
    """

    connection: Connection
    database: Database
    identity: tuple[int, int] | None
    journal: str = ""
    set_aside: Path | None = None
    at_rest: bool = False


def open_file(spec: StoreSpec) -> Opened:
    """Open a store, creating what is missing unless it is to be read only.

    Raises:
        StoreError: It cannot be opened, is not ours, is not safe to use, is locked, newer, or corrupt.
    """
    try:
        if spec.readonly:
            return _open_readonly(spec)
        prepare(spec.path)
        with turn(spec.path, spec.busy_seconds):
            prepare(spec.path)  # again: whoever had the turn before may have set it aside
            try:
                return _connected(spec, aside=None)
            except StoreError as error:
                if error.kind != "corrupt" or spec.on_corrupt == "refuse":
                    raise
            aside = set_aside(spec.path)
            _log.warning("store %s was corrupt: it is kept as %s, and a new one begins", spec.path, aside)
            prepare(spec.path)
            return _connected(spec, aside=aside)
    except (OSError, ValueError) as error:
        raise place_error(error, spec.path) from error


def _open_readonly(spec: StoreSpec) -> Opened:
    """Open a store without making a file.

    Write-ahead mode keeps an index beside the file, and makes it even for a reader. Without a journal nobody has the
    store open, and it can be read as it lies there.
    """
    refuse_unsafe(spec.path, repair=False)
    at_rest = is_at_rest(spec.path)
    mode = "mode=ro&immutable=1" if at_rest else "mode=ro"
    try:
        connection = spec.library.connect(spec.path, spec.busy_seconds, mode=mode)
        try:
            for pragma in ("trusted_schema = OFF", "mmap_size = 0", "cell_size_check = ON", "query_only = ON"):
                connection.execute(f"PRAGMA {pragma}")
            _recognise(connection, spec)
            _check(connection, spec.path)
        except BaseException:
            connection.close()
            raise
    except spec.library.error as error:
        raise store_error(error, spec.path, spec.library) from error
    database = Database(connection, next(_openings))
    return Opened(connection=connection, database=database, identity=identity(spec.path), at_rest=at_rest)


def _connected(spec: StoreSpec, aside: Path | None) -> Opened:
    library = spec.library
    try:
        connection = library.connect(spec.path, spec.busy_seconds, mode="mode=rw")
        try:
            for pragma in ("trusted_schema = OFF", "foreign_keys = ON", "mmap_size = 0", "cell_size_check = ON"):
                connection.execute(f"PRAGMA {pragma}")
            found = _recognise(connection, spec)
            _check(connection, spec.path)
            journal = _set_journal(connection, spec)
            _set_durability(connection, spec, journal)
            _migrate(connection, spec, found)
        except BaseException:
            library.let_go(connection)  # a closing that tidies up would delete the journal of a damaged file
            raise
    except library.error as error:
        raise store_error(error, spec.path, library) from error
    return Opened(
        connection=connection,
        database=Database(connection, next(_openings)),
        identity=identity(spec.path),
        journal=journal,
        set_aside=aside,
    )


def _pragma(connection: Connection, name: str) -> int:
    return int(connection.execute(f"PRAGMA {name}").fetchall()[0][0])


def _recognise(connection: Connection, spec: StoreSpec) -> int:
    """Return the schema version of a store that is ours, 0 for an empty or adopted one; refuse any other."""
    application, version = _pragma(connection, "application_id"), _pragma(connection, "user_version")
    if application == spec.application_id:
        if version > len(spec.migrations):
            raise StoreError(
                f"store {str(spec.path)!r} has schema version {version}, and this release knows up to "
                f"{len(spec.migrations)}",
                "the release that wrote it, or another path",
                "newer",
            )
        return version
    tables = {str(row[0]) for row in connection.execute("SELECT name FROM sqlite_schema").fetchall()}
    if (application, version) == (0, 0) and (not tables or spec.adopts in tables):
        return 0
    raise StoreError(
        f"file {str(spec.path)!r} is a database of another application (application_id {application:#x})",
        "another path",
        "foreign",
    )


def _check(connection: Connection, path: Path) -> None:
    verdict = str(connection.execute("PRAGMA quick_check(1)").fetchall()[0][0])
    if verdict != "ok":
        raise StoreError(
            f"store {str(path)!r} is corrupt: {verdict.splitlines()[-1]}",
            "a backup beside it; or move it away and begin anew",
            "corrupt",
        )


def _set_journal(connection: Connection, spec: StoreSpec) -> str:
    """Give the file the journal mode that is safe for the library and the place; return the mode it has."""
    wanted = "wal" if spec.library.is_safe_with_wal and not is_on_network(spec.path) else "delete"
    until = time.monotonic() + spec.busy_seconds
    while True:
        mode = str(connection.execute("PRAGMA journal_mode").fetchall()[0][0])
        if mode == wanted:
            return mode
        try:
            mode = str(connection.execute(f"PRAGMA journal_mode = {wanted}").fetchall()[0][0])
        except spec.library.error as error:
            # SQLite does not wait here by itself: the change needs the file to itself.
            if store_error(error, spec.path, spec.library).kind != "locked":
                raise
        if wanted in {mode, "wal"}:
            return mode  # a rollback journal is safe with every library
        if time.monotonic() >= until:
            raise StoreError(
                f"store {str(spec.path)!r} is open elsewhere in write-ahead mode, which SQLite "
                f"{'.'.join(map(str, spec.library.version))} or its file system cannot share safely",
                "pip install 'oneiric-runtime[sqlite]', or end the other process",
                "locked",
            )
        time.sleep(_RETRY_SECONDS)


def _set_durability(connection: Connection, spec: StoreSpec, journal: str) -> None:
    if spec.synchronous == "normal":
        connection.execute("PRAGMA synchronous = NORMAL")
        return
    # With a rollback journal a commit is the unlinking of a file: EXTRA also syncs the directory it was in.
    connection.execute(f"PRAGMA synchronous = {'FULL' if journal == 'wal' else 'EXTRA'}")
    connection.execute("PRAGMA fullfsync = ON")  # for macOS, where fsync alone stops at the drive's cache


def _migrate(connection: Connection, spec: StoreSpec, version: int) -> None:
    """Bring the schema to the current version in one transaction, after a backup of what there was."""
    if version == len(spec.migrations) and _pragma(connection, "application_id") == spec.application_id:
        return
    if connection.execute("SELECT 1 FROM sqlite_schema LIMIT 1").fetchall():
        _back_up(connection, Path(f"{spec.path}.backup-v{version}"))
    connection.execute("BEGIN IMMEDIATE")
    try:
        for migration in spec.migrations[version:]:
            if callable(migration):
                migration(Database(connection))
            else:
                for statement in _statements(migration):
                    connection.execute(statement)
        connection.execute(f"PRAGMA application_id = {spec.application_id}")
        connection.execute(f"PRAGMA user_version = {len(spec.migrations)}")
        connection.execute("COMMIT")
    except BaseException:
        if connection.in_transaction:
            connection.execute("ROLLBACK")
        raise


def _back_up(connection: Connection, target: Path) -> None:
    """Copy an open store, as of one moment, to *target*."""
    unfinished = Path(f"{target}.part")
    unfinished.unlink(missing_ok=True)
    os.close(os.open(unfinished, os.O_CREAT | os.O_EXCL | os.O_WRONLY | os.O_CLOEXEC, 0o600))
    connection.execute("VACUUM INTO ?", (str(unfinished),))
    descriptor = os.open(unfinished, os.O_RDONLY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
    unfinished.replace(target)


def _statements(script: str) -> Iterator[str]:
    """Split a script where a statement ends at the end of a line."""
    import sqlite3  # noqa: PLC0415 - for what migrates; a store in memory is imported with the bridges

    statement = ""
    for line in script.splitlines(keepends=True):
        statement += line
        if sqlite3.complete_statement(statement):
            yield statement
            statement = ""
    if statement.strip():
        yield statement
