"""A fixed-seed sample of ``scripts/soak swap``, and the mutant that must lose calls."""

from __future__ import annotations

import asyncio
import json
from typing import TYPE_CHECKING

from benchmarks.soak.swap import Plan, main, soak

if TYPE_CHECKING:
    import pytest


def test_no_call_is_lost_and_none_lands_on_a_cleaned_up_instance() -> None:
    plan = Plan(calls=6_000, swaps=60, callers=64, seed=7)

    outcome = asyncio.run(soak(plan))

    assert outcome.failures(plan) == []
    assert (outcome.lost, outcome.swaps, outcome.rollbacks) == (0, 60, 6)


def test_every_swap_binds_while_calls_are_in_flight() -> None:
    outcome = asyncio.run(soak(Plan(calls=2_000, swaps=20, callers=64, seed=8)))

    assert len(outcome.in_flight) == 20
    assert min(outcome.in_flight) > 0


def test_a_lifecycle_that_does_not_drain_loses_calls() -> None:
    plan = Plan(calls=3_000, swaps=30, callers=64, seed=7, drain=False)

    outcome = asyncio.run(soak(plan))

    assert outcome.on_cleaned_up > 0
    assert outcome.failures(plan) != []


def test_the_soak_says_what_it_lost_and_fails(capsys: pytest.CaptureFixture[str]) -> None:
    status = main(["--calls", "2000", "--swaps", "20", "--callers", "64", "--seed", "3", "--mutant", "no-drain"])
    line = json.loads(capsys.readouterr().out)

    assert status == 1
    assert line["figure"]["lost"] == line["on_cleaned_up"] > 0
    assert (line["seed"], line["mutant"], line["ok"]) == (3, "no-drain", False)
