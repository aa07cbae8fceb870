"""The names of what logs, spans and metrics say about the same things."""

from collections.abc import Mapping
from typing import Final

__all__ = ["TAGS", "tag"]

#: How callers name something → how it is called in log lines and span attributes.
TAGS: Final[Mapping[str, str]] = {
    "adapter": "oneiric.adapter",
    "category": "oneiric.category",
    "decision_id": "oneiric.decision.id",
    "domain": "oneiric.domain",
    "event_handler": "oneiric.event.handler",
    "event_topic": "oneiric.event.topic",
    "key": "oneiric.key",
    "node": "oneiric.node",
    "operation": "oneiric.operation",
    "provider": "oneiric.provider",
    "revision": "oneiric.revision",
    "run_id": "oneiric.run_id",
    "tenant": "oneiric.tenant",
    "workflow": "oneiric.workflow",
}


def tag(name: str) -> str:
    """Return the attribute that a caller's *name* stands for: a dotted one is one already."""
    return TAGS.get(name) or (name if "." in name else f"oneiric.{name}")
