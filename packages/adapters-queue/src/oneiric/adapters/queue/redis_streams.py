"""The queue on Redis Streams: shared between machines, as durable as the server is.

Built on redis-py's asyncio client. Deliveries are entries of one stream and consumer group; delayed messages wait in a
sorted set, dead letters in a stream of their own. Each step is atomic on the server. Calls that are made together
travel together. Clusters are not supported, though all keys share a slot.
"""

import asyncio
import time
from collections.abc import Awaitable, Callable, Coroutine, Mapping
from functools import partial
from math import ceil
from typing import Any, Final
from uuid import uuid4

from oneiric.adapters.queue import _message as message
from oneiric.adapters.queue import _redis_scripts as scripts
from oneiric.adapters.queue._protocol import DeadLetter, Delivery, Depth
from oneiric.adapters.queue._redis_batch import Batch
from oneiric.adapters.queue._redis_entries import dead_letter_of, delivery_of
from oneiric.adapters.queue._redis_errors import FAILURES, adapter_error, has_no_group, is_dropped
from oneiric.adapters.queue._redis_settings import RedisStreamsQueueSettings, connect
from oneiric.core.errors import RejectedError, UnavailableError

__all__ = ["RedisStreamsQueueAdapter", "RedisStreamsQueueSettings"]

#: A `redis.asyncio.Redis`: its commands are typed as answering either now or later, which fits no caller.
type _Client = Any
type _Send = Callable[[], Awaitable[Any]]

#: How often, at most, one instance looks for messages whose visibility has ended.
_SWEEP_SECONDS: Final = 1.0
_UNREADABLE: Final = "it is no message of Oneiric's: the body is no JSON object, or the headers are none"


