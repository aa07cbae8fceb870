"""The OpenTelemetry SDK, set up once for the process: traces, metrics, Prometheus text, OTLP when asked for."""

import os
import threading
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Final, Self

from oneiric.core.errors import LifecycleError, MissingExtraError
from oneiric.runtime._telemetry_metrics import use_meter_provider
from oneiric.runtime._telemetry_spans import is_real, use_tracer_provider

if TYPE_CHECKING:
    from opentelemetry.sdk.metrics import MeterProvider
    from opentelemetry.sdk.resources import Resource
    from opentelemetry.sdk.trace import TracerProvider
    from prometheus_client import CollectorRegistry

    from oneiric.runtime.settings import OneiricSettings

__all__ = ["OtelHandle", "prometheus_text", "setup_otel"]

_REQUIREMENT: Final = "oneiric-runtime[otel]"
#: What an empty page of metrics is served as, where no SDK says otherwise.
_PLAIN: Final = "text/plain; version=0.0.4; charset=utf-8"
_FLUSH_MS: Final = 5000

_lock = threading.Lock()
_handle: "OtelHandle | None" = None
#: The tracer provider that was made the process's own: none of a host's.
_offered: object = None


class OtelHandle:
    """What `setup_otel` set up; shut it down when the application ends. Also a context manager.

    Attributes:
        tracer_provider: Makes the spans: the host application's where it has configured one.
        meter_provider: Holds the metrics.
        exports_traces: Whether spans are sent by OTLP.
        exports_metrics: Whether metrics are sent by OTLP, beside what `prometheus_text` offers.
    """

    __slots__ = (
        "_is_closed",
        "_own_tracer_provider",
        "_registry",
        "exports_metrics",
        "exports_traces",
        "meter_provider",
        "tracer_provider",
    )

    def __init__(
        self,
        tracer_provider: "TracerProvider | None",
        meter_provider: "MeterProvider",
        registry: "CollectorRegistry",
        *,
        exports_traces: bool,
        exports_metrics: bool,
    ) -> None:
        from opentelemetry import trace  # noqa: PLC0415 - loaded by the SDK

        self._own_tracer_provider = tracer_provider
        self.tracer_provider = trace.get_tracer_provider() if tracer_provider is None else tracer_provider
        self.meter_provider = meter_provider
        self.exports_traces = exports_traces
        self.exports_metrics = exports_metrics
        self._registry = registry
        self._is_closed = False

    def prometheus_text(self) -> tuple[bytes, str]:
        """Return every metric in Prometheus' text format, and the content type to serve it as."""
        from prometheus_client import exposition, generate_latest  # noqa: PLC0415 - loaded when set up

        return generate_latest(self._registry), exposition.CONTENT_TYPE_LATEST

    def shutdown(self) -> None:
        """Send what is due and stop; waits for each exporter 5 s at most, so call it in a thread. Safe twice."""
        global _handle  # noqa: PLW0603 - the one of the process
        with _lock:
            if self._is_closed:
                return
            self._is_closed = True
            if _handle is self:
                _handle = None
                use_tracer_provider(None)
                use_meter_provider(None)
        if self._own_tracer_provider is not None:
            self._own_tracer_provider.force_flush(_FLUSH_MS)
            self._own_tracer_provider.shutdown()
        self.meter_provider.shutdown(timeout_millis=_FLUSH_MS)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.shutdown()


def setup_otel(
    settings: "OneiricSettings | None" = None,
    *,
    environ: Mapping[str, str] | None = None,
    record_spans: bool | None = None,
) -> OtelHandle:
    """Set the OpenTelemetry SDK up for this process: spans, metrics and Prometheus text.

    A tracer provider that a host application has configured is used and left alone; metrics are kept here in any
    case, for `prometheus_text`. Spans and metrics are sent by OTLP (http/protobuf) where the standard variables ask
    for that: an endpoint in ``OTEL_EXPORTER_OTLP_ENDPOINT`` (or its ``_TRACES_`` and ``_METRICS_`` forms), or
    ``OTEL_TRACES_EXPORTER`` and ``OTEL_METRICS_EXPORTER`` set to ``otlp``; ``none`` there forbids it.

    Args:
        settings: Name and environment of the application, for the resource; ``OTEL_SERVICE_NAME`` and
            ``OTEL_RESOURCE_ATTRIBUTES`` are honoured.
        environ: Environment variables; by default those of the process.
        record_spans: Whether spans are recorded where nothing exports them, for a processor that is added later. By
            default they then have ids only, for log lines; ``OTEL_TRACES_SAMPLER`` decides where it is set.

    Raises:
        MissingExtraError: The extra ``otel`` is not installed.
        LifecycleError: It is set up already, and not shut down.
    """
    global _handle  # noqa: PLW0603 - one for the process, like the SDK's
    given = os.environ if environ is None else environ
    with _lock:
        if _handle is not None:
            raise LifecycleError("OpenTelemetry is set up already in this process", "shut that handle down first")
        _handle = _made(settings, given, record_spans=record_spans)
        use_tracer_provider(_handle.tracer_provider)
        use_meter_provider(_handle.meter_provider)
        _offer_to_others(_handle)
        return _handle


