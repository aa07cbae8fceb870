"""The body of a queued job: written by whoever enqueues, read by the worker.

A workflow's is ``{workflow, run_id, workflow_provider, context, metadata, queued_at}``, a task's ``{task, payload,
idempotency_key, run_id, metadata, queued_at}``. Unknown fields are let pass: a later release may write more.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from oneiric.core.errors import RejectedError
from oneiric.runtime._worker_ports import JobKind

__all__ = ["Job", "read_job", "task_message", "workflow_message"]

_OF_WORKFLOWS = ("workflow_provider", "context", "metadata", "queued_at")


@dataclass(frozen=True, slots=True, kw_only=True)
class Job:
    """What a message asks for.

    Attributes:
        kind: What ``key`` is a key of.
        key: The task or workflow.
        payload: What the processor is handed.
        idempotency_key: The same in every delivery of the message.
        run_id: The run's, or None of a task that states none.
    """

    kind: JobKind
    key: str
    payload: Mapping[str, Any]
    idempotency_key: str
    run_id: str | None


def workflow_message(
    workflow: str,
    *,
    run_id: str,
    context: Mapping[str, Any] | None = None,
    workflow_provider: str | None = None,
    metadata: Mapping[str, Any] | None = None,
    queued_at: datetime | None = None,
) -> dict[str, Any]:
    """Return the body that asks for a run of a workflow; *queued_at* is now by default."""
    return {
        "workflow": workflow,
        "run_id": run_id,
        "workflow_provider": workflow_provider,
        "context": dict(context or {}),
        "metadata": dict(metadata or {}),
        "queued_at": _stamp(queued_at),
    }


def task_message(
    task: str,
    payload: Mapping[str, Any] | None = None,
    *,
    idempotency_key: str | None = None,
    run_id: str | None = None,
    metadata: Mapping[str, Any] | None = None,
    queued_at: datetime | None = None,
) -> dict[str, Any]:
    """Return the body that asks for a task; without an *idempotency_key* the message's id is its key."""
    return {
        "task": task,
        "payload": dict(payload or {}),
        "idempotency_key": idempotency_key,
        "run_id": run_id,
        "metadata": dict(metadata or {}),
        "queued_at": _stamp(queued_at),
    }


def read_job(message_id: str, body: Mapping[str, Any]) -> Job:
    """Read what a message asks for.

    Raises:
        RejectedError: It asks for nothing that can be done; another delivery would ask for the same.
    """
    found = [kind for kind in ("task", "workflow") if body.get(kind) is not None]
    if len(found) != 1:
        raise RejectedError(f"a job names either a task or a workflow, and this one {' and '.join(found) or 'neither'}")
    run_id = _text(body, "run_id")
    if found == ["workflow"]:
        details = {name: body[name] for name in _OF_WORKFLOWS if body.get(name) is not None}
        details["context"] = _mapping(body, "context")
        run = run_id or message_id
        key = _text(body, "workflow") or ""
        return Job(kind="workflow", key=key, payload=details, idempotency_key=run, run_id=run)
    return Job(
        kind="task",
        key=_text(body, "task") or "",
        payload=_mapping(body, "payload"),
        idempotency_key=_text(body, "idempotency_key") or message_id,
        run_id=run_id,
    )


def _text(body: Mapping[str, Any], name: str) -> str | None:
    value = body.get(name)
    if value is None:
        return None
    if not isinstance(value, str) or not value:
        raise RejectedError(f"{name} of a job is a text, not {type(value).__name__ if value else 'empty'}")
    return value


def _mapping(body: Mapping[str, Any], name: str) -> dict[str, Any]:
    value = body.get(name)
    if value is None:
        return {}
    if not isinstance(value, dict):
        raise RejectedError(f"{name} of a job is an object, not {type(value).__name__}")
    return value


def _stamp(moment: datetime | None) -> str:
    return (moment or datetime.now(UTC)).isoformat()