class RedisStreamsQueueAdapter:
    """Keep messages on a Redis server.

    Args:
        settings: By default, the default settings.
    """

    def __init__(self, settings: RedisStreamsQueueSettings | None = None) -> None:
        self._settings = settings or RedisStreamsQueueSettings()
        stream = self._settings.stream
        self._stream, self._delayed, self._dead, self._index, self._seen = (
            stream,
            f"{{{stream}}}:delayed",
            f"{{{stream}}}:dead",
            f"{{{stream}}}:dead-index",
            f"{{{stream}}}:seen:",
        )
        self._visibility_ms = ceil(self._settings.visibility_seconds * 1000)
        self._turns = asyncio.Semaphore(self._settings.max_connections)
        self._client: _Client | None = None
        self._scripts: dict[str, Any] = {}
        self._added = Batch(self._add_all)
        self._acked = Batch(self._ack_all)
        self._watching: asyncio.Task[None] | None = None
        #: What goes on without a caller; the connections are closed after it.
        self._owned: set[asyncio.Task[Any]] = set()
        self._swept_at = 0.0
        self._was_open = False
        self._place = ""

    async def init(self) -> None:
        """Connect, and make stream and group where they are missing; a closed queue stays closed.

        Raises:
            AuthenticationError: The server did not accept the credentials.
            AdapterTimeoutError: It did not answer within ``healthcheck_timeout``.
            UnavailableError: It cannot be reached.
            RejectedError: The group is missing and ``auto_create_group`` is off, or the key is no stream.
        """
        if self._was_open:
            self._serving()
            return
        client: _Client
        client, self._place = connect(self._settings)
        try:
            await self._ping(client)
            await self._make_group(client)
        except FAILURES as error:
            await client.aclose()
            raise self._failed(error) from error
        except BaseException:
            await client.aclose()
            raise
        for script in (
            scripts.ACK, scripts.ENQUEUE, scripts.TAKE, scripts.RETRY, scripts.BURY, scripts.REQUEUE, scripts.DISCARD,
        ):  # fmt: skip
            self._scripts[script] = client.register_script(script)
        self._client, self._was_open = client, True

    async def health(self) -> bool:
        """Say that the server answers a PING in time.

        Raises:
            AuthenticationError, AdapterTimeoutError, UnavailableError: As of ``init()``.
            InactiveError: The queue is not open.
        """
        await self._ping(self._serving())
        return True

    async def cleanup(self) -> None:
        """Close the connections; every later call raises `InactiveError`."""
        self._was_open = True
        client, self._client = self._client, None
        if self._watching is not None:
            self._watching.cancel()
        while left := self._owned | self._added.journeys | self._acked.journeys:
            await asyncio.wait(left)
        if client is not None:
            await client.aclose()

    async def enqueue(
        self,
        payload: Mapping[str, Any],
        *,
        headers: Mapping[str, str] | None = None,
        delay_seconds: float = 0.0,
        dedup_id: str | None = None,
    ) -> str:
        """Store a message and return its id."""
        self._serving()
        body = message.encode(payload, self._settings.max_payload_bytes)
        stated = message.write_headers(message.check_headers(headers))
        delay_ms = ceil(message.check_seconds(delay_seconds, "delay_seconds") * 1000)
        dedup = message.check_dedup_id(dedup_id)
        if not delay_ms and dedup is None and self._settings.maxlen is None:
            fields = {"b": body, "h": stated} if stated else {"b": body}
            return str((await self._added.ask(fields)).decode())
        window_ms = 0 if dedup is None else ceil(self._settings.dedup_window_seconds * 1000)
        stored = await self._run_script(
            scripts.ENQUEUE,
            (self._stream, self._delayed, self._seen + (dedup or "")),
            (uuid4().hex, body, stated, delay_ms, window_ms, self._settings.maxlen or 0),
            is_repeatable=dedup is not None,
        )
        if stored is None:
            raise UnavailableError(
                f"queue {self._stream!r} on redis at {self._place} is full (maxlen {self._settings.maxlen})",
                "again when messages are done; or a higher maxlen",
            )
        return str(stored.decode())

    async def receive(self, *, max_messages: int = 1, wait_seconds: float = 0.0) -> list[Delivery]:
        """Take messages that are ready; wait for one if there is none."""
        self._serving()
        most = message.check_count(max_messages, "max_messages")
        deadline = time.monotonic() + message.check_seconds(wait_seconds, "wait_seconds")
        while True:
            taken, last, due_ms = await self._take(most)
            if taken:
                return taken
            if due_ms == 0:
                continue  # what there was is no message
            left = deadline - time.monotonic()
            if left <= 0:
                return []
            await self._arrival(last.decode(), left if due_ms < 0 else min(left, due_ms / 1000))

    async def ack(self, delivery: Delivery) -> bool:
        """Settle: remove the message; say whether it still was this consumer's."""
        self._serving()
        return bool(await self._acked.ask(_receipt(delivery)))

    async def retry(self, delivery: Delivery, *, delay_seconds: float = 0.0, counted: bool = True) -> bool:
        """Settle: let the message be delivered again; say whether it still was this consumer's."""
        self._serving()
        delay_ms = ceil(message.check_seconds(delay_seconds, "delay_seconds") * 1000)
        arguments = (self._settings.group, _receipt(delivery), delay_ms, int(counted))
        return bool(
            await self._run_script(scripts.RETRY, (self._stream, self._delayed), arguments, is_repeatable=False)
        )

    async def extend(self, delivery: Delivery) -> bool:
        """Keep the message for another ``visibility_seconds``; say whether it still was this consumer's."""
        client, entry = self._serving(), _receipt(delivery)
        settings = self._settings
        kept = await self._run(
            lambda: client.xclaim(self._stream, settings.group, settings.consumer, 0, [entry], idle=0, justid=True),
            is_repeatable=True,
        )
        return bool(kept)

    async def dead_letter(self, delivery: Delivery, reason: str) -> bool:
        """Settle: give the message up; say whether it still was this consumer's."""
        self._serving()
        return await self._bury(_receipt(delivery), message.check_reason(reason), is_readable=True)

    async def depth(self) -> Depth:
        """Return how many messages there are."""
        client, group = self._serving(), self._settings.group

        def send() -> Any:
            asked = client.pipeline(transaction=True).xlen(self._stream).xpending(self._stream, group)
            return asked.zcard(self._delayed).xlen(self._dead).execute()

        stored, pending, delayed, dead = await self._run(send, is_repeatable=True)
        held = pending["pending"]
        return Depth(waiting=max(0, stored - held), held=held + delayed, dead=dead)

    async def dead_letters(self, *, limit: int = 100) -> list[DeadLetter]:
        """Return up to *limit* dead letters, oldest first."""
        client, most = self._serving(), message.check_count(limit, "limit", 1000)
        entries = await self._run(lambda: client.xrange(self._dead, count=most), is_repeatable=True)
        return [dead_letter_of(entry) for entry in entries]

    async def requeue(self, message_id: str) -> bool:
        """Make a dead letter a message again; say whether it was one."""
        self._serving()
        keys = (self._stream, self._dead, self._index)
        done = await self._run_script(scripts.REQUEUE, keys, (message_id,), is_repeatable=False)
        if done < 0:
            raise RejectedError(f"dead letter {message_id!r} is no JSON object", "discard it")
        return bool(done)

    async def discard(self, message_id: str) -> bool:
        """Remove a dead letter; say whether it was one."""
        self._serving()
        keys = (self._dead, self._index)
        return bool(await self._run_script(scripts.DISCARD, keys, (message_id,), is_repeatable=False))

    async def _take(self, most: int) -> tuple[list[Delivery], bytes, int]:
        """Take messages, giving them back if the caller leaves while they are on their way."""
        now = time.monotonic()
        sweeps = now - self._swept_at >= min(_SWEEP_SECONDS, self._settings.visibility_seconds / 10)
        if sweeps:
            self._swept_at = now
        settings = self._settings
        arguments = (settings.group, settings.consumer, most, self._visibility_ms, int(sweeps))
        asked = self._own(self._taken(arguments))
        try:
            return await asyncio.shield(asked)
        except asyncio.CancelledError:
            asked.add_done_callback(self._let_go)
            raise

    async def _taken(self, arguments: tuple[Any, ...]) -> tuple[list[Delivery], bytes, int]:
        keys = (self._stream, self._delayed)
        entries, last, due_ms = await self._run_script(scripts.TAKE, keys, arguments, is_repeatable=True)
        return await self._readable(entries), last, due_ms

    def _own[T](self, work: Coroutine[Any, Any, T]) -> "asyncio.Task[T]":
        # Begun at once, not in the next turn of the loop: this is on the way of every receive.
        task = asyncio.Task(work, loop=asyncio.get_running_loop(), eager_start=True)
        self._owned.add(task)
        task.add_done_callback(self._disown)
        return task

    def _disown(self, task: "asyncio.Task[Any]") -> None:
        self._owned.discard(task)
        if not task.cancelled():
            task.exception()  # looked at: nobody may be there to see it

    def _let_go(self, asked: "asyncio.Future[Any]") -> None:
        """Return what nobody waits for any more; what cannot be comes again after its visibility."""
        if asked.cancelled() or asked.exception() is not None:
            return
        for delivery in asked.result()[0]:
            arguments = (self._settings.group, _receipt(delivery), 0, 0)
            _ = self._own(
                self._run_script(scripts.RETRY, (self._stream, self._delayed), arguments, is_repeatable=False)
            )

    async def _readable(self, entries: list[Any]) -> list[Delivery]:
        """Return those that are messages; others, which a foreign producer added, become dead letters."""
        taken: list[Delivery] = []
        for entry in entries:
            found = delivery_of(entry, self._settings.visibility_seconds)
            if found is not None:
                taken.append(found)
            else:
                await self._bury(entry[0], _UNREADABLE, is_readable=False)
        return taken

    async def _bury(self, entry: str, reason: str, *, is_readable: bool) -> bool:
        keys = (self._stream, self._dead, self._index)
        arguments = (self._settings.group, entry, reason, int(is_readable))
        return bool(await self._run_script(scripts.BURY, keys, arguments, is_repeatable=False))

    async def _arrival(self, last: str, seconds: float) -> None:
        """Return when something may be ready; one request waits for all receivers of this instance."""
        if self._watching is None or self._watching.done():
            slice_ms = min(self._settings.block_ms or 1000, self._visibility_ms, self._settings.socket_timeout * 500)
            self._watching = self._own(self._watch(last, max(1, int(slice_ms))))
        watching = self._watching
        await asyncio.wait((watching,), timeout=seconds)
        if watching.done() and not watching.cancelled():
            watching.result()
        self._serving()

    async def _watch(self, last: str, block_ms: int) -> None:
        client = self._serving()
        await self._run(lambda: client.xread({self._stream: last}, count=1, block=block_ms), is_repeatable=True)

    async def _add_all(self, many: list[Any]) -> list[Any]:
        client = self._serving()
        if len(many) == 1:
            return [await self._run(lambda: client.xadd(self._stream, many[0]), is_repeatable=False)]

        def send() -> Any:
            steps = client.pipeline(transaction=False)
            for fields in many:
                steps.xadd(self._stream, fields)
            return steps.execute()

        added: list[Any] = await self._run(send, is_repeatable=False)
        return added

    async def _ack_all(self, many: list[Any]) -> list[Any]:
        arguments = (self._settings.group, *many)
        settled: list[Any] = await self._run_script(scripts.ACK, (self._stream,), arguments, is_repeatable=False)
        return settled

    def _serving(self) -> _Client:
        if self._client is None:
            raise message.closed("redis-streams", was_open=self._was_open)
        return self._client

    async def _run_script(
        self, script: str, keys: tuple[Any, ...], arguments: tuple[Any, ...], *, is_repeatable: bool
    ) -> Any:
        return await self._run(partial(self._scripts[script], keys=keys, args=arguments), is_repeatable=is_repeatable)

    async def _run(self, send: _Send, *, is_repeatable: bool) -> Any:
        """Send in turn; raise what Oneiric calls its failure.

        Sent again at once, and only once, is what a server that restarted or lost its data did not do.
        """
        async with self._turns:
            try:
                return await send()
            except FAILURES as error:
                try:
                    if has_no_group(error) and self._settings.auto_create_group:
                        await self._make_group(self._serving())
                    elif not (is_repeatable and is_dropped(error)):
                        raise self._failed(error) from error
                    return await send()
                except FAILURES as second:
                    raise self._failed(second) from second

    async def _make_group(self, client: _Client) -> None:
        """Make sure that stream and group are there."""
        settings = self._settings
        try:
            if settings.auto_create_group:
                await client.xgroup_create(self._stream, settings.group, id="0", mkstream=True)
            elif settings.group.encode() not in [group["name"] for group in await client.xinfo_groups(self._stream)]:
                raise RejectedError(
                    f"redis at {self._place} has no group {settings.group!r} of stream {self._stream!r}",
                    "make it, or set auto_create_group",
                )
        except FAILURES as error:
            if not str(error).startswith("BUSYGROUP"):
                raise

    def _failed(self, error: Exception) -> Exception:
        if self._was_open and self._client is None:
            return message.closed("redis-streams", was_open=True)
        return adapter_error(error, self._place, self._settings.socket_timeout)

    async def _ping(self, client: _Client) -> None:
        deadline = self._settings.healthcheck_timeout
        try:
            async with asyncio.timeout(deadline):
                await client.ping()
        except FAILURES as error:
            raise adapter_error(error, self._place, deadline) from error


def _receipt(delivery: Delivery) -> str:
    entry = delivery.receipt
    if isinstance(entry, str) and all(part.isdigit() for part in entry.split("-", 1)) and "-" in entry:
        return entry
    raise RejectedError("this delivery is of another provider", "settle it with the queue that it was received from")
