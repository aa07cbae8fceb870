"""Plan: who is called for the events of one topic, worked out once."""

from oneiric.runtime.events._handler import Call, EventHandler
from oneiric.runtime.events._results import DispatchReport, Outcome

__all__ = ["Plan"]


class Plan:
    """Who is called for the events of one topic."""

    __slots__ = ("are_many", "calls", "chooses", "handlers", "named_calls", "success", "topic")

    def __init__(
        self, topic: str, handlers: tuple[EventHandler, ...], calls: tuple[Call, ...], *, chooses: bool
    ) -> None:
        self.topic = topic
        self.handlers = handlers
        self.calls = calls
        self.are_many = len(calls) > 1
        self.named_calls = tuple(zip((handler.name for handler in handlers), calls, strict=True))
        #: The report of an event that every handler took.
        self.success = DispatchReport(topic, len(handlers))
        #: Whether each event has to be looked at to know who is called.
        self.chooses = chooses

    def in_turns(self, outcomes: list[Outcome]) -> list[Outcome]:
        """Return what handlers that ran at once came to in the order of their turns."""
        turns = {name: turn for turn, (name, _) in enumerate(self.named_calls)}
        return sorted(outcomes, key=lambda outcome: turns[outcome[0]])
