"""The calls a node makes: of its task or its sub-workflow, as often and for as long as its policy says."""

import asyncio
from collections.abc import Awaitable, Callable, Coroutine
from typing import Any

from oneiric.core.errors import CheckpointError, NodeError, OneiricError, WorkflowError
from oneiric.runtime.telemetry import span
from oneiric.runtime.workflows._calls import NodeCall, current
from oneiric.runtime.workflows._ports import TaskRunner
from oneiric.runtime.workflows._steps import Step
from oneiric.runtime.workflows._template import fresh

__all__ = ["Caller", "RunChild", "failure_of", "reason_of"]

type RunChild = Callable[[str, Any, NodeCall], Awaitable[Any]]


class _Exited(Exception):  # noqa: N818 - a wrapper on its way to the node's reason
    """A task raised `SystemExit`, which must not end the event loop."""


class Caller:
    """Make the calls of one run's nodes.

    Args:
        runner: Runs the tasks.
        run_child: Runs a sub-workflow.
        is_traced: Whether each node has a span.
    """

    __slots__ = ("_run", "_run_child", "is_traced")

    def __init__(self, runner: TaskRunner, run_child: RunChild, *, is_traced: bool = False) -> None:
        self._run, self._run_child, self.is_traced = runner.run, run_child, is_traced

    async def direct(self, step: Step, payload: Any, call: NodeCall) -> Any:
        """Call a task once."""
        current.set(call)
        try:
            # The call keeps the payload as it was: its key must not depend on what the task does to its own.
            return await self._run(step.task, payload if payload is None else fresh(payload), call)
        except SystemExit as error:
            raise _Exited(f"SystemExit: {error}") from error

    async def attempts(self, step: Step, payload: Any, call: NodeCall, task: str = "") -> Any:
        """Make a call as often as its policy says, each time with a payload of its own."""
        while True:
            try:
                async with asyncio.timeout(step.timeout_seconds) as limit:
                    if step.spec.workflow and not task:
                        return await self._run_child(step.spec.workflow, fresh(payload), call)
                    current.set(call)
                    return await self._run(task or step.task, fresh(payload), call)
            except SystemExit as error:
                raise _Exited(f"SystemExit: {error}") from error
            except Exception as error:  # noqa: BLE001 - whatever a task raises, its policy decides
                failure: Exception = error
                if isinstance(error, TimeoutError) and limit.expired():
                    failure = TimeoutError(f"it took longer than {step.timeout_seconds:g} s")
                    failure.__cause__ = error
                if call.attempt >= step.retry.attempts:
                    raise failure from failure.__cause__
            await asyncio.sleep(step.retry.delay_seconds(call.attempt))
            call.attempt += 1

    async def traced(self, step: Step, call: NodeCall, work: Coroutine[Any, Any, Any]) -> Any:
        """Do it within a span."""
        with span("workflow.node", workflow=call.workflow, run_id=call.run_id, node=call.node, key=step.spec.runs):
            return await work


def failure_of(error: BaseException, call: NodeCall, attempts: int) -> WorkflowError:
    """Return what a run stops with because of a node.

    A sub-workflow that could not be kept, or not be gone on with, has not failed, and neither has the run it is a part
    of: it can be resumed.
    """
    if isinstance(error, CheckpointError) and error.kind in {"held", "lost", "changed", "store"}:
        return error
    told = NodeError(call.workflow, call.run_id, call.node, reason_of(error), attempts)
    told.__cause__ = error
    return told


def reason_of(error: BaseException) -> str:
    """Say in a clause why a node failed."""
    if isinstance(error, asyncio.CancelledError):
        return "it was cancelled"
    if isinstance(error, OneiricError | _Exited):
        return str(error)
    return f"{type(error).__name__}: {error}" if str(error) else type(error).__name__
