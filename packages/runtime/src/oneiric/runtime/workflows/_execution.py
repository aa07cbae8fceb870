"""The execution of one run: its nodes, what is undone when it fails, and what is told of it."""

import asyncio
import time
from collections.abc import Callable, Iterable
from contextvars import copy_context
from dataclasses import asdict, dataclass
from time import perf_counter
from typing import Any, Final

from oneiric.core.errors import CheckpointError, WorkflowError
from oneiric.runtime._telemetry_metrics import metrics
from oneiric.runtime._telemetry_records import NodeRecord, WorkflowRecord
from oneiric.runtime._telemetry_spans import tracer
from oneiric.runtime.telemetry import count, measure, span
from oneiric.runtime.workflows._calling import Caller
from oneiric.runtime.workflows._calls import NodeCall
from oneiric.runtime.workflows._keeping import Ended
from oneiric.runtime.workflows._ledger import Closing, Ledger, Opening
from oneiric.runtime.workflows._ports import TaskRunner
from oneiric.runtime.workflows._results import NodeInfo, NodeStatus, RunResult, RunStatus
from oneiric.runtime.workflows._scheduler import Scheduler
from oneiric.runtime.workflows._steps import Unit
from oneiric.runtime.workflows._template import Scope, compiled

__all__ = ["Execution", "Surroundings"]

_UNDO: Final = ":compensate"


@dataclass(frozen=True, slots=True, kw_only=True)
class Surroundings:
    """What all runs of an engine have in common.

    Attributes:
        runner: Runs the tasks.
        ledger: Where runs are written down.
        limit: Nodes of one run that run at the same time.
        observe: Told of every run that ended.
        run_child: Runs a sub-workflow; first of all the run it is for.
        clock: The time in seconds since the epoch.
    """

    runner: TaskRunner
    ledger: Ledger
    limit: int
    observe: Callable[[WorkflowRecord], object]
    run_child: Callable[[Opening, str, Any, NodeCall], Any]
    clock: Callable[[], float] = time.time


