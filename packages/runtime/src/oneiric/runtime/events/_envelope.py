"""EventEnvelope: one event on its way, and how it maps to CloudEvents 1.0.

Source: CloudEvents 1.0.2 (https://github.com/cloudevents/spec), its JSON format and its HTTP binary mode.
"""

import json
import re
import uuid
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from datetime import datetime
from typing import Any, Final, Self

from oneiric.core.errors import DispatchError

__all__ = ["EventEnvelope"]

_VERSION: Final = "1.0"
_HOPS: Final = "oneirichops"
_REQUIRED: Final = ("specversion", "id", "source", "type")
_ATTRIBUTES: Final = frozenset(
    (*_REQUIRED, "subject", "time", "datacontenttype", "dataschema", "data", "data_base64", _HOPS)
)
_EXTENSION = re.compile(r"[a-z0-9]{1,20}\Z")
_JSON_TYPE = re.compile(r"application/(?:[\w.+-]+\+)?json\s*(?:;.*)?\Z", re.IGNORECASE)


def _new_id() -> str:
    return uuid.uuid4().hex


@dataclass(frozen=True, slots=True)
class EventEnvelope:
    """One event: what happened, to whom it matters, and where it came from.

    Attributes:
        topic: Segments parted by dots, such as ``"orders.created"``; CloudEvents' ``type``.
        payload: What happened; CloudEvents' ``data``. Handlers share it: none may change it.
        headers: Text beside the payload; CloudEvents' extension attributes.
        id: Unique with `source`; made up when not given. Deliveries of one event share it.
        source: Who says so; a URI reference.
        subject: What it is about, or None.
        time: When it happened, ISO 8601, or None.
        hops: How many handlers were on the way here; a loop of events ends at the dispatcher's limit.
    """

    topic: str
    payload: Any = None
    headers: Mapping[str, str] = field(default_factory=dict)
    id: str = field(default_factory=_new_id)
    source: str = "oneiric"
    subject: str | None = None
    time: str | None = None
    hops: int = 0

    def hop(self) -> Self:
        """Return the same event one hop further."""
        return replace(self, hops=self.hops + 1)

    def to_cloudevent(self) -> dict[str, Any]:
        """Return the event in CloudEvents' structured JSON form."""
        event: dict[str, Any] = {"specversion": _VERSION, "id": self.id, "source": self.source, "type": self.topic}
        if self.subject is not None:
            event["subject"] = self.subject
        if self.time is not None:
            event["time"] = self.time
        if self.hops:
            event[_HOPS] = self.hops
        event.update({name: value for name, value in self.headers.items() if name not in _ATTRIBUTES})
        if self.payload is not None:
            event["datacontenttype"] = "application/json"
            event["data"] = self.payload
        return event

    @classmethod
    def from_cloudevent(cls, event: Mapping[str, Any]) -> Self:
        """Read an event in CloudEvents' structured JSON form.

        Raises:
            DispatchError: An attribute is missing, of the wrong type, or of another version of the format.
        """
        _check(event)
        return cls(
            topic=event["type"],
            payload=event.get("data"),
            headers={name: _text(name, value) for name, value in event.items() if name not in _ATTRIBUTES},
            id=event["id"],
            source=event["source"],
            subject=event.get("subject"),
            time=event.get("time"),
            hops=_hops(event.get(_HOPS, 0)),
        )

    @classmethod
    def from_http(cls, headers: Mapping[str, str], body: bytes) -> Self:
        """Read an event from an HTTP message, in structured or binary mode.

        Args:
            headers: The message's headers, by lower-case name.
            body: The message's body.

        Raises:
            DispatchError: It is no CloudEvent, or its body is no JSON.
        """
        content_type = headers.get("content-type", "")
        if content_type.lower().startswith("application/cloudevents+json"):
            event = _json(body)
            if not isinstance(event, dict):
                raise DispatchError("a CloudEvent is a JSON object", "Content-Type: application/cloudevents+json")
            return cls.from_cloudevent(event)
        event = {name.removeprefix("ce-"): value for name, value in headers.items() if name.startswith("ce-")}
        if not event:
            raise DispatchError("the message is no CloudEvent", "ce-* headers, or application/cloudevents+json")
        if body:
            if content_type and not _JSON_TYPE.match(content_type):
                raise DispatchError(f"the event's data is {content_type!r}, not JSON", "application/json")
            event["data"] = _json(body)
        return cls.from_cloudevent(event)


def _json(body: bytes) -> Any:
    try:
        return json.loads(body)
    except (ValueError, RecursionError) as error:
        raise DispatchError("the event's data is no JSON") from error


def _check(event: Mapping[str, Any]) -> None:
    for name in _REQUIRED:
        if not isinstance(event.get(name), str) or not event[name]:
            raise DispatchError(f"the CloudEvent has no {name!r}", f"a text that is not empty for {name}")
    if event["specversion"] != _VERSION:
        raise DispatchError(f"CloudEvents {event['specversion']!r} is not supported", f"specversion {_VERSION}")
    for name in ("subject", "time"):
        if not isinstance(event.get(name), str | None):
            raise DispatchError(f"the CloudEvent's {name!r} is no text")
    if event.get("time") is not None:
        _check_time(event["time"])
    if "data_base64" in event:
        raise DispatchError("the CloudEvent carries binary data", "JSON data")


def _check_time(text: str) -> None:
    try:
        stated = datetime.fromisoformat(text)
    except ValueError as error:
        raise DispatchError(f"the CloudEvent's time {text[:40]!r} is no RFC 3339 time") from error
    if stated.tzinfo is None:
        raise DispatchError(f"the CloudEvent's time {text[:40]!r} has no time zone", f"{text[:40]}Z")


def _text(name: str, value: Any) -> str:
    if not _EXTENSION.match(name) or isinstance(value, dict | list):
        raise DispatchError(f"the CloudEvent's attribute {name[:40]!r} is not allowed", "lower-case letters and digits")
    return value if isinstance(value, str) else json.dumps(value)


def _hops(value: Any) -> int:
    try:
        hops = int(value)
    except (TypeError, ValueError) as error:
        raise DispatchError(f"the CloudEvent's {_HOPS} is no number") from error
    if hops < 0:
        raise DispatchError(f"the CloudEvent's {_HOPS} is negative")
    return hops
