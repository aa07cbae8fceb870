"""What `RuntimeTelemetryRecorder` is told of: events that were handled and workflows that ran."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from itertools import islice
from typing import Any, Final, overload

from oneiric.runtime._secret_redaction import REDACTOR

__all__ = ["EventRecord", "HandlerRecord", "NodeRecord", "WorkflowRecord"]

#: Handlers or nodes of one record that are written; a fan-out to thousands has counts that say the rest.
_MOST_PARTS: Final = 200
#: Of these, those that failed and stand in the history too.
_MOST_FAILED: Final = 10
_LONGEST_TEXT: Final = 500


@dataclass(frozen=True, slots=True, kw_only=True)
class HandlerRecord:
    """One handler's run for one event; ``error`` is None where it succeeded."""

    handler: str
    success: bool
    duration_ms: float
    attempts: int = 1
    error: str | None = None

    def as_dict(self) -> dict[str, Any]:
        """Return plain data."""
        return {
            "handler": shortened(self.handler),
            "success": self.success,
            "duration_ms": self.duration_ms,
            "attempts": self.attempts,
            "error": shortened(self.error),
        }


@dataclass(frozen=True, slots=True, kw_only=True)
class EventRecord:
    """One event that was dispatched.

    Attributes:
        topic: Its topic.
        handlers: What each handler that matched did, in the order they ran.
        total_duration_ms: From dispatch to the last handler's end.
    """

    topic: str
    handlers: Sequence[HandlerRecord] = ()
    total_duration_ms: float

    def as_dict(self) -> dict[str, Any]:
        """Return plain data: ``last_event`` of ``runtime_telemetry.json`` but for its time."""
        return {
            "topic": shortened(self.topic),
            "matched_handlers": len(self.handlers),
            "failures": sum(not handler.success for handler in self.handlers),
            "total_duration_ms": self.total_duration_ms,
            "handlers": [handler.as_dict() for handler in self.handlers[:_MOST_PARTS]],
        }

    def summary(self) -> dict[str, Any]:
        """Return plain data for the history: of the handlers only the first that failed."""
        failed = [handler for handler in self.handlers if not handler.success][:_MOST_FAILED]
        return self.as_dict() | {"handlers": [handler.as_dict() for handler in failed]}


@dataclass(frozen=True, slots=True, kw_only=True)
class NodeRecord:
    """One node of a workflow run.

    Attributes:
        node: Its id.
        task: The task it ran.
        depends_on: The nodes it waited for.
        duration_ms: Retries included; None for one that did not run.
        attempts: How often it was tried.
        retry_policy: Its policy as plain data, or None.
        status: ``completed``, ``failed`` or ``skipped``.
        error: Why it failed.
    """

    node: str
    task: str
    depends_on: Sequence[str] = ()
    duration_ms: float | None = None
    attempts: int = 1
    retry_policy: Mapping[str, Any] | None = None
    status: str = "completed"
    error: str | None = None

    def as_dict(self) -> dict[str, Any]:
        """Return plain data."""
        return {
            "node": shortened(self.node),
            "task": shortened(self.task),
            "depends_on": [shortened(node) for node in self.depends_on[:_MOST_PARTS]],
            "duration_ms": self.duration_ms,
            "attempts": self.attempts,
            "retry_policy": None if self.retry_policy is None else _plain(self.retry_policy),
            "status": self.status,
            "error": shortened(self.error),
        }


@dataclass(frozen=True, slots=True, kw_only=True)
class WorkflowRecord:
    """One workflow run that ended, well or not.

    Attributes:
        workflow: Its key.
        run_id: The run.
        status: ``completed``, ``failed`` or ``cancelled``.
        nodes: Its nodes.
        total_duration_ms: From start to end.
        error: Why it failed.
    """

    workflow: str
    run_id: str | None = None
    status: str = "completed"
    nodes: Sequence[NodeRecord] = field(default=())
    total_duration_ms: float
    error: str | None = None

    def as_dict(self) -> dict[str, Any]:
        """Return plain data: ``last_workflow`` of ``runtime_telemetry.json`` but for its time."""
        return {
            "workflow": shortened(self.workflow),
            "run_id": self.run_id,
            "status": self.status,
            "node_count": len(self.nodes),
            "entry_nodes": self._entry_nodes(_MOST_PARTS),
            "nodes": [node.as_dict() for node in self.nodes[:_MOST_PARTS]],
            "total_duration_ms": self.total_duration_ms,
            "error": shortened(self.error),
        }

    def summary(self) -> dict[str, Any]:
        """Return plain data for the history: of the nodes only the first that failed."""
        failed = [node for node in self.nodes if node.status == "failed"][:_MOST_FAILED]
        nodes = [node.as_dict() for node in failed]
        return self.as_dict() | {"nodes": nodes, "entry_nodes": self._entry_nodes(_MOST_FAILED)}

    def _entry_nodes(self, most: int) -> list[str]:
        return [shortened(node.node) for node in islice((each for each in self.nodes if not each.depends_on), most)]


@overload
def shortened(text: str) -> str: ...
@overload
def shortened(text: str | None) -> str | None: ...
def shortened(text: str | None) -> str | None:
    """Cut a text that somebody else wrote to a length that a state file can bear."""
    if text is None or len(text) <= _LONGEST_TEXT:
        return text
    # A secret that the cut would divide is masked before: its halves are not known.
    return f"{REDACTOR.mask(text[: 2 * _LONGEST_TEXT])[: _LONGEST_TEXT - 1]}…"


def _plain(policy: Mapping[str, Any]) -> dict[str, Any]:
    """Return a policy as JSON can say it, whatever its author put there."""
    return {str(name): value if _is_plain(value) else shortened(str(value)) for name, value in policy.items()}


def _is_plain(value: object) -> bool:
    return math.isfinite(value) if isinstance(value, float) else value is None or isinstance(value, int | str)
