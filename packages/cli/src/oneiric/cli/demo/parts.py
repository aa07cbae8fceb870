"""The components of the demo's catalogue. Each does the little it says."""

import time
from collections import Counter
from collections.abc import Mapping
from typing import Any

__all__ = ["DemoAction", "DemoEventHandler", "DemoTask", "DemoWorkflow", "FlakyCache", "StatusService"]


class FlakyCache:
    """A cache that starts and is not healthy: a swap to it must leave the old one serving."""

    async def health(self) -> bool:
        """Say no."""
        return False


class StatusService:
    """Tell for how long this process has been serving."""

    def __init__(self) -> None:
        self._started = time.monotonic()

    async def status(self) -> dict[str, Any]:
        """Return ``status`` and ``uptime_seconds``."""
        return {"status": "ok", "uptime_seconds": time.monotonic() - self._started}


class DemoTask:
    """Add up an order."""

    async def run(self, payload: Mapping[str, Any] | None = None) -> dict[str, Any]:
        """Return the ``total`` of ``payload["lines"]``, each a ``quantity`` and a ``price``."""
        lines = (payload or {}).get("lines", ())
        return {"lines": len(lines), "total": sum(line["quantity"] * line["price"] for line in lines)}


class DemoEventHandler:
    """Count events by topic."""

    def __init__(self) -> None:
        self.seen: Counter[str] = Counter()

    async def handle(self, envelope: Any) -> dict[str, Any]:
        """Count one and return how many of its topic there were."""
        topic = str(getattr(envelope, "topic", "cli.event"))
        self.seen[topic] += 1
        return {"topic": topic, "seen": self.seen[topic]}


class DemoWorkflow:
    """A graph of one node; the catalogue's row holds it, for those who only list."""

    nodes = ({"id": "demo-step", "task": "demo-task", "depends_on": ()},)


class DemoAction:
    """Give back what it was given."""

    async def execute(self, payload: Mapping[str, Any] | None = None) -> dict[str, Any]:
        """Return the payload as ``echo``."""
        return {"echo": dict(payload or {})}
