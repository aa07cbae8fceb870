"""A sample of ``scripts/soak reload``, and the mutants that must turn it red."""

from __future__ import annotations

import asyncio
import json
from typing import TYPE_CHECKING

from benchmarks.soak.reload import BAD, Plan, main, soak

if TYPE_CHECKING:
    import pytest


def test_bad_configurations_are_refused_and_good_ones_taken_under_calls() -> None:
    plan = Plan(bad=3 * len(BAD), good=20, callers=8, most_seconds=20.0)

    outcome = asyncio.run(soak(plan))

    assert outcome.failures(plan) == []
    assert (outcome.refused, outcome.accepted, outcome.swaps, outcome.lost) == (21, 20, 20, 0)
    assert outcome.version == 21


def test_a_lifecycle_that_does_not_drain_loses_calls() -> None:
    plan = Plan(bad=0, good=20, callers=8, mutant="no-drain")

    outcome = asyncio.run(soak(plan))

    assert outcome.lost > 0
    assert outcome.failures(plan) != []


def test_what_is_kept_of_every_reload_is_found(capsys: pytest.CaptureFixture[str]) -> None:
    status = main(["--bad", "0", "--good", "60", "--callers", "1", "--mutant", "leak"])
    line = json.loads(capsys.readouterr().out)

    assert status == 1
    assert "behind" in str(line["failures"])
    assert (line["mutant"], line["ok"]) == ("leak", False)
