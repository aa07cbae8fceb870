"""Ledger: where an engine looks up runs and writes down what becomes of them. Here the one that only remembers."""

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Final, Protocol

from oneiric.core.errors import CheckpointError, RunNotFoundError
from oneiric.runtime.workflows._keeping import Journal
from oneiric.runtime.workflows._ports import OnChange
from oneiric.runtime.workflows._results import NodeInfo, RunInfo, RunStatus
from oneiric.runtime.workflows._scheduler import Scheduler
from oneiric.runtime.workflows._spec import WorkflowSpec

__all__ = ["Closing", "Ledger", "MemoryLedger", "Opening", "RunJournal", "Wanted"]

#: Runs that ended and are still remembered.
_MOST_REMEMBERED: Final = 64


@dataclass(frozen=True, slots=True, kw_only=True)
class Wanted:
    """A run that somebody asks for."""

    run_id: str
    spec: WorkflowSpec
    context: Any = None
    parent: str | None = None
    on_change: OnChange = "refuse"


class RunJournal(Journal, Protocol):
    """The journal of one run that is being run."""

    def attach(self, scheduler: Scheduler) -> None:
        """Answer to this scheduler."""

    async def undoing(self, error: str) -> None:
        """Keep that the run has failed and what it did is being undone."""

    async def undone(self, info: NodeInfo) -> None:
        """Keep that a node was undone, or could not be."""


@dataclass(slots=True, kw_only=True)
class Opening:
    """A run that is ours to run.

    Attributes:
        wanted: What was asked for.
        started_at: When it began first, in seconds since the epoch.
        committed: Unit → result, in the order they ended.
        generations: Unit or node → how often it was asked for anew.
        journal: Keeps results, or None.
        undoing: Why it failed, where it is being undone; or None.
    """

    wanted: Wanted
    started_at: float
    committed: Mapping[str, Any] = field(default_factory=dict)
    generations: Mapping[str, int] = field(default_factory=dict)
    journal: RunJournal | None = None
    undoing: str | None = None

    def info(self, status: RunStatus = "running") -> RunInfo:
        """Return what is known of it now."""
        wanted = self.wanted
        return RunInfo(
            run_id=wanted.run_id,
            workflow=wanted.spec.key,
            status=status,
            started_at=self.started_at,
            definition=wanted.spec.digest,
            parent=wanted.parent,
            context=wanted.context,
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Closing:
    """How a run ended here.

    Attributes:
        status: ``interrupted`` where somebody may go on with it at once.
        ended_at: When, in seconds since the epoch.
        error: Why it failed.
        output: What it returned.
        nodes: Tells what became of the nodes, in the order they ended; called when somebody asks.
    """

    status: RunStatus
    ended_at: float
    error: str | None = None
    output: Any = None
    nodes: Callable[[], tuple[NodeInfo, ...]] = tuple


class Ledger(Protocol):
    """Where an engine looks up runs and writes down what becomes of them."""

    async def begin(self, wanted: Wanted) -> Opening | RunInfo:
        """Open a run, a new one or one to go on with; what is known of it where it has completed."""

    async def reopen(
        self, run_id: str, specs: Mapping[str, WorkflowSpec], on_change: OnChange, from_node: str | None
    ) -> Opening | RunInfo:
        """Open a run that has begun before."""

    async def close(self, opening: Opening, closing: Closing) -> None:
        """Write down how a run ended, and let go of it."""

    async def enqueue(self, wanted: Wanted) -> RunInfo:
        """Write down that a run is to be run."""

    async def cancel(self, run_id: str) -> RunInfo:
        """Cancel a run that this engine does not run."""

    async def inspect(self, run_id: str) -> RunInfo:
        """Return what is known of a run."""

    async def list(self, *, workflow: str | None, status: str | None, limit: int) -> Sequence[RunInfo]:
        """Return runs, the newest first, without their nodes."""


class MemoryLedger:
    """Remember the runs of one engine, as long as it lives and not all of them.

    Args:
        clock: The time in seconds since the epoch.
    """

    def __init__(self, clock: Callable[[], float] = time.time) -> None:
        self._clock = clock
        self._runs: dict[str, RunInfo] = {}
        self._nodes: dict[str, Callable[[], tuple[NodeInfo, ...]]] = {}

    async def begin(self, wanted: Wanted) -> Opening | RunInfo:
        """Open a run; what is known of it where it has ended."""
        known = self._runs.get(wanted.run_id)
        if known is not None and known.status != "queued":
            if (known.workflow, known.context) != (wanted.spec.key, wanted.context):
                raise CheckpointError(
                    f"run {wanted.run_id!r} is one of workflow {known.workflow!r}, begun with another context",
                    "another run id",
                    "state",
                )
            return known
        opening = Opening(wanted=wanted, started_at=self._clock())
        self._remember(opening.info())
        return opening

    async def reopen(
        self, run_id: str, specs: Mapping[str, WorkflowSpec], on_change: OnChange, from_node: str | None
    ) -> Opening | RunInfo:
        """Refuse: nothing is kept that could be gone on with; a run that was only enqueued begins."""
        known = await self.inspect(run_id)
        if known.status == "queued" and from_node is None:
            return await self.begin(
                Wanted(run_id=run_id, spec=specs[known.workflow], context=known.context, on_change=on_change)
            )
        raise CheckpointError(
            f"run {run_id!r} cannot be resumed: this engine keeps no checkpoints",
            "runtime_paths.workflow_checkpoints_enabled: true",
            "state",
        )

    async def close(self, opening: Opening, closing: Closing) -> None:
        """Remember how it ended."""
        self._remember(
            replace(
                opening.info(),
                status=closing.status,
                ended_at=closing.ended_at,
                error=closing.error,
                output=closing.output,
            )
        )
        self._nodes[opening.wanted.run_id] = closing.nodes

    async def enqueue(self, wanted: Wanted) -> RunInfo:
        """Remember a run that is to be run."""
        info = replace(Opening(wanted=wanted, started_at=0.0).info("queued"), started_at=None, queued_at=self._clock())
        self._remember(info)
        return info

    async def cancel(self, run_id: str) -> RunInfo:
        """Cancel a run that has not begun; one that has ended stays as it is."""
        known = await self.inspect(run_id)
        if known.status == "queued":
            known = replace(known, status="cancelled", ended_at=self._clock())
            self._remember(known)
        return known

    async def inspect(self, run_id: str) -> RunInfo:
        """Return what is remembered of a run."""
        try:
            info = self._runs[run_id]
        except KeyError:
            raise RunNotFoundError(f"there is no run {run_id!r}", "oneiric workflow runs") from None
        return replace(info, nodes=self._nodes[run_id]()) if run_id in self._nodes else info

    async def list(self, *, workflow: str | None, status: str | None, limit: int) -> Sequence[RunInfo]:
        """Return what is remembered, the newest first, without nodes."""
        found = [
            run
            for run in reversed(self._runs.values())
            if workflow in {None, run.workflow} and status in {None, run.status}
        ]
        return found[:limit]

    def _remember(self, info: RunInfo) -> None:
        self._runs.pop(info.run_id, None)
        self._runs[info.run_id] = info
        if len(self._runs) > _MOST_REMEMBERED:
            oldest = next((run_id for run_id, run in self._runs.items() if run.has_ended), None)
            if oldest is not None:
                del self._runs[oldest]
                self._nodes.pop(oldest, None)
