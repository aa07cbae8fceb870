"""WorkflowBridge: the workflows that rank first, and the engine that runs them."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

from oneiric.core.errors import CandidateNotFoundError, WorkflowError
from oneiric.core.lifecycle import LifecycleManager
from oneiric.core.resolution import Candidate, Key, Resolver
from oneiric.domains._builtin import BuiltInBridge
from oneiric.domains._tasks import TaskBridge
from oneiric.runtime.activity import DomainActivityStore
from oneiric.runtime.retry import RetryPolicy
from oneiric.runtime.settings import DomainSettings, ProviderSettings
from oneiric.runtime.workflows import (
    LocalWorkflowEngine,
    NodeCall,
    RunInfo,
    RunResult,
    WorkflowEngine,
    WorkflowPlan,
    WorkflowSpec,
)

__all__ = ["ActiveWorkflows", "BridgeRunner", "WorkflowBridge"]

#: A node has its own policy; the task's is for those who call it by itself.
_ONCE = RetryPolicy()


class ActiveWorkflows(Mapping[str, WorkflowSpec]):
    """Key → definition of the workflows that rank first: the ``dag`` in their candidates' metadata.

    Args:
        resolver: Ranks the candidates.
    """

    def __init__(self, resolver: Resolver) -> None:
        self._resolver = resolver
        self._read: dict[str, tuple[Candidate, WorkflowSpec]] = {}

    def __getitem__(self, key: str) -> WorkflowSpec:
        """Return the definition of a workflow.

        Raises:
            KeyError: No candidate ranks first for the key.
            WorkflowError: Its candidate has no definition, or one that is not sound.
        """
        try:
            candidate = self._resolver.resolve("workflow", key)
        except CandidateNotFoundError as error:
            raise KeyError(key) from error
        known = self._read.get(key)
        if known is None or known[0] is not candidate:
            dag = candidate.metadata.get("dag")
            if not isinstance(dag, Mapping):
                raise WorkflowError(
                    f"workflow:{key} has no definition: provider {candidate.provider!r} states no dag",
                    "metadata={'dag': {'nodes': [...]}} on its candidate",
                )
            known = self._read[key] = (candidate, WorkflowSpec.from_mapping(key, dag))
        return known[1]

    def __iter__(self) -> Iterator[str]:
        return iter(candidate.key for candidate in self._resolver.list_active("workflow"))

    def __len__(self) -> int:
        return len(self._resolver.list_active("workflow"))


class BridgeRunner:
    """Run the tasks of workflows by a bridge.

    Args:
        tasks: The bridge.
    """

    def __init__(self, tasks: TaskBridge) -> None:
        self._tasks = tasks

    async def run(self, task: str, payload: Any, call: NodeCall) -> Any:
        """Run a task once and return its result; see `TaskBridge.run` for what it is handed."""
        return await self._tasks.run(task, payload, retry=_ONCE, call=call)


class WorkflowBridge(BuiltInBridge):
    """Run workflows.

    A workflow is a candidate whose metadata has a ``dag``; nothing of it is imported to list or plan it. Its nodes run
    tasks through *tasks*.

    Args:
        resolver: Ranks the candidates.
        lifecycle: Holds the instances; must be of the same resolver.
        settings: The domain's section.
        provider_settings: What the lifecycle asks for the settings of a provider.
        activity: Keeps which keys are paused or drain.
        tasks: Runs the tasks; by default a bridge of the same resolver and lifecycle.
        engine: Makes the engine when it is first needed, from what runs tasks and from the definitions; by default one
            that runs in this process and keeps nothing.
    """

    _domain = "workflow"

    def __init__(
        self,
        *,
        resolver: Resolver,
        lifecycle: LifecycleManager,
        settings: DomainSettings | None = None,
        provider_settings: ProviderSettings | None = None,
        activity: DomainActivityStore | None = None,
        tasks: TaskBridge | None = None,
        engine: Callable[[BridgeRunner, ActiveWorkflows], WorkflowEngine] = LocalWorkflowEngine,
    ) -> None:
        super().__init__(
            resolver=resolver,
            lifecycle=lifecycle,
            settings=settings,
            provider_settings=provider_settings,
            activity=activity,
        )
        self._tasks = tasks or TaskBridge(resolver=resolver, lifecycle=lifecycle, activity=activity)
        self._make_engine = engine
        self._engine: WorkflowEngine | None = None
        self.definitions = ActiveWorkflows(resolver)

    @property
    def engine(self) -> WorkflowEngine:
        """What runs the workflows; made when it is first asked for."""
        if self._engine is None:
            self._engine = self._make_engine(BridgeRunner(self._tasks), self.definitions)
        return self._engine

    async def aclose(self) -> None:
        """Stop what runs, so that it can be resumed where progress is kept. Safe to call twice."""
        engine, self._engine = self._engine, None
        aclose = getattr(engine, "aclose", None)
        if aclose is not None:
            await aclose()

    def dag_specs(self) -> dict[str, WorkflowSpec]:
        """Return key → definition of the workflows that rank first and have one.

        Raises:
            WorkflowError: A definition is not sound; the workflow is named.
        """
        return {
            candidate.key: self.definitions[candidate.key]
            for candidate in self.active_candidates()
            if "dag" in candidate.metadata
        }

    def spec(self, key: str | Key[Any]) -> WorkflowSpec:
        """Return the definition of a workflow.

        Raises:
            CandidateNotFoundError: Nothing stands for the key.
            WorkflowError: It has no definition, or one that is not sound.
        """
        name = self._name(key)
        try:
            return self.definitions[name]
        except KeyError as error:
            raise error.__cause__ or error from None

    def plan(self, key: str | Key[Any]) -> WorkflowPlan:
        """Return what a run of a workflow runs.

        Raises:
            CandidateNotFoundError: Nothing stands for the key.
            WorkflowError: It has no definition, or one that is not sound.
        """
        return self.spec(key).plan()

    async def start(
        self, key: str | Key[Any], context: Mapping[str, Any] | None = None, *, run_id: str | None = None
    ) -> RunInfo:
        """Begin a run; it goes on when this returns. `wait` for its end.

        Args:
            key: The workflow.
            context: What its templates see as ``context``.
            run_id: By default a new one; one that is known is continued, never run twice.

        Raises:
            CandidateNotFoundError: Nothing stands for the key.
            PausedError: The workflow takes no new work.
            WorkflowError: It has no definition, or one that is not sound, or its progress cannot be kept.
        """
        self.spec(key)
        name = self._name(key)
        self._admission.admit(name)
        return await self.engine.start(name, context, run_id=run_id)

    async def wait(self, run_id: str) -> RunResult:
        """Wait for the end of a run, and return what it returned.

        Raises:
            NodeError: A node failed for good.
            WorkflowError: It was cancelled or interrupted.
        """
        return await self.engine.wait(run_id)

    async def run(
        self, key: str | Key[Any], context: Mapping[str, Any] | None = None, *, run_id: str | None = None
    ) -> RunResult:
        """Run a workflow to its end, and return what it returned; cancelling this cancels the run.

        Raises:
            CandidateNotFoundError: Nothing stands for the key.
            PausedError: The workflow takes no new work.
            NodeError: A node failed for good.
            WorkflowError: As of `start`, or the run was cancelled.
        """
        info = await self.start(key, context, run_id=run_id)
        try:
            return await self.engine.wait(info.run_id)
        except BaseException as error:
            if not isinstance(error, Exception):
                await self.engine.cancel(info.run_id)
            raise

    async def execute_dag(
        self, key: str | Key[Any], *, context: Mapping[str, Any] | None = None, run_id: str | None = None
    ) -> dict[str, Any]:
        """Run a workflow to its end; return ``{"run_id", "results"}``, node → what it returned. As `run`."""
        result = await self.run(key, context, run_id=run_id)
        return {"run_id": result.run_id, "results": dict(result.results)}

    async def enqueue(
        self,
        key: str | Key[Any],
        context: Mapping[str, Any] | None = None,
        *,
        run_id: str | None = None,
        metadata: Mapping[str, Any] | None = None,
    ) -> RunInfo:
        """Have a run begun by whoever works off the queue.

        Raises:
            CandidateNotFoundError: Nothing stands for the key.
            WorkflowError: It has no definition, or one that is not sound, or the run cannot be kept.
            AdapterError: The queue did not take it.
        """
        self.spec(key)
        return await self.engine.enqueue(self._name(key), context, run_id=run_id, metadata=metadata)

    async def runs(
        self, key: str | Key[Any] | None = None, *, status: str | None = None, limit: int = 100
    ) -> Sequence[RunInfo]:
        """Return runs, the newest first, without their nodes."""
        name = None if key is None else self._name(key)
        return await self.engine.list(workflow=name, status=status, limit=limit)
