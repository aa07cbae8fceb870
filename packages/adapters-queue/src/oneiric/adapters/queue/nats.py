"""The queue on NATS JetStream: shared between machines, as durable as the stream is.

Built on nats-py. Messages are those of a work-queue stream, taken by one pull consumer that all instances share; dead
letters have a stream of their own. A delivery is settled when the server has confirmed it.

JetStream does not tell an old delivery from the current one, so an instance refuses to settle what its own clock says
it has lost. A message that is retried without a delay, or given back uncounted, is published again before the old one
is acknowledged: who dies in between leaves both. A server that syncs its files only now and then (the default) may
lose what it confirmed when its machine loses power: use replicas, or ``sync_interval: always``. One that crashes may
forget what was settled just before, and deliver it again.
"""

import asyncio
import re
import time
from collections.abc import Coroutine, Mapping
from math import ceil
from typing import Any, Final

from nats.aio.msg import Msg
from nats.js.errors import NotFoundError

from oneiric.adapters.queue import _message as message
from oneiric.adapters.queue._nats_link import CONSUMER, Link
from oneiric.adapters.queue._nats_messages import (
    Held,
    dead_headers,
    dead_letter_of,
    delivery_of,
    headers_of,
    held_of,
)
from oneiric.adapters.queue._nats_pull import Pull
from oneiric.adapters.queue._nats_settings import NATSQueueSettings
from oneiric.adapters.queue._protocol import DeadLetter, Delivery, Depth
from oneiric.core.errors import RejectedError

__all__ = ["NATSQueueAdapter", "NATSQueueSettings"]

#: How long one request waits at the server; a longer wait asks again. Nobody can take it back: `cleanup` waits for it,
#: and what comes in answer to one whose caller has left is given back.
_SLICE_SECONDS: Final = 1.0
_MESSAGE_ID: Final = re.compile(r"[A-Za-z0-9_-]+\Z")
_UNREADABLE: Final = "it is no message of Oneiric's: the body is no JSON object, or the headers are none"


