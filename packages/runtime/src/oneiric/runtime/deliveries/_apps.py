"""The applications behind ``/tasks/workflow`` and ``/events/push``: each delivery done once, and answered always."""

import asyncio
import hashlib
import json
import logging
import uuid
from collections.abc import Awaitable, Callable, Mapping
from contextlib import suppress
from datetime import UTC, datetime
from typing import Any, Final, Protocol

from oneiric.core.errors import DispatchError, OneiricError, PausedError, StoreError
from oneiric.runtime._undisturbed import claimed, undisturbed
from oneiric.runtime.dead_letters import DeadLetterStore
from oneiric.runtime.deliveries._messages import (
    Caller,
    MalformedDeliveryError,
    WorkflowDelivery,
    caller_of,
    event_of,
    workflow_of,
)
from oneiric.runtime.deliveries._store import Answer, DeliveryStore
from oneiric.runtime.events import DispatchReport, EventEnvelope
from oneiric.runtime.http._asgi import Receive, RefusalError, Reply, Scope, Send, header
from oneiric.runtime.telemetry import count

__all__ = ["DispatchesEvents", "EventDeliveries", "WorkflowDeliveries", "WorkflowTaskProcessor"]

_RETRY_SECONDS: Final = 30
_BUSY_SECONDS: Final = 5
_LONGEST_SHOWN: Final = 10_000
#: What an error's HTTP status says that no further delivery can change.
_PERMANENT: Final = frozenset({400, 404, 410, 422})
_log: Final = logging.getLogger("oneiric.deliveries")


class WorkflowTaskProcessor(Protocol):
    """Runs the workflow of a delivery."""

    async def process(self, delivery: WorkflowDelivery, run_id: str) -> Mapping[str, Any]:
        """Run it to its end and return the results of its nodes.

        Args:
            delivery: What is asked for.
            run_id: The run's; the same for each delivery of one task, so that one that broke off is gone on with.

        Raises:
            PausedError: The workflow takes no new work: the sender is asked to come again.
            OneiricError: With an HTTP status of 404, 400 or 422 it can never be done; else it may be next time.
            Exception: It failed, and may not next time.
        """


class DispatchesEvents(Protocol):
    """Gives an event to its handlers; an `EventBridge` or an `EventDispatcher` does."""

    async def trace(self, envelope: EventEnvelope) -> DispatchReport:
        """Dispatch an event."""


