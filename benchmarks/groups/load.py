"""Swaps under callers that hold the instance across an await: what they lose, and what they wait."""

import asyncio
from dataclasses import replace

from benchmarks._timing import Figure, Who
from benchmarks.soak.swap import Plan, soak

#: Swaps; each with about 200 calls around it.
ROUNDS = 100
CALLERS = 50
CALL_SECONDS = 0.005


def measure(rounds: int) -> list[Figure]:
    """Measure the group."""
    plan = Plan(calls=200 * rounds, swaps=rounds, callers=CALLERS, call_seconds=CALL_SECONDS)
    ours = asyncio.run(soak(plan))
    mutant = asyncio.run(soak(replace(plan, drain=False)))
    found: list[Figure] = []

    def add(name: str, label: str, value: float | None, unit: str, who: Who = "ours") -> None:
        if value is not None:
            found.append(Figure(name=f"load.{name}", label=label, who=who, value=value, unit=unit))

    what = f"{CALLERS} callers of {CALL_SECONDS * 1000:g} ms, {ours.swaps} swaps"
    add("calls", what, ours.calls, "calls")
    add("lost", "lost: raised, or on a cleaned-up instance", ours.lost, "calls")
    add("on_cleaned_up", "of these on a cleaned-up instance", ours.on_cleaned_up, "calls")
    add("in_flight", "in flight at a binding, at least", min(ours.in_flight), "calls")
    add("added_p50", "added latency of a call that meets a swap, p50", ours.added_ms(0.50), "ms")
    add("added_p99", "the same, p99", ours.added_ms(0.99), "ms")
    label = f"lost by a lifecycle that does not wait: {mutant.lost / mutant.calls:.0%} of its calls"
    add("lost_without_drain", label, mutant.lost, "calls", "floor")
    return found
