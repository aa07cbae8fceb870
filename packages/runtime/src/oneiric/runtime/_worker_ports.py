"""What a worker asks of queues and of those that do the work, and does not import.

`MessageQueue` is shaped like the Protocol of the queue family, so any provider of it will do.
"""

from collections.abc import Mapping, Sequence
from contextlib import AbstractAsyncContextManager
from typing import Any, Literal, Protocol

from oneiric.runtime._ports import ActivityState

__all__ = ["ActivityOf", "JobKind", "MessageQueue", "Processor", "QueueSource", "ReceivedMessage"]

type JobKind = Literal["task", "workflow"]


class ReceivedMessage(Protocol):
    """A message in the worker's hands."""

    @property
    def id(self) -> str:
        """The message's, the same in every delivery."""

    @property
    def payload(self) -> dict[str, Any]:
        """What was enqueued."""

    @property
    def headers(self) -> Mapping[str, str]:
        """What was enqueued beside it."""

    @property
    def attempt(self) -> int:
        """Which counted delivery this is, from 1."""

    @property
    def visibility_seconds(self) -> float:
        """How long it is nobody else's, from its receipt and from each extension."""


class MessageQueue(Protocol):
    """Where messages come from; each settling call says whether the delivery still was the worker's."""

    async def receive(self, *, max_messages: int = 1, wait_seconds: float = 0.0) -> Sequence[ReceivedMessage]:
        """Take messages that are ready; wait for one if there is none."""

    async def ack(self, delivery: Any, /) -> bool:
        """Settle: the message is done."""

    async def retry(self, delivery: Any, /, *, delay_seconds: float = 0.0, counted: bool = True) -> bool:
        """Settle: the message is delivered again, after a delay; uncounted, its attempt stays what it is."""

    async def extend(self, delivery: Any, /) -> bool:
        """Keep the message for another visibility."""

    async def dead_letter(self, delivery: Any, reason: str, /) -> bool:
        """Settle: the message is given up, with a reason."""


class QueueSource(Protocol):
    """Lends the queue that serves at the moment, such as ``lambda: lifecycle.lease(QUEUE)``."""

    def __call__(self) -> AbstractAsyncContextManager[MessageQueue]:
        """Return a context in which the queue stays open: deliveries are settled with what they came from."""


class Processor(Protocol):
    """Does the work. When it returns, the result is committed: then, and only then, the message is acknowledged."""

    async def process(  # one call per job: each argument is a part of the message
        self,
        kind: JobKind,
        key: str,
        payload: Mapping[str, Any],
        *,
        idempotency_key: str,
        run_id: str | None,
        headers: Mapping[str, str],
    ) -> object:
        """Do a job; it may come more than once, then with the same *idempotency_key*.

        Args:
            kind: What *key* is a key of.
            key: The task or workflow.
            payload: Of a task, its payload. Of a workflow, the message's ``workflow_provider``, ``context``,
                ``metadata`` and ``queued_at``.
            idempotency_key: The same in every delivery of the message.
            run_id: Of a workflow, the run's, the same in every delivery; None of a task that states none.
            headers: The message's.
        """


class ActivityOf(Protocol):
    """Tells whether a key takes new work, such as ``DomainActivityStore.get``."""

    def __call__(self, domain: str, key: str, /) -> ActivityState:
        """Return the state of a key."""
