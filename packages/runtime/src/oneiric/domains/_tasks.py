"""TaskBridge: run a task once, as its candidate says it is to be run."""

import asyncio
import inspect
from collections.abc import Awaitable, Callable, Mapping
from functools import lru_cache
from typing import Any, Final

from oneiric.core.errors import DeadlineError, LifecycleError, OneiricError
from oneiric.core.resolution import Key
from oneiric.domains._builtin import BuiltInBridge
from oneiric.domains._jobs import JobQueue
from oneiric.runtime.retry import RetryPolicy
from oneiric.runtime.worker import task_message

__all__ = ["TaskBridge"]

#: What a task's ``run`` may take beside the payload; each is passed only where it is declared.
_OFFERED: Final[tuple[str, ...]] = ("idempotency_key", "attempt", "run_id", "node")
_NO_PAYLOAD: Final = object()


class TaskBridge(BuiltInBridge):
    """Run tasks.

    A task is a component with ``async run(payload)``, or ``run()``. Where its ``run`` declares ``idempotency_key``,
    ``attempt``, ``run_id`` or ``node``, it is handed those too. Its candidate's metadata may state a ``retry_policy``
    and ``timeout_seconds``.
    """

    _domain = "task"
    #: Takes the jobs of `enqueue`; set by whoever has a queue.
    queue: JobQueue | None = None

    async def enqueue(
        self,
        key: str | Key[Any],
        payload: Mapping[str, Any] | None = None,
        *,
        idempotency_key: str | None = None,
        delay_seconds: float = 0.0,
        metadata: Mapping[str, Any] | None = None,
        queue: str | None = None,
    ) -> str:
        """Have a task run by whoever works off the queue; when this returns, it will not be lost.

        Args:
            key: The task.
            payload: What it is given: plain data.
            idempotency_key: The same for every delivery, and the reason why a second `enqueue` with it does nothing;
                by default the message's id.
            delay_seconds: How long nobody begins it.
            metadata: Goes along.
            queue: The key of another queue adapter.

        Returns:
            The message's id.

        Raises:
            CandidateNotFoundError: Nothing stands for the key, or there is no queue adapter.
            LifecycleError: The bridge has no queue.
            AdapterError: The queue did not take it.
        """
        name = self._name(key)
        self.resolver.resolve(self.domain, name)
        if self.queue is None:
            raise LifecycleError("the bridge of tasks has no queue", "App, or TaskBridge.queue = JobQueue(adapters)")
        message = task_message(name, payload, idempotency_key=idempotency_key, metadata=metadata)
        return await self.queue.put(message, category=queue, delay_seconds=delay_seconds)

    async def run(
        self,
        key: str | Key[Any],
        payload: Any = None,
        *,
        provider: str | None = None,
        tenant: str | None = None,
        timeout_seconds: float | None = None,
        retry: RetryPolicy | None = None,
        sleep: Callable[[float], Awaitable[Any]] = asyncio.sleep,
        call: object = None,
        **offered: Any,
    ) -> Any:
        """Run a task in this process, and return its result.

        The instance is held until its ``run`` ends: a swap meanwhile does not disturb it. A failed call is tried again
        with the same idempotency key, so it has to bear being called twice; errors that say the request itself is
        wrong are not tried again.

        Args:
            key: The task.
            payload: What its ``run(payload)`` is given; without one it is called ``run()``.
            provider: This provider's instance, whatever is active.
            tenant: Whose; by default the base.
            timeout_seconds: Deadline of each attempt; by default what the candidate's metadata says, else none.
            retry: How often it is tried again; by default what the candidate's metadata says, else never.
            sleep: Waits between attempts.
            call: What has these as attributes: the `NodeCall` of a workflow. They are read only if they are declared.
            offered: ``idempotency_key``, ``run_id`` and ``node``, for a ``run`` that declares them.

        Raises:
            ResolutionError: Nothing can be chosen for the key.
            ActivationError: A step of the activation failed.
            PausedError: The task takes no new work.
            LifecycleError: What serves has no ``run``.
            DeadlineError: The last attempt took longer than it may.
            Exception: What the last attempt raised.
        """
        name = self._name(key)
        metadata = self._metadata(name, provider, tenant)
        retry = retry or RetryPolicy.from_mapping(metadata.get("retry_policy"))
        seconds = metadata.get("timeout_seconds") if timeout_seconds is None else timeout_seconds
        for attempt in range(1, retry.attempts + 1):
            try:
                async with self.lease(name, provider=provider, tenant=tenant) as task:
                    return await _attempt(name, task, payload, seconds, _Offer(call, {"attempt": attempt} | offered))
            except Exception as error:  # whatever a task raises, its policy decides
                if attempt == retry.attempts or _blames_the_request(error):
                    raise
            await sleep(retry.delay_seconds(attempt))
        raise AssertionError("a policy has at least one attempt")

    def _metadata(self, key: str, provider: str | None, tenant: str | None) -> Mapping[str, Any]:
        metadata: Mapping[str, Any] = self.resolver.resolve(self.domain, key, provider=provider, tenant=tenant).metadata
        return metadata


class _Offer:
    """What a task may be handed: from the call it is part of, else as given."""

    __slots__ = ("_call", "_given")

    def __init__(self, call: object, given: Mapping[str, Any]) -> None:
        self._call = call
        self._given = given

    def of(self, names: tuple[str, ...]) -> dict[str, Any]:
        if self._call is not None:
            return {name: getattr(self._call, name) for name in names}
        return {name: self._given[name] for name in names if name in self._given}


async def _attempt(key: str, task: object, payload: Any, seconds: float | None, offer: _Offer) -> Any:
    run = getattr(task, "run", None)
    if not callable(run):
        raise LifecycleError(
            f"task:{key} is served by {type(task).__name__}, which has no method 'run'", "async def run(self, payload)"
        )
    takes_payload, named = _signature(getattr(run, "__func__", run))
    arguments = (payload,) if payload is not None and takes_payload else ()
    given = offer.of(named)
    deadline = asyncio.timeout(seconds)
    try:
        async with deadline:
            return await run(*arguments, **given)
    except TimeoutError as error:
        if not deadline.expired() or seconds is None:
            raise
        raise DeadlineError(f"task:{key}", seconds) from error


@lru_cache(maxsize=1024)
def _signature(function: Any) -> tuple[bool, tuple[str, ...]]:
    """Return whether a ``run`` takes a payload, and which of what is offered it declares."""
    try:
        parameters = dict(inspect.signature(function).parameters)
    except (TypeError, ValueError):
        return True, ()
    parameters.pop("self", None)
    if any(each.kind is each.VAR_KEYWORD for each in parameters.values()):
        named = _OFFERED
    else:
        named = tuple(name for name in _OFFERED if name in parameters)
    takes_payload = any(name not in _OFFERED and each.kind is not each.VAR_KEYWORD for name, each in parameters.items())
    return takes_payload, named


def _blames_the_request(error: Exception) -> bool:
    """Tell whether the same call would fail again for sure."""
    return isinstance(error, OneiricError) and 400 <= error.http_status < 500
