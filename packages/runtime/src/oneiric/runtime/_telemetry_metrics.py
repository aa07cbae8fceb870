"""Metrics: counters and gauges kept here and read when somebody collects them, and histograms of the SDK.

Keeping a count costs a dictionary entry, and each metric has at most `MOST_SERIES` series: what comes after goes into
one overflow series, so that no flood of keys fills the memory of those who collect.
"""

import threading
from collections.abc import Callable, Iterable, Mapping
from typing import TYPE_CHECKING, Any, Final, Literal

from oneiric.runtime._secret_redaction import REDACTOR
from oneiric.runtime._telemetry_spans import SCOPE, configured

if TYPE_CHECKING:
    from opentelemetry.metrics import CallbackOptions, Histogram, Meter, MeterProvider, Observation

__all__ = ["METRICS", "MOST_SERIES", "Metrics", "count", "measure", "metrics", "use_meter_provider"]

type Kind = Literal["counter", "gauge", "histogram"]
type Labels = Mapping[str, str | bool | int | float]

#: Series of one metric, the overflow series included.
MOST_SERIES: Final = 1000
#: Name and value that the OpenTelemetry specification gives the series for what does not fit.
OVERFLOW: Final[Labels] = {"otel.metric.overflow": True}
_LONGEST_LABEL: Final = 128
#: Upper bounds of the duration histograms, in milliseconds.
_BOUNDS_MS: Final = (0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 25, 50, 100, 250, 500, 1000, 2500, 5000, 10_000, 30_000)

#: Name → kind and meaning. Durations are in milliseconds, as their names say.
METRICS: Final[Mapping[str, tuple[Kind, str]]] = {
    "oneiric_lifecycle_swap_duration_ms": ("histogram", "From resolution to the binding of a generation"),
    "oneiric_lifecycle_swap_failures_total": ("counter", "Activations and swaps that stopped before the binding"),
    "oneiric_lifecycle_generations": ("gauge", "Instances that are alive: those that serve and those that drain"),
    "oneiric_lifecycle_retired_total": ("counter", "Slots retired by request"),
    "oneiric_lifecycle_drain_timeouts_total": ("counter", "Generations whose leases outlived the drain deadline"),
    "oneiric_lifecycle_cleanup_failures_total": ("counter", "Cleanups that raised or missed their deadline"),
    "oneiric_lifecycle_hook_failures_total": ("counter", "post_swap and on_cleanup hooks that failed"),
    "oneiric_lifecycle_hung_steps_total": ("counter", "Steps that ignored their deadline and their cancellation"),
    "oneiric_resolver_winner_changes_total": ("counter", "Keys for which another provider came to rank first"),
    "oneiric_resolver_revision": ("gauge", "Number of the registry's revision"),
    "oneiric_activity_pause_events_total": ("counter", "Keys paused and resumed"),
    "oneiric_activity_drain_events_total": ("counter", "Keys set to drain and taken out of it"),
    "oneiric_config_reloads_total": ("counter", "Configurations that were accepted or refused"),
    "oneiric_supervisor_restarts_total": ("counter", "Services restarted by the supervisor"),
    "oneiric_log_dropped_lines_total": ("counter", "Log lines that a sink could not take"),
    "oneiric_event_handler_duration_ms": ("histogram", "One run of an event handler, retries included"),
    "oneiric_event_handler_attempts": ("histogram", "Attempts of one run of an event handler"),
    "oneiric_event_handler_failures_total": ("counter", "Runs of event handlers that failed"),
    "oneiric_event_queue_dropped_total": ("counter", "Events that a full or ending queue dropped"),
    "oneiric_dead_letters_total": ("counter", "Dead letters that were kept, by kind and reason"),
    "oneiric_schedule_slots_total": ("counter", "Slots of schedules, by what became of them"),
    "oneiric_deliveries_total": ("counter", "Deliveries over HTTP, by what became of them"),
    "oneiric_workflow_node_duration_ms": ("histogram", "One run of a workflow node, retries included"),
    "oneiric_workflow_node_attempts": ("histogram", "Attempts of one run of a workflow node"),
    "oneiric_workflow_node_failures_total": ("counter", "Runs of workflow nodes that failed"),
    "oneiric_remote_sync_success_total": ("counter", "Remote syncs that applied or confirmed a manifest"),
    "oneiric_remote_sync_failure_total": ("counter", "Remote syncs that failed"),
    "oneiric_remote_sync_duration_ms": ("histogram", "One remote sync"),
    "oneiric_remote_candidates_registered_total": ("counter", "Candidates registered from remote manifests"),
    "oneiric_remote_digest_checks_total": ("counter", "Artifacts whose digest was checked"),
    "oneiric_remote_stale": ("gauge", "1 while the manifest in force, or what says that it is current, has expired"),
    "oneiric_remote_revoked_in_use": ("gauge", "Components that serve on although their artifact was revoked"),
}


