"""Telemetry: what happens, as spans and metrics. Everything here watches; nothing that is watched waits for it.

`Telemetry` observes resolver and lifecycle and hands their events on a moment later. The other parts open `span`s and
`count` and `measure` things themselves. Without an OpenTelemetry SDK all of that does nothing and costs next to
nothing; `setup_otel` sets one up. Reads (`get`, `view`, a lease) are never observed.
"""

from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING

from oneiric.core.events import Event
from oneiric.runtime._ports import ActivityState
from oneiric.runtime._telemetry_events import EventMetrics, write_span
from oneiric.runtime._telemetry_metrics import METRICS, MOST_SERIES, count, measure, metrics
from oneiric.runtime._telemetry_otel import OtelHandle, prometheus_text, setup_otel
from oneiric.runtime._telemetry_queue import EventQueue
from oneiric.runtime._telemetry_spans import SpanLike, decision_id, inject_trace_context, span

if TYPE_CHECKING:
    from oneiric.core.lifecycle import LifecycleManager
    from oneiric.core.resolution import Resolver

__all__ = [
    "METRICS",
    "MOST_SERIES",
    "OtelHandle",
    "SpanLike",
    "Telemetry",
    "count",
    "decision_id",
    "inject_trace_context",
    "measure",
    "prometheus_text",
    "setup_otel",
    "span",
]


class Telemetry:
    """The one observer of resolver and lifecycle: makes spans and metrics, and tells the others.

    What is observed only puts its event into a queue; the rest is done a moment later, in the same event loop and
    in the context the event happened in. `close` hands on what is left.

    Args:
        also: Further observers that are told each event, such as ``log_event`` and a recorder: after the spans and
            metrics, in this order. What one raises does not keep the next from being told.
        delay_seconds: How long an event waits for others at most.
    """

    __slots__ = ("_activity", "_observers", "_queue", "_stop")

    def __init__(self, *, also: Iterable[Callable[[Event], object]] = (), delay_seconds: float = 0.02) -> None:
        self._observers: tuple[Callable[[Event], object], ...] = (EventMetrics(), write_span, *also)
        self._queue = EventQueue(self._tell, delay_seconds=delay_seconds)
        self._stop: list[Callable[[], None]] = []
        #: What is paused or drains: (domain, key) → (paused, draining).
        self._activity: dict[tuple[str, str], tuple[bool, bool]] = {}

    def watch(self, resolver: "Resolver", *lifecycles: "LifecycleManager") -> None:
        """Observe a resolver and the managers it chooses for, until `close`."""
        self._stop.append(resolver.observe(self._queue.put))
        self._stop += [lifecycle.observe(self._queue.put) for lifecycle in lifecycles]
        found = metrics()
        if found is not None:
            self._stop.append(found.watch("oneiric_resolver_revision", lambda: resolver.revision))

    def flush(self) -> None:
        """Hand on every event that waits, now."""
        self._queue.flush()

    def close(self) -> None:
        """Stop observing and hand on what waits; safe twice."""
        for stop in self._stop:
            stop()
        self._stop = []
        self.flush()

    def activity_changed(self, domain: str, key: str, state: ActivityState) -> None:
        """Count that a key was paused, resumed, or set to drain; a listener of the activity store.

        What did not change counts nothing; before the first change a key takes work.
        """
        paused, draining = self._activity.pop((domain, key), (False, False))
        if state.paused or state.draining:
            self._activity[domain, key] = (state.paused, state.draining)
        if state.paused != paused:
            count("oneiric_activity_pause_events_total", domain=domain, key=key, paused=state.paused)
        if state.draining != draining:
            count("oneiric_activity_drain_events_total", domain=domain, key=key, draining=state.draining)

    def reloaded(self, *, accepted: bool) -> None:
        """Count that a configuration was accepted or refused."""
        count("oneiric_config_reloads_total", outcome="accepted" if accepted else "refused")

    def _tell(self, event: Event) -> None:
        failed: list[Exception] = []
        for observer in self._observers:
            try:
                observer(event)
            except Exception as error:  # noqa: BLE001 - one that watches must not keep the others from being told
                failed.append(error)
        if failed:
            raise failed[0] if len(failed) == 1 else ExceptionGroup("observers failed", failed)
