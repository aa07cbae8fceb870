"""EventDispatcher: gives each event to the handlers it concerns.

Owned here: who is called, in which order, and what becomes of failures. A handler that raises never disturbs another
one: its failure is in the report, and in the dead letters.
"""

import asyncio
from asyncio import Task
from collections.abc import Awaitable, Callable, Iterable
from contextvars import ContextVar
from time import perf_counter
from typing import Any, Final, Literal

from oneiric.core.errors import DispatchError
from oneiric.runtime.events._envelope import EventEnvelope
from oneiric.runtime.events._explanation import EventExplanation, explain
from oneiric.runtime.events._handler import Call, EventHandler, GuardedCall, Refused
from oneiric.runtime.events._results import DispatchReport, HandlerResult, Outcome, results_of
from oneiric.runtime.events._topics import TopicIndex, check_topic

__all__ = ["EventDispatcher"]

_MOST_HOPS: Final = 16
#: Topics whose handlers are remembered; topics made up of ids must not fill the memory.
_MOST_PLANS: Final = 4096

type Fanout = Literal["ordered", "concurrent"]
type DeadLetter = Callable[[EventEnvelope, str, str, BaseException | None, int], object]

#: The event being handled, in the context of its handler.
_handled: ContextVar[EventEnvelope | None] = ContextVar("oneiric_handled_event", default=None)


class _Plan:
    """Who is called for the events of one topic."""

    __slots__ = ("calls", "chooses", "handlers", "named_calls", "success", "topic")

    def __init__(
        self, topic: str, handlers: tuple[EventHandler, ...], calls: tuple[Call, ...], *, chooses: bool
    ) -> None:
        self.topic = topic
        self.handlers = handlers
        self.calls = calls
        self.named_calls = tuple(zip((handler.name for handler in handlers), calls, strict=True))
        #: The report of an event that every handler took.
        self.success = DispatchReport(topic, len(handlers))
        #: Whether each event has to be looked at to know who is called.
        self.chooses = chooses


