"""WorkflowPlan: what a run runs, compiled once for each definition, and drawn for people."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from oneiric.runtime.retry import RetryPolicy
from oneiric.runtime.workflows._specified import NodeSpec
from oneiric.runtime.workflows._steps import Steps, steps_of

__all__ = ["PlannedNode", "WorkflowPlan", "plan_of"]


@dataclass(frozen=True, slots=True, kw_only=True)
class PlannedNode:
    """One node of a plan.

    Attributes:
        id: Its name.
        runs: ``task:KEY`` or ``workflow:KEY``.
        depends_on: What it waits for.
        level: How many nodes, one after the other, it waits for at most.
        retry: How often it is tried.
        timeout_seconds: For each attempt, or None.
        is_conditional: Whether it has conditions of its own.
        is_fan_out: Whether it runs once for each item of a list.
        compensate: The task that undoes it, or None.
    """

    id: str
    runs: str
    depends_on: tuple[str, ...]
    level: int
    retry: RetryPolicy
    timeout_seconds: float | None
    is_conditional: bool
    is_fan_out: bool
    compensate: str | None

    def as_dict(self) -> dict[str, Any]:
        """Return plain data."""
        return {
            "id": self.id,
            "runs": self.runs,
            "depends_on": list(self.depends_on),
            "level": self.level,
            "attempts": self.retry.attempts,
            "timeout_seconds": self.timeout_seconds,
            "conditional": self.is_conditional,
            "fan_out": self.is_fan_out,
            "compensate": self.compensate,
        }


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class WorkflowPlan:
    """What a run runs: these nodes, each as soon as all it depends on is done.

    Attributes:
        workflow: The workflow's key.
        digest: Of the definition.
        nodes: In an order they could run in: each after all it depends on, else as stated.
        steps: The same, as the engine runs them.
    """

    workflow: str
    digest: str
    nodes: tuple[PlannedNode, ...]
    steps: Steps

    @property
    def entry_nodes(self) -> tuple[str, ...]:
        """The nodes that wait for nothing."""
        return tuple(node.id for node in self.nodes if not node.depends_on)

    def as_dict(self) -> dict[str, Any]:
        """Return plain data."""
        return {
            "workflow": self.workflow,
            "digest": self.digest,
            "entry_nodes": list(self.entry_nodes),
            "nodes": [node.as_dict() for node in self.nodes],
        }

    def mermaid(self) -> str:
        """Draw it as a Mermaid flowchart."""
        names = {node.id: f"n{place}" for place, node in enumerate(self.nodes)}
        lines = ["flowchart TD"]
        for node in self.nodes:
            start, end = ("[[", "]]") if node.runs.startswith("workflow:") else ("[", "]")
            lines.append(f'    {names[node.id]}{start}"{_labelled(node)}"{end}')
        for node in self.nodes:
            arrow = "-. when .->" if node.is_conditional else "-->"
            lines += [f"    {names[other]} {arrow} {names[node.id]}" for other in node.depends_on]
        return "\n".join(lines)

    def text(self) -> str:
        """Draw it as lines: each node below all it waits for, further right the longer it waits."""
        lines = [self.workflow]
        for node in self.nodes:
            waits = f"  ← {', '.join(node.depends_on)}" if node.depends_on else ""
            notes = "".join(
                f"  [{note}]"
                for note, is_so in (
                    ("for each", node.is_fan_out),
                    ("when", node.is_conditional),
                    (f"undone by {node.compensate}", node.compensate is not None),
                )
                if is_so
            )
            lines.append(f"{'  ' * node.level}• {node.id} ({node.runs}){waits}{notes}")
        return "\n".join(lines)


def _labelled(node: PlannedNode) -> str:
    """Return a label in which nothing is markup."""
    many = " (for each)" if node.is_fan_out else ""
    text = "".join(each if each.isalnum() or each in " .:_-/" else f"#{ord(each)};" for each in node.runs)
    return f"{node.id}{many}<br/>{text}"


def plan_of(key: str, digest: str, nodes: Sequence[NodeSpec], retry: RetryPolicy) -> WorkflowPlan:
    """Compile a sound workflow."""
    by_id = {node.id: node for node in nodes}
    levels: dict[str, int] = {}
    for node in _in_order(nodes):
        levels[node.id] = 1 + max((levels[other] for other in node.depends_on), default=-1)
    ordered = [by_id[name] for name in levels]
    planned = tuple(
        PlannedNode(
            id=node.id,
            runs=node.runs,
            depends_on=node.depends_on,
            level=levels[node.id],
            retry=node.retry or retry,
            timeout_seconds=node.timeout_seconds,
            is_conditional=node.when is not None,
            is_fan_out=node.for_each is not None,
            compensate=None if node.compensate is None else node.compensate.task,
        )
        for node in ordered
    )
    return WorkflowPlan(workflow=key, digest=digest, nodes=planned, steps=steps_of(ordered, retry))


def _in_order(nodes: Sequence[NodeSpec]) -> Iterator[NodeSpec]:
    """Yield nodes so that each comes after all it depends on, else in the order they were stated."""
    left: Mapping[str, set[str]] = {node.id: set(node.depends_on) for node in nodes}
    following: dict[str, list[NodeSpec]] = {node.id: [] for node in nodes}
    for node in nodes:
        for other in node.depends_on:
            following[other].append(node)
    ready = [node for node in nodes if not node.depends_on]
    while ready:
        coming: list[NodeSpec] = []
        for node in ready:
            yield node
            for each in following[node.id]:
                left[each.id].discard(node.id)
                if not left[each.id]:
                    coming.append(each)
        ready = coming
