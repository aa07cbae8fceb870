"""Soak: a million calls across a thousand swaps; none is lost, none lands on a cleaned-up instance.

The callers go through leases, live proxies and handles, and each call suspends for a millisecond or more with the
instance in its hands: calls that never suspend would prove nothing. Every tenth swap goes to an instance that reports
itself unhealthy and must leave the old one serving. The mutant ``no-drain`` cleans up without waiting for anybody:
it must lose calls, or the count is worth nothing.
"""

import argparse
import asyncio
import json
import random
import time
from array import array
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, Final

from oneiric.core.errors import SwapError
from oneiric.core.events import Bound
from oneiric.core.lifecycle import LifecycleManager, LifecycleTimeouts
from oneiric.core.resolution import Candidate, Policy, Resolver

__all__ = ["Outcome", "Plan", "main", "soak"]

DOMAIN, KEY = "service", "ledger"
#: A swap to a sick instance is tried after so many swaps.
_SICK_EVERY: Final = 10


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """The size of a soak.

    Attributes:
        calls: At least so many calls.
        swaps: So many successful swaps, spread over the calls.
        callers: Concurrent callers.
        seed: Decides which way each call goes and how long it takes.
        call_seconds: What a call takes at least; at most half as much again.
        drain: False is the mutant.
    """

    calls: int = 1_000_000
    swaps: int = 1_000
    callers: int = 128
    seed: int = 1
    call_seconds: float = 0.001
    drain: bool = True


@dataclass(slots=True)
class Outcome:
    """What was counted. ``during`` and ``between`` hold seconds per call that met a swap, and that met none."""

    calls: int = 0
    raised: int = 0
    on_cleaned_up: int = 0
    swaps: int = 0
    rollbacks: int = 0
    unexpected: int = 0
    made: int = 0
    cleaned: int = 0
    first_loss: str | None = None
    in_flight: list[int] = field(default_factory=list)
    during: "array[float]" = field(default_factory=lambda: array("d"))
    between: "array[float]" = field(default_factory=lambda: array("d"))

    @property
    def lost(self) -> int:
        """Calls that raised or were made on a cleaned-up instance."""
        return self.raised + self.on_cleaned_up

    def added_ms(self, share: float) -> float | None:
        """Return how much later calls that met a swap end, at a quantile; None when either kind is missing."""
        if not self.during or not self.between:
            return None
        return (_quantile(self.during, share) - _quantile(self.between, share)) * 1000.0

    def failures(self, plan: Plan) -> list[str]:
        """Return what broke the promise, or was not exercised; empty when the figure stands."""
        checks = {
            f"{self.raised} calls raised, the first: {self.first_loss}": self.raised == 0,
            f"{self.on_cleaned_up} calls were made on a cleaned-up instance": self.on_cleaned_up == 0,
            f"{self.calls} calls of {plan.calls}": self.calls >= plan.calls,
            f"{self.swaps} swaps of {plan.swaps}": self.swaps == plan.swaps,
            f"{self.unexpected} sick instances were bound": self.unexpected == 0,
            "a swap met no call in flight": bool(self.in_flight) and min(self.in_flight) > 0,
            f"{self.made} instances were made and {self.cleaned} cleaned up": self.made == self.cleaned,
        }
        return [sentence for sentence, holds in checks.items() if not holds]


def _quantile(values: "array[float]", share: float) -> float:
    return sorted(values)[int(len(values) * share)]


class CleanedUpError(Exception):
    """A call was made on an instance that was cleaned up before it ended."""


class Ledger:
    """What is swapped; knows whether it was cleaned up, before and after the wait inside each call."""

    def __init__(self, outcome: Outcome) -> None:
        self._outcome = outcome
        self._open = True
        outcome.made += 1

    async def record(self, seconds: float) -> None:
        """Take a while with the instance in hand."""
        if not self._open:
            raise CleanedUpError("before the call began")
        await asyncio.sleep(seconds)
        if not self._open:
            raise CleanedUpError("under the call")

    async def cleanup(self) -> None:
        """Serve nobody any more."""
        self._open = False
        self._outcome.cleaned += 1


class SickLedger(Ledger):
    """An instance that must never be bound."""

    async def health(self) -> bool:
        """Say no."""
        return False


