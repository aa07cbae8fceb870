"""EventDispatcher: gives each event to the handlers it concerns.

Owned here: who is called, in which order, and what becomes of failures. A handler that raises never disturbs another
one: its failure is in the report, and in the dead letters.
"""

import asyncio
from asyncio import Task
from collections.abc import Awaitable, Callable, Iterable, Sequence
from contextvars import ContextVar
from dataclasses import replace
from time import perf_counter
from typing import Any, Final, Literal, Never

from oneiric.core.errors import DispatchError, PausedError
from oneiric.runtime.events._envelope import EventEnvelope
from oneiric.runtime.events._explanation import EventExplanation, explain
from oneiric.runtime.events._handler import Call, EventHandler, GuardedCall, Refused
from oneiric.runtime.events._plan import Plan
from oneiric.runtime.events._results import DispatchReport, HandlerResult, Outcome, failures_of
from oneiric.runtime.events._topics import TopicIndex, check_topic

__all__ = ["EventDispatcher"]

_MOST_HOPS: Final = 16
#: Topics whose handlers are remembered; topics made up of ids must not fill the memory.
_MOST_PLANS: Final = 4096

type Fanout = Literal["ordered", "concurrent"]
type DeadLetter = Callable[[EventEnvelope, str, str, BaseException | None, int], object]

#: The event being handled, in the context of its handler.
_handled: ContextVar[EventEnvelope | None] = ContextVar("oneiric_handled_event", default=None)


