"""A store that is kept in memory, for those who keep no state: the same work, and nothing outlives the process."""

import asyncio
import os
import sqlite3
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Literal

from oneiric.core.errors import StoreError
from oneiric.runtime._store_database import Database
from oneiric.runtime._store_open import Migration
from oneiric.runtime.store import SqliteStore

__all__ = ["MemoryStore", "Store", "store_at"]

type Store = "SqliteStore | MemoryStore"


def store_at(
    path: str | os.PathLike[str] | None,
    *,
    application_id: int,
    migrations: Sequence[Migration],
    durability: Literal["group", "strict"] = "group",
    on_corrupt: Literal["refuse", "set_aside"] = "refuse",
    busy_seconds: float = 5.0,
    readonly: bool = False,
) -> Store:
    """Return the store of a file; without a path, one in memory."""
    if path is None:
        return MemoryStore(migrations)
    return SqliteStore(
        path,
        application_id=application_id,
        migrations=migrations,
        durability=durability,
        on_corrupt=on_corrupt,
        busy_seconds=busy_seconds,
        readonly=readonly,
    )


class MemoryStore:
    """What `SqliteStore` does with a file, in memory, on the event loop's thread.

    Args:
        migrations: Run in order when it is opened.
    """

    path: Path | None = None
    set_aside: Path | None = None

    def __init__(self, migrations: Sequence[Migration]) -> None:
        self._migrations = tuple(migrations)
        self._database: Database | None = None
        self._connection: sqlite3.Connection | None = None

    async def open(self) -> None:
        """Make the tables; nothing to do when they are there."""
        if self._connection is None:
            self._connection = sqlite3.connect(":memory:", isolation_level=None)
            self._database = Database(self._connection)
            for migration in self._migrations:
                if isinstance(migration, str):
                    self._connection.executescript(migration)
                else:
                    migration(self._database)

    async def aclose(self) -> None:
        """Let go of everything."""
        connection, self._connection, self._database = self._connection, None, None
        if connection is not None:
            connection.close()

    def write[T](self, work: Callable[[Database], T]) -> asyncio.Future[T]:
        """Run *work* in a transaction, as `SqliteStore.write`."""
        answer: asyncio.Future[Any] = asyncio.get_running_loop().create_future()
        connection, database = self._connection, self._database
        if connection is None or database is None:
            answer.set_exception(StoreError("the store in memory is closed", "open() first", "io"))
            return answer
        connection.execute("BEGIN")
        try:
            done = work(database)
        except BaseException as error:  # whatever the work raises, nothing of it stays
            connection.execute("ROLLBACK")
            if not isinstance(error, Exception):
                raise
            answer.set_exception(error)
        else:
            connection.execute("COMMIT")
            answer.set_result(done)
        return answer

    def read[T](self, work: Callable[[Database], T]) -> asyncio.Future[T]:
        """Run *work*, which only reads, as `SqliteStore.read`."""
        return self.write(work)
