"""Dead letters: what could not be done is kept, with its reason, until somebody does it again or throws it away.

Owns the letters and nothing of how they are delivered: `DeadLetterStore.replay` is handed what does that.
"""

import os
import time
import uuid
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any, Final

from oneiric.core.errors import DispatchError
from oneiric.runtime._dead_letter_table import (
    APPLICATION_ID,
    COLUMNS,
    MIGRATIONS,
    DeadLetter,
    described,
    event_body,
    letter_of,
    written,
)
from oneiric.runtime._store_kept import KeptInStore
from oneiric.runtime._store_memory import store_at
from oneiric.runtime._undisturbed import claimed, undisturbed
from oneiric.runtime.events import EventEnvelope
from oneiric.runtime.store import Database
from oneiric.runtime.telemetry import count

__all__ = ["DEAD_LETTERS_FILE", "DeadLetter", "DeadLetterStore"]

#: Its name in the state directory.
DEAD_LETTERS_FILE: Final = "dead_letters.sqlite"
#: How long a replay may take before somebody else may begin one.
_CLAIM_SECONDS: Final = 600.0


class DeadLetterStore(KeptInStore):
    """Keep what could not be done, for every process that uses the same file.

    `keep` is what an `EventDispatcher` wants as its ``dead_letter``. Payloads are kept as they are, for whoever
    replays them: the file is its owner's alone (0600). A damaged file is set aside, never silently replaced.

    Args:
        path: The SQLite file; None keeps everything in memory.
        most_letters: Of so many last ones those are kept that were not done since; older ones go.
        most_bytes: Largest letter that is kept whole; of a larger one its beginning is, and it cannot be replayed.
        clock: Seconds since the epoch.
        readonly: For commands that only look: nothing is made or changed.
    """

    def __init__(
        self,
        path: str | os.PathLike[str] | None = None,
        *,
        most_letters: int = 10_000,
        most_bytes: int = 256 * 1024,
        clock: Callable[[], float] = time.time,
        readonly: bool = False,
    ) -> None:
        super().__init__(
            store_at(
                path, application_id=APPLICATION_ID, migrations=MIGRATIONS, on_corrupt="set_aside", readonly=readonly
            )
        )
        self._most_letters = most_letters
        self._most_bytes = most_bytes
        self._clock = clock

    @property
    def set_aside(self) -> Path | None:
        """Where a damaged file was put, or None."""
        return self._store.set_aside

    async def keep(
        self, envelope: EventEnvelope, handler: str, reason: str, error: BaseException | str | None, attempts: int
    ) -> DeadLetter:
        """Keep an event that a handler did not take.

        Args:
            envelope: The event.
            handler: Who did not take it; empty where nobody came to be asked.
            reason: A word.
            error: What was raised.
            attempts: How often it was tried.

        Raises:
            StoreError: It could not be kept.
        """
        return await self.keep_body(
            "event", envelope.topic, event_body(envelope), reason, error, handler=handler, attempts=attempts
        )

    async def keep_body(
        self,
        kind: str,
        subject: str,
        body: Any,
        reason: str,
        error: BaseException | str | None = None,
        *,
        handler: str = "",
        attempts: int = 0,
    ) -> DeadLetter:
        """Keep anything else; answered when it is committed.

        Raises:
            StoreError: It could not be kept.
        """
        text, is_whole = written(body, self._most_bytes)
        row = (
            *(uuid.uuid4().hex, self._clock(), kind, subject[:255], handler, reason, described(error), attempts),
            *(text, is_whole, 0),
        )

        def insert(database: Database) -> None:
            database.execute(f"INSERT INTO letters ({COLUMNS}) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)", row)  # noqa: S608 - our own words
            database.execute(
                "DELETE FROM letters WHERE number <= (SELECT max(number) FROM letters) - ?", (self._most_letters,)
            )

        await self._store.write(insert)
        count("oneiric_dead_letters_total", kind=kind, reason=reason)
        return letter_of(row)

    async def letters(
        self,
        *,
        kind: str | None = None,
        subject: str | None = None,
        handler: str | None = None,
        reason: str | None = None,
        limit: int = 100,
    ) -> list[DeadLetter]:
        """Return letters, the newest first; of these only, where something is given.

        Raises:
            StoreError: The file cannot be read.
        """
        wanted = {"kind": kind, "subject": subject, "handler": handler, "reason": reason}
        stated = {name: value for name, value in wanted.items() if value is not None}
        where = " AND ".join(f"{name} = :{name}" for name in stated) or "1"
        sql = f"SELECT {COLUMNS} FROM letters WHERE {where} ORDER BY number DESC LIMIT :most"  # noqa: S608 - our own words
        rows = await self._store.read(lambda database: database.execute(sql, {**stated, "most": limit}))
        return [letter_of(row) for row in rows]

    async def count(self) -> int:
        """Return how many there are."""
        rows = await self._store.read(lambda database: database.execute("SELECT count(*) FROM letters"))
        return int(rows[0][0])

    async def show(self, letter_id: str) -> DeadLetter:
        """Return a letter.

        Raises:
            DispatchError: There is none of that id.
            StoreError: The file cannot be read.
        """
        rows = await self._store.read(lambda database: _found(database, letter_id))
        return _only(rows, letter_id)

    async def replay(self, letter_id: str, deliver: Callable[[DeadLetter], Awaitable[object]]) -> DeadLetter:
        """Do again what a letter is about; it goes when that succeeds, and stays with the new error when not.

        Two replays of one letter at the same time are refused, also of two processes. One that ends between its
        success and the letter's removal leaves the letter: what it does must bear being done twice.

        Args:
            letter_id: Which.
            deliver: Does it; raises where it failed.

        Returns:
            The letter as it was.

        Raises:
            DispatchError: There is none of that id, or it is being replayed.
            StoreError: The store failed.
            Exception: What *deliver* raised.
        """
        now = self._clock()
        rows = await claimed(
            self._store.write(lambda database: _claim(database, letter_id, now)),
            lambda _: self._store.write(lambda database: _let_go(database, letter_id)),
        )
        letter = _only(rows, letter_id)
        try:
            await deliver(letter)
        except BaseException as error:
            said = described(error)
            await undisturbed(self._store.write(lambda database: _not_done(database, letter_id, said)))
            raise
        await undisturbed(self.purge(letter_id))
        return letter

    async def purge(self, *letter_ids: str, older_than_seconds: float | None = None, reason: str | None = None) -> int:
        """Throw letters away; answer how many there were. Without an argument, none.

        Args:
            letter_ids: These.
            older_than_seconds: Those kept before; 0 for all.
            reason: Of these only those with this reason; alone, all of them.

        Raises:
            StoreError: The store failed.
        """
        before = None if older_than_seconds is None else self._clock() - older_than_seconds

        def delete(database: Database) -> int:
            done = 0
            for letter_id in letter_ids:
                database.execute("DELETE FROM letters WHERE id = ?", (letter_id,))
                done += database.changes
            if before is not None or reason is not None:
                database.execute(
                    "DELETE FROM letters WHERE (:before IS NULL OR at <= :before)"
                    " AND (:reason IS NULL OR reason = :reason)",
                    {"before": before, "reason": reason},
                )
                done += database.changes
            return done

        return await self._store.write(delete)


