"""A sample of ``scripts/soak fetch``: its figures, and the mutant that must be noticed."""

from __future__ import annotations

import asyncio

from benchmarks.soak.fetch import Plan, failures, quick, soak


def test_hostile_bodies_cost_no_more_memory_or_time_than_promised() -> None:
    plan = quick(Plan())

    outcome = asyncio.run(soak(plan))

    assert failures(plan, outcome) == []


def test_a_fetcher_that_takes_more_than_it_says_is_noticed() -> None:
    plan = quick(Plan(blind=True, paths=("/endless",)))

    outcome = asyncio.run(soak(plan))

    assert "/endless took" in " ".join(failures(plan, outcome))
