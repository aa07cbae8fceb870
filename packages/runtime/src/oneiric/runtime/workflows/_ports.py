"""Ports: what an engine offers, and what it asks of those it works with."""

from collections.abc import Mapping, Sequence
from typing import Any, Literal, Protocol

from oneiric.runtime.workflows._calls import NodeCall
from oneiric.runtime.workflows._results import RunInfo, RunResult

__all__ = ["OnChange", "TaskRunner", "WorkflowEngine", "WorkflowQueue"]

#: What to do on resuming a run whose definition has changed.
type OnChange = Literal["refuse", "stored", "current"]


class TaskRunner(Protocol):
    """Runs tasks by their keys; the bridge of the task domain is behind it."""

    async def run(self, task: str, payload: Any, call: NodeCall) -> Any:
        """Run a task once and return its result.

        Args:
            task: Its key.
            payload: What it is given; None where the node has no payload and the run no context.
            call: Which node of which run asks, which attempt this is, and its idempotency key.
        """


class WorkflowQueue(Protocol):
    """Carries the runs that are to be run elsewhere."""

    async def put(self, message: Mapping[str, Any], *, category: str | None) -> str:
        """Hand on a message of plain data; when this returns, it will not be lost. Returns its id.

        Args:
            message: ``workflow run_id context metadata queued_at``.
            category: The queue category of the workflow, or None for the usual one.
        """


class WorkflowEngine(Protocol):
    """Runs workflows. All it takes and returns is plain data: it may work in another process, or in a database."""

    async def start(
        self, workflow: str, context: Mapping[str, Any] | None = None, *, run_id: str | None = None
    ) -> RunInfo:
        """Begin a run and return when it is known to the engine; the same run id again continues that run.

        Args:
            workflow: Its key.
            context: What its templates see as ``context``.
            run_id: By default a new one.
        """

    async def wait(self, run_id: str) -> RunResult:
        """Wait for the end of a run that this engine runs, and return what it returned, or raise why it did not."""

    async def enqueue(
        self,
        workflow: str,
        context: Mapping[str, Any] | None = None,
        *,
        run_id: str | None = None,
        metadata: Mapping[str, Any] | None = None,
    ) -> RunInfo:
        """Have a run begun by whoever works off the queue."""

    async def resume(self, run_id: str, *, on_change: OnChange = "refuse", from_node: str | None = None) -> RunInfo:
        """Go on with a run that was interrupted, failed or was cancelled.

        Args:
            run_id: The run.
            on_change: When its definition is another one now: refuse, go on with the ``stored`` one, or with the
                ``current`` one.
            from_node: Run this node, and all that depends on it, again.
        """

    async def cancel(self, run_id: str, *, node: str | None = None) -> RunInfo:
        """Cancel a run, or one of its nodes, which then fails."""

    async def inspect(self, run_id: str) -> RunInfo:
        """Return what is known of a run, its nodes included."""

    async def list(
        self, *, workflow: str | None = None, status: str | None = None, limit: int = 100
    ) -> Sequence[RunInfo]:
        """Return runs, the newest first, without their nodes."""