class Execution:
    """Run one run to its end.

    Args:
        opening: The run.
        surroundings: Of the engine.

    Attributes:
        result: What it returned, once it has completed.
        error: Why it did not.
        is_interrupted: Set before a cancellation that is not meant for the run: somebody may go on with it.
    """

    def __init__(self, opening: Opening, surroundings: Surroundings) -> None:
        self.opening, self._around = opening, surroundings
        self.result: RunResult | None = None
        self.error: BaseException | None = None
        self.is_interrupted = False
        self._scheduler: Scheduler | None = None
        self._caller = Caller(surroundings.runner, self._run_child, is_traced=tracer() is not None)
        self._undone: list[NodeInfo] = []
        self._began = perf_counter()

    async def run(self) -> None:
        """Run it; nothing is raised, what became of it is in `result` and `error`."""
        wanted = self.opening.wanted
        with span("workflow.run", workflow=wanted.spec.key, run_id=wanted.run_id) as opened:
            status = await self._ended()
            opened.set(outcome=status)
            closing = self._closing(status)
            try:
                await self._around.ledger.close(self.opening, closing)
            except (WorkflowError, asyncio.CancelledError) as error:
                # What could not be written down did not happen: the run can be resumed.
                self.error, self.result = self.error or error, None
                closing = Closing(status="interrupted", ended_at=closing.ended_at, error=str(error))
        self._tell(closing)

    def cancel_node(self, node: str) -> bool:
        """Cancel a node that runs; it fails. Returns whether there was any."""
        return self._scheduler is not None and self._scheduler.cancel_unit(node)

    def infos(self) -> tuple[NodeInfo, ...]:
        """Return what became of the nodes so far, in the order they ended; those that run come last."""
        scheduler = self._scheduler
        if scheduler is None:
            return ()
        now, ticks = self._around.clock(), perf_counter()
        nodes = [_info(ended, now - ticks) for ended in scheduler.ended]
        nodes += [NodeInfo(node=node, status="skipped", error=reason) for node, reason in scheduler.skipped.items()]
        nodes += [NodeInfo(node=unit, status="running", attempts=1) for unit in scheduler.tasks]
        return (*nodes, *self._undone)

    async def _ended(self) -> RunStatus:
        """Run the nodes and return how that ended."""
        try:
            await asyncio.sleep(0)  # nothing has happened yet when whoever began the run goes on
            scheduler = self._scheduler = self._schedule()
            if self.opening.undoing is None:
                await scheduler.run()
                self.result = self._returned(scheduler)
                return "completed"
            scheduler.replay()
            self.error = WorkflowError(self.opening.undoing)
            await self._undo(scheduler)
        except asyncio.CancelledError as error:
            self.error = self.error or error
            return "interrupted" if self.is_interrupted else "cancelled"
        except CheckpointError as error:
            self.error = error
            return "interrupted"
        except WorkflowError as error:
            self.error = error
            try:
                await self._undo(scheduler)
            except (CheckpointError, asyncio.CancelledError):
                return "interrupted"
        return "failed"

    def _schedule(self) -> Scheduler:
        opening, wanted = self.opening, self.opening.wanted
        spec = wanted.spec
        limit = self._around.limit if spec.max_parallel is None else min(spec.max_parallel, self._around.limit)

        scheduler = Scheduler(
            spec.plan().steps,
            self._caller,
            Scope(context=wanted.context, run={"id": wanted.run_id, "workflow": spec.key}),
            limit=limit,
            context=copy_context(),
            journal=opening.journal,
            committed=opening.committed,
            generations=opening.generations,
        )
        if opening.journal is not None:
            opening.journal.attach(scheduler)
        return scheduler

    def _returned(self, scheduler: Scheduler) -> RunResult:
        wanted = self.opening.wanted
        results = dict(scheduler.outputs)
        for node in scheduler.skipped:
            del results[node]
        output: Any = results
        if wanted.spec.has_output:
            nodes = [step.id for step in wanted.spec.plan().steps.all]
            render = compiled(wanted.spec.output, nodes, [])
            run = {"id": wanted.run_id, "workflow": wanted.spec.key}
            scope = Scope(context=wanted.context, run=run, outputs=scheduler.outputs)
            output = wanted.spec.output if render is None else render(scope)
        return RunResult(run_id=wanted.run_id, workflow=wanted.spec.key, output=output, results=results)

    async def _run_child(self, workflow: str, payload: Any, call: NodeCall) -> Any:
        return await self._around.run_child(self.opening, workflow, payload, call)

    # What is undone.

    async def _undo(self, scheduler: Scheduler) -> None:
        """Undo what was done, the last first, one after the other; what cannot be undone is written down."""
        undoable = scheduler.undoable()
        if not undoable:
            return
        journal, committed = self.opening.journal, self.opening.committed
        if journal is not None:
            await journal.undoing(str(self.error))
        for unit, value in undoable:
            if unit.key + _UNDO in committed:
                continue
            info = await self._undo_one(scheduler, unit, value)
            self._undone.append(info)
            if journal is not None:
                await journal.undone(info)

    async def _undo_one(self, scheduler: Scheduler, unit: Unit, value: Any) -> NodeInfo:
        step, wanted = unit.step, self.opening.wanted
        undo = step.spec.compensate
        if undo is None:
            raise AssertionError("only what can be undone is")
        started, error, call = self._around.clock(), None, None
        try:
            render = step.undo_render
            payload = {"output": value} if render is None else render(scheduler.scope_of(unit, **{step.id: value}))
            call = NodeCall(wanted.spec.key, wanted.run_id, unit.key + _UNDO, payload, scheduler.generation(unit))
            await self._caller.attempts(step, payload, call, undo.task)
        except Exception as failure:  # noqa: BLE001 - whatever one compensation raises, the others are still due
            error = f"{type(failure).__name__}: {failure}"
        return NodeInfo(
            node=unit.key + _UNDO,
            status="completed" if error is None else "failed",
            attempts=1 if call is None else call.attempt,
            started_at=started,
            ended_at=self._around.clock(),
            error=error,
        )

    # What is told.

    def _closing(self, status: RunStatus) -> Closing:
        error = None if self.error is None or status == "cancelled" else str(self.error)
        stuck = [info.node for info in self._undone if info.status == "failed"]
        if stuck:
            error = f"{error}; not undone: {', '.join(stuck)}"
        return Closing(
            status=status,
            ended_at=self._around.clock(),
            error=error,
            output=None if self.result is None else self.result.output,
            nodes=self.infos,
        )

    def _tell(self, closing: Closing) -> None:
        wanted, scheduler = self.opening.wanted, self._scheduler
        if metrics() is not None and scheduler is not None:
            for unit, started, ended, attempts, reason in scheduler.ended:
                labels = {"workflow": wanted.spec.key, "node": unit.step.id}
                measure("oneiric_workflow_node_duration_ms", (ended - started) * 1000.0, **labels)
                measure("oneiric_workflow_node_attempts", attempts, **labels)
                if reason:
                    count("oneiric_workflow_node_failures_total", **labels)
        if self._around.observe is nobody:
            return
        self._around.observe(
            WorkflowRecord(
                workflow=wanted.spec.key,
                run_id=wanted.run_id,
                status=closing.status,
                nodes=[*_records(scheduler)],
                total_duration_ms=(perf_counter() - self._began) * 1000.0,
                error=closing.error,
            )
        )


def nobody(_: WorkflowRecord) -> None:
    """Take a record and let go of it."""


def _status(reason: str | None) -> NodeStatus:
    if reason is None:
        return "completed"
    return "failed" if reason else "cancelled"


def _info(ended: Ended, offset: float) -> NodeInfo:
    unit, start, end, attempts, reason = ended
    return NodeInfo(
        node=unit.key,
        status=_status(reason),
        attempts=attempts,
        started_at=start + offset,
        ended_at=end + offset,
        error=reason or None,
    )


def _records(scheduler: Scheduler | None) -> Iterable[NodeRecord]:
    for unit, started, ended, attempts, reason in scheduler.ended if scheduler is not None else ():
        step = unit.step
        yield NodeRecord(
            node=unit.key,
            task=step.spec.runs,
            depends_on=step.waits_for,
            duration_ms=(ended - started) * 1000.0,
            attempts=attempts,
            retry_policy=asdict(step.retry) if step.retry.attempts > 1 else None,
            status=_status(reason),
            error=reason or None,
        )
