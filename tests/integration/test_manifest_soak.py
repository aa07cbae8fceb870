"""A fixed-seed sample of ``scripts/soak manifests``, and the mutant that must be noticed."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

from benchmarks.soak.manifests import Plan, main, soak

if TYPE_CHECKING:
    import pytest


def test_hostile_documents_are_refused_by_errors_of_ours_and_in_time() -> None:
    plan = Plan(inputs=600, seed=11)

    outcome = soak(plan)

    assert outcome.failures(plan) == []
    assert outcome.refused > outcome.parsed


def test_a_parser_that_trusts_its_input_is_noticed(capsys: pytest.CaptureFixture[str]) -> None:
    status = main(["--inputs", "60", "--seed", "5", "--mutant", "naive"])

    assert status == 1
    assert json.loads(capsys.readouterr().out)["figure"]["foreign"] > 0
