"""A fixed-seed sample of ``scripts/soak damage``, and the mutant that must be noticed."""

from __future__ import annotations

import asyncio
import json
from typing import TYPE_CHECKING

from benchmarks.soak.damage import KINDS, main, soak

if TYPE_CHECKING:
    import pytest


def test_no_kind_of_damage_resumes_what_was_paused_or_raises() -> None:
    outcome = asyncio.run(soak(1, first_seed=3))

    assert outcome.failures == []
    assert outcome.trials == len(KINDS) >= 16
    assert outcome.set_aside > 0


def test_without_the_second_copy_keys_are_resumed(capsys: pytest.CaptureFixture[str]) -> None:
    status = main(["--seeds", "1", "--mutant", "no-copy"])
    line = json.loads(capsys.readouterr().out)

    assert status == 1
    assert any("paused keys were resumed" in failure for failure in line["failures"])
