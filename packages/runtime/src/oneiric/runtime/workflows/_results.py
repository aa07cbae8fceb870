"""What is known of runs: while they run, after they ended, and what they returned."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

__all__ = ["NodeInfo", "NodeStatus", "RunInfo", "RunResult", "RunStatus"]

type RunStatus = Literal["queued", "running", "interrupted", "completed", "failed", "cancelled"]
type NodeStatus = Literal["running", "completed", "skipped", "failed", "cancelled"]


@dataclass(frozen=True, slots=True, kw_only=True)
class NodeInfo:
    """What is known of a node, an item of a fan-out (``node[3]``), or a compensation (``node:compensate``).

    Attributes:
        node: Which.
        status: What became of it.
        attempts: How often it was tried.
        started_at: When, in seconds since the epoch; None for one that did not run.
        ended_at: When.
        error: Why it failed.
        idempotency_key: What its task was given, where it is kept.
        result: What it returned, where it is kept.
    """

    node: str
    status: NodeStatus
    attempts: int = 0
    started_at: float | None = None
    ended_at: float | None = None
    error: str | None = None
    idempotency_key: str | None = None
    result: Any = None

    @property
    def duration_ms(self) -> float | None:
        """From start to end, retries included."""
        if self.started_at is None or self.ended_at is None:
            return None
        return (self.ended_at - self.started_at) * 1000.0

    def as_dict(self) -> dict[str, Any]:
        """Return plain data."""
        return {name: getattr(self, name) for name in self.__slots__} | {"duration_ms": self.duration_ms}


@dataclass(frozen=True, slots=True, kw_only=True)
class RunInfo:
    """What is known of a run.

    Attributes:
        run_id: Which.
        workflow: The workflow's key.
        status: ``interrupted``: it has not ended, and nobody runs it.
        queued_at: When it was enqueued, in seconds since the epoch, or None.
        started_at: When it began, or None.
        ended_at: When it ended, or None.
        error: Why it failed.
        definition: Digest of the definition it began with.
        parent: The run it is a sub-workflow of, or None.
        owner: Who runs it now, where that is known.
        context: What it was started with.
        output: What it returned.
        nodes: In the order they ended; empty in lists.
    """

    run_id: str
    workflow: str
    status: RunStatus
    queued_at: float | None = None
    started_at: float | None = None
    ended_at: float | None = None
    error: str | None = None
    definition: str | None = None
    parent: str | None = None
    owner: str | None = None
    context: Any = None
    output: Any = None
    nodes: tuple[NodeInfo, ...] = ()

    @property
    def has_ended(self) -> bool:
        """Whether nothing more happens to it unless it is resumed."""
        return self.status in {"completed", "failed", "cancelled"}

    def as_dict(self) -> dict[str, Any]:
        """Return plain data."""
        return {name: getattr(self, name) for name in self.__slots__ if name != "nodes"} | {
            "nodes": [node.as_dict() for node in self.nodes]
        }


@dataclass(frozen=True, slots=True, kw_only=True)
class RunResult:
    """What a run that completed returned.

    Attributes:
        run_id: Which.
        workflow: The workflow's key.
        output: As the workflow states it; by default *results*.
        results: Node → what it returned, a list for a fan-out; nodes that were skipped are not in it.
    """

    run_id: str
    workflow: str
    output: Any
    results: Mapping[str, Any] = field(default_factory=dict)

    def as_dict(self) -> dict[str, Any]:
        """Return plain data."""
        return {
            "run_id": self.run_id,
            "workflow": self.workflow,
            "output": self.output,
            "results": dict(self.results),
        }
