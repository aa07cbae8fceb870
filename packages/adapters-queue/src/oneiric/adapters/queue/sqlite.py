"""The queue in a SQLite file: it needs nothing installed, outlives the process, and processes of one machine share it.

Every call is a request to the thread that owns the connection; calls made together share a transaction, and each
is answered after its commit. A receiver that waits is woken by its own process at once, and looks for what others
enqueued every ``poll_interval_seconds``.
"""

import asyncio
import sqlite3
import sys
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from functools import partial
from math import ceil
from pathlib import Path
from typing import Any
from uuid import uuid4

from pydantic import BaseModel, ConfigDict, Field

from oneiric.adapters.queue import _message as message
from oneiric.adapters.queue import _sqlite_table as table
from oneiric.adapters.queue._protocol import DeadLetter, Delivery, Depth
from oneiric.adapters.queue._sqlite_file import open_file, store_error
from oneiric.adapters.queue._sqlite_owner import Owner
from oneiric.core.errors import RejectedError, StoreError

__all__ = ["SQLiteQueueAdapter", "SQLiteQueueSettings"]


class SQLiteQueueSettings(BaseModel):
    """Settings of the SQLite queue.

    Attributes:
        path: The file; its directory is made (mode 0700) when missing. Must be on a local file system.
        queue: Which of the file's queues; those of other names do not meet it.
        visibility_seconds: How long a received message is nobody else's, unless extended.
        dedup_window_seconds: How long a ``dedup_id`` is remembered.
        max_payload_bytes: The largest message, as compact JSON.
        poll_interval_seconds: How often a waiting receiver looks for what other processes enqueued.
        busy_timeout_seconds: How long a call waits for another process's transaction; then it is a `StoreError`.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    path: Path = Path(".oneiric_cache/queue.sqlite")
    queue: str = Field(default="default", min_length=1, max_length=128)
    visibility_seconds: float = Field(default=30.0, ge=0.05, le=43_200)
    dedup_window_seconds: float = Field(default=300.0, gt=0, le=604_800)
    max_payload_bytes: int = Field(default=1_048_576, ge=1, le=67_108_864)
    poll_interval_seconds: float = Field(default=0.1, gt=0, le=60)
    busy_timeout_seconds: float = Field(default=5.0, gt=0, le=3600)


class SQLiteQueueAdapter:
    """Keep messages in a file.

    Args:
        settings: By default, the default settings.
        clock: Seconds by a clock that nobody sets, the same for all who share the file; tests drive their own.
        wall: Seconds since the epoch.
        boot: Names the boot of the machine since which *clock* counts; by default the system says.
    """

    def __init__(
        self,
        settings: SQLiteQueueSettings | None = None,
        *,
        clock: Callable[[], float] = time.monotonic,
        wall: Callable[[], float] = time.time,
        boot: str | None = None,
    ) -> None:
        self._settings = settings or SQLiteQueueSettings()
        self._name = self._settings.queue
        self._visibility_ms = ceil(self._settings.visibility_seconds * 1000)
        self._clock, self._wall, self._boot = clock, wall, boot
        self._owner: Owner | None = None
        self._ending: Owner | None = None
        self._was_open = False
        self._inode: tuple[int, int] | None = None
        self._waiting: set[asyncio.Future[None]] = set()
        #: Takes on their way; what they bring to callers who have left is given back before the file is closed.
        self._taking: set[asyncio.Future[list[table.Row]]] = set()

    async def init(self) -> None:
        """Open the file; a closed queue stays closed.

        Raises:
            StoreError: The file cannot be opened, is not ours, is damaged, or is locked.
        """
        if self._was_open:
            self._serving()
            return
        owner = Owner(self._settings.path, self._open)
        await owner.start()
        self._owner, self._was_open = owner, True

    async def health(self) -> bool:
        """Say that the file is where it was and can be written.

        Raises:
            StoreError: It is not.
            InactiveError: The queue is not open.
        """
        await self._serving().ask(self._check_file, writes=True)
        return True

    async def cleanup(self) -> None:
        """Finish what was asked and close the file; every later call raises `InactiveError`."""
        self._was_open = True
        if self._owner is not None:
            self._owner, self._ending = None, self._owner
        self._wake()
        while self._taking:
            await asyncio.wait(self._taking)
        if self._ending is not None:
            await self._ending.stop()

    async def enqueue(
        self,
        payload: Mapping[str, Any],
        *,
        headers: Mapping[str, str] | None = None,
        delay_seconds: float = 0.0,
        dedup_id: str | None = None,
    ) -> str:
        """Store a message and return its id, after the commit."""
        owner = self._serving()
        new = table.NewMessage(
            id=uuid4().hex,
            body=message.encode(payload, self._settings.max_payload_bytes),
            headers=message.write_headers(message.check_headers(headers)),
            delay_ms=ceil(message.check_seconds(delay_seconds, "delay_seconds") * 1000),
            dedup_id=message.check_dedup_id(dedup_id),
            dedup_seconds=self._settings.dedup_window_seconds,
        )
        stored = await owner.ask(lambda store: table.add(store, self._name, new, self._now()), writes=True)
        self._wake()
        return stored

    async def receive(self, *, max_messages: int = 1, wait_seconds: float = 0.0) -> list[Delivery]:
        """Take messages that are ready; wait for one if there is none."""
        self._serving()
        most = message.check_count(max_messages, "max_messages")
        deadline = self._clock() + message.check_seconds(wait_seconds, "wait_seconds")
        while True:
            woken: asyncio.Future[None] = asyncio.get_running_loop().create_future()
            self._waiting.add(woken)
            try:
                owner = self._serving()
                in_ms = await owner.ask(lambda store: table.ready_in_ms(store, self._name, self._now()), writes=False)
                if in_ms == 0:
                    if taken := await self._take(self._serving(), most):
                        return taken
                    continue
                left = deadline - self._clock()
                if left <= 0:
                    return []
                soon = left if in_ms is None else min(left, in_ms / 1000)
                with suppress(TimeoutError):
                    await asyncio.wait_for(woken, min(soon, self._settings.poll_interval_seconds))
            finally:
                self._waiting.discard(woken)

    async def ack(self, delivery: Delivery) -> bool:
        """Settle: remove the message; say whether it still was this consumer's."""
        owner, (seq, token) = self._serving(), _receipt(delivery)
        return await owner.ask(lambda store: table.remove(store, seq, token), writes=True)

    async def retry(self, delivery: Delivery, *, delay_seconds: float = 0.0, counted: bool = True) -> bool:
        """Settle: let the message be delivered again; say whether it still was this consumer's."""
        owner, (seq, token) = self._serving(), _receipt(delivery)
        delay_ms = ceil(message.check_seconds(delay_seconds, "delay_seconds") * 1000)
        settled = await owner.ask(
            lambda store: table.put_back(store, seq, token, delay_ms, 0 if counted else 1, self._now()), writes=True
        )
        self._wake()
        return settled

    async def extend(self, delivery: Delivery) -> bool:
        """Keep the message for another ``visibility_seconds``; say whether it still was this consumer's."""
        owner, (seq, token) = self._serving(), _receipt(delivery)
        return await owner.ask(
            lambda store: table.extend(store, seq, token, self._now().monotonic_ms + self._visibility_ms), writes=True
        )

    async def dead_letter(self, delivery: Delivery, reason: str) -> bool:
        """Settle: give the message up; say whether it still was this consumer's."""
        owner, (seq, token) = self._serving(), _receipt(delivery)
        why = message.check_reason(reason)
        return await owner.ask(lambda store: table.bury(store, seq, token, why, self._now()), writes=True)

    async def depth(self) -> Depth:
        """Return how many messages there are."""
        owner = self._serving()
        waiting, held, dead = await owner.ask(lambda store: table.count(store, self._name, self._now()), writes=False)
        return Depth(waiting=waiting, held=held, dead=dead)

    async def dead_letters(self, *, limit: int = 100) -> list[DeadLetter]:
        """Return up to *limit* dead letters, oldest first."""
        owner, most = self._serving(), message.check_count(limit, "limit", 1000)
        rows = await owner.ask(lambda store: table.dead_rows(store, self._name, most), writes=False)
        return [
            DeadLetter(
                id=message_id,
                payload=message.read_payload(body),
                headers=message.read_headers(headers),
                attempts=attempts,
                reason=reason,
                enqueued_at=enqueued_at,
                dead_at=dead_at,
            )
            for message_id, body, headers, attempts, reason, enqueued_at, dead_at in rows
        ]

    async def requeue(self, message_id: str) -> bool:
        """Make a dead letter a message again; say whether it was one."""
        owner = self._serving()

        def work(store: sqlite3.Connection) -> bool:
            body = table.dead_body(store, self._name, message_id)
            if body is None:
                return False
            if message.read_payload(body) is None:
                raise RejectedError(f"dead letter {message_id!r} is no JSON object", "discard it")
            table.revive(store, self._name, message_id, self._now())
            return True

        revived = await owner.ask(work, writes=True)
        self._wake()
        return revived

    async def discard(self, message_id: str) -> bool:
        """Remove a dead letter; say whether it was one."""
        owner = self._serving()
        return await owner.ask(lambda store: table.forget(store, self._name, message_id), writes=True)

    async def _take(self, owner: Owner, most: int) -> list[Delivery]:
        asked = owner.ask(
            lambda store: table.take(store, self._name, most, self._visibility_ms, self._now()), writes=True
        )
        self._taking.add(asked)
        asked.add_done_callback(self._taking.discard)
        try:
            rows = await asyncio.shield(asked)
        except asyncio.CancelledError:
            # The thread may be taking them at this moment: nobody would see them before their visibility ended.
            asked.add_done_callback(partial(self._give_back, owner))
            raise
        return [self._delivery(row) for row in rows]

    def _give_back(self, owner: Owner, asked: "asyncio.Future[list[table.Row]]") -> None:
        if asked.cancelled() or asked.exception() is not None:
            return

        def work(store: sqlite3.Connection) -> None:
            for row in asked.result():
                table.put_back(store, row.seq, row.token, 0, 1, self._now())

        if asked.result():
            owner.tell(work)
            self._wake()

    def _delivery(self, row: table.Row) -> Delivery:
        return Delivery(
            id=row.id,
            payload=message.read_payload(row.body) or {},
            headers=message.read_headers(row.headers),
            attempt=row.attempt,
            enqueued_at=row.enqueued_at,
            visibility_seconds=self._settings.visibility_seconds,
            receipt=(row.seq, row.token),
        )

    def _serving(self) -> Owner:
        if self._owner is None:
            raise message.closed("sqlite", was_open=self._was_open)
        return self._owner

    def _now(self) -> table.Now:
        return table.Now(int(self._clock() * 1000), self._wall())

    def _wake(self) -> None:
        for woken in self._waiting:
            if not woken.done():
                woken.set_result(None)

    def _open(self) -> sqlite3.Connection:
        store = open_file(self._settings.path, self._settings.busy_timeout_seconds)
        try:
            found = self._settings.path.stat()
            self._inode = (found.st_dev, found.st_ino)
            store.execute("BEGIN IMMEDIATE")
            table.adopt_boot(store, self._boot or _boot(), self._now())
            store.execute("COMMIT")
        except sqlite3.Error as error:
            store.close()
            raise store_error(error, self._settings.path) from error
        except BaseException:
            store.close()
            raise
        return store

    def _check_file(self, store: sqlite3.Connection) -> None:
        store.execute("UPDATE counter SET value = value")
        path = self._settings.path
        try:
            found = path.stat()
        except FileNotFoundError:
            found = None
        if found is None or (found.st_dev, found.st_ino) != self._inode:
            raise StoreError(f"queue file {str(path)!r} was moved away or replaced", "a restart", "readonly")


def _receipt(delivery: Delivery) -> tuple[int, int]:
    match delivery.receipt:
        case (int(seq), int(token)):
            return seq, token
    raise RejectedError("this delivery is of another provider", "settle it with the queue that it was received from")


def _boot() -> str:
    """Return what names this boot of the machine."""
    if sys.platform == "linux":
        with suppress(OSError):
            return Path("/proc/sys/kernel/random/boot_id").read_text().strip()
    # When the machine started. Setting the clock makes it look restarted, which ends leases early: messages then
    # come again, and no settled one does.
    return f"since {round((time.time() - time.monotonic()) / 60)}"