class _Deliveries:
    """What both have in common: who is told what, and that each delivery is done once.

    Args:
        store: What deliveries came to.
        dead_letters: Keeps those that can never be done.
    """

    _kind: str

    def __init__(self, store: DeliveryStore, dead_letters: DeadLetterStore) -> None:
        self._store, self._dead_letters = store, dead_letters
        self._active: dict[str, asyncio.Task[Answer]] = {}

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer a request that was let in; an ASGI application.

        Raises:
            RefusalError: It is no POST, or compressed.
        """
        if scope["method"] != "POST":
            raise RefusalError(405, f"{scope['path']} is asked with POST", None, {"Allow": "POST"})
        if (header(scope, b"content-encoding") or "identity").lower() != "identity":
            raise RefusalError(415, "the body must not be compressed", "no Content-Encoding")
        headers = {name.decode("latin-1").lower(): value.decode("latin-1") for name, value in scope["headers"]}
        body = await _body(receive)
        try:
            answer = await self._answer(headers, body)
        except StoreError as error:
            _log.error("a delivery to %s cannot be kept: %s", scope["path"], error.message)
            answer = _again(503, "store-unavailable", "the store of deliveries cannot be used now", _BUSY_SECONDS)
        count("oneiric_deliveries_total", kind=self._kind, status=answer.status)
        document = json.dumps(answer.document).encode()
        await Reply(send).bytes(answer.status, document, headers=answer.headers)

    async def _answer(self, headers: Mapping[str, str], body: bytes) -> Answer:
        raise NotImplementedError

    async def _once(self, key: str | None, work: Callable[[], Awaitable[Answer]]) -> Answer:
        """Do a delivery, unless it was done before or is being done: what that comes to is its answer."""
        if key is None:
            return await work()
        task = self._active.get(key)
        if task is not None:
            try:
                return _repeated(await asyncio.shield(task))
            except asyncio.CancelledError:
                if task.cancelled():
                    return _in_progress()
                raise
        task = self._active[key] = asyncio.get_running_loop().create_task(self._claimed(key, work))
        try:
            return await task
        finally:
            del self._active[key]

    async def _claimed(self, key: str, work: Callable[[], Awaitable[Answer]]) -> Answer:
        begun = await claimed(self._store.begin(key), lambda begun: self._let_go(key, begun))
        if isinstance(begun, Answer):
            return _repeated(begun)
        if begun is None:
            return _in_progress()
        keeper = asyncio.get_running_loop().create_task(self._keep(key, begun))
        answer = None
        try:
            answer = await work()
        finally:
            keeper.cancel()
            if answer is None or not answer.is_final:
                await undisturbed(self._let_go(key, begun))
        if answer.is_final and not await undisturbed(self._store.finish(key, begun, answer)):
            return _in_progress()
        return answer

    async def _let_go(self, key: str, begun: Answer | int | None) -> None:
        if isinstance(begun, int):
            with suppress(StoreError):  # it is done again when its lease has run out
                await self._store.release(key, begun)

    async def _keep(self, key: str, attempt: int) -> None:
        while True:
            await asyncio.sleep(self._store.lease_seconds / 3)
            with suppress(StoreError):
                await self._store.renew(key, attempt)

    async def _never(  # noqa: PLR0917 - what a dead letter is made of
        self, caller: Caller, status: int, code: str, message: str, subject: str, body: Any, reason: str = "malformed"
    ) -> Answer:
        """Answer a delivery that can never be done: as done to those who would deliver it for ever, else as it is."""
        letter = await self._dead_letters.keep_body(self._kind, subject, body, reason, f"{code}: {message}")
        document = {"error": code, "message": message, "dead_letter": letter.id}
        if caller == "other":
            return Answer(status=status, document=document, is_final=False)
        return Answer(status=200, document={"status": "dead-lettered", **document})


class WorkflowDeliveries(_Deliveries):
    """``POST /tasks/workflow``: run a workflow that a task queue asks for.

    Args:
        processor: Runs it.
        store: What deliveries came to.
        dead_letters: Keeps those that can never be done.
    """

    _kind = "workflow"

    def __init__(self, processor: WorkflowTaskProcessor, store: DeliveryStore, dead_letters: DeadLetterStore) -> None:
        super().__init__(store, dead_letters)
        self._processor = processor

    async def _answer(self, headers: Mapping[str, str], body: bytes) -> Answer:
        caller = caller_of(headers)
        try:
            delivery = workflow_of(headers, body)
        except MalformedDeliveryError as error:
            return await self._never(caller, 400, error.code, error.message, "", _text(body))
        return await self._once(delivery.idempotency_key, lambda: self._run(caller, delivery))

    async def _run(self, caller: Caller, delivery: WorkflowDelivery) -> Answer:
        workflow = delivery.workflow
        run_id = delivery.run_id or _run_id(delivery.idempotency_key)
        try:
            results = await self._processor.process(delivery, run_id)
        except PausedError as error:
            return _again(503, "workflow-paused", error.message, _RETRY_SECONDS)
        except OneiricError as error:
            if error.http_status in _PERMANENT:
                code, reason = (
                    ("workflow-missing", "unknown") if error.http_status == 404 else ("workflow-malformed", "failed")
                )
                status = 404 if error.http_status == 404 else 400
                return await self._never(caller, status, code, error.message, workflow, _plain(delivery), reason)
            _log.error("the run of workflow %s by delivery failed: %s", workflow, error.message)
            return _failed(503 if error.http_status == 503 else 500)
        except Exception as error:  # noqa: BLE001 - whatever a workflow raises, its sender is answered
            _log.error("the run of workflow %s by delivery failed: %s: %s", workflow, type(error).__name__, error)
            return _failed(500)
        result = {
            "workflow": workflow,
            "run_id": run_id,
            "workflow_provider": delivery.workflow_provider,
            "metadata": dict(delivery.metadata),
            "results": _shown(results),
            "processed_at": datetime.now(UTC).isoformat(),
        }
        return Answer(status=200, document={"status": "completed", "result": result})


class EventDeliveries(_Deliveries):
    """``POST /events/push``: dispatch an event that Pub/Sub or anybody who speaks CloudEvents delivers.

    Args:
        events: Gives it to its handlers.
        store: What deliveries came to.
        dead_letters: Keeps those that can never be done.
        default_topic: Of Pub/Sub messages without the attribute ``topic``; by default they are refused.
        refuses: Why nobody takes an event now, or None; its sender is asked to come again.
    """

    _kind = "event"

    def __init__(
        self,
        events: DispatchesEvents,
        store: DeliveryStore,
        dead_letters: DeadLetterStore,
        *,
        default_topic: str | None = None,
        refuses: Callable[[EventEnvelope], str | None] | None = None,
    ) -> None:
        super().__init__(store, dead_letters)
        self._events, self._default_topic, self._refuses = events, default_topic, refuses

    async def _answer(self, headers: Mapping[str, str], body: bytes) -> Answer:
        caller = caller_of(headers, _object_or_none(body))
        try:
            envelope, key = event_of(headers, body, self._default_topic)
        except MalformedDeliveryError as error:
            return await self._never(caller, 400, error.code, error.message, "", _text(body))
        return await self._once(key, lambda: self._dispatched(caller, envelope))

    async def _dispatched(self, caller: Caller, envelope: EventEnvelope) -> Answer:
        refused = None if self._refuses is None else self._refuses(envelope)
        if refused is not None:
            return _again(503, "event-paused", refused, _RETRY_SECONDS)
        try:
            report = await self._events.trace(envelope)
        except DispatchError as error:  # a loop: the dispatcher has kept the event
            status = 400 if caller == "other" else 200
            return Answer(status=status, document={"error": "event-refused", "message": error.message})
        document = {"topic": report.topic, "matched_handlers": report.matched, "failures": len(report.failures)}
        # What a handler did not take is a dead letter of its own: delivered again, all the others had it twice.
        return Answer(status=200, document={"status": "dispatched", "event_id": envelope.id, **document})


async def _body(receive: Receive) -> bytes:
    """Return the body, which the server in front has read and bounded."""
    parts: list[bytes] = []
    more = True
    while more:
        message = await receive()
        parts.append(message.get("body", b""))
        more = message["type"] == "http.request" and message.get("more_body", False)
    return b"".join(parts)


def _again(status: int, code: str, message: str, seconds: int) -> Answer:
    headers = {"Retry-After": str(seconds)}
    return Answer(status=status, document={"error": code, "message": message}, headers=headers, is_final=False)


def _in_progress() -> Answer:
    return _again(503, "delivery-in-progress", "another delivery of the same is being done", _BUSY_SECONDS)


def _failed(status: int) -> Answer:
    return _again(status, "workflow-execution-failed", "the run failed; the log says why", _BUSY_SECONDS)


def _repeated(answer: Answer) -> Answer:
    if not answer.is_final:
        return answer
    return Answer(status=answer.status, document=answer.document, headers={"Idempotent-Replayed": "true"})


def _run_id(key: str | None) -> str:
    return uuid.uuid4().hex if key is None else hashlib.sha256(key.encode()).hexdigest()[:32]


def _shown(results: Any) -> Any:
    """Return results as JSON can say them: the workflow has run, and no result may make it run again."""
    try:
        return json.loads(json.dumps(results, default=str, allow_nan=False))
    except (TypeError, ValueError, RecursionError):
        try:
            return repr(results)[:_LONGEST_SHOWN]
        except Exception as error:  # noqa: BLE001 - somebody else's __repr__, as above
            return f"<{type(results).__name__}, which cannot be shown: {type(error).__name__}>"


def _plain(delivery: WorkflowDelivery) -> dict[str, Any]:
    names = ("workflow", "run_id", "workflow_provider", "context", "checkpoint", "metadata")
    return {name: getattr(delivery, name) for name in names}


def _text(body: bytes) -> dict[str, str]:
    return {"body": body.decode("utf-8", "replace")}


def _object_or_none(body: bytes) -> dict[str, Any] | None:
    """Return the body as an object if it can be one, only to see who sent it."""
    from oneiric.runtime.http._json import parse_body  # noqa: PLC0415 - beside its only use

    try:
        return parse_body(body)
    except RefusalError:
        return None
