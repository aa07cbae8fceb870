"""What schedules fire into and what deliveries ask for, done by the bridges of their domains."""

import hashlib
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, Final

from oneiric.core.errors import (
    ConfigurationError,
    NodeError,
    SelectionNotFoundError,
    UnavailableError,
    WorkflowError,
)
from oneiric.domains._events import EventBridge
from oneiric.domains._tasks import TaskBridge
from oneiric.domains._workflows import WorkflowBridge
from oneiric.runtime.events import EventEnvelope

if TYPE_CHECKING:
    from oneiric.runtime.deliveries import WorkflowDelivery
    from oneiric.runtime.scheduler import Schedule

__all__ = ["DeliveredWorkflows", "ScheduleTargets", "run_id_of"]

_KINDS: Final = ("task", "workflow", "event")


class ScheduleTargets:
    """Do what a schedule's target says: ``task:KEY``, ``workflow:KEY`` or ``event:TOPIC``, with its payload.

    The slot's idempotency key reaches a task as such, names a workflow's run, and is an event's id: a slot that is
    fired again goes on with the same run.

    Args:
        tasks: Runs tasks.
        workflows: Runs workflows.
        events: Dispatches events.
        enqueue: Hand tasks and workflows to the queue, for a worker to do; a slot is done then when it is queued.
    """

    def __init__(
        self, tasks: TaskBridge, workflows: WorkflowBridge, events: EventBridge, *, enqueue: bool = False
    ) -> None:
        self._tasks, self._workflows, self._events, self._enqueue = tasks, workflows, events, enqueue

    async def fire(self, schedule: "Schedule", slot_time: float, idempotency_key: str) -> None:
        """Do it; see `oneiric.runtime.scheduler.Fires`.

        Raises:
            ConfigurationError: The target names no such kind.
            PausedError: The target takes no new work.
            OneiricError: It does not exist, or failed.
            Exception: What a task raised.
        """
        kind, key = _target(schedule)
        payload = dict(schedule.payload)
        if kind == "event":
            at = datetime.fromtimestamp(slot_time, UTC).isoformat()
            await self._events.trace(EventEnvelope(key, payload, {}, idempotency_key, "oneiric/scheduler", time=at))
        elif kind == "task" and self._enqueue:
            await self._tasks.enqueue(key, payload, idempotency_key=idempotency_key)
        elif kind == "task":
            await self._tasks.run(key, payload or None, idempotency_key=idempotency_key)
        elif self._enqueue:
            await self._workflows.enqueue(key, payload, run_id=run_id_of(idempotency_key))
        else:
            info = await self._workflows.start(key, payload, run_id=run_id_of(idempotency_key))
            await self._workflows.wait(info.run_id)

    def refuses(self, schedule: "Schedule") -> str | None:
        """Return why a target takes no new work, or None."""
        kind, key = _target(schedule)
        if kind == "event":
            return self._events.refusal(EventEnvelope(key, dict(schedule.payload)))
        bridge = self._tasks if kind == "task" else self._workflows
        state = bridge.activity_state(key)
        if state.takes_work:
            return None
        return (
            f"{schedule.target} is {'paused' if state.paused else 'draining'}{f': {state.note}' if state.note else ''}"
        )


class DeliveredWorkflows:
    """Run the workflows that are delivered; a `oneiric.runtime.deliveries.WorkflowTaskProcessor`.

    Args:
        workflows: Runs them.
    """

    def __init__(self, workflows: WorkflowBridge) -> None:
        self._workflows = workflows

    async def process(self, delivery: "WorkflowDelivery", run_id: str) -> Mapping[str, Any]:
        """Run a workflow to its end, or go on with the run where it was delivered before.

        Raises:
            CandidateNotFoundError: There is no such workflow.
            WorkflowError: It is not sound; or the delivery asks for what is not done here, or for a cancelled run.
            PausedError: The workflow takes no new work.
            NodeError: A node failed for good.
            UnavailableError: The run was interrupted, and goes on with the next delivery.
        """
        key, context = delivery.workflow, delivery.context
        self._check(delivery)
        info = await self._workflows.start(key, context, run_id=run_id)
        try:
            return (await self._workflows.wait(info.run_id)).results
        except NodeError:
            raise
        except WorkflowError as error:
            if info.status == "cancelled":
                raise
            raise UnavailableError(f"run {run_id} of workflow {key} has not ended: {error.message}") from error

    def _check(self, delivery: "WorkflowDelivery") -> None:
        key, wanted = delivery.workflow, delivery.workflow_provider
        if not isinstance(delivery.context, Mapping | None):
            raise WorkflowError(f"the context delivered for workflow {key!r} is no object", '"context": {}')
        if delivery.checkpoint:
            hint = "the same task name or run_id: what is done of a run is kept here"
            raise WorkflowError(f"a checkpoint was delivered for workflow {key!r}", hint)
        active = self._workflows.resolver.resolve("workflow", key).provider
        if wanted not in {None, active}:
            raise SelectionNotFoundError("workflow", key, str(wanted), f"is not the active one: {active!r} is")


def run_id_of(idempotency_key: str) -> str:
    """Return the id of the run that a key stands for."""
    return hashlib.sha256(idempotency_key.encode()).hexdigest()[:32]


def _target(schedule: "Schedule") -> tuple[str, str]:
    kind, _, key = schedule.target.partition(":")
    if kind not in _KINDS or not key:
        what = f"target {schedule.target[:100]!r} of schedule {schedule.name!r} is nothing that can be done"
        raise ConfigurationError(what, "task:KEY, workflow:KEY or event:TOPIC")
    return kind, key
