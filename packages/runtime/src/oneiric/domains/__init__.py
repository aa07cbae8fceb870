"""Domains: what an application asks for adapters, services, tasks, events, workflows, actions and its own domains.

A bridge binds one domain of the resolver and the lifecycle to its section of the settings. `AdapterBridge` and the
five beside it are bridges of the built-in domains; `DomainBridge` serves any.
"""

from oneiric.domains._bridge import DomainBridge
from oneiric.domains._builtin import (
    ActionBridge,
    AdapterBridge,
    ServiceBridge,
)
from oneiric.domains._events import EventBridge
from oneiric.domains._handle import DomainHandle
from oneiric.domains._jobs import JobProcessor, JobQueue
from oneiric.domains._targets import DeliveredWorkflows, ScheduleTargets
from oneiric.domains._tasks import TaskBridge
from oneiric.domains._workflows import WorkflowBridge

__all__ = [
    "ActionBridge",
    "AdapterBridge",
    "DeliveredWorkflows",
    "DomainBridge",
    "DomainHandle",
    "EventBridge",
    "JobProcessor",
    "JobQueue",
    "ScheduleTargets",
    "ServiceBridge",
    "TaskBridge",
    "WorkflowBridge",
]