def _found(database: Database, letter_id: str) -> list[tuple[Any, ...]]:
    return database.execute(f"SELECT {COLUMNS} FROM letters WHERE id = ?", (letter_id,))  # noqa: S608 - our own words


def _claim(database: Database, letter_id: str, now: float) -> list[tuple[Any, ...]]:
    """Return the letter's row and keep others from replaying it.

    Raises:
        DispatchError: Somebody else does.
    """
    database.execute(
        "UPDATE letters SET claimed_until = :until WHERE id = :id"
        " AND (claimed_until IS NULL OR claimed_until <= :now OR claimed_until > :until)",
        {"until": now + _CLAIM_SECONDS, "now": now, "id": letter_id},
    )
    rows = _found(database, letter_id)
    if rows and not database.changes:
        raise DispatchError(f"dead letter {letter_id!r} is being replayed already", "see what becomes of it")
    return rows


def _let_go(database: Database, letter_id: str) -> None:
    database.execute("UPDATE letters SET claimed_until = NULL WHERE id = ?", (letter_id,))


def _not_done(database: Database, letter_id: str, error: str | None) -> None:
    _let_go(database, letter_id)
    database.execute("UPDATE letters SET replays = replays + 1, error = ? WHERE id = ?", (error, letter_id))


def _only(rows: list[tuple[Any, ...]], letter_id: str) -> DeadLetter:
    if not rows:
        raise DispatchError(f"there is no dead letter {letter_id[:64]!r}", "oneiric event dead-letters")
    return letter_of(rows[0])
