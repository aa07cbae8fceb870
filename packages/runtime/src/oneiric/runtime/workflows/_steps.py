"""Steps: a sound workflow made ready to run. Compiled once, shared by all runs, changed by none."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from oneiric.runtime.retry import RetryPolicy
from oneiric.runtime.workflows._condition import Condition, read_conditions
from oneiric.runtime.workflows._specified import NodeSpec
from oneiric.runtime.workflows._template import Render, compiled, fresh

__all__ = ["Step", "Steps", "Unit", "steps_of"]


class Step:
    """A node, ready to run.

    Attributes:
        id: The node.
        place: Its place in the plan.
        spec: As stated.
        task: The task, empty for a sub-workflow.
        waits_for: The ids of the nodes it depends on.
        followers: The steps that depend on it.
        render: Fills in the payload; None for the run's context as it is.
        retry: How often it is tried.
        timeout_seconds: For each attempt, or None.
        conditions: That must all hold.
        items: Gives the list of a fan-out, or None.
        undo_render: Fills in the payload of the compensation, or None.
        is_plain: Whether it runs once, whatever the other nodes returned.
        is_direct: Whether it is one call of a task: no retry, no limit of time.
        is_bare: Whether it is both, with no payload of its own and nothing to undo.
        unit: It, as one unit of work.
    """

    __slots__ = (
        "conditions", "followers", "id", "is_bare", "is_direct", "is_plain", "items", "place", "render", "retry",
        "spec", "task", "timeout_seconds", "undo_render", "unit", "waits_for",
    )  # fmt: skip

    def __init__(self, place: int, spec: NodeSpec, retry: RetryPolicy, nodes: Sequence[str]) -> None:
        self.id, self.place, self.spec, self.task = spec.id, place, spec, spec.task
        self.waits_for = spec.depends_on
        self.followers: tuple[Step, ...] = ()
        self.render = _render(spec.payload, nodes) if spec.has_payload else None
        self.retry = spec.retry or retry
        self.timeout_seconds = spec.timeout_seconds
        self.conditions: tuple[Condition, ...] = read_conditions(spec.when, nodes)
        self.items = None if spec.for_each is None else _render(spec.for_each, nodes)
        undo = spec.compensate
        self.undo_render = _render(undo.payload, nodes) if undo is not None and undo.has_payload else None
        self.is_plain = not self.conditions and self.items is None
        self.is_direct = not spec.workflow and self.retry.attempts == 1 and self.timeout_seconds is None
        self.is_bare = self.is_plain and self.is_direct and self.render is None and spec.compensate is None
        self.unit = Unit(self, spec.id)


class Unit:
    """One thing to run: a node, or one item of a node's fan-out.

    Attributes:
        step: Of which it is.
        key: ``node``, or ``node[3]``.
        place: Of the item, or None.
        item: The item, or None.
    """

    __slots__ = ("item", "key", "place", "step")

    def __init__(self, step: Step, key: str, place: int | None = None, item: Any = None) -> None:
        self.step, self.key, self.place, self.item = step, key, place, item


@dataclass(frozen=True, slots=True, kw_only=True)
class Steps:
    """The steps of a plan.

    Attributes:
        all: In an order they could run in.
        entries: Those that wait for nothing, as units.
        waits: Place → for how many a step waits.
    """

    all: tuple[Step, ...]
    entries: tuple[Unit, ...]
    waits: tuple[int, ...]


def _render(value: Any, nodes: Sequence[str]) -> Render:
    return compiled(value, nodes, []) or (lambda _: fresh(value))


def steps_of(ordered: Sequence[NodeSpec], retry: RetryPolicy) -> Steps:
    """Compile nodes that are in an order they could run in."""
    names = [node.id for node in ordered]
    steps = {node.id: Step(place, node, retry, names) for place, node in enumerate(ordered)}
    followers: dict[str, list[Step]] = {name: [] for name in steps}
    for step in steps.values():
        for other in step.waits_for:
            followers[other].append(step)
    for name, step in steps.items():
        step.followers = tuple(followers[name])
    found = tuple(steps.values())
    return Steps(
        all=found,
        entries=tuple(step.unit for step in found if not step.waits_for),
        waits=tuple(len(step.waits_for) for step in found),
    )
