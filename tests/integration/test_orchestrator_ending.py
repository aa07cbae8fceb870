"""The end of a real orchestrator: in bounded time, whatever its components do."""

import signal
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
    grace_seconds = 1 if step == "init" else 5  # what is stopped before it has its time, also on a busy machine
    settings = with_settings(block=step, note=str(note))
    settings += f"runtime_supervisor: {{shutdown_grace_seconds: {grace_seconds}}}\n"
    with Orchestrator(tmp_path, settings=settings) as orchestrator:
        if step == "cleanup":
            orchestrator.until_ready()
        orchestrator.until(lambda: note.exists() and "init" in note.read_text())
        assert orchestrator.end() == 1
        assert "the main thread is in step, " in orchestrator.log.splitlines()[-1]


def test_another_signal_at_once_ends_a_process_whose_loop_is_blocked(tmp_path: Path) -> None:
    note = tmp_path / "steps"
    with Orchestrator(tmp_path, settings=with_settings(block="init", note=str(note))) as orchestrator:
        orchestrator.until(lambda: note.exists() and "init" in note.read_text())
        orchestrator.process.send_signal(signal.SIGTERM)
        # Which of the two is taken first is the kernel's choice.
        assert orchestrator.end(signal.SIGINT) in {128 + signal.SIGTERM, 128 + signal.SIGINT}


@pytest.mark.parametrize("stray", ["task", "job", "thread"])
def test_what_a_component_leaves_running_does_not_hold_the_process_back(tmp_path: Path, stray: str) -> None:
    with Orchestrator(tmp_path, settings=with_settings(stray=stray) + GRACE_OF_A_SECOND) as orchestrator:
        assert orchestrator.until_ready().end() == 1
        assert "of a component" in orchestrator.log.splitlines()[-1] or "of components" in orchestrator.log


EXITING = """
import asyncio, pathlib, sys
from oneiric.core import Candidate, Key


def note(text):
    with open("steps", "a") as file:
        file.write(text + "\\n")


async def there(name):
    while not pathlib.Path(name).exists():
        await asyncio.sleep(0.01)


class Line:
    async def call(self):
        note("call begins")
        await there("hang-up")
        note("call ends")

    async def cleanup(self):
        note("line is cleaned up")


class Caller:
    def __init__(self, line):
        self.line = line

    async def init(self):
        self.tasks = [asyncio.create_task(self.ring()), asyncio.create_task(self.leave())]

    async def ring(self):
        await self.line.call()

    async def leave(self):
        await there("leave")
        LEAVES

    async def cleanup(self):
        note("caller is cleaned up")


def register(resolver):
    resolver.register(Candidate(domain="service", key="line", provider="copper", factory=Line))
    resolver.register(Candidate(
        domain="service", key="caller", provider="phone", factory=Caller, needs={"line": Key("service", "line")},
    ))
"""


@pytest.mark.parametrize(
    ("leaves", "said"),
    [("sys.exit(0)", "called sys.exit(0)"), ("raise KeyboardInterrupt", "raised KeyboardInterrupt")],
    ids=["exit", "interrupt"],
)
def test_a_task_that_exits_ends_the_process_in_order_and_is_named(tmp_path: Path, leaves: str, said: str) -> None:
    (tmp_path / "exiting_of_test.py").write_text(EXITING.replace("LEAVES", leaves))
    settings = "plugins: {imports: [exiting_of_test]}\nhttp: {port: 0}\nservices: {selections: {caller: phone}}\n"
    steps = tmp_path / "steps"
    with Orchestrator(tmp_path, settings=settings) as orchestrator:
        orchestrator.until_ready().until(steps.exists)
        (tmp_path / "leave").touch()
        orchestrator.until(lambda: orchestrator.lines("task-exited"))
        orchestrator.until(lambda: "caller is cleaned up" in steps.read_text())
        (tmp_path / "hang-up").touch()
        code = orchestrator.process.wait(20)

    assert code == 1
    assert steps.read_text().splitlines() == ["call begins", "caller is cleaned up", "call ends", "line is cleaned up"]
    last = orchestrator.log.splitlines()[-1]
    assert last.startswith(f"error: stopped because a task {said} in leave, ")
    assert "exiting_of_test.py:" in last
    assert "Traceback" not in orchestrator.log
