"""The demo end to end: no call is lost while a cache is swapped; and the same workload tells when one is."""

import asyncio
import json
import os
import subprocess
import sys
from collections.abc import Callable
from importlib.resources import files
from pathlib import Path
from typing import Any

import jsonschema
import pytest

from oneiric.adapters.cache.memory import MemoryCacheAdapter
from oneiric.adapters.cache.sqlite import SQLiteCacheAdapter, SQLiteCacheSettings
from oneiric.cli.demo.figures import figures_of, verdict_of
from oneiric.cli.demo.load import Call
from oneiric.cli.demo.parts import FlakyCache
from oneiric.cli.demo.swaps import Outcome, Plan, swap_under_load
from oneiric.core.errors import LifecycleError, SwapError
from oneiric.core.lifecycle import LifecycleManager, LifecycleTimeouts
from oneiric.core.resolution import Candidate, Resolver


def demo(*arguments: str, **variables: str) -> tuple[int, Any]:
    done = subprocess.run(
        [sys.executable, "-m", "oneiric.cli", "demo", "--json", *arguments],
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
        env={name: value for name, value in os.environ.items() if not name.startswith("ONEIRIC_")} | variables,
    )
    return done.returncode, json.loads(done.stdout)


def resolver_of(file: Path) -> Resolver:
    resolver = Resolver()
    factories: dict[str, Callable[[], Any]] = {
        "sqlite": lambda: SQLiteCacheAdapter(SQLiteCacheSettings(path=file)),
        "memory": MemoryCacheAdapter,
        "flaky": FlakyCache,
    }
    for provider, factory in factories.items():
        opt_in = provider == "flaky"
        resolver.register(Candidate(domain="adapter", key="cache", provider=provider, factory=factory, opt_in=opt_in))
    return resolver


PLAN = Plan(swaps=12, customers=16, calls_between=16, seconds=60)


def test_the_demo_swaps_under_load_and_loses_nothing() -> None:
    code, figures = demo("--swaps", "12")

    jsonschema.validate(figures, json.loads(files("oneiric.cli").joinpath("schemas/demo.json").read_text()))
    assert (code, figures["lost"], figures["swaps"], figures["ok"]) == (0, 0, 12, True)
    assert figures["rollbacks"] == 2
    assert figures["calls"] > 12 * 64
    assert figures["in_flight_at_bind"]["min"] > 0
    assert figures["swaps_to"] == {"memory": 6, "sqlite": 6}
    assert {row["provider"] for row in figures["explanation"]["filtered"]} >= {"flaky"}


def test_redis_takes_its_turn_in_the_rotation(redis_url: str) -> None:
    code, figures = demo(
        "--swaps", "6", "--provider", "redis", ONEIRIC_ADAPTERS__PROVIDER_SETTINGS__REDIS__URL=redis_url
    )

    assert (code, figures["lost"]) == (0, 0)
    assert figures["swaps_to"] == {"memory": 2, "redis": 2, "sqlite": 2}


def test_a_redis_that_does_not_answer_is_a_clear_error() -> None:
    code, answer = demo("--provider", "redis", ONEIRIC_ADAPTERS__PROVIDER_SETTINGS__REDIS__PORT="1")

    assert code == 1
    assert answer["error"]["type"] == "SwapError"
    assert "redis at localhost:1/0 cannot be reached" in answer["error"]["message"]


def test_the_demo_says_what_is_active_and_why_before_it_serves() -> None:
    done = subprocess.run(
        [sys.executable, "-m", "oneiric.cli", "demo", "--swaps", "2"],
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
    )

    assert (done.returncode, done.stderr) == (0, "")
    active = "memory was registered after sqlite, and all else is equal"
    aside = "is opt-in and nobody selected it"
    assert done.stdout.index(active) < done.stdout.index(aside) < done.stdout.index("in flight at each bind")
    assert done.stdout.endswith("Not a call was lost.\n")


def test_every_call_survives_when_the_lifecycle_drains(tmp_path: Path) -> None:
    async def scenario() -> Outcome:
        async with LifecycleManager(resolver_of(tmp_path / "cache.sqlite")) as lifecycle:
            return await swap_under_load(lifecycle, PLAN)

    figures = figures_of(asyncio.run(scenario()))

    assert verdict_of(figures) is None
    assert figures["in_flight_at_bind"]["min"] >= 1


def test_calls_are_lost_when_the_lifecycle_does_not_drain(tmp_path: Path) -> None:
    async def scenario() -> Outcome:
        undrained = LifecycleManager(
            resolver_of(tmp_path / "cache.sqlite"),
            timeouts=LifecycleTimeouts(drain_seconds=0),
            on_drain_timeout="force",
        )
        async with undrained as lifecycle:
            return await swap_under_load(lifecycle, PLAN)

    figures = figures_of(asyncio.run(scenario()))

    assert figures["lost"] > 0
    assert figures["lost_by"]["cleaned_up"] > 0
    assert "calls were lost" in str(verdict_of(figures))


def test_a_swap_that_fails_ends_the_run_as_itself(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with LifecycleManager(resolver_of(tmp_path / "cache.sqlite")) as lifecycle:
            await swap_under_load(lifecycle, Plan(rotation=("flaky", "memory"), failing=None, swaps=2))

    with pytest.raises(SwapError, match="flaky"):
        asyncio.run(scenario())


def test_a_failing_provider_that_comes_to_serve_ends_the_run(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with LifecycleManager(resolver_of(tmp_path / "cache.sqlite")) as lifecycle:
            await swap_under_load(lifecycle, Plan(failing="memory", swaps=4))

    with pytest.raises(LifecycleError, match="was bound all the same"):
        asyncio.run(scenario())


def call(began: float, ended: float, lost: str | None = None) -> Call:
    return Call(began, ended, lost)


def test_added_latency_compares_calls_that_met_a_swap_with_the_rest() -> None:
    outcome = Outcome(
        calls=[call(0.0, 0.5), call(1.0, 1.030), call(2.0, 2.010), call(2.5, 2.510)],  # the first one is the warm-up
        windows=[(1.010, 1.020)],
        bound=[("memory", 3)],
    )

    figures = figures_of(outcome)

    assert figures["latency_ms"]["swapping"]["p50"] == pytest.approx(30)
    assert figures["added_latency_ms"]["p50"] == pytest.approx(20)


def test_a_swap_without_load_is_a_failure() -> None:
    outcome = Outcome(calls=[call(0, 1)], windows=[(0, 1), (1, 2)], bound=[("memory", 3), ("sqlite", 0)])

    assert verdict_of(figures_of(outcome)) == "a swap was bound with no call in flight, so the run shows nothing"


@pytest.mark.parametrize("how", ["raised", "unanswered", "cleaned_up"])
def test_one_lost_call_is_a_failure_however_it_was_lost(how: str) -> None:
    outcome = Outcome(calls=[call(0, 1), call(1, 2, how)], windows=[(0, 1)], bound=[("memory", 3)])

    assert "1 of 2 calls were lost" in str(verdict_of(figures_of(outcome)))
