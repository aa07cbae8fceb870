"""What the core reports, as metrics and spans: written after the fact, with the times of the events."""

from typing import Any, Final

from oneiric.core import events
from oneiric.core.events import Event
from oneiric.runtime._telemetry_metrics import Metrics, metrics
from oneiric.runtime._telemetry_spans import decision_id, tagged, tracer

__all__ = ["EventMetrics", "write_span"]

_NANOSECONDS: Final = 1_000_000_000
#: What goes wrong in a slot → the counter of it.
_COUNTED: Final[dict[type, str]] = {
    events.DrainTimedOut: "oneiric_lifecycle_drain_timeouts_total",
    events.HookFailed: "oneiric_lifecycle_hook_failures_total",
    events.StepHung: "oneiric_lifecycle_hung_steps_total",
    events.Retired: "oneiric_lifecycle_retired_total",
    events.CleanupFailed: "oneiric_lifecycle_cleanup_failures_total",
}

type _Generation = tuple[str, str, str | None, str, int]


class EventMetrics:
    """Counts and measures events; an observer. Remembers the generations that are alive, and nothing else."""

    __slots__ = ("_alive",)

    def __init__(self) -> None:
        self._alive: set[_Generation] = set()

    def __call__(self, event: Event) -> None:
        """Count an event, if anybody has configured where."""
        found = metrics()
        if found is None:
            return
        counted = _COUNTED.get(type(event))
        if counted is not None:
            found.count(counted, domain=event.domain, key=event.key)  # type: ignore[union-attr]  # those of a slot
        match event:
            case events.Bound(duration_seconds=seconds):
                labels = {"domain": event.domain, "key": event.key, "provider": event.provider}
                found.measure("oneiric_lifecycle_swap_duration_ms", seconds * 1000, **labels)
                self._alive.add(_generation(event))
                found.count("oneiric_lifecycle_generations", domain=event.domain)
            case events.CleanedUp() | events.CleanupFailed():
                self._ended(found, event)
            case events.SwapFailed(domain=domain, key=key, provider=provider, step=step):
                name = "oneiric_lifecycle_swap_failures_total"
                found.count(name, domain=domain, key=key, provider=provider, step=step)
            case events.WinnerChanged(domain=domain):
                found.count("oneiric_resolver_winner_changes_total", domain=domain)
            case _:
                pass

    def _ended(self, found: Metrics, event: events.CleanedUp | events.CleanupFailed) -> None:
        ended = _generation(event)
        # What a failed attempt had made is cleaned up too, and never served.
        if ended in self._alive:
            self._alive.remove(ended)
            found.count("oneiric_lifecycle_generations", -1, domain=event.domain)


def _generation(event: events.Bound | events.CleanedUp | events.CleanupFailed) -> _Generation:
    return event.domain, event.key, event.tenant, event.provider, event.generation


def write_span(event: Event) -> None:
    """Write the span of a swap, or of a change of what ranks first; of a winner that is only read, none."""
    match event:
        case events.Bound(duration_seconds=seconds, previous=previous):
            _span("lifecycle.swap", event, seconds, previous=previous)
        case events.SwapFailed(step=step):
            _span("lifecycle.swap", event, 0.0, step=step)
        case events.WinnerChanged(after=provider, before=before):
            _span("resolver.resolve", event, 0.0, provider=provider, previous=before)
        case _:
            pass


def _span(
    name: str,
    event: events.Bound | events.SwapFailed | events.WinnerChanged,
    seconds: float,
    **attributes: str | None,
) -> None:
    """Write a span of something that has ended: its times are those of the event."""
    found = tracer()
    if found is None:
        return
    described: dict[str, Any] = {"domain": event.domain, "key": event.key, "tenant": event.tenant}
    if not isinstance(event, events.WinnerChanged):
        described["provider"] = event.provider
        described["oneiric.lifecycle.success"] = isinstance(event, events.Bound)
        described["generation"] = event.generation
    if isinstance(event, events.Bound):
        described["oneiric.lifecycle.duration_ms"] = seconds * 1000
    described["revision"] = event.revision
    described["decision_id"] = decision_id(event.domain, event.key, event.tenant, event.revision)
    ended = int(event.at * _NANOSECONDS)
    started = found.start_span(
        name, attributes=tagged(described | attributes), start_time=ended - int(seconds * _NANOSECONDS)
    )
    if isinstance(event, events.SwapFailed):
        from opentelemetry.trace import StatusCode  # noqa: PLC0415 - loaded by whoever configured the SDK

        started.set_status(StatusCode.ERROR, event.step)
    started.end(end_time=ended)
