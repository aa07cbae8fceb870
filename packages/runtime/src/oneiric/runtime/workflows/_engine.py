"""LocalWorkflowEngine: runs workflows in this process, and keeps their progress where it is given a store."""

import asyncio
import secrets
import time
from collections.abc import Callable, Coroutine, Mapping, Sequence
from dataclasses import replace
from types import TracebackType
from typing import Any, Final, Self

from oneiric.core.errors import CandidateNotFoundError, CheckpointError, WorkflowError
from oneiric.runtime._telemetry_records import WorkflowRecord
from oneiric.runtime.workflows._calls import NodeCall
from oneiric.runtime.workflows._execution import Execution, Surroundings, nobody
from oneiric.runtime.workflows._ledger import Closing, Ledger, MemoryLedger, Opening, Wanted
from oneiric.runtime.workflows._ports import OnChange, TaskRunner, WorkflowQueue
from oneiric.runtime.workflows._results import RunInfo, RunResult
from oneiric.runtime.workflows._spec import WorkflowSpec

__all__ = ["LocalWorkflowEngine"]

#: Nodes of one run that run at the same time.
_PARALLEL: Final = 100
_MOST_DEEP: Final = 16
_MOST_ENDED: Final = 64


class LocalWorkflowEngine:
    """Run workflows in this process.

    Args:
        runner: Runs the tasks.
        workflows: Key → workflow; looked up at each start, so that it may change.
        checkpoints: Keeps the progress of runs; by default nothing survives this engine.
        queue: Carries the runs that are enqueued; by default they are only written down.
        max_parallel: Nodes of one run that run at the same time. With checkpoints, a kill makes this many nodes run
            again at most.
        observe: Told of every run that ended. Must not raise.
        clock: The time in seconds since the epoch.
    """

    def __init__(
        self,
        runner: TaskRunner,
        workflows: Mapping[str, WorkflowSpec],
        *,
        checkpoints: Ledger | None = None,
        queue: WorkflowQueue | None = None,
        max_parallel: int = _PARALLEL,
        observe: Callable[[WorkflowRecord], object] = nobody,
        clock: Callable[[], float] = time.time,
    ) -> None:
        if type(max_parallel) is not int or max_parallel < 1:
            raise WorkflowError(f"max_parallel is {max_parallel!r}", "a number from 1")
        self._workflows, self._queue = workflows, queue
        self._ledger: Ledger = MemoryLedger(clock) if checkpoints is None else checkpoints
        self._around = Surroundings(
            runner=runner,
            ledger=self._ledger,
            limit=max_parallel,
            observe=observe,
            run_child=self._run_child,
            clock=clock,
        )
        self._live: dict[str, tuple[Execution, asyncio.Task[None]]] = {}
        #: The last runs that ended, for those who wait for them later.
        self._ended: dict[str, Execution] = {}
        #: Runs that are being opened.
        self._opening: dict[str, asyncio.Event] = {}
        self._is_closed = False

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        await self.aclose()

    async def aclose(self) -> None:
        """Stop: what runs is cancelled, and can be resumed where there are checkpoints."""
        self._is_closed = True
        tasks = []
        for execution, task in list(self._live.values()):
            execution.is_interrupted = True
            task.cancel()
            tasks.append(task)
        for opening in list(self._opening.values()):
            await opening.wait()  # what it opens is given back while the store is still open
        if tasks:
            await asyncio.wait(tasks)

    # The port.

    async def start(
        self, workflow: str, context: Mapping[str, Any] | None = None, *, run_id: str | None = None
    ) -> RunInfo:
        """Begin a run; it goes on when this returns.

        Args:
            workflow: Its key.
            context: What its templates see as ``context``.
            run_id: By default a new one. The id of a run that has begun continues that run, and of one that has
                completed returns what is known of it: nothing is run twice.

        Raises:
            CandidateNotFoundError: There is no such workflow.
            CheckpointError: The run is another workflow's, somebody else runs it, its definition has changed, or
                nothing can be kept.
        """
        wanted = Wanted(run_id=run_id or secrets.token_hex(16), spec=self._spec(workflow), context=_plain(context))
        return await self._start(wanted)

    async def run(
        self, workflow: str, context: Mapping[str, Any] | None = None, *, run_id: str | None = None
    ) -> RunResult:
        """Begin a run and wait for its end; cancelling this cancels the run.

        Raises:
            NodeError: A node failed for good.
            WorkflowError: As of `start`, or the run was cancelled.
        """
        info = await self.start(workflow, context, run_id=run_id)
        try:
            return await self.wait(info.run_id)
        except asyncio.CancelledError:
            if live := self._live.get(info.run_id):
                live[1].cancel()
                await asyncio.wait([live[1]])
            raise

    async def wait(self, run_id: str) -> RunResult:
        """Wait for the end of a run that this engine runs or ran; return what it returned.

        Raises:
            NodeError: A node failed for good.
            CheckpointError: It was cancelled or interrupted, or this engine does not run it.
            RunNotFoundError: There is no such run.
        """
        live = self._live.get(run_id)
        if live is not None:
            await asyncio.wait([live[1]])
            execution = live[0]
        elif (found := self._ended.get(run_id)) is not None:
            execution = found
        else:
            return _returned(await self._ledger.inspect(run_id))
        if execution.result is not None:
            return execution.result
        error = execution.error
        if isinstance(error, WorkflowError):
            raise error
        how = "interrupted" if execution.is_interrupted else "cancelled"
        raise CheckpointError(f"run {run_id!r} was {how}", f"oneiric workflow resume {run_id}", "state") from error

    async def enqueue(
        self,
        workflow: str,
        context: Mapping[str, Any] | None = None,
        *,
        run_id: str | None = None,
        metadata: Mapping[str, Any] | None = None,
    ) -> RunInfo:
        """Write down a run that is to be run, and hand it to the queue; `start` with its id runs it.

        Raises:
            CandidateNotFoundError: There is no such workflow.
            CheckpointError: There is a run of that id, or nothing can be kept.
        """
        spec = self._spec(workflow)
        wanted = Wanted(run_id=run_id or secrets.token_hex(16), spec=spec, context=_plain(context))
        info = await self._ledger.enqueue(wanted)
        if self._queue is not None:
            message = {
                "workflow": workflow,
                "run_id": wanted.run_id,
                "context": wanted.context,
                "metadata": dict(metadata or {}),
                "queued_at": info.queued_at,
            }
            await self._queue.put(message, category=spec.queue_category)
        return info

    async def resume(self, run_id: str, *, on_change: OnChange = "refuse", from_node: str | None = None) -> RunInfo:
        """Go on with a run that was interrupted, failed, was cancelled, or waits in the queue.

        What is committed is never run again, but for *from_node* and what depends on it, and for what was undone and
        what depends on that.

        Args:
            run_id: The run.
            on_change: When its definition is another one now: refuse, go on with the ``stored`` one, or with the
                ``current`` one.
            from_node: Run this node, and all that depends on it, again, under new idempotency keys.

        Raises:
            RunNotFoundError: There is no such run.
            CheckpointError: Somebody runs it, its definition has changed, or nothing is kept of it.
        """
        if run_id in self._live or run_id in self._opening:
            raise CheckpointError(f"run {run_id!r} is being run", "wait for its end", "held")
        return await self._opened(run_id, self._ledger.reopen(run_id, self._workflows, on_change, from_node))

    async def cancel(self, run_id: str, *, node: str | None = None) -> RunInfo:
        """Cancel a run and wait until all its nodes have heeded it; or one node of it, which then fails.

        Nothing is undone, and a run that was cancelled can be resumed. One that another process runs is cancelled
        when that process next renews its lease, or commits a node.

        Raises:
            RunNotFoundError: There is no such run.
            CheckpointError: The node does not run, or not here.
        """
        live = self._live.get(run_id)
        if node is not None:
            if live is None or not live[0].cancel_node(node):
                raise CheckpointError(f"node {node!r} of run {run_id!r} does not run here", None, "state")
            return await self.inspect(run_id)
        if live is None:
            return await self._ledger.cancel(run_id)
        live[1].cancel()
        await asyncio.wait([live[1]])
        return await self.inspect(run_id)

    async def inspect(self, run_id: str) -> RunInfo:
        """Return what is known of a run, its nodes included.

        Raises:
            RunNotFoundError: There is no such run.
        """
        info = await self._ledger.inspect(run_id)
        live = self._live.get(run_id)
        if live is None or info.has_ended:
            return info
        known = {node.node: node for node in info.nodes}
        return replace(info, nodes=tuple({**known, **{node.node: node for node in live[0].infos()}}.values()))

    async def list(
        self, *, workflow: str | None = None, status: str | None = None, limit: int = 100
    ) -> Sequence[RunInfo]:
        """Return runs, the newest first, without their nodes and without those of sub-workflows."""
        return await self._ledger.list(workflow=workflow, status=status, limit=limit)

    # Inside.

    def _spec(self, workflow: str) -> WorkflowSpec:
        spec = self._workflows.get(workflow)
        if spec is None:
            known = ", ".join(sorted(self._workflows)[:8]) or "none"
            raise CandidateNotFoundError("workflow", workflow, f"have: {known}")
        return spec

    async def _start(self, wanted: Wanted) -> RunInfo:
        while (opening := self._opening.get(wanted.run_id)) is not None:
            await opening.wait()
        live = self._live.get(wanted.run_id)
        if live is not None:
            running = live[0].opening.wanted
            if (running.spec.key, running.context) != (wanted.spec.key, wanted.context):
                raise CheckpointError(f"run {wanted.run_id!r} is another one", "another run id", "state")
            return live[0].opening.info()
        return await self._opened(wanted.run_id, self._ledger.begin(wanted))

    async def _opened(self, run_id: str, opened: Coroutine[Any, Any, Opening | RunInfo]) -> RunInfo:
        """Open a run and run it; whoever asks for it meanwhile waits for that."""
        over = self._opening[run_id] = asyncio.Event()
        try:
            opening = await opened
            if isinstance(opening, RunInfo):
                return opening
            if self._is_closed:
                now = self._around.clock()
                await self._ledger.close(opening, Closing(status="interrupted", ended_at=now))
                raise CheckpointError(f"run {run_id!r} does not begin: the engine is closed", None, "state")
            return self._launch(opening)
        finally:
            del self._opening[run_id]
            over.set()

    def _launch(self, opening: Opening) -> RunInfo:
        run_id = opening.wanted.run_id
        execution = Execution(opening, self._around)
        # Begun at once, so that whoever cancels it meets a run that writes down how it ended.
        loop = asyncio.get_running_loop()
        task = asyncio.Task(execution.run(), loop=loop, name=f"oneiric-workflow:{run_id}", eager_start=True)
        self._live[run_id] = (execution, task)
        task.add_done_callback(lambda _: self._over(run_id, execution))
        return opening.info()

    def _over(self, run_id: str, execution: Execution) -> None:
        del self._live[run_id]
        self._ended.pop(run_id, None)
        self._ended[run_id] = execution
        if len(self._ended) > _MOST_ENDED:
            del self._ended[next(iter(self._ended))]

    async def _run_child(self, opening: Opening, workflow: str, payload: Any, call: NodeCall) -> Any:
        """Run a sub-workflow as a run of its own, whose id is that of the node."""
        run_id = f"{call.run_id}/{call.node}"
        if run_id.count("/") > _MOST_DEEP:
            raise WorkflowError(f"workflows run one another more than {_MOST_DEEP} levels deep")
        wanted = Wanted(
            run_id=run_id if not call.generation else f"{run_id}~{call.generation}",
            spec=self._spec(workflow),
            context=payload,
            parent=call.run_id,
            on_change=opening.wanted.on_change,
        )
        info = await self._start(wanted)
        try:
            return (await self.wait(wanted.run_id)).output
        except asyncio.CancelledError:
            if live := self._live.get(info.run_id):
                parent = self._live.get(call.run_id)
                live[0].is_interrupted = parent is not None and parent[0].is_interrupted
                live[1].cancel()
                await asyncio.wait([live[1]])
            raise


def _plain(context: Mapping[str, Any] | None) -> Any:
    return None if context is None else dict(context)


def _returned(info: RunInfo) -> RunResult:
    """Return what a run returned that this engine did not run itself, or not lately."""
    if info.status != "completed":
        why = f": {info.error}" if info.error else ""
        raise CheckpointError(f"run {info.run_id!r} is {info.status}, and not run here{why}", None, "state")
    results: dict[str, Any] = {}
    items: dict[str, dict[int, Any]] = {}
    for node in info.nodes:
        name, fan_out, place = node.node.partition("[")
        if node.status != "completed" or ":" in node.node:
            continue
        if fan_out:
            items.setdefault(name, {})[int(place[:-1])] = node.result
        else:
            results[name] = node.result
    results |= {name: [values[place] for place in sorted(values)] for name, values in items.items()}
    return RunResult(run_id=info.run_id, workflow=info.workflow, output=info.output, results=results)
