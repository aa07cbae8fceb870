"""Soak: no call is lost and none lands on a cleaned-up instance, over a million calls and a thousand swaps."""

import argparse
import asyncio
import json
import random
import sys
import time
from bisect import bisect_right
from dataclasses import dataclass, field
from typing import Any

from oneiric.core import Candidate, LifecycleManager, LifecycleTimeouts, Resolver

__all__ = ["Figures", "main", "soak"]

#: Calls that never suspend would prove nothing.
_CALL_SECONDS = 0.001


@dataclass(slots=True)
class Figures:
    """What was counted; latencies in milliseconds."""

    calls: int = 0
    lost: int = 0
    swaps: int = 0
    in_flight_at_swaps: int = 0
    first_loss: str | None = None
    spans: list[tuple[float, float]] = field(default_factory=list)
    windows: list[tuple[float, float]] = field(default_factory=list)

    def added_p99_ms(self) -> float | None:
        """The 99th percentile of calls that met a swap, minus that of the others."""
        starts = [start for start, _ in self.windows]
        met: list[float] = []
        rest: list[float] = []
        for start, end in self.spans:
            place = bisect_right(starts, end) - 1
            (met if place >= 0 and self.windows[place][1] >= start else rest).append(end - start)
        if not met or not rest:
            return None
        return round((_p99(met) - _p99(rest)) * 1000, 3)


def _p99(values: list[float]) -> float:
    values.sort()
    return values[int(len(values) * 0.99)]


class Component:
    """Knows whether it was cleaned up, before and after the wait inside each call."""

    def __init__(self) -> None:
        self.closed = False

    async def call(self) -> None:
        """Take a millisecond."""
        if self.closed:
            raise RuntimeError("the call began on a cleaned-up instance")
        await asyncio.sleep(_CALL_SECONDS)
        if self.closed:
            raise RuntimeError("the instance was cleaned up under the call")

    async def cleanup(self) -> None:
        """Be closed from now on."""
        self.closed = True


async def soak(*, calls: int, swaps: int, callers: int, seed: int, drain: bool = True) -> Figures:
    """Call through leases, live proxies and handles while the component is swapped.

    Args:
        calls: How many calls at least.
        swaps: How many swaps, spread over them.
        callers: Concurrent callers.
        seed: Of which way each caller calls.
        drain: False is the mutant that cleans up under the calls, and must lose some.
    """
    figures, chance = Figures(), random.Random(seed)  # noqa: S311 - reproducible, not secret
    resolver = Resolver()
    for provider in ("one", "two"):
        resolver.register(Candidate(domain="service", key="x", provider=provider, factory=Component))
    timeouts = LifecycleTimeouts() if drain else LifecycleTimeouts(drain_seconds=0)
    async with LifecycleManager(
        resolver, timeouts=timeouts, on_drain_timeout="report" if drain else "force"
    ) as lifecycle:
        live, handle = lifecycle.live("service", "x"), await lifecycle.handle("service", "x")

        async def one(way: int) -> None:
            if way == 0:
                await live.call()
            elif way == 1:
                async with lifecycle.lease("service", "x") as component:
                    await component.call()
            else:
                generation = handle.acquire()
                try:
                    await generation.instance.call()
                finally:
                    handle.release(generation)

        async def caller() -> None:
            while figures.calls < calls or figures.swaps < swaps:
                figures.calls += 1
                started = time.perf_counter()
                try:
                    await one(chance.randrange(3))
                except Exception as error:  # noqa: BLE001 - any is a lost call
                    figures.lost += 1
                    figures.first_loss = figures.first_loss or f"{type(error).__name__}: {error}"
                figures.spans.append((started, time.perf_counter()))

        async def swapper() -> None:
            for number in range(swaps):
                while figures.calls < calls * (number + 1) // (swaps + 1):  # noqa: ASYNC110 - a count, not an event
                    await asyncio.sleep(_CALL_SECONDS / 4)
                figures.in_flight_at_swaps += lifecycle.get_status("service", "x").in_flight
                started = time.perf_counter()
                await lifecycle.swap("service", "x", provider=("one", "two")[number & 1])
                figures.windows.append((started, time.perf_counter()))
                figures.swaps += 1

        await asyncio.gather(swapper(), *(caller() for _ in range(callers)))
    return figures


def main(arguments: list[str]) -> int:
    """Run the soak and print one JSON line; non-zero when a call was lost."""
    parser = argparse.ArgumentParser(prog="scripts/soak swap", description=__doc__)
    parser.add_argument("--calls", type=int, default=1_000_000)
    parser.add_argument("--swaps", type=int, default=1000)
    parser.add_argument("--callers", type=int, default=256)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--mutant", choices=["no-drain"], help="must lose calls, and so must fail")
    options = parser.parse_args(arguments)
    started = time.perf_counter()
    figures = asyncio.run(
        soak(
            calls=options.calls,
            swaps=options.swaps,
            callers=options.callers,
            seed=options.seed,
            drain=options.mutant is None,
        )
    )
    line: dict[str, Any] = {
        "property": "no call is lost, and none lands on a cleaned-up instance",
        "calls": figures.calls,
        "swaps": figures.swaps,
        "callers": options.callers,
        "lost": figures.lost,
        "first_loss": figures.first_loss,
        "mean_in_flight_at_swaps": round(figures.in_flight_at_swaps / max(figures.swaps, 1), 1),
        "added_p99_ms": figures.added_p99_ms(),
        "seed": options.seed,
        "seconds": round(time.perf_counter() - started, 1),
    }
    print(json.dumps(line))
    return 1 if figures.lost else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
