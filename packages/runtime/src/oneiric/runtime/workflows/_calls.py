"""NodeCall: what a task may know of the node that runs it."""

import hashlib
import json
from contextvars import ContextVar
from typing import Any

from oneiric.core.errors import WorkflowError

__all__ = ["NodeCall", "current", "current_call", "input_hash"]

#: The call being made, in the context of its node.
current: ContextVar["NodeCall | None"] = ContextVar("oneiric_workflow_call", default=None)


class NodeCall:
    """One node of a run, as its task sees it.

    Args:
        workflow: The workflow's key.
        run_id: The run.
        node: ``node``, or ``node[3]`` for an item of a fan-out, or ``node:compensate``.
        payload: What the task is given.
        generation: How often the node was asked for anew, by a retry from it or after it was undone.

    Attributes:
        attempt: Which one this is, from 1.
    """

    __slots__ = ("_key", "attempt", "generation", "node", "payload", "run_id", "workflow")

    def __init__(self, workflow: str, run_id: str, node: str, payload: Any, generation: int = 0) -> None:
        self.workflow, self.run_id, self.node, self.payload = workflow, run_id, node, payload
        self.generation = generation
        self.attempt = 1
        self._key: str | None = None

    def __repr__(self) -> str:
        return f"<NodeCall {self.workflow} {self.run_id} {self.node} attempt {self.attempt}>"

    @property
    def known_key(self) -> str | None:
        """The idempotency key, if anybody has asked for it."""
        return self._key

    @property
    def idempotency_key(self) -> str:
        """64 hexadecimal digits, the same for every attempt of this node with this input, after a crash too.

        A receiver that remembers it makes the effect happen once.

        Raises:
            WorkflowError: The payload is no plain data.
        """
        if self._key is None:
            parts = [self.workflow, self.run_id, self.node, input_hash(self.payload)]
            if self.generation:
                parts.append(str(self.generation))
            self._key = hashlib.sha256(json.dumps(parts).encode()).hexdigest()
        return self._key


def input_hash(payload: Any) -> str:
    """Return the SHA-256 of plain data; the order of names does not matter.

    Raises:
        WorkflowError: It is no plain data.
    """
    try:
        text = json.dumps(payload, sort_keys=True, separators=(",", ":"), allow_nan=False)
    except (TypeError, ValueError, RecursionError) as error:
        raise WorkflowError(f"a payload without a hash: {error}", "plain data in payloads and results") from error
    return hashlib.sha256(text.encode()).hexdigest()


def current_call() -> NodeCall | None:
    """Return the call that a workflow is making of the task this runs in; None outside of workflows."""
    return current.get()