def prometheus_text() -> tuple[bytes, str]:
    """Return the process's metrics in Prometheus' text format, and the content type; empty while none are set up."""
    found = _handle
    return (b"", _PLAIN) if found is None else found.prometheus_text()


def _made(settings: "OneiricSettings | None", environ: Mapping[str, str], *, record_spans: bool | None) -> OtelHandle:
    try:
        from opentelemetry.exporter.prometheus import PrometheusMetricReader  # noqa: PLC0415 - of an extra
        from opentelemetry.sdk.metrics import MeterProvider  # noqa: PLC0415 - as above
        from opentelemetry.sdk.resources import Resource  # noqa: PLC0415 - as above
        from prometheus_client import CollectorRegistry  # noqa: PLC0415 - as above
    except ModuleNotFoundError as error:
        raise MissingExtraError("opentelemetry", _REQUIREMENT, error.name) from error
    if settings is None:
        from oneiric.runtime.settings import OneiricSettings  # noqa: PLC0415 - who opens a span never loads pydantic

        settings = OneiricSettings()
    resource = Resource.create(_resource(settings, environ))
    # Its own registry: a host's metrics are the host's to serve.
    registry = CollectorRegistry()
    readers: list[Any] = [PrometheusMetricReader(registry=registry)]
    sent = _asks_for_otlp(environ, "METRICS")
    if sent:
        readers.append(_metric_sender())
    traces = _asks_for_otlp(environ, "TRACES") and not _host_traces()
    records = traces or "OTEL_TRACES_SAMPLER" in environ if record_spans is None else record_spans
    provider = None if _host_traces() else _tracer_provider(resource, exports=traces, records=records)
    meters = MeterProvider(metric_readers=readers, resource=resource, shutdown_on_exit=False)
    return OtelHandle(provider, meters, registry, exports_traces=traces, exports_metrics=sent)


def _host_traces() -> bool:
    from opentelemetry import trace  # noqa: PLC0415 - loaded by the SDK

    found = trace.get_tracer_provider()
    return is_real(found) and found is not _offered


def _tracer_provider(resource: "Resource", *, exports: bool, records: bool) -> "TracerProvider":
    from opentelemetry.sdk.trace import TracerProvider, sampling  # noqa: PLC0415 - loaded before

    # Recording what nobody reads costs four times as much as an id; None lets the SDK read its variables.
    provider = TracerProvider(
        resource=resource, sampler=None if records else sampling.ALWAYS_OFF, shutdown_on_exit=False
    )
    if exports:
        _send_spans(provider)
    return provider


def _resource(settings: "OneiricSettings", environ: Mapping[str, str]) -> dict[str, str]:
    attributes = {"deployment.environment": settings.app.environment}
    if "OTEL_SERVICE_NAME" not in environ:
        attributes["service.name"] = settings.logging.service_name or settings.app.name
    if settings.logging.release is not None:
        attributes["service.version"] = settings.logging.release
    return attributes


def _asks_for_otlp(environ: Mapping[str, str], signal: str) -> bool:
    named = environ.get(f"OTEL_{signal}_EXPORTER")
    if named is not None:
        return "otlp" in (each.strip() for each in named.split(","))
    return any(environ.get(f"OTEL_EXPORTER_OTLP_{part}ENDPOINT") for part in ("", f"{signal}_"))


def _send_spans(provider: "TracerProvider") -> None:
    try:
        from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter  # noqa: PLC0415 - an extra
        from opentelemetry.sdk.trace.export import BatchSpanProcessor  # noqa: PLC0415 - as above
    except ModuleNotFoundError as error:
        raise MissingExtraError("opentelemetry", _REQUIREMENT, error.name) from error
    provider.add_span_processor(BatchSpanProcessor(OTLPSpanExporter()))


def _metric_sender() -> Any:
    try:
        from opentelemetry.exporter.otlp.proto.http.metric_exporter import (  # noqa: PLC0415 - of an extra
            OTLPMetricExporter,
        )
        from opentelemetry.sdk.metrics.export import PeriodicExportingMetricReader  # noqa: PLC0415 - as above
    except ModuleNotFoundError as error:
        raise MissingExtraError("opentelemetry", _REQUIREMENT, error.name) from error
    return PeriodicExportingMetricReader(OTLPMetricExporter())


def _offer_to_others(handle: OtelHandle) -> None:
    """Make these the process's providers where nobody has: instrumented libraries join in."""
    from opentelemetry import metrics, trace  # noqa: PLC0415 - loaded by the SDK

    global _offered  # noqa: PLW0603 - the SDK lets it be set once, also after a shutdown
    if not is_real(trace.get_tracer_provider()):
        trace.set_tracer_provider(handle.tracer_provider)
        _offered = handle.tracer_provider
    if not is_real(metrics.get_meter_provider()):
        metrics.set_meter_provider(handle.meter_provider)
