"""EventBridge: the candidates of the event domain as handlers of a dispatcher."""

import logging
from collections.abc import Callable, Mapping
from typing import Any, Final

from oneiric.core.errors import DispatchError, LifecycleError, OneiricError, PausedError, ResolutionError
from oneiric.core.events import Bound, Event, Registered, Retired, WinnerChanged, Withdrawn
from oneiric.core.lifecycle import LifecycleManager
from oneiric.core.resolution import Candidate, Resolver
from oneiric.domains._builtin import BuiltInBridge
from oneiric.runtime.activity import DomainActivityStore
from oneiric.runtime.dead_letters import DeadLetter, DeadLetterStore
from oneiric.runtime.events import (
    DispatchReport,
    EventDispatcher,
    EventEnvelope,
    EventExplanation,
    EventHandler,
    EventQueue,
    HandlerResult,
    measure_report,
)
from oneiric.runtime.settings import DomainSettings, ProviderSettings
from oneiric.runtime.telemetry import count, span

__all__ = ["EventBridge"]

_log: Final = logging.getLogger("oneiric.events")

type Observer = Callable[[DispatchReport], object]


class EventBridge(BuiltInBridge):
    """Give events to the handlers that are active.

    Each key of the domain has one handler: the provider that serves, or would. Its candidate's metadata says which
    events it wants (``topics filters event_priority fanout_policy max_concurrency retry_policy``); its instance has
    ``async handle(envelope)`` and is leased for each call, so that a swap never drops an event: the old instance ends
    what it has, the new one takes what comes. What a handler does not take, because it failed, is paused or drains,
    is kept as a dead letter.

    Args:
        resolver: As of `DomainBridge`, as are the other arguments up to *activity*.
        dead_letters: Keeps what was not taken; without it, it is logged.
    """

    _domain = "event"

    def __init__(
        self,
        *,
        resolver: Resolver,
        lifecycle: LifecycleManager,
        settings: DomainSettings | None = None,
        provider_settings: ProviderSettings | None = None,
        activity: DomainActivityStore | None = None,
        dead_letters: DeadLetterStore | None = None,
    ) -> None:
        self.dead_letters = dead_letters
        self._observers: list[Observer] = [measure_report]
        self._dispatcher = EventDispatcher(dead_letter=self._bury, observe=self._tell)
        #: Handler's name → what it was made of, so that one that stays keeps its running calls.
        self._made: dict[str, tuple[Candidate, EventHandler]] = {}
        self._problems: dict[str, str] = {}
        self._is_stale = True
        super().__init__(
            resolver=resolver,
            lifecycle=lifecycle,
            settings=settings,
            provider_settings=provider_settings,
            activity=activity,
        )
        resolver.observe(self._on_event)
        lifecycle.observe(self._on_event)

    @property
    def problems(self) -> Mapping[str, str]:
        """Handler's name → why its candidate's metadata cannot be used; such a handler gets no events."""
        self.dispatcher()
        return dict(self._problems)

    def observe(self, observer: Observer) -> Callable[[], None]:
        """Have *observer* told the report of each dispatch; return the call that ends it.

        ``bridge.observe(lambda report: recorder.event(event_record(report)))`` keeps the telemetry file.
        """
        self._observers.append(observer)

        def stop() -> None:
            if observer in self._observers:
                self._observers.remove(observer)

        return stop

    async def emit(
        self, topic: str, payload: Any = None, headers: Mapping[str, str] | None = None
    ) -> list[HandlerResult]:
        """Give an event to the handlers it concerns and return what came of each, in the order of their turns.

        Raises:
            DispatchError: The topic is malformed, or the event was caused by too many others, one by the other.
            StoreError: A dead letter could not be kept; every handler has had its turn by then.
        """
        return list((await self.trace(EventEnvelope(topic, payload, dict(headers or {})))).results)

    async def trace(self, envelope: EventEnvelope) -> DispatchReport:
        """Dispatch an event, as `emit`; return the whole report."""
        with span("event.dispatch", event_topic=envelope.topic) as opened:
            report = await self.dispatcher().trace(envelope, results=True)
            opened.set(matched_handlers=report.matched, failures=len(report.failures))
        return report

    def queue(self, **options: Any) -> EventQueue:
        """Return a queue before these handlers, to be started; *options* are those of `EventQueue`."""
        return EventQueue(self, dead_letter=self._bury, **options)

    async def replay(self, letter_id: str) -> DeadLetter:
        """Give the event of a dead letter to the handler that did not take it; an event nobody was asked for, to all.

        Where another provider serves the handler's key by now, that one is given it.

        Returns:
            The letter as it was; it is gone from the store.

        Raises:
            DispatchError: There is no such letter, it is being replayed already, or there is no such handler.
            Exception: What the handler raised; the letter stays.
        """
        if self.dead_letters is None:
            raise DispatchError("no dead letters are kept here", "EventBridge(dead_letters=DeadLetterStore(path))")
        return await self.dead_letters.replay(letter_id, self._redeliver)

    async def _redeliver(self, letter: DeadLetter) -> None:
        dispatcher = self.dispatcher()
        if not letter.handler:
            await self.trace(letter.envelope)
            return
        names = [handler.name for handler in dispatcher.handlers]
        key = letter.handler.partition(":")[0]
        same_key = (name for name in names if name.partition(":")[0] == key)
        name = letter.handler if letter.handler in names else next(same_key, letter.handler)
        await dispatcher.deliver(letter.envelope, name)

    def explain_event(
        self, topic: str, payload: Any = None, headers: Mapping[str, str] | None = None
    ) -> EventExplanation:
        """Return for each handler whether an event would run it, or what keeps the event out. Runs nothing."""
        return self.dispatcher().explain_event(EventEnvelope(topic, payload, dict(headers or {})))

    def refusal(self, envelope: EventEnvelope) -> str | None:
        """Return why an event would be refused by everybody it concerns, or None: its sender may keep it meanwhile."""
        explained = self.dispatcher().explain_event(envelope)
        paused = [each.detail for each in explained.handlers if each.reason == "paused"]
        return paused[0] if paused and not explained.runs else None

    def handler_snapshot(self) -> list[dict[str, Any]]:
        """Return the handlers as plain data, in the order of their turns for an event that concerns all."""
        ranked = sorted(self.dispatcher().handlers, key=lambda each: -each.priority)
        return [self._described(handler) for handler in ranked]

    def _described(self, handler: EventHandler) -> dict[str, Any]:
        key, _, provider = handler.name.partition(":")
        return {
            "handler": handler.name,
            "key": key,
            "provider": provider,
            "topics": list(handler.topics),
            "priority": handler.priority,
            "fanout_policy": handler.fanout,
            "max_concurrency": handler.max_concurrency,
            "filters": [each.as_dict() for each in handler.filters],
            "attempts": handler.retry.attempts,
            "refuses": handler.refuses() if handler.refuses is not None else None,
        }

    def dispatcher(self) -> EventDispatcher:
        """Return the dispatcher, with the handlers that are active now."""
        if self._is_stale:
            self.refresh_dispatcher()
        return self._dispatcher

    def refresh_dispatcher(self) -> None:
        """Take the handlers from the candidates that are active now.

        Changes of the ranking, registrations and swaps are noticed and need no call.
        """
        self._is_stale = False
        made: dict[str, tuple[Candidate, EventHandler]] = {}
        problems: dict[str, str] = {}
        for winner in self.active_candidates():
            candidate = self._serving(winner)
            name = f"{candidate.key}:{candidate.provider}"
            known = self._made.get(name)
            try:
                made[name] = known if known and known[0] is candidate else (candidate, self._handler(name, candidate))
            except OneiricError as error:
                problems[name] = error.message
        for name in problems.keys() - self._problems.keys():
            _log.error("event handler %s gets no events: %s", name, problems[name])
        self._made, self._problems = made, problems
        self._dispatcher.replace(handler for _, handler in made.values())

    def _serving(self, winner: Candidate) -> Candidate:
        """Return the candidate that serves for the winner's key; the winner where nothing does yet."""
        provider = self.lifecycle.get_status(self.domain, winner.key).current_provider
        if provider in {None, winner.provider}:
            return winner
        try:
            return self.resolver.resolve(self.domain, winner.key, provider=provider)
        except ResolutionError:  # withdrawn, and serves until it is swapped: nothing says any more what it wants
            return winner

    def _handler(self, name: str, candidate: Candidate) -> EventHandler:
        key = candidate.key

        async def call(envelope: EventEnvelope) -> Any:
            with span("event.handler", event_handler=name, event_topic=envelope.topic, key=key):
                async with self.lease(key) as instance:
                    return await _handle_of(key, instance)(envelope)

        return EventHandler.from_metadata(
            name, call, candidate.metadata, priority=candidate.priority or 0, refuses=lambda: self._refusal(key)
        )

    def _refusal(self, key: str) -> str | None:
        try:
            self._admission.admit(key)
        except PausedError as error:
            return error.message
        return None

    def _on_event(self, event: Event) -> None:
        if isinstance(event, Registered | Withdrawn):
            self._is_stale = self._is_stale or event.candidate.domain == self.domain
        elif isinstance(event, WinnerChanged | Bound | Retired):
            self._is_stale = self._is_stale or event.domain == self.domain

    def _tell(self, report: DispatchReport) -> None:
        for observer in self._observers:
            try:
                observer(report)
            except Exception as error:  # noqa: BLE001 - one that watches must not disturb what it watches
                _log.error("an observer of events failed on %s: %s: %s", report.topic, type(error).__name__, error)

    async def _bury(
        self, envelope: EventEnvelope, handler: str, reason: str, error: BaseException | None, attempts: int
    ) -> None:
        kept = "and is lost: no dead letters are kept"
        if self.dead_letters is not None:
            kept = f"and is kept as {(await self.dead_letters.keep(envelope, handler, reason, error, attempts)).id}"
        else:
            count("oneiric_dead_letters_total", kind="event", reason=reason)
        by = f" by {handler}" if handler else ""
        _log.warning("event %s was not taken%s (%s) %s", envelope.topic, by, reason, kept)


def _handle_of(key: str, instance: object) -> Callable[[EventEnvelope], Any]:
    handle: Any = getattr(instance, "handle", None)
    if not callable(handle):
        raise LifecycleError(
            f"event-handler-missing-handle-method ({key}): event:{key} is served by {type(instance).__name__}, "
            "which has no method 'handle'",
            "async def handle(self, envelope) on it",
        )
    return handle  # type: ignore[no-any-return]  # whatever the application made it