class EventDispatcher:
    """Give events to handlers.

    Args:
        fanout: ``"ordered"``: one handler after the other, in the caller's task. ``"concurrent"``: each in a task and
            a context of its own, all at once.
        hop_limit: An event that was caused by more others than this, one by the other, is refused; a loop that runs
            nested in one call is found after twice as many. Without *observe*, an event that an ordered handler
            sends off in a task of its own counts as caused by nobody.
        dead_letter: Told of every event that a handler did not take: envelope, handler, reason (``"failed"``,
            ``"refused"`` or ``"hops"``), error and attempts. What it returns is awaited, if it can be, before the
            dispatch ends.
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
        # Dispatches that go on now. The short way counts no hops: a loop makes them pile up, and from the hop limit on
        # they go the long way. One that goes the long way counts as so many, so that what it causes does too.
        self._running = hop_limit if observe is not None or fanout != "ordered" else 0
        self._handlers: dict[str, EventHandler] = {}
        self._calls: dict[str, Call] = {}
        self._index: TopicIndex[EventHandler] = TopicIndex()
        self._plans: dict[str, Plan] = {}

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
            Exception: What keeping a dead letter raised; every handler has had its turn by then.
        """
        try:
            plan = self._plans[envelope.topic]
        except KeyError:
            plan = self._compiled(envelope.topic)
        if results or fanout or envelope.hops or self._running >= self._hop_limit or plan.chooses:
            return await self._traced(plan, envelope, results, fanout or self._fanout)
        failures: list[HandlerResult] | None = None
        self._running += 1
        try:
            for call in plan.calls:
                try:
                    await call(envelope)
                except BaseException as error:  # noqa: BLE001 - _own lets pass what is not the handler's own
                    failures = failures or []
                    failures.append(_failed(plan, call, _own(error)))
        finally:
            self._running -= 1
        return plan.success if failures is None else await self._report(plan, envelope, tuple(failures))

    async def trace(
        self, envelope: EventEnvelope, *, results: bool = False, fanout: Fanout | None = None
    ) -> DispatchReport:
        """Dispatch an event so that what its handlers cause counts as caused by it, wherever they send it off.

        The arguments, the answer and the errors are those of `dispatch`, which comes here itself when it must.
        """
        plan = self._plans.get(envelope.topic) or self._compiled(envelope.topic)
        return await self._traced(plan, envelope, results, fanout or self._fanout)

    async def _traced(self, plan: Plan, envelope: EventEnvelope, results: object, fanout: Fanout) -> DispatchReport:
        cause = _handled.get()
        if cause is not None or envelope.hops:
            envelope = one_hop_further(envelope, cause)
            if envelope.hops > self._hop_limit:
                await self._refuse_loop(envelope)
        if plan.chooses:
            plan = self._chosen(plan, envelope)
        token = _handled.set(envelope)
        self._running += self._hop_limit
        try:
            is_recorded = results or self._observe is not None
            # With one handler there is nothing to run at the same time.
            if fanout == "concurrent" and plan.are_many:
                if is_recorded:
                    return await self._concurrently_recorded(plan, envelope)
                return await self._concurrently(plan, envelope)
            return await self._in_turn(plan, envelope, recorded=bool(is_recorded))
        finally:
            self._running -= self._hop_limit
            _handled.reset(token)

    async def deliver(self, envelope: EventEnvelope, handler: str) -> Any:
        """Give an event to one handler, whatever its topics and filters; return what it returned.

        Its limit, its retries and its refusal hold. For events that it did not take the first time.

        Raises:
            DispatchError: There is no handler of that name.
            Exception: What the handler raised. There is no report and no dead letter: whoever asks has both.
        """
        call = self._calls.get(handler)
        if call is None:
            known = ", ".join(self._handlers) or "none"
            raise DispatchError(f"there is no event handler {handler!r} (have: {known})", "register it, and again")
        token = _handled.set(envelope)
        self._running += self._hop_limit
        try:
            return await call(envelope)
        finally:
            self._running -= self._hop_limit
            _handled.reset(token)

    async def _in_turn(self, plan: Plan, envelope: EventEnvelope, *, recorded: bool) -> DispatchReport:
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
        if not failed and self._observe is None:
            return DispatchReport(plan.topic, len(outcomes), (), outcomes, started) if recorded else plan.success
        failures = failures_of(outcomes, started, ordered=True) if failed else ()
        return await self._report(plan, envelope, failures, outcomes if recorded else (), started)

    async def _concurrently(self, plan: Plan, envelope: EventEnvelope) -> DispatchReport:
        """Run all handlers at once and write down only what fails."""
        outcomes: list[Outcome] = []

        async def guarded(name: str, call: Call) -> None:
            try:
                await call(envelope)
            except (KeyboardInterrupt, GeneratorExit):
                raise
            except BaseException as error:  # noqa: BLE001 - a task that exits would end the event loop
                outcomes.append((name, None, error, _attempts(error), 0.0))

        loop = asyncio.get_running_loop()
        pending = [
            task
            for name, call in plan.named_calls
            if not (task := Task(guarded(name, call), loop=loop, name=name, eager_start=True)).done()
        ]
        if pending:
            await _finished(pending)
        if not outcomes:
            return plan.success
        failures = failures_of(plan.in_turns(outcomes), 0.0, ordered=False)
        return await self._report(plan, envelope, failures)

    async def _concurrently_recorded(self, plan: Plan, envelope: EventEnvelope) -> DispatchReport:
        """Run all handlers at once and write down what each returned and when it ended."""
        outcomes: list[Outcome] = []

        async def written_down(name: str, call: Call) -> None:
            try:
                value = await call(envelope)
            except (KeyboardInterrupt, GeneratorExit):
                raise
            except BaseException as error:  # noqa: BLE001 - as above
                outcomes.append((name, None, error, _attempts(error), perf_counter()))
            else:
                outcomes.append((name, value, None, 1, perf_counter()))

        loop = asyncio.get_running_loop()
        started = perf_counter()
        tasks = [Task(written_down(*each), loop=loop, name=each[0], eager_start=True) for each in plan.named_calls]
        await _finished([task for task in tasks if not task.done()])
        outcomes = plan.in_turns(outcomes)
        failures = failures_of(outcomes, started, ordered=False)
        return await self._report(plan, envelope, failures, outcomes, started, ordered=False)

    async def _report(
        self,
        plan: Plan,
        envelope: EventEnvelope,
        failures: tuple[HandlerResult, ...],
        outcomes: Sequence[Outcome] = (),
        started: float = 0.0,
        *,
        ordered: bool = True,
    ) -> DispatchReport:
        """Return the report when the observer was told and every dead letter is kept."""
        report = DispatchReport(plan.topic, len(plan.calls), failures, outcomes, started, ordered=ordered)
        if self._observe is not None:
            self._observe(report)
        if self._dead_letter is not None:
            for result in failures:
                reason = "refused" if isinstance(result.error, Refused | PausedError) else "failed"
                await _kept(self._dead_letter(envelope, result.handler, reason, result.error, result.attempts))
        return report

    async def _refuse_loop(self, envelope: EventEnvelope) -> Never:
        if self._dead_letter is not None:
            await _kept(self._dead_letter(envelope, "", "hops", None, 0))
        raise DispatchError(
            f"event {envelope.topic!r} was caused by {envelope.hops} others, one by the other",
            "break the loop: a handler causes the event it handles",
        )

    def _compiled(self, topic: str) -> Plan:
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

    def _plan(self, topic: str, handlers: tuple[EventHandler, ...], *, chooses: bool) -> Plan:
        return Plan(topic, handlers, tuple(self._calls[handler.name] for handler in handlers), chooses=chooses)

    def _chosen(self, plan: Plan, envelope: EventEnvelope) -> Plan:
        """Return the plan of those whose filters hold."""
        wanting = tuple(each for each in plan.handlers if all(one.holds(envelope) for one in each.filters))
        exclusive = next((each for each in wanting if each.fanout == "exclusive"), None)
        return self._plan(plan.topic, wanting if exclusive is None else (exclusive,), chooses=False)

    def explain_event(self, envelope: EventEnvelope) -> EventExplanation:
        """Return for every handler whether an event would run it, or what keeps the event out. Runs nothing."""
        return explain(envelope, self.handlers)


def one_hop_further(envelope: EventEnvelope, cause: EventEnvelope | None = None) -> EventEnvelope:
    """Return an event with its hops counted on, if it is being caused by another.

    Args:
        envelope: The event.
        cause: What is being handled; by default what the context says.
    """
    cause = cause or _handled.get()
    if cause is None or cause.hops < envelope.hops:
        return envelope
    # An event that a handler causes has come one hop further than the one being handled.
    return replace(envelope, hops=cause.hops + 1)


async def _kept(answer: object) -> None:
    """Wait until a dead letter is kept, where that takes time."""
    if isinstance(answer, Awaitable):
        await answer


async def _finished(tasks: "list[Task[None]]") -> None:
    """Wait for every task; a cancellation is passed on to them, and waits until they have heeded it."""
    if not tasks:
        return
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


def _failed(plan: Plan, call: Call, error: BaseException) -> HandlerResult:
    name = plan.handlers[plan.calls.index(call)].name
    return HandlerResult(handler=name, success=False, duration_seconds=0.0, error=error, attempts=_attempts(error))


def _attempts(error: BaseException | None) -> int:
    if error is None:
        return 1
    if isinstance(error, Refused):
        return 0
    attempts: int = getattr(error, "oneiric_attempts", 1)
    return attempts
