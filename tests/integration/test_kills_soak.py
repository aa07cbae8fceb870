"""A fixed-seed sample of ``scripts/soak kills``, and the mutant that must turn it red."""

from __future__ import annotations

import pytest
from benchmarks.soak.kills import PHASES, STEPS, Plan, soak

#: Of a sync every step. What else is killed goes through the same code: of that a few.
SAMPLE = {
    "sync": (*STEPS, "random"),
    "restore": ("verify", "swap"),
    "stored": ("stage", "state", "keep"),
    "first": ("stage", "state", "keep"),
}


@pytest.mark.parametrize("phase", SAMPLE)
def test_a_process_killed_at_any_step_of_a_sync_leaves_the_old_manifest_or_the_new_one(phase: str) -> None:
    outcome = soak(Plan(kills=1, phases=(phase,), steps=SAMPLE[phase], seed=7))

    assert outcome.wrong == []
    assert outcome.killed.total() == len(SAMPLE[phase])
    assert phase == "restore" or (outcome.old and outcome.new)


def test_whatever_can_be_killed_has_its_sample() -> None:
    assert set(SAMPLE) == set(PHASES)
    assert SAMPLE["sync"] == PHASES["sync"]


def test_a_commit_before_the_swap_is_found_out() -> None:
    outcome = soak(Plan(kills=1, phases=("sync",), steps=("swap",), mutant="early"))

    assert any("is committed to" in each for each in outcome.wrong)
