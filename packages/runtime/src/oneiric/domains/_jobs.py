"""Jobs: tasks and workflows that are handed to a queue, and done by a worker."""

from collections.abc import Mapping
from typing import Any, Final, Protocol

from oneiric.domains._builtin import AdapterBridge
from oneiric.runtime.retry import RetryPolicy
from oneiric.runtime.worker import JobKind
from oneiric.runtime.workflows import RunInfo, RunResult

__all__ = ["JobProcessor", "JobQueue"]

_DEFAULT_KEY: Final = "queue"
#: The queue delivers a job again; within one delivery it is tried once.
_ONCE: Final = RetryPolicy()


class JobQueue:
    """Hand jobs to the queue adapter that serves.

    Args:
        adapters: Lends the adapter.
        key: Its key; ``workflows.options.queue_category`` says another one.
    """

    def __init__(self, adapters: AdapterBridge, *, key: str = _DEFAULT_KEY) -> None:
        self._adapters = adapters
        self.key = key

    async def put(self, message: Mapping[str, Any], *, category: str | None = None, delay_seconds: float = 0.0) -> str:
        """Store a message; when this returns, it will not be lost. Return its id.

        Args:
            message: The body of a job; its ``run_id`` or ``idempotency_key`` keeps it from being stored twice.
            category: The key of another queue adapter.
            delay_seconds: How long nobody receives it.

        Raises:
            CandidateNotFoundError: There is no queue adapter of the key.
            AdapterError: The queue did not take it.
        """
        async with self._adapters.lease(category or self.key) as queue:
            dedup_id = message.get("idempotency_key") or message.get("run_id")
            stored: str = await queue.enqueue(message, delay_seconds=delay_seconds, dedup_id=dedup_id)
            return stored


class _Tasks(Protocol):
    async def run(self, key: str, payload: Any = None, *, retry: RetryPolicy | None = None, **offered: Any) -> Any: ...


class _Workflows(Protocol):
    async def start(
        self, key: str, context: Mapping[str, Any] | None = None, *, run_id: str | None = None
    ) -> RunInfo: ...

    async def wait(self, run_id: str) -> RunResult: ...


class JobProcessor:
    """Do the jobs of a worker by the bridges of their domains.

    A workflow that was delivered before goes on where it stopped: its run id is the message's.

    Args:
        tasks: Runs tasks.
        workflows: Runs workflows.
    """

    def __init__(self, tasks: _Tasks, workflows: _Workflows) -> None:
        self._tasks = tasks
        self._workflows = workflows

    async def process(
        self,
        kind: JobKind,
        key: str,
        payload: Mapping[str, Any],
        *,
        idempotency_key: str,
        run_id: str | None,
        headers: Mapping[str, str],  # noqa: ARG002 - the port
    ) -> object:
        """Do a job, and return what came of it."""
        if kind == "task":
            return await self._tasks.run(
                key, payload or None, retry=_ONCE, idempotency_key=idempotency_key, run_id=run_id
            )
        info = await self._workflows.start(key, payload.get("context") or None, run_id=run_id)
        return (await self._workflows.wait(info.run_id)).output