class _Load:
    """The callers and the swapper of one soak."""

    def __init__(self, plan: Plan, lifecycle: LifecycleManager, outcome: Outcome) -> None:
        self.plan = plan
        self.lifecycle = lifecycle
        self.outcome = outcome
        self.chance = random.Random(plan.seed)  # noqa: S311 - reproducible, not secret
        self.live = lifecycle.live(DOMAIN, KEY)
        self.swapping = False
        self.windows = 0
        self.done = False

    async def run(self) -> None:
        """Activate, call and swap until the plan is fulfilled."""
        self.handle = await self.lifecycle.handle(DOMAIN, KEY)
        async with asyncio.TaskGroup() as tasks:
            for _ in range(self.plan.callers):
                tasks.create_task(self._caller())
            await self._swapper()
            self.done = True

    async def _call(self, way: int, seconds: float) -> None:
        if way == 0:
            await self.live.record(seconds)
        elif way == 1:
            async with self.lifecycle.lease(DOMAIN, KEY) as ledger:
                await ledger.record(seconds)
        else:
            generation = self.handle.acquire()
            try:
                await generation.instance.record(seconds)
            finally:
                self.handle.release(generation)

    async def _caller(self) -> None:
        plan, outcome, draw = self.plan, self.outcome, self.chance.random
        while not self.done:
            meets, windows = self.swapping, self.windows
            seconds = plan.call_seconds * (1.0 + draw() / 2)
            started = time.perf_counter()
            try:
                await self._call(int(draw() * 3), seconds)
            except CleanedUpError as error:
                outcome.on_cleaned_up += 1
                outcome.first_loss = outcome.first_loss or str(error)
            except Exception as error:  # noqa: BLE001 - whatever it is, the caller has lost a call
                outcome.raised += 1
                outcome.first_loss = outcome.first_loss or f"{type(error).__name__}: {error}"
                await asyncio.sleep(0)
            late = time.perf_counter() - started - seconds
            (outcome.during if meets or windows != self.windows else outcome.between).append(late)
            outcome.calls += 1

    async def _swapper(self) -> None:
        plan, outcome = self.plan, self.outcome
        while outcome.swaps < plan.swaps:
            await self._reached(plan.calls * (outcome.swaps + 1) // (plan.swaps + 1))
            self.windows += 1
            self.swapping = True
            await self.lifecycle.swap(DOMAIN, KEY, provider=self.chance.choice(("one", "two")))
            self.swapping = False
            outcome.swaps += 1
            if outcome.swaps % _SICK_EVERY == 0:
                await self._refused()
        await self._reached(plan.calls)

    async def _reached(self, calls: int) -> None:
        """Wait until so many calls have ended: the pace of the swaps follows the load, on any machine."""
        while self.outcome.calls < calls:  # noqa: ASYNC110 - an event set by every call would be part of the load
            await asyncio.sleep(self.plan.call_seconds / 4)

    async def _refused(self) -> None:
        try:
            await self.lifecycle.swap(DOMAIN, KEY, provider="sick")
        except SwapError:
            self.outcome.rollbacks += 1
        else:
            self.outcome.unexpected += 1


async def soak(plan: Plan) -> Outcome:
    """Run a soak to its end and return what was counted."""
    outcome = Outcome()
    resolver = Resolver(Policy())
    # Registered last wins: "one" serves first, and "sick" is had by name only.
    for provider, kind in (("sick", SickLedger), ("two", Ledger), ("one", Ledger)):
        resolver.register(Candidate(domain=DOMAIN, key=KEY, provider=provider, factory=lambda kind=kind: kind(outcome)))
    lifecycle = LifecycleManager(
        resolver,
        timeouts=LifecycleTimeouts() if plan.drain else LifecycleTimeouts(drain_seconds=0),
        on_drain_timeout="report" if plan.drain else "force",
    )

    def count(event: object) -> None:
        if isinstance(event, Bound) and event.previous is not None:
            outcome.in_flight.append(event.in_flight)

    lifecycle.observe(count)
    async with lifecycle:
        await _Load(plan, lifecycle, outcome).run()
    return outcome


def _plan(options: argparse.Namespace) -> Plan:
    size: dict[str, int] = {"calls": 20_000, "swaps": 100, "callers": 64} if options.quick else {}
    size |= {name: given for name in ("calls", "swaps", "callers") if (given := getattr(options, name)) is not None}
    return Plan(**size, seed=options.seed, drain=options.mutant is None)


def main(arguments: Sequence[str]) -> int:
    """Run the soak, print one JSON line, and return 1 when the promise was broken."""
    parser = argparse.ArgumentParser(prog="scripts/soak swap", description="calls across swaps: none is lost")
    parser.add_argument("--quick", action="store_true", help="a fiftieth of the calls")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--mutant", choices=["no-drain"], help="break the lifecycle on purpose: calls must be lost")
    for name in ("calls", "swaps", "callers"):
        parser.add_argument(f"--{name}", type=int)
    options = parser.parse_args(arguments)
    plan = _plan(options)
    started = time.perf_counter()
    outcome = asyncio.run(soak(plan))
    failures = outcome.failures(plan)
    print(json.dumps(_line(plan, outcome, failures, options.mutant, time.perf_counter() - started)))
    return int(bool(failures))


def _line(plan: Plan, outcome: Outcome, failures: list[str], mutant: str | None, seconds: float) -> dict[str, Any]:
    p50, p99 = outcome.added_ms(0.50), outcome.added_ms(0.99)
    return {
        "property": "no call is lost across swaps, and none lands on a cleaned-up instance",
        "figure": {"calls": outcome.calls, "lost": outcome.lost, "swaps": outcome.swaps},
        "seed": plan.seed,
        "ok": not failures,
        "failures": failures,
        "mutant": mutant,
        "callers": plan.callers,
        "raised": outcome.raised,
        "on_cleaned_up": outcome.on_cleaned_up,
        "rollbacks": outcome.rollbacks,
        "in_flight_at_bind": {
            "min": min(outcome.in_flight, default=0),
            "mean": round(sum(outcome.in_flight) / max(len(outcome.in_flight), 1), 1),
        },
        "added_latency_ms": {
            "p50": None if p50 is None else round(p50, 3),
            "p99": None if p99 is None else round(p99, 3),
            "goal_p99": 5,
        },
        "seconds": round(seconds, 1),
    }
