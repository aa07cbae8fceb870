"""EventHandler: who wants which events, and how it is to be called."""

import asyncio
from collections.abc import Awaitable, Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Final, Literal

from oneiric.core.errors import DispatchError
from oneiric.runtime.events._envelope import EventEnvelope
from oneiric.runtime.events._filters import EventFilter
from oneiric.runtime.events._topics import check_pattern
from oneiric.runtime.retry import RetryPolicy

__all__ = ["EventHandler"]

_NO_RETRY: Final = RetryPolicy()

type Call = Callable[[EventEnvelope], Awaitable[Any]]


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class EventHandler:
    """Who wants which events, and how it is to be called.

    Attributes:
        name: Unique in its dispatcher; ``key:provider`` for the handlers of an event domain.
        call: Called with the envelope, and awaited.
        topics: Patterns; ``*`` stands for one segment, ``**`` for any number. None given means every topic.
        priority: Higher ones take their turn first; equals in the order they subscribed.
        filters: Conditions that must all hold.
        fanout: ``"exclusive"``: of all exclusive handlers an event concerns, only the first runs, and nobody else.
        max_concurrency: Calls that may run at the same time, over all events, or None for no limit.
        retry: How often a failed call is tried again.
        refuses: Asked before each call: why it takes no new work now, or None when it does.

    Raises:
        DispatchError: A pattern is malformed, or a value out of range.
    """

    name: str
    call: Call
    topics: tuple[str, ...] = ("**",)
    priority: int = 0
    filters: tuple[EventFilter, ...] = ()
    fanout: Literal["broadcast", "exclusive"] = "broadcast"
    max_concurrency: int | None = None
    retry: RetryPolicy = _NO_RETRY
    refuses: Callable[[], str | None] | None = None

    def __post_init__(self) -> None:
        for pattern in self.topics:
            check_pattern(pattern)
        if self.fanout not in {"broadcast", "exclusive"}:
            raise DispatchError(f"fan-out of handler {self.name!r} is {self.fanout!r}", "broadcast or exclusive")
        limit = self.max_concurrency
        if limit is not None and (type(limit) is not int or limit < 1):
            raise DispatchError(f"max_concurrency of handler {self.name!r} is {limit!r}", "a number from 1, or none")

    @classmethod
    def from_metadata(
        cls,
        name: str,
        call: Call,
        metadata: Mapping[str, Any],
        *,
        priority: int = 0,
        refuses: Callable[[], str | None] | None = None,
    ) -> "EventHandler":
        """Build a handler from what a candidate or manifest entry says of it.

        Args:
            name: Its name.
            call: What is called.
            metadata: May hold ``topics filters event_priority fanout_policy max_concurrency retry_policy``, also with
                the prefix ``event_`` that manifests give them.
            priority: Where ``event_priority`` is not stated.
            refuses: Asked before each call.

        Raises:
            DispatchError: A filter, pattern or value is malformed.
            ConfigurationError: The retry policy is malformed.
        """
        topics = _stated(metadata, "topics")
        return cls(
            name=name,
            call=call,
            topics=(topics,) if isinstance(topics, str) else tuple(topics or ("**",)),
            priority=metadata.get("event_priority", priority),
            filters=_filters(_stated(metadata, "filters")),
            fanout=_stated(metadata, "fanout_policy") or "broadcast",
            max_concurrency=_stated(metadata, "max_concurrency"),
            retry=RetryPolicy.from_mapping(metadata.get("retry_policy")),
            refuses=refuses,
        )

    @property
    def is_plain(self) -> bool:
        """Whether it may be called as it is: no limit, no retries, never refuses."""
        return self.max_concurrency is None and self.retry.attempts == 1 and self.refuses is None


def _stated(metadata: Mapping[str, Any], name: str) -> Any:
    return metadata.get(name, metadata.get(f"event_{name}"))


def _filters(stated: Iterable[Mapping[str, Any]] | None) -> tuple[EventFilter, ...]:
    return tuple(EventFilter.from_mapping(each) for each in stated or ())


class Refused(Exception):  # noqa: N818 - not an error of the handler: it was never called
    """A handler takes no new work."""


class GuardedCall:
    """A handler's call with its limit, its retries and its refusal; remembers nothing of single events."""

    __slots__ = ("_handler", "_limit", "sleep")

    def __init__(self, handler: EventHandler) -> None:
        self._handler = handler
        self._limit = None if handler.max_concurrency is None else asyncio.Semaphore(handler.max_concurrency)
        self.sleep: Callable[[float], Awaitable[Any]] = asyncio.sleep

    async def __call__(self, envelope: EventEnvelope) -> Any:
        """Call the handler.

        Raises:
            Refused: It takes no new work.
            Exception: What its last attempt raised; ``oneiric_attempts`` on it says how many there were.
        """
        handler = self._handler
        if handler.refuses is not None and (reason := handler.refuses()) is not None:
            raise Refused(reason)
        if self._limit is None:
            return await self._attempts(envelope)
        async with self._limit:
            return await self._attempts(envelope)

    async def _attempts(self, envelope: EventEnvelope) -> Any:
        handler, retry = self._handler, self._handler.retry
        for attempt in range(1, retry.attempts + 1):
            try:
                return await handler.call(envelope)
            except Exception as error:  # whatever a handler raises, its policy decides
                if attempt == retry.attempts:
                    error.__dict__["oneiric_attempts"] = attempt
                    raise
                await self.sleep(retry.delay_seconds(attempt))
        raise AssertionError("a policy has at least one attempt")
