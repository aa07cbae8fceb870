"""What deliveries look like: Cloud Tasks, Pub/Sub push and CloudEvents, read into what they ask for.

Source: Cloud Tasks, "Creating HTTP target tasks" (its request headers); Pub/Sub, "Push subscriptions" (the wrapped
message); CloudEvents 1.0.2, HTTP and Google Cloud Pub/Sub bindings.
"""

import base64
import binascii
import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final, Literal

from oneiric.core.errors import DispatchError
from oneiric.runtime.events import EventEnvelope, check_topic
from oneiric.runtime.http._asgi import RefusalError
from oneiric.runtime.http._json import parse_body

__all__ = ["Caller", "MalformedDeliveryError", "WorkflowDelivery", "caller_of", "event_of", "task_key", "workflow_of"]

#: Who delivers: the first two try anything that is not answered 2xx again, for as long as they are configured to.
type Caller = Literal["cloud-tasks", "pubsub", "other"]

_LONGEST_NAME: Final = 255
_LONGEST_KEY: Final = 500
_PUBSUB_AGENTS: Final = ("cloudpubsub-google", "apis-google")


class MalformedDeliveryError(Exception):
    """A delivery makes no sense, and never will: ``(code, message)``; *code* is a published word."""

    def __init__(self, code: str, message: str) -> None:
        super().__init__(code, message)
        self.code, self.message = code, message


@dataclass(frozen=True, slots=True, kw_only=True)
class WorkflowDelivery:
    """A workflow that is to be run.

    Attributes:
        workflow: Its key.
        run_id: The run's, where the sender has given it one.
        workflow_provider: Whose, or None for the one that is active.
        context: What it is given.
        checkpoint: What of it is done already, or None.
        metadata: What the sender says beside; comes back with the result.
        idempotency_key: The same for each delivery of one task, or None where nothing tells them apart.
        attempt: How often it was delivered, from 1.
    """

    workflow: str
    run_id: str | None
    workflow_provider: str | None
    context: Any
    checkpoint: Mapping[str, Any] | None
    metadata: Mapping[str, Any]
    idempotency_key: str | None
    attempt: int


def caller_of(headers: Mapping[str, str], body: Mapping[str, Any] | None = None) -> Caller:
    """Return who delivers, as its headers and the form of the body say."""
    if "x-cloudtasks-taskname" in headers:
        return "cloud-tasks"
    is_push = body is not None and isinstance(body.get("message"), dict) and isinstance(body.get("subscription"), str)
    if is_push or headers.get("user-agent", "").lower().startswith(_PUBSUB_AGENTS):
        return "pubsub"
    return "other"


def task_key(headers: Mapping[str, str]) -> str | None:
    """Return what tells the deliveries of one task from those of others: its name, or an ``Idempotency-Key``."""
    name = headers.get("x-cloudtasks-taskname")
    if name:
        return _key("task", headers.get("x-cloudtasks-queuename", ""), name)
    given = headers.get("idempotency-key")
    return _key("key", given) if given else None


def _key(kind: str, *parts: str) -> str:
    """Return a text that no other parts have; what is too long for a store is told by its digest."""
    text = json.dumps(parts)
    return f"{kind}:{text if len(text) <= _LONGEST_KEY else hashlib.sha256(text.encode()).hexdigest()}"


def workflow_of(headers: Mapping[str, str], body: bytes) -> WorkflowDelivery:
    """Read a delivery to ``/tasks/workflow``.

    Raises:
        MalformedDeliveryError: ``invalid-json``, ``payload-must-be-object``, ``workflow-key-missing`` or
            ``payload-field-invalid``.
    """
    stated = _object(body)
    workflow = stated.get("workflow")
    if not isinstance(workflow, str) or not workflow.strip():
        raise MalformedDeliveryError("workflow-key-missing", "the field 'workflow' names no workflow")
    run_id = _field(stated, "run_id", str)
    key = task_key(headers)
    return WorkflowDelivery(
        workflow=_bounded("workflow", workflow),
        run_id=None if run_id is None else _bounded("run_id", run_id),
        workflow_provider=_field(stated, "workflow_provider", str),
        context=stated.get("context"),
        checkpoint=_field(stated, "checkpoint", dict),
        metadata=_field(stated, "metadata", dict) or {},
        idempotency_key=key or (_key("run", run_id) if run_id else None),
        attempt=_retries(headers) + 1,
    )


