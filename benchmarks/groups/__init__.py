"""The groups: each module measures one thing, in a process of its own, with ``measure(rounds) -> list[Figure]``."""

from importlib import import_module
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from benchmarks._timing import Figure

__all__ = ["GROUPS", "measure"]

#: Name → what it measures, in the order they run.
GROUPS: Final = {
    "resolve": "the hot reads, 10 to 10 000 keys, 1 to 100 candidates on the key",
    "explain": "an explanation asked for the first time, again, and as plain data",
    "registration": "10 000 candidates in one revision, their memory, many on one key",
    "manifest": "a signed manifest of 1 000 and 10 000 entries, from bytes to registered candidates",
    "swap": "a swap that nobody is using",
    "load": "swaps under callers that hold the instance across an await",
    "store": "durable writes of a thousand callers at once, and the hot read of activity",
    "workflow": "what a node of a workflow costs, in memory and kept; makespan; memory",
    "lease": "what a caller pays: handle, lease, live call",
    "events": "a dispatch to 1, 10 and 100 handlers, in turn and at once, and to one of 1,000 topics",
    "telemetry": "what watching costs a swap, and that it costs a read nothing",
    "imports": "import of the core",
    "start": "start of the command",
    "serving": "an orchestrator's start, asking it, and telling another process",
    "reload": "the rename of a settings file to the new instance that serves",
}


def measure(group: str, rounds: int | None = None) -> "list[Figure]":
    """Measure a group in this process; *rounds* by default as many as the group needs to be steady."""
    module = import_module(f"benchmarks.groups.{group}")
    figures: list[Figure] = module.measure(rounds or module.ROUNDS)
    return figures