class EventDispatcher:
    """Give events to handlers.

    Args:
        fanout: ``"ordered"``: one handler after the other, in the caller's task. ``"concurrent"``: each in a task and
            a context of its own, all at once.
        hop_limit: An event that was caused by more others than this, one by the other, is refused; a loop that runs
            nested in one call is found after twice as many.
        dead_letter: Told of every event that a handler did not take: envelope, handler, reason (``"failed"``,
            ``"refused"`` or ``"hops"``), error and attempts. Must not raise.
        observe: Told of every report; makes the dispatcher record every handler's result. Must not raise.
    """

    def __init__(
        self,
        *,
        fanout: Fanout = "ordered",
        hop_limit: int = _MOST_HOPS,
        dead_letter: DeadLetter | None = None,
        observe: Callable[[DispatchReport], object] | None = None,
    ) -> None:
        self._fanout = fanout
        self._hop_limit = hop_limit
        self._dead_letter = dead_letter
        self._observe = observe
        #: Dispatches that go the long way now, and one if all must; counts hops by context.
        self._special = int(observe is not None or fanout != "ordered")
        #: Dispatches that go the short way now, which counts no hops: a loop makes them pile up, and is then counted.
        self._running = 0
        self._handlers: dict[str, EventHandler] = {}
        self._calls: dict[str, Call] = {}
        self._index: TopicIndex[EventHandler] = TopicIndex()
        self._plans: dict[str, _Plan] = {}

    @property
    def handlers(self) -> tuple[EventHandler, ...]:
        """The handlers, in the order they subscribed."""
        return tuple(self._handlers.values())

    def subscribe(self, handler: EventHandler) -> Callable[[], None]:
        """Give events to a handler from now on; return the call that ends it.

        Raises:
            DispatchError: There is a handler of that name.
        """
        if handler.name in self._handlers:
            raise DispatchError(f"there is an event handler {handler.name!r} already", "a name of its own")
        self.replace((*self._handlers.values(), handler))

        def unsubscribe() -> None:
            if self._handlers.get(handler.name) is handler:
                self.replace(each for each in self._handlers.values() if each is not handler)

        return unsubscribe

    def replace(self, handlers: Iterable[EventHandler]) -> None:
        """Give events to these handlers and no others, from one event to the next.

        Handlers that stay keep their running calls and what limits them.

        Args:
            handlers: The handlers, in the order of equals.

        Raises:
            DispatchError: Two have one name.
        """
        taken: dict[str, EventHandler] = {}
        for handler in handlers:
            if handler.name in taken:
                raise DispatchError(f"there are two event handlers {handler.name!r}", "a name of its own for each")
            taken[handler.name] = handler
        self._calls = {
            name: self._calls[name] if self._handlers.get(name) is handler else _call_of(handler)
            for name, handler in taken.items()
        }
        self._handlers = taken
        self._index = TopicIndex((topic, handler) for handler in taken.values() for topic in handler.topics)
        self._plans = {}

    async def dispatch(
        self, envelope: EventEnvelope, *, results: bool = False, fanout: Fanout | None = None
    ) -> DispatchReport:
        """Give an event to every handler it concerns, and wait until all are done.

        A handler's exception is not raised: it is in the report. Cancelling the call cancels the handlers.

        Args:
            envelope: The event.
            results: Whether to record what each handler returned and how long it took; failures always are.
            fanout: Other than the dispatcher's own.

        Returns:
            How many handlers it concerned, and what came of them.

        Raises:
            DispatchError: The topic is malformed, or the event was caused by too many others, one by the other.
        """
        try:
            plan = self._plans[envelope.topic]
        except KeyError:
            plan = self._compiled(envelope.topic)
        if results or fanout or self._special or plan.chooses or envelope.hops or self._running >= self._hop_limit:
            return await self._specially(plan, envelope, results=results, fanout=fanout)
        failures: list[HandlerResult] | None = None
        self._running += 1
        try:
            for call in plan.calls:
                try:
                    await call(envelope)
                except BaseException as error:  # noqa: BLE001 - _failed lets pass what is not the handler's own
                    failures = failures or []
                    failures.append(self._failed(plan, call, envelope, error))
        finally:
            self._running -= 1
        return plan.success if failures is None else DispatchReport(plan.topic, len(plan.calls), tuple(failures))

    async def _specially(
        self, plan: _Plan, envelope: EventEnvelope, *, results: bool, fanout: Fanout | None
    ) -> DispatchReport:
        """Dispatch whatever the short way is not made for."""
        cause = _handled.get()
        if cause is not None or envelope.hops:
            envelope = self._one_hop_further(envelope, cause)
        if plan.chooses:
            plan = self._chosen(plan, envelope)
        token = _handled.set(envelope)
        self._special += 1
        try:
            # With one handler there is nothing to run at the same time.
            if (fanout or self._fanout) == "concurrent" and len(plan.calls) > 1:
                if results or self._observe is not None:
                    return await self._concurrently_recorded(plan, envelope)
                return await self._concurrently(plan, envelope)
            return await self._in_turn(plan, envelope)
        finally:
            self._special -= 1
            _handled.reset(token)

    async def _in_turn(self, plan: _Plan, envelope: EventEnvelope) -> DispatchReport:
        outcomes: list[Outcome] = []
        failed = False
        started = perf_counter()
        for name, call in plan.named_calls:
            try:
                value = await call(envelope)
            except BaseException as error:  # noqa: BLE001 - _own lets pass what is not the handler's own
                failed = True
                outcomes.append((name, None, _own(error), _attempts(error), perf_counter()))
            else:
                outcomes.append((name, value, None, 1, perf_counter()))
        if failed or self._observe is not None:
            return self._report(plan, envelope, outcomes, started, ordered=True)
        return DispatchReport(plan.topic, len(outcomes), (), outcomes, started)

    async def _concurrently(self, plan: _Plan, envelope: EventEnvelope) -> DispatchReport:
        """Run all handlers at once and look only for failures."""
        loop = asyncio.get_running_loop()
        pending: list[tuple[str, asyncio.Task[Any]]] = []
        outcomes: list[Outcome] = []
        for name, call in plan.named_calls:
            task = Task(_guarded(call, envelope), loop=loop, eager_start=True)
            if not task.done():
                pending.append((name, task))
            elif (error := _error_of(task)) is not None:
                outcomes.append((name, None, error, _attempts(error), 0.0))
        if pending:
            await _finished([task for _, task in pending])
            for name, task in pending:
                if (error := _error_of(task)) is not None:
                    outcomes.append((name, None, error, _attempts(error), 0.0))
        if not outcomes:
            return plan.success
        return self._report(plan, envelope, outcomes, 0.0, ordered=False)

    async def _concurrently_recorded(self, plan: _Plan, envelope: EventEnvelope) -> DispatchReport:
        """Run all handlers at once and write down what each returned and when it ended."""
        loop = asyncio.get_running_loop()
        started = perf_counter()
        ends: dict[asyncio.Task[Any], float] = {}
        tasks: list[asyncio.Task[Any]] = []
        for call in plan.calls:
            task = Task(_guarded(call, envelope), loop=loop, eager_start=True)
            tasks.append(task)
            if task.done():
                ends[task] = perf_counter()
            else:
                task.add_done_callback(lambda done: ends.setdefault(done, perf_counter()))
        if len(ends) < len(tasks):
            await _finished([task for task in tasks if task not in ends])
        outcomes: list[Outcome] = []
        for (name, _), task in zip(plan.named_calls, tasks, strict=True):
            error = _error_of(task)
            value = None if error is not None else task.result()
            outcomes.append((name, value, error, _attempts(error), ends.get(task, perf_counter())))
        return self._report(plan, envelope, outcomes, started, ordered=False)

    def _report(
        self, plan: _Plan, envelope: EventEnvelope, outcomes: list[Outcome], started: float, *, ordered: bool
    ) -> DispatchReport:
        spelt = results_of(outcomes, started, ordered=ordered)
        failures = tuple(result for result in spelt if not result.success)
        for result in failures:
            self._bury(envelope, result)
        report = DispatchReport(plan.topic, len(plan.calls), failures, outcomes, started, ordered=ordered)
        if self._observe is not None:
            self._observe(report)
        return report

    def _failed(self, plan: _Plan, call: Call, envelope: EventEnvelope, error: BaseException) -> HandlerResult:
        name = plan.handlers[plan.calls.index(call)].name
        result = HandlerResult(
            handler=name, success=False, duration_seconds=0.0, error=_own(error), attempts=_attempts(error)
        )
        self._bury(envelope, result)
        return result

    def _bury(self, envelope: EventEnvelope, result: HandlerResult) -> None:
        if self._dead_letter is not None:
            reason = "refused" if isinstance(result.error, Refused) else "failed"
            self._dead_letter(envelope, result.handler, reason, result.error, result.attempts)

    def _one_hop_further(self, envelope: EventEnvelope, cause: EventEnvelope | None) -> EventEnvelope:
        """Return the event with its hops counted on.

        Raises:
            DispatchError: There were too many.
        """
        if cause is not None and cause.hops >= envelope.hops:
            # An event that a handler causes has come one hop further than the one being handled.
            envelope = EventEnvelope(
                envelope.topic,
                envelope.payload,
                envelope.headers,
                envelope.id,
                envelope.source,
                envelope.subject,
                envelope.time,
                cause.hops + 1,
            )
        if envelope.hops > self._hop_limit:
            if self._dead_letter is not None:
                self._dead_letter(envelope, "", "hops", None, 0)
            raise DispatchError(
                f"event {envelope.topic!r} was caused by {envelope.hops} others, one by the other",
                "break the loop: a handler causes the event it handles",
            )
        return envelope

    def _compiled(self, topic: str) -> _Plan:
        check_topic(topic)
        order = {name: place for place, name in enumerate(self._handlers)}
        found = sorted(self._index.match(topic), key=lambda each: (-each.priority, order[each.name]))
        has_filters = any(handler.filters for handler in found)
        exclusive = [handler for handler in found if handler.fanout == "exclusive"]
        if exclusive and not has_filters:
            found = exclusive[:1]
        plan = self._plan(topic, tuple(found), chooses=has_filters)
        if len(self._plans) >= _MOST_PLANS:
            self._plans.clear()
        self._plans[topic] = plan
        return plan

    def _plan(self, topic: str, handlers: tuple[EventHandler, ...], *, chooses: bool) -> _Plan:
        return _Plan(topic, handlers, tuple(self._calls[handler.name] for handler in handlers), chooses=chooses)

    def _chosen(self, plan: _Plan, envelope: EventEnvelope) -> _Plan:
        """Return the plan of those whose filters hold."""
        wanting = tuple(each for each in plan.handlers if all(one.holds(envelope) for one in each.filters))
        exclusive = next((each for each in wanting if each.fanout == "exclusive"), None)
        return self._plan(plan.topic, wanting if exclusive is None else (exclusive,), chooses=False)

    def explain_event(self, envelope: EventEnvelope) -> EventExplanation:
        """Return for every handler whether an event would run it, or what keeps the event out. Runs nothing."""
        return explain(envelope, self.handlers)


