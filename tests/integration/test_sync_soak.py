"""A sample of ``scripts/soak sync``, and the mutant that must turn it red."""

from __future__ import annotations

import asyncio

from benchmarks.soak.sync import BAD, Plan, main, soak


def test_good_manifests_are_taken_and_bad_ones_refused_under_calls() -> None:
    plan = Plan(rounds=3 * len(BAD), callers=4)

    outcome = asyncio.run(soak(plan))

    # So few rounds say nothing of memory yet: caches still fill.
    assert [each for each in outcome.failures(plan) if "bytes behind" not in each] == []
    assert (outcome.applied, outcome.unchanged, outcome.refused) == (12, 12, 12)


def test_what_is_kept_of_every_sync_is_found() -> None:
    assert main(["--rounds", "120", "--callers", "1", "--mutant", "leak"]) == 1
