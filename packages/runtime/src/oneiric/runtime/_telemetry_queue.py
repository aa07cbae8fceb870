"""EventQueue: hands events on a moment later, so that whoever swaps does not wait for those who watch."""

import asyncio
import sys
import threading
from collections import deque
from collections.abc import Callable
from contextvars import Context, copy_context
from typing import Any, Final

__all__ = ["EventQueue"]

#: Events that are handed on in one turn of the loop; others get their turn between.
_SLICE: Final = 32


class EventQueue:
    """Keeps events for a moment and hands them on in their order, each in the context it happened in.

    In the context: what was bound to the log and the span that was open belong to the event. Where no event loop
    runs, events are handed on at once. Nothing is lost and memory is bounded: whoever puts an event on top of *most*
    of them hands them on itself.

    Args:
        consume: Is told each event; what it raises goes to the loop's exception handler.
        delay_seconds: How long an event waits for others at most, in a loop that has time.
        most: Events that wait at most.
    """

    __slots__ = ("_armed", "_consume", "_delay_seconds", "_events", "_lock", "_loop", "_most")

    def __init__(self, consume: Callable[[Any], object], *, delay_seconds: float = 0.02, most: int = 4096) -> None:
        self._consume = consume
        self._delay_seconds = delay_seconds
        self._most = most
        self._events: deque[tuple[Any, Context]] = deque()
        self._lock = threading.RLock()
        self._loop: asyncio.AbstractEventLoop | None = None
        self._armed = False

    def put(self, event: object) -> None:
        """Take in an event; may be called from any thread."""
        self._events.append((event, copy_context()))
        if not self._armed:
            self._arm()
        elif len(self._events) > self._most:
            self.flush()

    def flush(self) -> None:
        """Hand on everything that waits, now."""
        while self._hand_on(self._most):
            pass

    def _arm(self) -> None:
        try:
            loop = asyncio.get_running_loop()
        except RuntimeError:
            self._arm_from_thread()
            return
        self._armed = True
        self._loop = loop
        loop.call_later(self._delay_seconds, self._turn, loop)

    def _arm_from_thread(self) -> None:
        if self._loop is not None:
            self._armed = True  # before the loop is told: its turn may be over when this thread goes on
            try:
                self._loop.call_soon_threadsafe(self._arm)
            except RuntimeError:  # closed: nobody waits for the caller any more
                self._loop, self._armed = None, False
            else:
                return
        self.flush()

    def _turn(self, loop: asyncio.AbstractEventLoop) -> None:
        if self._hand_on(_SLICE):
            loop.call_soon(self._turn, loop)
            return
        self._armed = False
        if self._events:  # put by a thread that still saw the queue armed
            self._arm()

    def _hand_on(self, most: int) -> bool:
        """Hand on some events; return whether others wait."""
        with self._lock:
            for _ in range(most):
                try:
                    event, context = self._events.popleft()
                except IndexError:
                    return False
                try:
                    context.run(self._consume, event)
                except Exception as error:  # noqa: BLE001 - who watches must never stop what is watched
                    _report(event, error)
        return bool(self._events)


def _report(event: object, error: Exception) -> None:
    try:
        loop = asyncio.get_running_loop()
    except RuntimeError:
        sys.excepthook(type(error), error, error.__traceback__)
    else:
        name = type(event).__name__
        loop.call_exception_handler({"message": f"telemetry failed on {name}", "exception": error})