class _HandlerExit(Exception):  # noqa: N818 - a wrapper on its way to the report, which gets what is inside
    """A handler raised `SystemExit`."""


async def _guarded(call: Call, envelope: EventEnvelope) -> Any:
    """Await a call; a handler that exits fails, where a task that exits would end the event loop."""
    try:
        return await call(envelope)
    except SystemExit as error:
        raise _HandlerExit(error) from error


async def _finished(tasks: "list[asyncio.Task[Any]]") -> None:
    """Wait for every task; a cancellation is passed on to them, and waits until they have heeded it."""
    try:
        await asyncio.wait(tasks)
    except asyncio.CancelledError:
        for task in tasks:
            task.cancel()
        await asyncio.wait(tasks)
        raise


def _call_of(handler: EventHandler) -> Call:
    call: Callable[[EventEnvelope], Awaitable[Any]] = handler.call if handler.is_plain else GuardedCall(handler)
    return call


def _own(error: BaseException) -> BaseException:
    """Return an error that is the handler's own; raise what is meant for the dispatcher's caller."""
    if isinstance(error, KeyboardInterrupt | GeneratorExit):
        raise error
    if isinstance(error, asyncio.CancelledError):
        task = asyncio.current_task()
        if task is not None and task.cancelling():
            raise error
    return error


def _error_of(task: "asyncio.Task[Any]") -> BaseException | None:
    try:
        error = task.exception()
    except asyncio.CancelledError as cancelled:
        return cancelled
    return error.__cause__ if type(error) is _HandlerExit else error


def _attempts(error: BaseException | None) -> int:
    if error is None:
        return 1
    if isinstance(error, Refused):
        return 0
    attempts: int = getattr(error, "oneiric_attempts", 1)
    return attempts
