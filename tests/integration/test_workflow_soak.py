"""A fixed-seed sample of ``scripts/soak workflow``, and the mutant that must be noticed."""

import json
import shutil
import subprocess

import pytest
from benchmarks.soak.workflow import main


def test_a_process_killed_at_any_system_call_of_its_checkpoints_loses_nothing_and_repeats_nothing(
    capsys: pytest.CaptureFixture[str],
) -> None:
    strace = shutil.which("strace")
    if strace is None or subprocess.run([strace, "-qq", "true"], check=False, capture_output=True).returncode:
        pytest.skip("no strace here, or no right to use it: scripts/services strace")
    pytest.importorskip("apsw", reason="the extra sqlite is not installed")
    status = main(["--only", "syscalls", "--points", "2", "--seed", "11"])
    line = json.loads(capsys.readouterr().out)
    assert (status, line["failures"]) == (0, [])
    assert line["figure"]["points"] == 8


def test_a_process_killed_at_any_time_or_stopped_past_its_lease_loses_nothing_and_repeats_nothing(
    capsys: pytest.CaptureFixture[str],
) -> None:
    status = main(["--only", "random", "--only", "stop", "--kills", "4", "--stops", "2", "--seed", "5"])
    line = json.loads(capsys.readouterr().out)
    assert (status, line["failures"]) == (0, [])
    assert line["figure"]["points"] == 6
    assert line["committed"] > 0


def test_a_store_that_forgets_a_committed_node_is_noticed(capsys: pytest.CaptureFixture[str]) -> None:
    status = main(["--only", "random", "--kills", "3", "--seed", "3", "--mutant", "early"])
    line = json.loads(capsys.readouterr().out)
    assert status == 1
    assert line["figure"]["again"] > 0