class NATSQueueAdapter:
    """Keep messages in a JetStream stream.

    Args:
        settings: By default, the default settings.
    """

    def __init__(self, settings: NATSQueueSettings | None = None) -> None:
        self._settings = settings or NATSQueueSettings()
        self._link = Link(self._settings)
        self._stream, self._dead_stream = self._link.stream, self._link.dead_stream
        self._subject, self._dead_subject = self._link.subject, self._link.dead_subject
        self._pull_subject = f"$JS.API.CONSUMER.MSG.NEXT.{self._stream}.{CONSUMER}"
        #: What goes on without a caller; the connection is closed after it.
        self._owned: set[asyncio.Task[Any]] = set()

    async def init(self) -> None:
        """Connect, and make streams and consumer where they are missing; a closed queue stays closed.

        Raises:
            AuthenticationError: The server did not accept the credentials.
            AdapterTimeoutError: It did not answer in time.
            UnavailableError: It cannot be reached, does not offer TLS as demanded, or has no JetStream.
            RejectedError: Streams or consumer are missing and ``auto_create`` is off.
        """
        await self._link.open()

    async def health(self) -> bool:
        """Say that the server answers for the stream in time.

        Raises:
            AuthenticationError, AdapterTimeoutError, UnavailableError: As of ``init()``.
            InactiveError: The queue is not open.
        """
        self._link.check()
        jetstream = await self._link.jetstream()
        await self._link.run(jetstream.stream_info(self._stream))
        return True

    async def cleanup(self) -> None:
        """Close the connection; every later call raises `InactiveError`."""
        self._link.refuse()
        while self._owned:
            await asyncio.wait(set(self._owned))
        await self._link.close()

    async def enqueue(
        self,
        payload: Mapping[str, Any],
        *,
        headers: Mapping[str, str] | None = None,
        delay_seconds: float = 0.0,
        dedup_id: str | None = None,
    ) -> str:
        """Store a message and return its id."""
        self._link.check()
        body = message.encode(payload, self._link.largest_bytes)
        stated = headers_of(
            message.write_headers(message.check_headers(headers)),
            dedup_id=message.check_dedup_id(dedup_id),
            delay_ms=ceil(message.check_seconds(delay_seconds, "delay_seconds") * 1000),
        )
        return str(await self._publish(self._subject, body, stated))

    async def receive(self, *, max_messages: int = 1, wait_seconds: float = 0.0) -> list[Delivery]:
        """Take messages that are ready; wait for one if there is none."""
        most = message.check_count(max_messages, "max_messages")
        deadline = time.monotonic() + message.check_seconds(wait_seconds, "wait_seconds")
        while True:
            self._link.check()
            if taken := await self._ask(most, None):
                return taken
            left = deadline - time.monotonic()
            if left <= 0:
                return []
            # Only one: the request is over with it, and leaves nothing behind at the server.
            if taken := await self._ask(1, min(left, _SLICE_SECONDS)):
                return taken

    async def ack(self, delivery: Delivery) -> bool:
        """Settle: remove the message; say whether it still was this consumer's."""
        self._link.check()
        return await self._settle(_receipt(delivery), b"+ACK")

    async def retry(self, delivery: Delivery, *, delay_seconds: float = 0.0, counted: bool = True) -> bool:
        """Settle: let the message be delivered again; say whether it still was this consumer's."""
        self._link.check()
        held = _receipt(delivery)
        delay = message.check_seconds(delay_seconds, "delay_seconds")
        if counted and delay:
            return await self._settle(held, b'-NAK {"delay": %d}' % ceil(delay * 1_000_000_000))
        return await self._again(held, ceil(delay * 1000), held.attempt if counted else held.attempt - 1)

    async def extend(self, delivery: Delivery) -> bool:
        """Keep the message for another ``visibility_seconds``; say whether it still was this consumer's."""
        self._link.check()
        held = _receipt(delivery)
        if not held.is_ours:
            return False
        asked_at = time.monotonic()
        await self._answer(held, b"+WPI")
        held.keep(self._link.visibility_seconds, asked_at)
        return True

    async def dead_letter(self, delivery: Delivery, reason: str) -> bool:
        """Settle: give the message up; say whether it still was this consumer's."""
        self._link.check()
        return await self._bury(_receipt(delivery), message.check_reason(reason), is_readable=True)

    async def depth(self) -> Depth:
        """Return how many messages there are; those with a delay are waiting until they are first looked at."""
        self._link.check()
        jetstream = await self._link.jetstream()
        consumer = await self._link.run(jetstream.consumer_info(self._stream, CONSUMER))
        dead = await self._link.run(jetstream.stream_info(self._dead_stream))
        return Depth(waiting=consumer.num_pending or 0, held=consumer.num_ack_pending or 0, dead=dead.state.messages)

    async def dead_letters(self, *, limit: int = 100) -> list[DeadLetter]:
        """Return up to *limit* dead letters, oldest first; each is a request."""
        self._link.check()
        jetstream, most = await self._link.jetstream(), message.check_count(limit, "limit", 1000)
        found: list[DeadLetter] = []
        sequence = 1
        while len(found) < most:
            try:
                one = await self._link.run(
                    jetstream.get_msg(self._dead_stream, seq=sequence, subject=f"{self._dead_subject}.*", next=True),
                    missing=True,
                )
            except NotFoundError:
                break
            found.append(dead_letter_of(one))
            sequence = (one.seq or sequence) + 1
        return found

    async def requeue(self, message_id: str) -> bool:
        """Make a dead letter a message again; say whether it was one."""
        self._link.check()
        jetstream, dead = await self._link.jetstream(), await self._find_dead(message_id)
        if dead is None:
            return False
        letter = dead_letter_of(dead)
        if letter.payload is None:
            raise RejectedError(f"dead letter {message_id!r} is no JSON object", "discard it")
        held = Held(
            id=letter.id, reply="", sequence=0, delivery=0, attempt=0, enqueued_at=time.time(), data=b"", headers="",
            due_at=0.0,
        )  # fmt: skip
        stated = headers_of(message.write_headers(letter.headers), dedup_id=f"requeue-{dead.seq}", held=held)
        await self._publish(self._subject, dead.data or b"", stated)
        await self._link.run(jetstream.delete_msg(self._dead_stream, dead.seq or 0))
        return True

    async def discard(self, message_id: str) -> bool:
        """Remove a dead letter; say whether it was one."""
        self._link.check()
        jetstream, dead = await self._link.jetstream(), await self._find_dead(message_id)
        if dead is None:
            return False
        return bool(await self._link.run(jetstream.delete_msg(self._dead_stream, dead.seq or 0)))

    async def _find_dead(self, message_id: str) -> Any:
        if not _MESSAGE_ID.match(message_id):
            return None
        jetstream = await self._link.jetstream()
        try:
            subject = f"{self._dead_subject}.{message_id}"
            return await self._link.run(jetstream.get_last_msg(self._dead_stream, subject), missing=True)
        except NotFoundError:
            return None

    async def _ask(self, most: int, expires_seconds: float | None) -> list[Delivery]:
        """Ask for messages, giving them back if the caller leaves while they are on their way."""
        left = asyncio.Event()
        asked = self._own(self._take(left, most, expires_seconds))
        try:
            return await self._link.run(asyncio.shield(asked))
        except asyncio.CancelledError:
            left.set()
            if asked.done() and not asked.cancelled() and asked.exception() is None:
                _ = self._own(self._give_back(asked.result()))
            raise

    async def _take(self, left: asyncio.Event, most: int, expires_seconds: float | None) -> list[Delivery]:
        client, patience = await self._link.client(), self._settings.request_timeout
        while self._link.serves and not left.is_set():
            pull = Pull(client, self._pull_subject)
            found = await pull.run(most, expires_seconds=expires_seconds, patience_seconds=patience)
            taken = await self._due(found)
            if taken and (left.is_set() or not self._link.serves):
                await self._give_back(taken)
            elif taken or not found or expires_seconds is not None:
                return taken
        return []

    async def _give_back(self, deliveries: list[Delivery]) -> None:
        for held in map(_receipt, deliveries):
            await self._again(held, 0, held.attempt - 1)

    async def _due(self, messages: list[Msg]) -> list[Delivery]:
        """Return those that are due; put the others back until they are, and give up what is no message of ours."""
        taken: list[Delivery] = []
        for found in messages:
            held = held_of(found)
            held.keep(self._link.visibility_seconds)
            early = held.due_at - time.time()
            if early > 0.001:
                await self._answer(held, b'-NAK {"delay": %d}' % ceil(early * 1_000_000_000))
            elif (delivery := delivery_of(held, self._link.visibility_seconds)) is not None:
                taken.append(delivery)
            else:
                await self._bury(held, _UNREADABLE, is_readable=False)
        return taken

    async def _settle(self, held: Held, how: bytes) -> bool:
        if not held.is_ours:
            return False
        await self._answer(held, how)
        held.is_settled = True
        return True

    async def _again(self, held: Held, delay_ms: int, attempts: int) -> bool:
        """Publish a message anew, at the end, and acknowledge the old one."""
        if not held.is_ours:
            return False
        stated = headers_of(
            held.headers,
            dedup_id=f"again-{held.sequence}-{held.delivery}",
            delay_ms=delay_ms,
            held=held,
            attempts=attempts,
        )
        await self._publish(self._subject, held.data, stated)
        return await self._settle(held, b"+ACK")

    async def _bury(self, held: Held, reason: str, *, is_readable: bool) -> bool:
        if not held.is_ours:
            return False
        stated = dead_headers(held, reason, is_readable=is_readable)
        token = held.id if _MESSAGE_ID.match(held.id) else str(held.sequence)
        await self._publish(f"{self._dead_subject}.{token}", held.data, stated)
        return await self._settle(held, b"+TERM")

    async def _answer(self, held: Held, how: bytes) -> None:
        """Tell the server, and wait until it knows."""
        client = await self._link.client()
        await self._link.run(client.request(held.reply, how, timeout=self._settings.request_timeout))

    async def _publish(self, subject: str, body: bytes, headers: dict[str, str]) -> int:
        jetstream = await self._link.jetstream()
        return int((await self._link.run(jetstream.publish(subject, body, headers=headers))).seq)

    def _own[T](self, work: Coroutine[Any, Any, T]) -> "asyncio.Task[T]":
        task = asyncio.ensure_future(work)
        self._owned.add(task)
        task.add_done_callback(self._disown)
        return task

    def _disown(self, task: "asyncio.Task[Any]") -> None:
        self._owned.discard(task)
        if not task.cancelled():
            task.exception()  # looked at: nobody may be there to see it


def _receipt(delivery: Delivery) -> Held:
    if isinstance(delivery.receipt, Held):
        return delivery.receipt
    raise RejectedError("this delivery is of another provider", "settle it with the queue that it was received from")