class Metrics:
    """The metrics of one meter.

    Args:
        meter: Where they are recorded.
    """

    __slots__ = ("_histograms", "_lock", "_meter", "_read", "_series", "_values")

    def __init__(self, meter: "Meter") -> None:
        self._meter = meter
        self._lock = threading.Lock()
        self._histograms: dict[str, Histogram] = {}
        self._read: dict[str, Callable[[], float] | None] = {}
        #: Metric → what its series are counted by → their labels, and (not of histograms) their values.
        self._series: dict[str, dict[tuple[tuple[str, object], ...], Labels]] = {}
        self._values: dict[str, dict[tuple[tuple[str, object], ...], list[float]]] = {}

    def count(self, name: str, amount: float = 1, /, **labels: str | bool | float) -> None:
        """Add to a counter, or to a gauge that goes up and down."""
        with self._lock:
            values = self._values.get(name)
            if values is None:
                values = self._values[name] = {}
                self._create(name)
            key = self._key(name, labels)
            value = values.get(key)
            if value is None:
                values[key] = [amount]
            else:
                value[0] += amount

    def measure(self, name: str, value: float, /, **labels: str | bool | float) -> None:
        """Record a value in a histogram."""
        with self._lock:
            histogram = self._histograms.get(name)
            if histogram is None:
                bounds = _BOUNDS_MS if name.endswith("_ms") else (1, 2, 3, 5, 10, 25, 100)
                histogram = self._histograms[name] = self._meter.create_histogram(
                    name, description=_described(name), explicit_bucket_boundaries_advisory=bounds
                )
            key = self._key(name, labels)
            known = self._series[name][key]
        histogram.record(value, known)

    def watch(self, name: str, read: Callable[[], float]) -> Callable[[], None]:
        """Offer a gauge whose value is read when somebody collects; return the call that ends that."""
        from opentelemetry.metrics import Observation  # noqa: PLC0415 - loaded by whoever made the meter

        def observe(_: "CallbackOptions") -> "Iterable[Observation]":
            read = self._read.get(name)
            return () if read is None else (Observation(read()),)

        with self._lock:
            if name not in self._read:
                self._meter.create_observable_gauge(name, [observe], description=_described(name))
            self._read[name] = read

        def end() -> None:
            if self._read[name] is read:
                self._read[name] = None

        return end

    def _create(self, name: str) -> None:
        from opentelemetry.metrics import Observation  # noqa: PLC0415 - as above

        def observe(_: "CallbackOptions") -> "Iterable[Observation]":
            with self._lock:
                known = self._series[name]
                return [Observation(value[0], known[key]) for key, value in self._values[name].items()]

        kind = METRICS.get(name, ("counter" if name.endswith("_total") else "gauge", ""))[0]
        create: Callable[..., Any] = (
            self._meter.create_observable_up_down_counter if kind == "gauge" else self._meter.create_observable_counter
        )
        create(name, [observe], description=_described(name))

    def _key(self, name: str, labels: dict[str, Any]) -> tuple[tuple[str, object], ...]:
        """Return what stands for a series: the overflow's once the metric has as many as it may have."""
        key = tuple(sorted(labels.items()))
        known = self._series.setdefault(name, {})
        if key not in known:
            if len(known) >= MOST_SERIES - 1:
                key, labels = (), dict(OVERFLOW)
            known[key] = {label: _label(value) for label, value in labels.items()}
        return key


#: The provider that `use_meter_provider` named, and the metrics of the provider in force.
_chosen: "MeterProvider | None" = None
_known: tuple[object, Metrics] | None = None


def count(name: str, amount: float = 1, /, **labels: str | bool | float) -> None:
    """Add to a counter; free while nobody has configured an SDK.

    Args:
        name: One of the metrics of ``docs/operations.md``, or one of the application's own.
        amount: What to add.
        labels: What tells its series apart. Use values from a closed set, such as keys and providers: after 999
            series the rest is counted together.
    """
    found = metrics()
    if found is not None:
        found.count(name, amount, **labels)


def measure(name: str, value: float, /, **labels: str | bool | float) -> None:
    """Record a value in a histogram; free while nobody has configured an SDK. Labels are as those of `count`."""
    found = metrics()
    if found is not None:
        found.measure(name, value, **labels)


def use_meter_provider(provider: "MeterProvider | None") -> None:
    """Record with this provider; None goes back to the one that the process has configured, if any."""
    global _chosen, _known
    _chosen, _known = provider, None


def metrics() -> Metrics | None:
    """Return the metrics in force, or None while nobody has configured an SDK."""
    global _known  # noqa: PLW0603 - as above
    provider = _chosen
    if provider is None:
        provider = configured("opentelemetry.metrics._internal", "_METER_PROVIDER", "get_meter_provider")
        if provider is None:
            return None
    if _known is None or _known[0] is not provider:
        _known = (provider, Metrics(provider.get_meter(SCOPE)))
    return _known[1]


def _described(name: str) -> str:
    return METRICS.get(name, ("", ""))[1]


def _label(value: object) -> Any:
    return REDACTOR.mask(value)[:_LONGEST_LABEL] if isinstance(value, str) else value
