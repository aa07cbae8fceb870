"""How anything is measured: small batches, interleaved, the minimum of each."""

import gc
import time
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field

__all__ = ["Group", "interleaved", "interleaved_async"]

#: Runs a batch of a given size and returns nothing.
type Batch = Callable[[int], object]
type AsyncBatch = Callable[[int], Awaitable[object]]


@dataclass(slots=True)
class Group:
    """The results of one group.

    Attributes:
        name: The group's name, as in the bars.
        ratios: Measure → ratio to its floor; bytes for the measure that says so.
        shown: Lines for people: peers, absolute figures, what could not be measured.
    """

    name: str
    ratios: dict[str, float] = field(default_factory=dict)
    shown: list[str] = field(default_factory=list)


def interleaved(batches: Mapping[str, Batch], *, size: int, rounds: int = 60) -> dict[str, float]:
    """Return each batch's best time per item, in nanoseconds.

    The batches take turns round by round, so that a change of the machine's speed meets all of them, and the garbage
    collector stands still while one runs.
    """
    best = dict.fromkeys(batches, float("inf"))
    for _ in range(rounds):
        for name, batch in batches.items():
            gc.collect(0)
            gc.disable()
            started = time.perf_counter_ns()
            batch(size)
            best[name] = min(best[name], (time.perf_counter_ns() - started) / size)
            gc.enable()
    return best


async def interleaved_async(batches: Mapping[str, AsyncBatch], *, size: int, rounds: int = 60) -> dict[str, float]:
    """The same for batches that are awaited."""
    best = dict.fromkeys(batches, float("inf"))
    for _ in range(rounds):
        for name, batch in batches.items():
            gc.collect(0)
            gc.disable()
            started = time.perf_counter_ns()
            await batch(size)
            best[name] = min(best[name], (time.perf_counter_ns() - started) / size)
            gc.enable()
    return best
