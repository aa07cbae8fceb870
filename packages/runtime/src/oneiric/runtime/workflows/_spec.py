"""WorkflowSpec and NodeSpec: a workflow as data, known to be sound from the moment it exists."""

import hashlib
import json
from collections.abc import Collection, Mapping
from dataclasses import asdict, dataclass, field
from functools import cached_property
from typing import Any, Self

from oneiric.runtime.retry import RetryPolicy
from oneiric.runtime.workflows._plan import WorkflowPlan, plan_of
from oneiric.runtime.workflows._reading import read_nodes, read_settings
from oneiric.runtime.workflows._specified import Compensation, NodeSpec
from oneiric.runtime.workflows._validation import validate

__all__ = ["Compensation", "NodeSpec", "WorkflowSpec"]


@dataclass(frozen=True, kw_only=True)
class WorkflowSpec:
    """A workflow: nodes, and which waits for which.

    Attributes:
        key: Its name.
        nodes: In the order they were stated.
        output: A template for what the run returns; by default what each node returned, by its id.
        has_output: Whether *output* was stated.
        max_parallel: Nodes that run at the same time, or None for what the engine allows.
        retry: For the nodes that state none.
        queue_category: Which queue carries its runs, as published definitions say it; not looked at here.
        scheduler: As published definitions have it; not looked at here.

    Raises:
        WorkflowError: It is not sound; ``problems`` has a sentence for each fault.
        CycleError: Its nodes wait for one another.
    """

    key: str
    nodes: tuple[NodeSpec, ...]
    output: Any = None
    has_output: bool = False
    max_parallel: int | None = None
    retry: RetryPolicy = field(default_factory=RetryPolicy)
    queue_category: str | None = None
    scheduler: Mapping[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        validate(self.key, self.nodes, self.output if self.has_output else None)

    @classmethod
    def from_mapping(
        cls,
        key: str,
        stated: Mapping[str, Any],
        *,
        tasks: Collection[str] | None = None,
        workflows: Collection[str] | None = None,
    ) -> Self:
        """Read a workflow as manifests, settings and candidates write it.

        Args:
            key: Its name.
            stated: ``{nodes: [{id, task, depends_on, payload, retry_policy, timeout_seconds, when, for_each,
                workflow, compensate}]}``; ``tasks`` for ``nodes`` and ``key`` for ``id`` are understood.
            tasks: The tasks there are; by default any may be named.
            workflows: The workflows there are; by default any may be named.

        Raises:
            WorkflowError: It is malformed or not sound; ``problems`` has a sentence for each fault.
            CycleError: Its nodes wait for one another.
        """
        settings = read_settings(key, stated)
        nodes = read_nodes(key, stated)
        known = {"task": tasks, "workflow": workflows}
        validate(key, nodes, settings.get("output"), known=known)
        return cls(key=key, nodes=nodes, **settings)

    def as_mapping(self) -> dict[str, Any]:
        """Return what `from_mapping` makes the same workflow of."""
        stated: dict[str, Any] = {"nodes": [node.as_mapping() for node in self.nodes]}
        if self.has_output:
            stated["output"] = self.output
        if self.max_parallel is not None:
            stated["max_parallel"] = self.max_parallel
        if self.queue_category is not None:
            stated["queue_category"] = self.queue_category
        if self.scheduler:
            stated["scheduler"] = dict(self.scheduler)
        return stated | {"retry_policy": asdict(self.retry)}

    @cached_property
    def text(self) -> str:
        """`as_mapping` as JSON."""
        return json.dumps(self.as_mapping())

    @cached_property
    def definition(self) -> dict[str, Any]:
        """What a run depends on, as plain data: not how often and for how long a node is tried."""
        nodes = {node.id: node.definition for node in self.nodes}
        return {"workflow": self.key, "nodes": nodes, **({"output": self.output} if self.has_output else {})}

    @cached_property
    def digest(self) -> str:
        """SHA-256 of the definition, in hexadecimal digits."""
        return hashlib.sha256(json.dumps(self.definition, sort_keys=True).encode()).hexdigest()

    def plan(self) -> WorkflowPlan:
        """Return what a run runs, in an order it could run in."""
        return self._plan

    @cached_property
    def _plan(self) -> WorkflowPlan:
        return plan_of(self.key, self.digest, self.nodes, self.retry)
