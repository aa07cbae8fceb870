"""EventFeed: the latest events, and everybody who follows them. Bounded at both ends."""

import os
import re
import threading
from collections import deque
from collections.abc import Callable
from contextlib import suppress
from dataclasses import fields, is_dataclass
from typing import Any, Final, Self

from oneiric.core.resolution import Candidate
from oneiric.runtime.control._stream import ControlEvent

__all__ = ["EventFeed", "Subscription", "described"]

_WORD: Final = re.compile(r"(?<!^)(?=[A-Z])")


def described(event: object) -> tuple[str, dict[str, Any]]:
    """Return the name and the plain data of an event of `oneiric.core.events`, such as ``("bound", {…})``."""
    name = _WORD.sub("-", type(event).__name__).lower()
    data: dict[str, Any] = {}
    for field in fields(event) if is_dataclass(event) else ():
        value = getattr(event, field.name)
        if isinstance(value, Candidate):
            data |= {each: getattr(value, each) for each in ("domain", "key", "provider", "origin", "version")}
        else:
            data[field.name] = value
    return name, data


class EventFeed:
    """Keep the latest events and hand each to everybody who follows; an observer of resolver and lifecycle.

    Ids are of one feed: what follows a feed that has gone (the process was restarted) is told of the gap.

    Args:
        length: Events kept for those who come back.
        backlog: Events a follower may be behind before it is dropped; it can come back and catch up.
    """

    def __init__(self, *, length: int = 1024, backlog: int = 256) -> None:
        self._kept: deque[tuple[int, ControlEvent]] = deque(maxlen=length)
        self._backlog = backlog
        self._boot = os.urandom(4).hex()
        self._number = 0
        self._lock = threading.Lock()  # a resolver's events come from any thread
        self._followers: tuple[Subscription, ...] = ()

    def observe(self, event: object) -> None:
        """Take in an event of the core: give this to ``resolver.observe`` and ``lifecycle.observe``."""
        name, data = described(event)
        self.publish(name, data)

    def publish(self, name: str, data: dict[str, Any]) -> None:
        """Take in any other event, such as a reload. May be called from any thread."""
        with self._lock:
            self._number += 1
            event = ControlEvent(id=f"{self._boot}-{self._number}", name=name, data=data)
            self._kept.append((self._number, event))
            for follower in self._followers:
                follower._offer(event)  # noqa: SLF001 - one module; under the lock, so that order is kept

    def subscribe(
        self, *, after: str | None = None, wanted: Callable[[ControlEvent], bool] | None = None
    ) -> "Subscription":
        """Follow from now on, or from after an event that was seen.

        Args:
            after: The id of that event. Where what followed it is no longer kept, the first event is a ``gap``.
            wanted: Which events; by default all.

        Raises:
            RuntimeError: There is no running event loop.
        """
        with self._lock:
            backlog = self._since(after)
            follower = Subscription(self._unsubscribe, self._backlog, wanted, backlog)
            self._followers = (*self._followers, follower)
        return follower

    def _since(self, after: str | None) -> list[ControlEvent]:
        if after is None:
            return []
        boot, _, digits = after.rpartition("-")
        seen = int(digits) if digits.isascii() and digits.isdecimal() and len(digits) < 20 else -1
        is_known = boot == self._boot and 0 <= seen <= self._number
        missed = [event for number, event in self._kept if not is_known or number > seen]
        if is_known and len(missed) == self._number - seen:
            return missed
        oldest = self._kept[0][0] if self._kept else self._number + 1
        gap = ControlEvent(id=f"{self._boot}-{oldest - 1}", name="gap", data={"after": after})
        return [gap, *missed]

    def _unsubscribe(self, follower: "Subscription") -> None:
        with self._lock:
            self._followers = tuple(other for other in self._followers if other is not follower)

    @property
    def followers(self) -> int:
        """How many follow."""
        return len(self._followers)

    def close(self) -> None:
        """End every follower's stream."""
        for follower in self._followers:
            follower._end()  # noqa: SLF001 - one module

    def __repr__(self) -> str:
        return f"<EventFeed at {self._number}, {len(self._kept)} kept, {self.followers} followers>"


class Subscription:
    """One follower: an async iterator of events that ends when it was dropped or closed.

    Attributes:
        was_dropped: True when it fell too far behind.
    """

    def __init__(
        self,
        unsubscribe: Callable[["Subscription"], None],
        limit: int,
        wanted: Callable[[ControlEvent], bool] | None,
        backlog: list[ControlEvent],
    ) -> None:
        import asyncio  # noqa: PLC0415 - whoever follows has it loaded; a command that only asks has not

        self._unsubscribe, self._wanted = unsubscribe, wanted
        # What is replayed is kept by the feed anyway; the limit is on what gathers while the follower is slow.
        self._events = deque(event for event in backlog if wanted is None or event.name == "gap" or wanted(event))
        self._limit = limit + len(self._events)
        self._loop = asyncio.get_running_loop()
        self._wake = asyncio.Event()
        self._ended = False
        self.was_dropped = False

    def _offer(self, event: ControlEvent) -> None:
        if self._ended or (self._wanted is not None and not self._wanted(event)):
            return
        if len(self._events) >= self._limit:
            self.was_dropped = self._ended = True
            self._events.clear()
        else:
            self._events.append(event)
        self._stir()

    def _end(self) -> None:
        self._ended = True
        self._stir()

    def _stir(self) -> None:
        try:
            self._loop.call_soon_threadsafe(self._wake.set)
        except RuntimeError:  # its loop is closed: nobody reads any more
            self._ended = True

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> ControlEvent:
        while True:
            with suppress(IndexError):  # not asked for before: another thread may drop this follower in between
                return self._events.popleft()
            if self._ended:
                await self.aclose()
                raise StopAsyncIteration
            self._wake.clear()
            if not self._events and not self._ended:
                await self._wake.wait()

    async def aclose(self) -> None:
        """Stop following. Safe to call twice."""
        self._ended = True
        self._events.clear()
        self._unsubscribe(self)
        self._stir()
