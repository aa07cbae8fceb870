"""Workflows: nodes that run tasks, each as soon as all it depends on is done, and whose progress can be kept.

A `WorkflowSpec` is a workflow as data; a `WorkflowEngine` runs it, here `LocalWorkflowEngine` in this process. What a
node may know of its run is `current_call`.
"""

from oneiric.runtime.workflows._calls import NodeCall, current_call
from oneiric.runtime.workflows._checkpoints import WorkflowCheckpointStore
from oneiric.runtime.workflows._engine import LocalWorkflowEngine
from oneiric.runtime.workflows._plan import PlannedNode, WorkflowPlan
from oneiric.runtime.workflows._ports import OnChange, TaskRunner, WorkflowEngine, WorkflowQueue
from oneiric.runtime.workflows._results import NodeInfo, RunInfo, RunResult
from oneiric.runtime.workflows._spec import Compensation, NodeSpec, WorkflowSpec

__all__ = [
    "Compensation",
    "LocalWorkflowEngine",
    "NodeCall",
    "NodeInfo",
    "NodeSpec",
    "OnChange",
    "PlannedNode",
    "RunInfo",
    "RunResult",
    "TaskRunner",
    "WorkflowCheckpointStore",
    "WorkflowEngine",
    "WorkflowPlan",
    "WorkflowQueue",
    "WorkflowSpec",
    "current_call",
]
