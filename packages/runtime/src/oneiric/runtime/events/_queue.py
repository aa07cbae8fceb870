"""EventQueue: events that wait for their handlers, no more than a number of them."""

import asyncio
import logging
from collections.abc import Awaitable, Callable
from contextvars import Context, ContextVar
from dataclasses import dataclass
from typing import Final, Literal, Protocol

from oneiric.core.errors import DispatchError, OneiricError
from oneiric.runtime.events._dispatcher import DeadLetter, one_hop_further
from oneiric.runtime.events._envelope import EventEnvelope
from oneiric.runtime.events._topics import check_topic
from oneiric.runtime.telemetry import count

__all__ = ["EventQueue", "Overflow", "QueueStatistics"]

type Overflow = Literal["wait", "reject", "drop_oldest", "drop_newest"]

_log: Final = logging.getLogger("oneiric.events")
_CAPACITY: Final = 1000
_OVERFLOWS: Final = ("wait", "reject", "drop_oldest", "drop_newest")

#: The queue one of whose events is being handled, in the context of its handlers.
_serving: ContextVar["EventQueue | None"] = ContextVar("oneiric_serving_queue", default=None)


class Dispatches(Protocol):
    """Gives an event to its handlers: an `EventDispatcher`, or what stands before one."""

    async def trace(self, envelope: EventEnvelope) -> object:
        """Dispatch an event so that what its handlers cause counts as caused by it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class QueueStatistics:
    """What a queue has done since it was made.

    Attributes:
        waiting: Events that wait now.
        taken: Events that were put.
        handled: Events whose handlers are done, well or not.
        dropped: Events that became dead letters because there was no room, or no time left.
    """

    waiting: int
    taken: int
    handled: int
    dropped: int


class EventQueue:
    """Take events now and give them to their handlers soon; a part that runs between `start` and `stop`.

    Events are handled in the order they were put, so many at a time as there are workers. What overflows is a policy:

    - ``"wait"``: `put` waits for room. A handler that puts into the full queue it is served from is refused, because
      it would wait for itself.
    - ``"reject"``: `put` raises.
    - ``"drop_oldest"``: what has waited longest makes room, and becomes a dead letter (``overflow``).
    - ``"drop_newest"``: what is put becomes a dead letter (``overflow``).

    An event that a handler puts counts as caused by the one it handles. What waits is in memory: it is lost with the
    process, as a task in it would be; what must survive goes through a queue of the queue family.

    Args:
        dispatcher: Gives the events to their handlers.
        capacity: Events that may wait.
        workers: Events that are handled at a time.
        overflow: What happens when there is no room.
        dead_letter: As of `EventDispatcher`; told of what is dropped.
        drain_seconds: How long `stop` lets what waits be handled; what is left then becomes dead letters
            (``shutdown``).
        on_error: Told what a dispatch raised, such as a loop or a dead letter that could not be kept.
        name: What logs and status call it.

    Raises:
        DispatchError: A value is out of range.
    """

    def __init__(
        self,
        dispatcher: Dispatches,
        *,
        capacity: int = _CAPACITY,
        workers: int = 1,
        overflow: Overflow = "wait",
        dead_letter: DeadLetter | None = None,
        drain_seconds: float = 30.0,
        on_error: Callable[[EventEnvelope, Exception], object] | None = None,
        name: str = "events",
    ) -> None:
        if capacity < 1 or workers < 1:
            raise DispatchError(f"an event queue with room for {capacity} and {workers} workers cannot work", "1 each")
        if overflow not in _OVERFLOWS:
            raise DispatchError(f"overflow of event queue {name!r} is {overflow!r}", ", ".join(_OVERFLOWS))
        self.name = name
        self._dispatcher, self._overflow, self._dead_letter = dispatcher, overflow, dead_letter
        self._number, self._drain_seconds, self._on_error = workers, drain_seconds, on_error
        self._capacity = capacity
        self._queue: asyncio.Queue[EventEnvelope] = asyncio.Queue(capacity)
        self._workers: set[asyncio.Task[None]] = set()
        self._is_open = False
        self._taken = self._handled = self._dropped = 0

    @property
    def statistics(self) -> QueueStatistics:
        """What it has done."""
        return QueueStatistics(
            waiting=self._queue.qsize(), taken=self._taken, handled=self._handled, dropped=self._dropped
        )

    async def start(self) -> None:
        """Begin to take events and to handle them."""
        if self._is_open:
            return
        self._queue = asyncio.Queue(self._capacity)
        self._is_open = True
        for number in range(self._number):
            # A context of its own: a worker goes on when the request that started it is long done.
            task = asyncio.get_running_loop().create_task(self._work(), name=f"{self.name}-{number}", context=Context())
            self._workers.add(task)

    async def stop(self) -> None:
        """Take no more, handle what waits, and end; safe twice."""
        self._is_open = False
        self._queue.shutdown()
        workers, self._workers = self._workers, set()
        try:
            if workers:
                await asyncio.wait(workers, timeout=self._drain_seconds)
        finally:
            for worker in workers:
                worker.cancel()
            if workers:
                await asyncio.wait(workers)
            while not self._queue.empty():
                await self._drop(self._queue.get_nowait(), "shutdown")

    async def put(self, envelope: EventEnvelope) -> bool:
        """Take an event; it is handled soon.

        Returns:
            False where it was dropped for want of room, and is a dead letter.

        Raises:
            DispatchError: The topic is malformed; the queue is not open; or it is full, and rejects.
            Exception: What keeping a dead letter raised.
        """
        check_topic(envelope.topic)
        envelope = one_hop_further(envelope)
        if not self._is_open:
            raise self._closed()
        if self._queue.full():
            if self._overflow == "reject":
                raise self._full("again later; more workers or room; or another overflow policy")
            if self._overflow == "drop_newest":
                await self._drop(envelope, "overflow")
                return False
            if self._overflow == "drop_oldest":
                oldest = self._queue.get_nowait()
                self._queue.put_nowait(envelope)
                self._taken += 1
                await self._drop(oldest, "overflow")
                return True
            if _serving.get() is self:
                raise self._full("a handler of its events cannot wait for room in it: more room, or another policy")
        try:
            await self._queue.put(envelope)
        except asyncio.QueueShutDown as error:
            raise self._closed() from error
        self._taken += 1
        return True

    def _closed(self) -> DispatchError:
        return DispatchError(f"event queue {self.name!r} takes no events", "start() first, and put before stop()")

    def _full(self, hint: str) -> DispatchError:
        return DispatchError(f"event queue {self.name!r} is full ({self._capacity} events wait)", hint)

    async def _work(self) -> None:
        _serving.set(self)
        while True:
            try:
                envelope = await self._queue.get()
            except asyncio.QueueShutDown:
                return
            try:
                await self._dispatcher.trace(envelope)
            except asyncio.CancelledError:
                await self._drop(envelope, "shutdown")
                raise
            except Exception as error:  # noqa: BLE001 - one event must not keep the next from being handled
                self._report(envelope, error)
            self._handled += 1

    def _report(self, envelope: EventEnvelope, error: Exception) -> None:
        if self._on_error is not None:
            self._on_error(envelope, error)
            return
        what = error.message if isinstance(error, OneiricError) else f"{type(error).__name__}: {error}"
        _log.error("an event of queue %s was not handled: %s: %s", self.name, envelope.topic, what)

    async def _drop(self, envelope: EventEnvelope, reason: str) -> None:
        self._dropped += 1
        count("oneiric_event_queue_dropped_total", reason=reason)
        if self._dead_letter is not None:
            answer = self._dead_letter(envelope, "", reason, None, 0)
            if isinstance(answer, Awaitable):
                await answer