def event_of(headers: Mapping[str, str], body: bytes, default_topic: str | None) -> tuple[EventEnvelope, str]:
    """Read a delivery to ``/events/push``: a Pub/Sub message or a CloudEvent.

    Args:
        headers: By lower-case name.
        body: The body.
        default_topic: Of messages that name none.

    Returns:
        The event, and what tells its deliveries from those of others.

    Raises:
        MalformedDeliveryError: ``invalid-json``, ``payload-must-be-object``, ``event-malformed`` or
            ``event-topic-missing``.
    """
    try:
        kind = headers.get("content-type", "").lower()
        if kind.startswith("application/cloudevents+json") or "ce-specversion" in headers:
            envelope = EventEnvelope.from_http(headers, body)
            key = _key("event", envelope.source, envelope.id)
        else:
            envelope, key = _pushed(_object(body), default_topic)
        check_topic(envelope.topic)
    except DispatchError as error:
        raise MalformedDeliveryError("event-malformed", error.message) from error
    return envelope, key


def _pushed(stated: dict[str, Any], default_topic: str | None) -> tuple[EventEnvelope, str]:
    """Read a Pub/Sub push; its attributes say the topic, or the whole CloudEvent."""
    message = stated.get("message")
    if not isinstance(message, dict):
        raise MalformedDeliveryError("event-malformed", "it is neither a Pub/Sub message nor a CloudEvent")
    attributes = message.get("attributes") or {}
    if not isinstance(attributes, dict) or not all(isinstance(value, str) for value in attributes.values()):
        raise MalformedDeliveryError("event-malformed", "the message's attributes are no texts by name")
    message_id = message.get("messageId") or message.get("message_id")
    if not isinstance(message_id, str) or not message_id:
        raise MalformedDeliveryError("event-malformed", "the message has no 'messageId'")
    subscription = str(stated.get("subscription") or "")
    names = {name.lower(): value for name, value in attributes.items()}
    data = _data(message.get("data"))
    if "ce-specversion" in names or names.get("content-type", "").startswith("application/cloudevents+json"):
        envelope = EventEnvelope.from_http(names, data)
        return envelope, _key("event", envelope.source, envelope.id)
    topic = names.get("topic") or default_topic
    if not topic:
        raise MalformedDeliveryError("event-topic-missing", "the message has no attribute 'topic', nor a default one")
    envelope = EventEnvelope(
        topic,
        _payload(data),
        {str(name): value for name, value in attributes.items() if name != "topic"},
        message_id,
        f"//pubsub.googleapis.com/{subscription}",
        time=message.get("publishTime") if isinstance(message.get("publishTime"), str) else None,
    )
    return envelope, _key("event", subscription, message_id)


def _data(text: object) -> bytes:
    if text is None:
        return b""
    try:
        return base64.b64decode(text, validate=True) if isinstance(text, str) else b"\xff"
    except (binascii.Error, ValueError) as error:
        raise MalformedDeliveryError("event-malformed", "the message's data is no base64") from error


def _payload(data: bytes) -> Any:
    """Return a message's data: what it says in JSON, else its text."""
    if not data:
        return None
    try:
        text = data.decode("utf-8")
    except UnicodeDecodeError as error:
        raise MalformedDeliveryError("event-malformed", "the message's data is no text") from error
    try:
        return json.loads(text)
    except (ValueError, RecursionError):
        return text


def _object(body: bytes) -> dict[str, Any]:
    try:
        return parse_body(body)
    except RefusalError as error:
        code = "payload-must-be-object" if error.status == 422 else "invalid-json"
        raise MalformedDeliveryError(code, error.message) from error


def _field[T](stated: Mapping[str, Any], name: str, kind: type[T]) -> T | None:
    value = stated.get(name)
    if value is not None and not isinstance(value, kind):
        raise MalformedDeliveryError("payload-field-invalid", f"the field {name!r} is no {kind.__name__}")
    return value


def _bounded(name: str, text: str) -> str:
    if len(text) > _LONGEST_NAME:
        raise MalformedDeliveryError("payload-field-invalid", f"the field {name!r} is longer than {_LONGEST_NAME}")
    return text


def _retries(headers: Mapping[str, str]) -> int:
    text = headers.get("x-cloudtasks-taskretrycount", "")
    return int(text) if text.isascii() and text.isdigit() and len(text) < 9 else 0
