"""What is stated of a node: plain values, whose soundness `WorkflowSpec` sees to."""

from dataclasses import asdict, dataclass
from typing import Any, Literal

from oneiric.runtime.retry import RetryPolicy

__all__ = ["Compensation", "NodeSpec"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Compensation:
    """What undoes a node whose run failed later.

    Attributes:
        task: The task that does it.
        payload: What it is given, with templates; by default ``{"output": …}``, what the node returned.
        has_payload: Whether *payload* was stated.
    """

    task: str
    payload: Any = None
    has_payload: bool = False

    @property
    def definition(self) -> dict[str, Any]:
        """It, as plain data."""
        return {"task": self.task, **({"payload": self.payload} if self.has_payload else {})}


@dataclass(frozen=True, slots=True, kw_only=True)
class NodeSpec:
    """One step of a workflow.

    Attributes:
        id: Its name in the workflow.
        task: The task it runs; or `workflow` is stated.
        workflow: The workflow it runs, whose context is the payload.
        depends_on: The nodes that have to be done before.
        payload: What the task is given, with templates; by default the run's context.
        has_payload: Whether *payload* was stated.
        retry: How often it is tried again; by default as the workflow says.
        timeout_seconds: For each attempt; None for no limit.
        when: Conditions that must all hold, as stated.
        for_each: A list, or a template of one: the node runs once for each item, and returns a list.
        compensate: What undoes it.
    """

    id: str
    task: str = ""
    workflow: str = ""
    depends_on: tuple[str, ...] = ()
    payload: Any = None
    has_payload: bool = False
    retry: RetryPolicy | None = None
    timeout_seconds: float | None = None
    when: Any = None
    for_each: Any = None
    compensate: Compensation | None = None

    @property
    def runs(self) -> str:
        """What it runs: ``task:KEY`` or ``workflow:KEY``."""
        return f"workflow:{self.workflow}" if self.workflow else f"task:{self.task}"

    @property
    def kind(self) -> Literal["task", "workflow"]:
        """Which of the two."""
        return "workflow" if self.workflow else "task"

    def as_mapping(self) -> dict[str, Any]:
        """Return it as it could have been stated."""
        found = {"id": self.id, **self.definition, "depends_on": list(self.depends_on)}
        if self.retry is not None:
            found["retry_policy"] = asdict(self.retry)
        if self.timeout_seconds is not None:
            found["timeout_seconds"] = self.timeout_seconds
        return found

    @property
    def definition(self) -> dict[str, Any]:
        """What a run's outcome depends on, as plain data."""
        found: dict[str, Any] = {self.kind: self.workflow or self.task, "depends_on": sorted(self.depends_on)}
        if self.has_payload:
            found["payload"] = self.payload
        if self.when is not None:
            found["when"] = self.when
        if self.for_each is not None:
            found["for_each"] = self.for_each
        if self.compensate is not None:
            found["compensate"] = self.compensate.definition
        return found
