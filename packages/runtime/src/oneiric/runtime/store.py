"""SQLite stores that the runtime keeps its state in: activity, checkpoints, queues.

One owner thread per store holds one connection. Writes are answered after their commit, and writes that wait together
share one. This module owns durability, locking, damage and permissions; what is in the tables is its callers' business.
"""

import asyncio
import os
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Literal

from oneiric.core.errors import StoreError
from oneiric.runtime._opened import Opened
from oneiric.runtime._store_database import Database
from oneiric.runtime._store_library import LibraryName, library_named
from oneiric.runtime._store_open import Migration, StoreSpec
from oneiric.runtime._store_owner import Owner
from oneiric.runtime._store_place import resolved

__all__ = ["Database", "Migration", "SqliteStore"]


class SqliteStore(Opened):
    """Keep tables in a SQLite file that several processes may use at once.

    The file is private (0600, journals too), in a directory that is made private (0700). It is in write-ahead mode
    where the SQLite library is known to be safe with it and the file system is local, and has a rollback journal
    otherwise. A process must not open one file with both libraries, nor with SQLite behind this class's back: closing
    a file drops the locks of the whole process on it.

    Belongs to the event loop that opens it.

    Args:
        path: The file; its directory is made where it is missing.
        application_id: A number of 32 bits that marks the file as this kind of store; any other file is refused.
        migrations: What takes the schema from version *n* to *n + 1*, at index *n*: SQL whose statements end at the
            end of a line, or a function of the `Database`. All that are due run in one transaction, after a backup
            beside the file (``*.backup-v<version>``) if there was anything to lose.
        adopts: Name of a table by which an unmarked database of an earlier release is recognised and taken over as
            version 0.
        busy_seconds: How long to wait for another process's lock.
        durability: ``"group"`` lets writes that wait together share a commit; ``"strict"`` gives each its own, and
            costs a disk sync each. Either way a write is answered after its commit.
        synchronous: ``"full"`` keeps every answered write through a power failure; ``"normal"`` may lose the last
            ones then (never integrity, and nothing when only the process dies), and is much faster.
        library: Which SQLite; by default apsw where it is installed, else sqlite3.
        on_corrupt: ``"refuse"`` to open a damaged file; or ``"set_aside"``: keep it as ``*.corrupt-<time>``, begin
            an empty one, and tell by the log and `set_aside`.
        readonly: Never make or change a file; writes are refused.

    Raises:
        MissingExtraError: apsw is asked for and not installed.
    """

    def __init__(
        self,
        path: str | os.PathLike[str],
        *,
        application_id: int,
        migrations: Sequence[Migration],
        adopts: str | None = None,
        busy_seconds: float = 5.0,
        durability: Literal["group", "strict"] = "group",
        synchronous: Literal["full", "normal"] = "full",
        library: LibraryName | None = None,
        on_corrupt: Literal["refuse", "set_aside"] = "refuse",
        readonly: bool = False,
    ) -> None:
        self._spec = StoreSpec(
            path=resolved(path),
            application_id=application_id,
            migrations=tuple(migrations),
            adopts=adopts,
            busy_seconds=busy_seconds,
            synchronous=synchronous,
            on_corrupt=on_corrupt,
            readonly=readonly,
            library=library_named(library),
        )
        self._is_strict = durability == "strict"
        self._owner: Owner | None = None
        self._opening = asyncio.Lock()

    @property
    def path(self) -> Path:
        """The file, in a directory free of symbolic links."""
        return self._spec.path

    @property
    def library(self) -> str:
        """Which SQLite works here, such as ``"apsw 3.54.1"``."""
        return f"{self._spec.library.name} {'.'.join(map(str, self._spec.library.version))}"

    @property
    def journal_mode(self) -> str | None:
        """``"wal"`` or ``"delete"``; None while the store is closed or only read."""
        opened = self._owner.opened if self._owner else None
        return (opened.journal or None) if opened else None

    @property
    def set_aside(self) -> Path | None:
        """Where the last damaged file was put since this store was opened, or None."""
        return self._owner.set_aside if self._owner else None

    async def open(self) -> None:
        """Open the file, creating or migrating it as needed; nothing to do when it is open.

        Raises:
            StoreError: Of kind ``locked``; ``corrupt`` (and to be refused); ``newer``; ``foreign``, the file or its
                place is not this user's alone, or holds something else; ``readonly``, ``full`` or ``io``.
        """
        async with self._opening:
            if self._owner is None:
                owner = Owner(self._spec, is_strict=self._is_strict)
                await owner.start()
                self._owner = owner

    async def aclose(self) -> None:
        """Finish what was asked, and close the file; nothing to do when it is closed."""
        if self._owner is not None:
            owner, self._owner = self._owner, None
            await owner.stop()

    def write[T](self, work: Callable[[Database], T]) -> asyncio.Future[T]:
        """Run *work* in a transaction; await the result, which is there once that is committed.

        What it raises is raised where it is awaited, and nothing of it stays; other work that shares the commit is not
        touched. Therefore *work* may be run twice: it must have no effect but through its `Database`. It runs on the
        store's thread, must not end the transaction, and must not block. A caller that is cancelled does not know
        whether its work was done.

        Returns:
            A future, and not a coroutine: a thousand writes that are gathered need no task each.

        Raises:
            StoreError: The file failed, and nothing of *work* was written (after an ``io`` error it may have been);
                or a statement is wrong, with a kind of None. The next call tries anew, with the file opened again
                if need be.
        """
        if self._owner is None:
            return self._closed()
        return self._owner.write(work)

    def read[T](self, work: Callable[[Database], T]) -> asyncio.Future[T]:
        """Run *work*, which only reads; await the result, which is of one moment and of committed writes only.

        Raises:
            StoreError: As of `write`.
        """
        if self._owner is None:
            return self._closed()
        return self._owner.read(work)

    async def check(self) -> str | None:
        """Read the whole file and return what is wrong with it, or None; takes as long as the file is large.

        Raises:
            StoreError: As of `write`.
        """
        rows = await self.read(lambda database: database.execute("PRAGMA integrity_check(1)"))
        verdict = str(rows[0][0])
        return None if verdict == "ok" else verdict

    def _closed(self) -> asyncio.Future[Any]:
        answer: asyncio.Future[Any] = asyncio.get_running_loop().create_future()
        answer.set_exception(StoreError(f"store {str(self._spec.path)!r} is closed", "open() first", "io"))
        return answer
