"""Schedulers in processes that share a store, are killed, stopped and go on: each slot once, or under the same key."""

import asyncio
import random
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from tests.runtime._sqlite_process import elsewhere

from oneiric.runtime.scheduler import SCHEDULES_FILE, Fired, Schedule, ScheduleStore

PROGRAM = Path(__file__).with_name("_scheduler_process.py")

pytestmark = pytest.mark.xdist_group("scheduler-processes")


class Farm:
    """A store, a log, and the processes that use them."""

    def __init__(self, directory: Path) -> None:
        self.store = directory / SCHEDULES_FILE
        self.log = directory / "log"
        self.processes: list[subprocess.Popen[str]] = []

    def add(self, schedule: Schedule) -> None:
        async def add() -> None:
            async with ScheduleStore(self.store) as store:
                await store.add(schedule)

        asyncio.run(add())

    def start(self, *, seconds: float, lease: float = 30.0) -> subprocess.Popen[str]:
        command = [sys.executable, str(PROGRAM), str(self.store), str(self.log), str(seconds), str(lease)]
        process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
        self.processes.append(process)
        assert process.stdout is not None
        assert process.stdout.readline() == "started\n"
        return process

    def end(self) -> None:
        for process in self.processes:
            process.send_signal(signal.SIGTERM)
        for process in self.processes:
            process.wait(60)

    def is_locked(self) -> bool:
        """Whether some process is within a transaction just now."""
        try:
            elsewhere(self.store, "PRAGMA busy_timeout = 50", "BEGIN EXCLUSIVE", "ROLLBACK")
        except subprocess.CalledProcessError:
            return True
        return False

    def slots(self, name: str) -> list[Fired]:
        async def read() -> list[Fired]:
            async with ScheduleStore(self.store) as store:
                return await store.slots(name, 10_000)

        return asyncio.run(read())

    def lines(self, word: str) -> list[str]:
        text = self.log.read_text(encoding="utf-8") if self.log.exists() else ""
        return [line.removeprefix(f"{word} ") for line in text.splitlines() if line.startswith(f"{word} ")]

    def until(self, holds: Callable[[], bool]) -> None:
        """Wait for what another process does."""
        end = time.monotonic() + 60
        while not holds():
            assert time.monotonic() < end, "it never came to be"
            time.sleep(0.01)


@pytest.fixture
def farm(tmp_path: Path) -> Iterator[Farm]:
    built = Farm(tmp_path)
    yield built
    for process in built.processes:
        if process.poll() is None:
            process.kill()
        process.wait()
        assert process.stdout is not None
        process.stdout.close()


def test_two_processes_on_one_store_fire_each_slot_once(farm: Farm) -> None:
    farm.add(Schedule(name="s", target="x", every_seconds=0.1, overlap="allow"))
    farm.start(seconds=0)
    farm.start(seconds=0)
    farm.until(lambda: len(farm.lines("end")) >= 20)
    farm.end()
    slots = farm.slots("s")
    assert {slot.state for slot in slots} == {"done"}
    assert Counter(farm.lines("begin")).most_common(1)[0][1] == 1
    assert len(farm.lines("begin")) == len(slots)
    times = sorted(round(slot.at * 10) for slot in slots)
    assert times == list(range(times[0], times[0] + len(times)))


def test_a_slot_whose_process_is_killed_is_fired_again_under_its_key(farm: Farm) -> None:
    farm.add(Schedule(name="s", target="x", at=time.time() + 0.05))
    killed = farm.start(seconds=60, lease=1.0)
    farm.until(lambda: bool(farm.lines("begin")))
    killed.kill()
    killed.wait()
    farm.start(seconds=0, lease=1.0)
    farm.until(lambda: bool(farm.lines("end")))
    farm.end()
    assert len(farm.lines("begin")) == 2
    assert len(set(farm.lines("begin"))) == 1
    assert [(slot.state, slot.attempt) for slot in farm.slots("s")] == [("done", 2)]


def test_a_process_that_was_stopped_past_its_lease_cannot_write_what_became_of_the_slot(farm: Farm) -> None:
    farm.add(Schedule(name="s", target="x", at=time.time() + 0.05))
    stopped = farm.start(seconds=5, lease=1.0)
    farm.until(lambda: bool(farm.lines("begin")))
    stopped.send_signal(signal.SIGSTOP)
    while farm.is_locked():  # it was stopped within a transaction, and nobody would get past it
        stopped.send_signal(signal.SIGCONT)
        time.sleep(0.01)
        stopped.send_signal(signal.SIGSTOP)
    farm.start(seconds=0.01, lease=1.0)
    farm.until(lambda: bool(farm.lines("end")))
    stopped.send_signal(signal.SIGCONT)
    farm.end()
    assert [(slot.state, slot.attempt) for slot in farm.slots("s")] == [("done", 2)]


def unsettled(farm: Farm, *, before: float) -> list[float]:
    return [slot.at for slot in farm.slots("s") if slot.at <= before and slot.state != "done"]


def test_processes_killed_at_random_times_lose_no_slot_and_repeat_only_what_was_not_settled(farm: Farm) -> None:
    chance = random.Random(7)  # noqa: S311 - the same kills each time
    farm.add(Schedule(name="s", target="x", every_seconds=0.1, overlap="allow"))
    for _ in range(6):
        process = farm.start(seconds=0.02, lease=0.5)
        time.sleep(chance.uniform(0.1, 0.4))
        process.kill()
        process.wait()
    killed_at = time.time()
    last = farm.start(seconds=0.02, lease=0.5)
    farm.until(lambda: len(farm.slots("s")) > 20 and not unsettled(farm, before=killed_at))
    last.send_signal(signal.SIGTERM)
    last.wait(60)
    slots = farm.slots("s")
    assert {slot.state for slot in slots} == {"done"}
    times = sorted(round(slot.at * 10) for slot in slots)
    assert times == list(range(times[0], times[0] + len(times)))
    begun, ended = Counter(farm.lines("begin")), Counter(farm.lines("end"))
    assert set(begun) == set(ended)
    assert len(ended) == len(slots)
    # One killed between its claim and its first line began nothing.
    assert sum(begun.values()) <= sum(slot.attempt for slot in slots)
