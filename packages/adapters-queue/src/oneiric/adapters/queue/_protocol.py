"""What a queue is: the Protocols every provider satisfies, their values, and the key under which one is found.

This module owns the methods' meaning. It is no wider than what SQLite, Redis Streams and NATS JetStream can all
promise; where they differ, it says so.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Final, Protocol, runtime_checkable

from oneiric.core import Key

__all__ = ["QUEUE", "DeadLetter", "Delivery", "Depth", "ManagedQueue", "Queue"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Delivery:
    """A message in a consumer's hands, and the right to settle it.

    Attributes:
        id: The message's, the same in every delivery and as a dead letter.
        payload: What was enqueued; yours to change.
        headers: What was enqueued beside it.
        attempt: Which counted delivery this is, from 1.
        enqueued_at: When it was enqueued, in seconds since the epoch.
        visibility_seconds: How long it is nobody else's, from its receipt and from each `Queue.extend`.
        receipt: What tells this delivery from others of the same message; means something to the provider only.
    """

    id: str
    payload: dict[str, Any]
    headers: Mapping[str, str]
    attempt: int
    enqueued_at: float
    visibility_seconds: float
    receipt: Any = field(repr=False, compare=False)


@dataclass(frozen=True, slots=True, kw_only=True)
class DeadLetter:
    """A message that was given up.

    Attributes:
        id: The message's.
        payload: What was enqueued; None when it is no JSON object, which only a foreign producer brings about.
        headers: What was enqueued beside it.
        attempts: Counted deliveries it had.
        reason: Why it was given up, in the words of who did.
        enqueued_at: When it was enqueued, in seconds since the epoch.
        dead_at: When it was given up, in seconds since the epoch.
    """

    id: str
    payload: dict[str, Any] | None
    headers: Mapping[str, str]
    attempts: int
    reason: str
    enqueued_at: float
    dead_at: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Depth:
    """How many messages there are.

    Attributes:
        waiting: Ready to be received.
        held: With a consumer, or not due yet.
        dead: Given up.
    """

    waiting: int
    held: int
    dead: int


@runtime_checkable
class Queue(Protocol):
    """Hand messages to consumers, each until one of them settles it.

    **At least once.** A message whose `enqueue` returned is delivered until a delivery of it is acknowledged or
    it becomes a dead letter. It is seen again when its consumer calls `retry`, lets ``visibility_seconds`` pass
    without `extend` (because it died, hung, or lost its connection), or could not learn that its `ack` arrived.
    A consumer therefore makes its effects safe to repeat: by the message's ``id``, or by a key in the payload.
    While every consumer settles in time, each message is delivered exactly once, however many consumers there are.

    **Order.** Messages that are enqueued one after the other, without delay, are received in that order. One that is
    retried without delay takes its place behind those that are ready; one whose delay or visibility has ended is
    received as soon as there is a consumer, before or behind them. So no message, however often it fails and
    whoever dies with it, stands in the way of the others. (Several consumers still finish in any order.)

    **Settling** is `ack`, `retry` or `dead_letter`: once for a delivery, by whoever holds it. Each says whether it
    did it. False means that there was nothing left to settle: this delivery was settled before, or its
    visibility ended and the message is, or will be, somebody else's. That is no error and changes nothing.

    **Payloads** are JSON objects: str-keyed dicts of None, bool, int, finite float, str, lists and dicts. What comes
    back equals what went in; what could not is refused. Headers are for what is not the message: trace context.

    Errors are Oneiric's: `RejectedError` (the request is wrong, or too large), `UnavailableError`,
    `AdapterTimeoutError`, `AuthenticationError` (the server cannot serve it), `StoreError` (the file cannot),
    `InactiveError` (the instance is not initialised, or is closed). When `enqueue` fails by a timeout or a lost
    connection, the message may be there: enqueue it again with the same ``dedup_id``.
    """

    async def enqueue(
        self,
        payload: Mapping[str, Any],
        *,
        headers: Mapping[str, str] | None = None,
        delay_seconds: float = 0.0,
        dedup_id: str | None = None,
    ) -> str:
        """Store a message durably, as far as the backend is durable, and return its id.

        Args:
            payload: A JSON object.
            headers: Names of letters, digits, ``-`` and ``_``; values of printable ASCII.
            delay_seconds: How long nobody receives it, up to 30 days.
            dedup_id: Of the messages with one, enqueued within the provider's ``dedup_window_seconds``, only the
                first is stored; the others are given its id.
        """

    async def receive(self, *, max_messages: int = 1, wait_seconds: float = 0.0) -> list[Delivery]:
        """Take up to *max_messages* (1 to 256) that are ready, in order; empty when there are none in time.

        It returns as soon as there is one. Cancelled, it takes none with it for longer than their visibility.
        """

    async def ack(self, delivery: Delivery) -> bool:
        """Settle: the message is done and gone, durably, when this returns True."""

    async def retry(self, delivery: Delivery, *, delay_seconds: float = 0.0, counted: bool = True) -> bool:
        """Settle: the message is delivered again, after a delay.

        Args:
            delivery: The one to settle.
            delay_seconds: How long nobody receives it, up to 30 days.
            counted: False gives it back as if it had not been received: its ``attempt`` stays what it is.
        """

    async def extend(self, delivery: Delivery) -> bool:
        """Keep the message for another ``visibility_seconds`` from now; say whether it still was this consumer's."""

    async def dead_letter(self, delivery: Delivery, reason: str) -> bool:
        """Settle: the message is given up, and kept with the reason until it is requeued or discarded."""


@runtime_checkable
class ManagedQueue(Queue, Protocol):
    """A queue whose depth can be seen and whose dead letters can be handled; every provider here is one."""

    async def depth(self) -> Depth:
        """Return how many messages there are, all consumers together; it may be a moment old."""

    async def dead_letters(self, *, limit: int = 100) -> list[DeadLetter]:
        """Return up to *limit* (1 to 1000) dead letters, oldest first."""

    async def requeue(self, message_id: str) -> bool:
        """Make a dead letter a message again, as if enqueued now under its id; say whether it was one.

        Raises:
            RejectedError: Its payload is no JSON object.
        """

    async def discard(self, message_id: str) -> bool:
        """Remove a dead letter for good; say whether it was one."""


QUEUE: Final[Key[Queue]] = Key("adapter", "queue")
