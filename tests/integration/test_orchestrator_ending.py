"""The end of a real orchestrator: in bounded time, whatever its components do."""

import contextlib
import signal
import subprocess
from pathlib import Path

import pytest
from tests.integration.processes import SETTINGS, Orchestrator, replace, with_settings

pytestmark = pytest.mark.xdist_group("processes")

GRACE_OF_A_SECOND = "runtime_supervisor: {shutdown_grace_seconds: 1}\n"


def test_the_end_does_not_wait_for_a_reload_whose_instance_does_not_start(tmp_path: Path) -> None:
    note = tmp_path / "steps"
    hanging = f"services: {{provider_settings: {{two: {{hang: init, note: '{note}'}}}}, "
    with Orchestrator(
        tmp_path, settings=SETTINGS + "runtime_supervisor: {shutdown_grace_seconds: 8}\n"
    ) as orchestrator:
        orchestrator.until_ready()
        text = orchestrator.settings_file.read_text().replace("services: {", hanging)
        replace(orchestrator.settings_file, text.replace("greeter: one", "greeter: two"))
        orchestrator.until(lambda: note.exists() and "two init" in note.read_text())
        assert orchestrator.end() == 0


def test_sighup_before_it_is_ready_does_not_end_it(tmp_path: Path) -> None:
    with Orchestrator(tmp_path) as orchestrator:
        ignored = Path(f"/proc/{orchestrator.process.pid}/status")
        orchestrator.until(lambda: int(ignored.read_text().split("SigIgn:")[1].split()[0], 16) & 1)
        orchestrator.process.send_signal(signal.SIGHUP)
        assert orchestrator.until_ready().end() == 0


@pytest.mark.parametrize("step", ["init", "cleanup"])
def test_a_component_that_blocks_the_loop_does_not_hold_the_process_back(tmp_path: Path, step: str) -> None:
    note = tmp_path / "steps"
    settings = with_settings(block=step, note=str(note)) + GRACE_OF_A_SECOND
    with Orchestrator(tmp_path, settings=settings) as orchestrator:
        if step == "cleanup":
            orchestrator.until_ready()
        orchestrator.until(lambda: note.exists() and "init" in note.read_text())
        assert orchestrator.end(seconds=8) == 1
        assert "the main thread is in step, " in orchestrator.log.splitlines()[-1]


def test_further_signals_end_a_process_whose_loop_is_blocked(tmp_path: Path) -> None:
    note = tmp_path / "steps"
    with Orchestrator(tmp_path, settings=with_settings(block="init", note=str(note))) as orchestrator:
        orchestrator.until(lambda: note.exists() and "init" in note.read_text())
        orchestrator.process.send_signal(signal.SIGTERM)
        for _ in range(40):  # the kernel may hand one that comes at once to a thread that cannot act on it
            with contextlib.suppress(subprocess.TimeoutExpired):
                assert orchestrator.end(signal.SIGTERM, seconds=0.2) == 128 + signal.SIGTERM
                return
        pytest.fail("it goes on")


@pytest.mark.parametrize("stray", ["task", "job", "thread"])
def test_what_a_component_leaves_running_does_not_hold_the_process_back(tmp_path: Path, stray: str) -> None:
    with Orchestrator(tmp_path, settings=with_settings(stray=stray) + GRACE_OF_A_SECOND) as orchestrator:
        assert orchestrator.until_ready().end(seconds=8) == 1
        assert "of a component" in orchestrator.log.splitlines()[-1] or "of components" in orchestrator.log
