"""Soak: a thousand bad configurations and a thousand good ones, through the watcher, under calls.

Every file is written beside and renamed, seen by the watcher, and read by the reloader. Each bad one must be refused
and leave the last good one serving, the next good one must be in force within two seconds, no call may be lost, and
memory must not grow. The mutants break the promise on purpose: ``no-drain`` cleans up under its
callers, ``leak`` keeps every configuration that was read.
"""

import argparse
import asyncio
import gc
import json
import resource
import tempfile
import time
import tracemalloc
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

from pydantic import BaseModel, Field

from oneiric.core.lifecycle import LifecycleManager, LifecycleTimeouts
from oneiric.core.resolution import Candidate, Resolver
from oneiric.runtime.reload import ConfigReloader, ReloadResult
from oneiric.runtime.settings import LoadedSettings, ProviderSettings, load_settings, policy_from
from oneiric.runtime.watchers import watch_config

__all__ = ["LedgerSettings", "Outcome", "Plan", "main", "soak"]

DOMAIN, KEY = "service", "ledger"
GOOD: Final = '[services.selections]\nledger = "{provider}"\n[services.provider_settings.{provider}]\nsize = {size}\n'
BAD: Final = (
    "[services.selections",
    "[services.selection]\nledger = 'one'\n",
    "[services.selections]\nledger = 'missing'\n",
    "[services.selections]\nledger = 'sick'\n",
    "[services.selections]\nledger = 'broken'\n",
    "[services.selections]\nledger = 'one'\n[services.provider_settings.one]\nsize = -1\n",
    "[services.selections]\nledger = 'one'\n[services.provider_settings.one]\nsice = 1\n",
)
#: How often memory is looked at over the good reloads; the second half counts, when all caches are full.
_LOOKS: Final = 10
#: What one reload may leave behind, in bytes: less than the smallest thing it makes. Caches fill up over some hundred.
_MOST_GROWTH_BYTES: Final = 48.0
_MOST_WHILE_FILLING_BYTES: Final = 6_144.0
_FILLED: Final = 500
#: Longer than a reload keeps the loop busy, so that calls are in flight whenever an instance is replaced.
_CALL_SECONDS: Final = 0.005
_PATIENCE_SECONDS: Final = 30.0


class LedgerSettings(BaseModel):
    """What the providers take."""

    size: int = Field(default=1, ge=0)


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """The size of a soak.

    Attributes:
        bad: So many configurations that must be refused.
        good: So many that must be taken after them; each swaps the provider or its settings.
        callers: Concurrent callers.
        most_seconds: Within how long a good configuration must be taken after the bad ones.
        mutant: ``no-drain``, ``leak`` or None.
    """

    bad: int = 1_000
    good: int = 1_000
    callers: int = 16
    most_seconds: float = 2.0
    mutant: str | None = None


@dataclass(slots=True)
class Outcome:
    """What was counted."""

    refused: int = 0
    accepted: int = 0
    swaps: int = 0
    wrong: str | None = None
    calls: int = 0
    lost: int = 0
    first_loss: str | None = None
    recovery_seconds: float = 0.0
    version: int = 0
    #: Bytes that one reload leaves behind, by the slope through the looks.
    growth_bytes: float = 0.0
    #: By how much the process grew over the same reloads, as the system sees it; None where that is not told.
    resident_bytes: int | None = None
    kept: list[Any] = field(default_factory=list)

    def failures(self, plan: Plan) -> list[str]:
        """Return what broke the promise; empty when the figure stands."""
        most = _MOST_GROWTH_BYTES if plan.good >= _FILLED else _MOST_WHILE_FILLING_BYTES
        checks = {
            f"{self.refused} of {plan.bad} bad configurations were refused": self.refused == plan.bad,
            f"{self.accepted} of {plan.good} good configurations were taken": self.accepted == plan.good,
            f"{self.swaps} of {plan.good} swaps": self.swaps == plan.good,
            f"the outcome was not as expected: {self.wrong}": self.wrong is None,
            f"{self.lost} calls were lost, the first: {self.first_loss}": self.lost == 0,
            "there were no calls": self.calls > 0,
            f"the next good one took {self.recovery_seconds:.1f} s": self.recovery_seconds < plan.most_seconds,
            f"a reload leaves {self.growth_bytes:.0f} B behind": self.growth_bytes < most,
        }
        return [sentence for sentence, holds in checks.items() if not holds]


