"""Deliveries over HTTP: workflows that a task queue asks for, and events that are pushed, each done once.

They stand behind the authentication and the limits of `oneiric.runtime.http`; they decide what a sender is answered,
and nothing about how a workflow is run or an event is handled.
"""

from oneiric.runtime.deliveries._apps import (
    DispatchesEvents,
    EventDeliveries,
    WorkflowDeliveries,
    WorkflowTaskProcessor,
)
from oneiric.runtime.deliveries._messages import MalformedDeliveryError, WorkflowDelivery
from oneiric.runtime.deliveries._server import EVENTS_PATH, WORKFLOWS_PATH, SchedulerHTTPServer, delivery_mounts
from oneiric.runtime.deliveries._store import DELIVERIES_FILE, Answer, DeliveryStore

__all__ = [
    "DELIVERIES_FILE",
    "EVENTS_PATH",
    "WORKFLOWS_PATH",
    "Answer",
    "DeliveryStore",
    "DispatchesEvents",
    "EventDeliveries",
    "MalformedDeliveryError",
    "SchedulerHTTPServer",
    "WorkflowDeliveries",
    "WorkflowDelivery",
    "WorkflowTaskProcessor",
    "delivery_mounts",
]
