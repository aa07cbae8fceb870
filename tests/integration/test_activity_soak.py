"""A fixed-seed sample of ``scripts/soak activity``, and the mutant that must be noticed."""

from __future__ import annotations

import asyncio
import json
from typing import TYPE_CHECKING

from benchmarks.soak.activity import Plan, main, soak

if TYPE_CHECKING:
    import pytest


def test_eight_processes_on_one_store_lose_nothing_also_when_some_are_killed() -> None:
    plan = Plan(processes=8, transitions=240, kills=4, seed=7)

    outcome = asyncio.run(soak(plan))

    assert outcome.failures(plan) == []
    assert (outcome.lost, outcome.acknowledged) == (0, 240)
    assert outcome.killed > 0


def test_a_store_that_forgets_is_noticed(capsys: pytest.CaptureFixture[str]) -> None:
    status = main(["--processes", "2", "--transitions", "20", "--kills", "0", "--seed", "3", "--mutant", "forgetful"])
    line = json.loads(capsys.readouterr().out)

    assert status == 1
    assert line["figure"]["lost"] > 0
    assert any("was told of transition" in failure for failure in line["failures"])
