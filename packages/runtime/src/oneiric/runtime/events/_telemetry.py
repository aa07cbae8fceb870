"""What a report of a dispatch says to metrics and to the telemetry file."""

from oneiric.runtime._telemetry_metrics import count, measure
from oneiric.runtime._telemetry_records import EventRecord, HandlerRecord
from oneiric.runtime.events._results import DispatchReport, HandlerResult

__all__ = ["event_record", "measure_report"]


def event_record(report: DispatchReport) -> EventRecord:
    """Return what ``RuntimeTelemetryRecorder.event`` is told of a dispatch whose results were recorded."""
    return EventRecord(
        topic=report.topic,
        handlers=[_handler_record(result) for result in report.results or report.failures],
        total_duration_ms=report.duration_seconds * 1000,
    )


def measure_report(report: DispatchReport) -> None:
    """Count and measure the runs of a dispatch by handler; topics are no labels, for there may be any number."""
    for result in report.results or report.failures:
        measure("oneiric_event_handler_duration_ms", result.duration_seconds * 1000, handler=result.handler)
        measure("oneiric_event_handler_attempts", result.attempts, handler=result.handler)
        if not result.success:
            count("oneiric_event_handler_failures_total", handler=result.handler)


def _handler_record(result: HandlerResult) -> HandlerRecord:
    error = result.error
    return HandlerRecord(
        handler=result.handler,
        success=result.success,
        duration_ms=result.duration_seconds * 1000,
        attempts=result.attempts,
        error=None if error is None else f"{type(error).__name__}: {error}",
    )
