"""DeliveryStore: what each delivery came to, so that the next one of the same is answered and not done again."""

import asyncio
import json
import os
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, Final

from oneiric.runtime._boot import boot_id
from oneiric.runtime._store_kept import KeptInStore
from oneiric.runtime._store_memory import store_at
from oneiric.runtime.store import Database

__all__ = ["DELIVERIES_FILE", "Answer", "DeliveryStore"]

#: Its name in the state directory.
DELIVERIES_FILE: Final = "deliveries.sqlite"
_APPLICATION_ID: Final = 0x4F4E4456  # "ONDV"
_WEEK_SECONDS: Final = 7 * 86_400.0
_LEASE_SECONDS: Final = 60.0
_MOST_BYTES: Final = 256 * 1024


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    """What a delivery is answered.

    Attributes:
        status: The HTTP status.
        document: The body, as plain data.
        headers: Beside the usual ones.
        is_final: Whether the next delivery of the same is answered alike; else it is done again.
    """

    status: int
    document: dict[str, Any]
    headers: dict[str, str] = field(default_factory=dict)
    is_final: bool = True


def _create(database: Database) -> None:
    database.execute(
        """CREATE TABLE deliveries (
               number INTEGER PRIMARY KEY AUTOINCREMENT, key TEXT NOT NULL UNIQUE, at REAL NOT NULL,
               attempt INTEGER NOT NULL, boot TEXT, lease_until REAL, status INTEGER, document TEXT)"""
    )


class DeliveryStore(KeptInStore):
    """Keep what deliveries came to, for every process that uses the same file.

    A damaged file is refused, never replaced: an empty one would let effects be repeated.

    Args:
        path: The SQLite file; None keeps everything in memory.
        keep_seconds: How long an answer is kept: longer than anybody delivers again.
        most_answers: The most that are kept; older ones go.
        lease_seconds: How long after its process died a delivery may be done again.
        clock: Seconds since the epoch.
    """

    def __init__(
        self,
        path: str | os.PathLike[str] | None = None,
        *,
        keep_seconds: float = _WEEK_SECONDS,
        most_answers: int = 100_000,
        lease_seconds: float = _LEASE_SECONDS,
        clock: Callable[[], float] = time.time,
    ) -> None:
        super().__init__(store_at(path, application_id=_APPLICATION_ID, migrations=(_create,)))
        self._keep_seconds, self._most, self._clock = keep_seconds, most_answers, clock
        self.lease_seconds = lease_seconds

    async def begin(self, key: str) -> Answer | int | None:
        """Take a delivery upon oneself.

        Returns:
            What it came to, where it was done before; None where another process is about it; else the number of
            this attempt, which `finish`, `renew` and `release` want to see.

        Raises:
            StoreError: The store failed.
        """
        now, at, until = self._now(), self._clock(), self._now() + self.lease_seconds

        def take(database: Database) -> Answer | int | None:
            rows = database.execute(
                "SELECT attempt, boot, lease_until, status, document FROM deliveries WHERE key = ?", (key,)
            )
            if not rows:
                self._trim(database, at)
                database.execute(
                    "INSERT INTO deliveries (key, at, attempt, boot, lease_until) VALUES (?, ?, 1, ?, ?)",
                    (key, at, boot_id(), until),
                )
                return 1
            attempt, boot, lease_until, status, document = rows[0]
            if status is not None:
                return Answer(status=status, document=json.loads(document))
            if boot == boot_id() and lease_until is not None and lease_until > now:
                return None
            database.execute(
                "UPDATE deliveries SET attempt = ?, boot = ?, lease_until = ?, at = ? WHERE key = ?",
                (attempt + 1, boot_id(), until, at, key),
            )
            return int(attempt) + 1

        return await self._store.write(take)

    async def finish(self, key: str, attempt: int, answer: Answer) -> bool:
        """Keep what a delivery came to; answer False where another process has taken it over, and nothing was kept.

        Raises:
            StoreError: It could not be kept.
        """
        text = json.dumps(answer.document)
        if len(text) > _MOST_BYTES:
            text = json.dumps({**{name: answer.document[name] for name in ("status",) if name in answer.document},
                               "truncated": True})  # fmt: skip

        def keep(database: Database) -> bool:
            database.execute(
                "UPDATE deliveries SET status = ?, document = ?, lease_until = NULL"
                " WHERE key = ? AND attempt = ? AND status IS NULL",
                (answer.status, text, key, attempt),
            )
            return bool(database.changes)

        return await self._store.write(keep)

    async def renew(self, key: str, attempt: int) -> bool:
        """Stay with a delivery; answer whether it is still this attempt's.

        Raises:
            StoreError: The store failed.
        """
        until = self._now() + self.lease_seconds

        def extend(database: Database) -> bool:
            database.execute(
                "UPDATE deliveries SET lease_until = ? WHERE key = ? AND attempt = ? AND status IS NULL",
                (until, key, attempt),
            )
            return bool(database.changes)

        return await self._store.write(extend)

    async def release(self, key: str, attempt: int) -> None:
        """Give a delivery back that was not done, so that the next one of the same is.

        Raises:
            StoreError: The store failed.
        """
        await self._store.write(
            lambda database: database.execute(
                "UPDATE deliveries SET lease_until = NULL WHERE key = ? AND attempt = ? AND status IS NULL",
                (key, attempt),
            )
        )

    def _trim(self, database: Database, at: float) -> None:
        """Let go of the oldest, a few at a time: none that somebody is about."""
        database.execute(
            "DELETE FROM deliveries WHERE number IN (SELECT number FROM deliveries ORDER BY number LIMIT 10)"
            " AND lease_until IS NULL AND (at < ? OR number <= (SELECT max(number) FROM deliveries) - ?)",
            (at - self._keep_seconds, self._most),
        )

    @staticmethod
    def _now() -> float:
        return asyncio.get_running_loop().time()  # the monotonic clock, which all processes of one boot share