class Ledger:
    """What is swapped; a call on it fails once it is cleaned up."""

    def __init__(self, settings: LedgerSettings) -> None:
        self.size = settings.size
        self._open = True

    async def record(self, value: int) -> int:
        """Take a moment with the instance in hand."""
        await asyncio.sleep(_CALL_SECONDS)
        if not self._open:
            raise RuntimeError("cleaned up under the call")
        return value

    def close(self) -> None:
        """Serve nobody any more."""
        self._open = False


class Sick(Ledger):
    """An instance that must never be bound."""

    async def health(self) -> bool:
        """Say no."""
        return False


def broken(_: LedgerSettings) -> Ledger:
    """Fail to make an instance."""
    raise RuntimeError("as told")


class _Load:
    """The configuration, the system that follows it, and its callers."""

    def __init__(self, plan: Plan, file: Path, outcome: Outcome) -> None:
        self.plan = plan
        self.outcome = outcome
        self._file = file
        self._done = False
        self._results: asyncio.Queue[ReloadResult] = asyncio.Queue()
        self.write(GOOD.format(provider="one", size=0))
        loaded = self._load()
        resolver = Resolver(policy_from(loaded), journal_length=16)
        factories = {"sick": Sick, "broken": broken, "two": Ledger, "one": Ledger}
        resolver.apply(
            add=[
                Candidate(domain=DOMAIN, key=KEY, provider=name, factory=factory, settings_model=_MODEL)
                for name, factory in factories.items()
            ]
        )
        settings = ProviderSettings(loaded)
        forced = plan.mutant == "no-drain"
        self.lifecycle = LifecycleManager(
            resolver,
            settings_for=settings,
            timeouts=LifecycleTimeouts(drain_seconds=0) if forced else LifecycleTimeouts(),
            on_drain_timeout="force" if forced else "report",
        )
        self.reloader = ConfigReloader(
            loaded, self._load, resolver=resolver, lifecycle=self.lifecycle, provider_settings=settings
        )
        self.reloader.observe(self._results.put_nowait)

    def _load(self) -> LoadedSettings:
        loaded = load_settings(self._file, environ={})
        if self.plan.mutant == "leak":
            self.outcome.kept.append(loaded)
        return loaded

    def write(self, text: str) -> None:
        beside = self._file.with_name(".new")
        beside.write_text(text, encoding="utf-8")
        beside.replace(self._file)

    async def run(self) -> None:
        """Go through all configurations while the callers call."""
        async with self.lifecycle, watch_config(self.reloader, poll_interval=3600):
            await self.lifecycle.activate(DOMAIN, KEY)
            await self._result()
            async with asyncio.TaskGroup() as tasks:
                for _ in range(self.plan.callers):
                    tasks.create_task(self._caller())
                try:
                    await self._bad_ones()
                    await self._good_ones()
                finally:
                    self._done = True
            await self.reloader.aclose()
            self.outcome.version = self.reloader.versions.applied.number

    async def _result(self) -> ReloadResult:
        async with asyncio.timeout(_PATIENCE_SECONDS):
            return await self._results.get()

    async def _bad_ones(self) -> None:
        for number in range(self.plan.bad):
            self.write(f"# {number}\n{BAD[number % len(BAD)]}")
            result = await self._result()
            if result.accepted or self.reloader.versions.applied.number != 1:
                self.outcome.wrong = f"{BAD[number % len(BAD)]!r} was taken"
            else:
                self.outcome.refused += 1

    async def _good_ones(self) -> None:
        looks: list[tuple[int, int]] = []
        every = max(self.plan.good // _LOOKS, 1)
        resident = None
        with _traced():
            for number in range(1, self.plan.good + 1):
                started = time.perf_counter()
                # Turn by turn another provider, and the same with other settings.
                self.write(GOOD.format(provider=("one", "two")[number // 2 % 2], size=number))
                result = await self._result()
                if number == 1:
                    self.outcome.recovery_seconds = time.perf_counter() - started
                if not result.accepted:
                    self.outcome.wrong = result.reason
                self.outcome.accepted += result.accepted
                self.outcome.swaps += len(result.plan.swaps)
                if number % every == 0:
                    gc.collect()
                    looks.append((number, tracemalloc.get_traced_memory()[0]))
                    resident = _resident_bytes() if resident is None and number * 2 >= self.plan.good else resident
        self.outcome.growth_bytes = _slope(looks[len(looks) // 2 :])
        self.outcome.resident_bytes = None if resident is None else (_resident_bytes() or 0) - resident

    async def _caller(self) -> None:
        live, outcome = self.lifecycle.live(DOMAIN, KEY), self.outcome
        while not self._done:
            try:
                await live.record(outcome.calls)
            except Exception as error:  # noqa: BLE001 - whatever it is, the caller has lost a call
                outcome.lost += 1
                outcome.first_loss = outcome.first_loss or f"{type(error).__name__}: {error}"
                await asyncio.sleep(0)
            outcome.calls += 1


_MODEL: Final = f"{LedgerSettings.__module__}:LedgerSettings"


@contextmanager
def _traced() -> Iterator[None]:
    gc.collect()
    tracemalloc.start()
    try:
        yield
    finally:
        tracemalloc.stop()


def _resident_bytes() -> int | None:
    try:
        pages = Path("/proc/self/statm").read_text(encoding="ascii").split()[1]
    except OSError:
        return None
    return int(pages) * resource.getpagesize()


def _slope(points: Sequence[tuple[int, int]]) -> float:
    """Return the slope of the line that fits best; 0 for fewer than two points."""
    if len(points) < 2:
        return 0.0
    middle_x = sum(x for x, _ in points) / len(points)
    middle_y = sum(y for _, y in points) / len(points)
    spread = sum((x - middle_x) ** 2 for x, _ in points)
    return sum((x - middle_x) * (y - middle_y) for x, y in points) / spread


async def soak(plan: Plan) -> Outcome:
    """Run a soak to its end and return what was counted."""
    outcome = Outcome()
    with tempfile.TemporaryDirectory() as directory:
        await _Load(plan, Path(directory) / "oneiric.toml", outcome).run()
    return outcome


def main(arguments: Sequence[str]) -> int:
    """Run the soak, print one JSON line, and return 1 when the promise was broken."""
    parser = argparse.ArgumentParser(prog="scripts/soak reload", description="bad and good configurations under calls")
    parser.add_argument("--quick", action="store_true", help="a tenth of the configurations")
    parser.add_argument("--mutant", choices=["no-drain", "leak"], help="break the promise on purpose")
    for name in ("bad", "good", "callers"):
        parser.add_argument(f"--{name}", type=int)
    options = parser.parse_args(arguments)
    size: dict[str, int] = {"bad": 100, "good": 100} if options.quick else {}
    size |= {name: given for name in ("bad", "good", "callers") if (given := getattr(options, name)) is not None}
    plan = Plan(**size, mutant=options.mutant)
    started = time.perf_counter()
    outcome = asyncio.run(soak(plan))
    failures = outcome.failures(plan)
    print(json.dumps(_line(plan, outcome, failures, time.perf_counter() - started)))
    return int(bool(failures))


def _line(plan: Plan, outcome: Outcome, failures: list[str], seconds: float) -> dict[str, Any]:
    return {
        "property": "bad configurations are refused and lose no call, good ones are taken and leave no memory behind",
        "figure": {"refused": outcome.refused, "accepted": outcome.accepted, "lost": outcome.lost},
        "seed": None,
        "ok": not failures,
        "failures": failures,
        "mutant": plan.mutant,
        "calls": outcome.calls,
        "swaps": outcome.swaps,
        "version": outcome.version,
        "recovery_seconds": round(outcome.recovery_seconds, 3),
        "growth_bytes_per_reload": round(outcome.growth_bytes, 1),
        "resident_growth_bytes": outcome.resident_bytes,
        "seconds": round(seconds, 1),
    }
