"""Events: what happened is given to whoever it concerns.

An `EventEnvelope` is one event; an `EventHandler` says which it wants; an `EventDispatcher` brings them
together.
"""

from oneiric.runtime.events._dispatcher import EventDispatcher
from oneiric.runtime.events._envelope import EventEnvelope
from oneiric.runtime.events._explanation import EventExplanation, HandlerExplanation
from oneiric.runtime.events._filters import EventFilter
from oneiric.runtime.events._handler import EventHandler
from oneiric.runtime.events._queue import EventQueue, QueueStatistics
from oneiric.runtime.events._results import DispatchReport, HandlerResult
from oneiric.runtime.events._telemetry import event_record, measure_report
from oneiric.runtime.events._topics import check_topic
from oneiric.runtime.retry import RetryPolicy

__all__ = [
    "DispatchReport",
    "EventDispatcher",
    "EventEnvelope",
    "EventExplanation",
    "EventFilter",
    "EventHandler",
    "EventQueue",
    "HandlerExplanation",
    "HandlerResult",
    "QueueStatistics",
    "RetryPolicy",
    "check_topic",
    "event_record",
    "measure_report",
]
