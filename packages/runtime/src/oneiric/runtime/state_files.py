"""Files for readers outside the process: ``runtime_health.json`` and ``runtime_telemetry.json``.

Both are written by the core's one atomic writer, off the event loop, soon after what they describe has changed;
both are bounded. Their JSON Schemas lie in ``schemas/`` beside this module, with that of ``lifecycle_status.json``,
which is the lifecycle's own. Whoever reads them gets a document, or a sentence that says why there is none.
"""

from oneiric.runtime._telemetry_health import HealthFile, StatusLike
from oneiric.runtime._telemetry_reading import (
    HEALTH_FILE,
    LIFECYCLE_FILE,
    SCHEMA,
    TELEMETRY_FILE,
    StateReading,
    json_schema,
    read_health,
    read_lifecycle,
    read_telemetry,
)
from oneiric.runtime._telemetry_recorder import RuntimeTelemetryRecorder
from oneiric.runtime._telemetry_records import EventRecord, HandlerRecord, NodeRecord, WorkflowRecord

__all__ = [
    "HEALTH_FILE",
    "LIFECYCLE_FILE",
    "SCHEMA",
    "TELEMETRY_FILE",
    "EventRecord",
    "HandlerRecord",
    "HealthFile",
    "NodeRecord",
    "RuntimeTelemetryRecorder",
    "StateReading",
    "StatusLike",
    "WorkflowRecord",
    "json_schema",
    "read_health",
    "read_lifecycle",
    "read_telemetry",
]
