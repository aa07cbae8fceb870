"""Why an event runs a handler, or does not."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from oneiric.runtime.events._envelope import EventEnvelope
from oneiric.runtime.events._handler import EventHandler
from oneiric.runtime.events._topics import TopicIndex

__all__ = ["EventExplanation", "HandlerExplanation"]


@dataclass(frozen=True, slots=True, kw_only=True)
class HandlerExplanation:
    """One handler and one event.

    Attributes:
        handler: Its name.
        runs: Whether the event is given to it.
        reason: ``matched``, or what keeps the event out: ``topic``, ``filter``, ``paused`` or ``exclusive``.
        detail: The same in a sentence.
    """

    handler: str
    runs: bool
    reason: str
    detail: str


@dataclass(frozen=True, slots=True, kw_only=True)
class EventExplanation:
    """Every handler and one event, in the order of their turns.

    Attributes:
        topic: The event's topic.
        handlers: One line for each.
    """

    topic: str
    handlers: tuple[HandlerExplanation, ...]

    @property
    def runs(self) -> tuple[str, ...]:
        """The handlers that would run, in the order of their turns."""
        return tuple(each.handler for each in self.handlers if each.runs)

    def as_dict(self) -> dict[str, Any]:
        """Return plain data."""
        return {
            "topic": self.topic,
            "handlers": [
                {"handler": each.handler, "runs": each.runs, "reason": each.reason, "detail": each.detail}
                for each in self.handlers
            ],
        }

    def __str__(self) -> str:
        if not self.handlers:
            return f"event {self.topic}: there are no handlers"
        lines = [f"  {'runs' if each.runs else 'not '} {each.handler}: {each.detail}" for each in self.handlers]
        return "\n".join([f"event {self.topic}", *lines])


def explain(envelope: EventEnvelope, handlers: Sequence[EventHandler]) -> EventExplanation:
    """Judge every handler as a dispatch would, and say why."""
    index = TopicIndex((topic, handler) for handler in handlers for topic in handler.topics)
    concerned = index.match(envelope.topic)
    ranked = sorted(handlers, key=lambda each: -each.priority)
    why_not: dict[str, tuple[str, str]] = {}
    for handler in ranked:
        if handler not in concerned:
            why_not[handler.name] = ("topic", f"its topics are {', '.join(handler.topics)}")
            continue
        kept_out = next((clause for each in handler.filters if (clause := each.why_not(envelope))), None)
        if kept_out is not None:
            why_not[handler.name] = ("filter", kept_out)
    first = next((each for each in ranked if each.fanout == "exclusive" and each.name not in why_not), None)
    lines = []
    for handler in ranked:
        if first is not None and handler is not first:
            why_not.setdefault(handler.name, ("exclusive", f"{first.name} takes it exclusively"))
        if handler.name not in why_not and handler.refuses is not None and (reason := handler.refuses()) is not None:
            why_not[handler.name] = ("paused", reason)
        reason, detail = why_not.get(handler.name, ("matched", _matched(handler)))
        lines.append(
            HandlerExplanation(handler=handler.name, runs=handler.name not in why_not, reason=reason, detail=detail)
        )
    return EventExplanation(topic=envelope.topic, handlers=tuple(lines))


def _matched(handler: EventHandler) -> str:
    text = f"priority {handler.priority}"
    if handler.filters:
        text += f", {len(handler.filters)} filter{'s' if len(handler.filters) > 1 else ''} hold"
    return f"{text}, exclusive" if handler.fanout == "exclusive" else text
