"""Soak: a workflow of 50 nodes whose process is killed everywhere; no committed node is lost, and none is run again.

``syscalls``: killed at every system call the store makes on its files, found by strace and injected by it. ``random``:
killed at random times. ``stop``: stopped past its lease, while another process finishes the run; when it goes on, it
commits nothing. Each time a third process, or the other one, finishes the run, and the result is the undisturbed one.
The mutant ``early`` forgets a committed node before the run is finished: it must be found out, or the count is worth
nothing.
"""

import argparse
import json
import os
import random
import re
import shutil
import signal
import sqlite3
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

from benchmarks.soak._workflow_worker import NODES, PARALLEL, SPEC

__all__ = ["Outcome", "main"]

_STORE: Final = "checkpoints.sqlite"
_JOURNALS: Final = ("", "-wal", "-shm", "-journal")
_CALL: Final = re.compile(r"^\d+ +([a-z0-9_]+)\(")
_LEASE_SECONDS: Final = 0.3
_WORKER: Final = (sys.executable, "-m", "benchmarks.soak._workflow_worker")


@dataclass(slots=True)
class Outcome:
    """What was counted."""

    points: Counter[str] = field(default_factory=Counter)
    lost: int = 0
    again: int = 0
    unacknowledged: int = 0
    most_unacknowledged: int = 0
    committed: int = 0
    stale: int = 0
    late: int = 0
    wrong: list[str] = field(default_factory=list)

    def failures(self) -> list[str]:
        """Return what broke the promise; empty when it stands."""
        checks = {
            f"{self.lost} nodes were acknowledged and are lost": self.lost == 0,
            f"{self.again} committed nodes were run again": self.again == 0,
            f"{self.most_unacknowledged} nodes ran again after one kill": self.most_unacknowledged <= PARALLEL,
            f"{self.stale} commits of a process that had lost its lease": self.stale == 0,
            f"{self.late} nodes were begun by a process that had lost its lease": self.late == 0,
            f"{len(self.wrong)} runs ended otherwise, the first: {self.wrong[:1]}": not self.wrong,
        }
        return [sentence for sentence, holds in checks.items() if not holds]


@contextmanager
def _directory() -> Iterator[Path]:
    path = Path(tempfile.mkdtemp(prefix="oneiric-workflow-"))
    try:
        yield path
    finally:
        shutil.rmtree(path)


def _command(directory: Path, **options: Any) -> list[str]:
    return [*_WORKER, "work", str(directory), json.dumps(options)]


def _answer(command: Sequence[str]) -> Any:
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=120)
    if done.returncode:
        raise AssertionError(f"{command} ended with {done.returncode}: {done.stderr[-800:]}")
    return json.loads(done.stdout.splitlines()[-1])


def _lines(directory: Path) -> list[tuple[str, str, str]]:
    path = directory / "lines"
    if not path.exists():
        return []
    found = [line.split() for line in path.read_text().splitlines()]
    return [(each[0], each[1], each[2]) for each in found]


class _Kills:
    """Kill, look what is committed, go on, and count."""

    def __init__(self, mutant: str | None) -> None:
        self.outcome = Outcome()
        self._mutant = mutant

    def judged(self, directory: Path, where: str, **options: Any) -> None:
        """Finish a run whose process was killed, and hold what happened against the promise."""
        outcome = self.outcome
        before = _lines(directory)
        begun = {node for _, node, _ in before}
        # What a node that has begun depends on was acknowledged.
        acknowledged = {other for node in SPEC.nodes if node.id in begun for other in node.depends_on}
        committed = set(
            _answer([sys.executable, "-m", "benchmarks.soak._workflow_worker", "committed", str(directory)])
        )
        outcome.lost += len(acknowledged - committed)
        outcome.committed += len(committed)
        if self._mutant == "early" and committed:
            self._forget(directory, max(committed))
        answer = _answer(_command(directory, **options))
        if answer != {"ended": "completed", "is_right": True, "check": None}:
            outcome.wrong.append(f"{where}: {answer}")
        after = _lines(directory)[len(before) :]
        repeated = {node for _, node, _ in after}
        outcome.again += len(repeated & committed)
        unacknowledged = len(repeated & begun - committed)
        outcome.unacknowledged += unacknowledged
        outcome.most_unacknowledged = max(outcome.most_unacknowledged, unacknowledged)
        keys = {node: key for _, node, key in before}
        if any(keys.get(node, key) != key for _, node, key in after):
            outcome.wrong.append(f"{where}: a node was run again under another key")
        if begun | repeated != {node.id for node in SPEC.nodes} or len(after) != len(repeated):
            outcome.wrong.append(f"{where}: {len(begun | repeated)} nodes of {NODES} ran, or some ran twice")

    def _forget(self, directory: Path, node: str) -> None:
        connection = sqlite3.connect(directory / _STORE)
        connection.execute("DELETE FROM workflow_execution_nodes WHERE node_key = ?", (node,))
        connection.commit()
        connection.close()

    # At every system call.

    def at_system_calls(self, chance: random.Random, most: int | None, **options: Any) -> None:
        """Kill at each system call on the store's files, or at some of them."""
        points = self._system_calls(**options)
        name = f"{options['library']} {options['durability']}"
        for call, number in sorted(chance.sample(points, min(most or len(points), len(points)))):
            with _directory() as directory:
                inject = f"inject={call}:signal=KILL:when={number}"
                trace = self._traced(directory, "-e", f"trace={call}", "-e", inject, "-o", os.devnull)
                done = subprocess.run(
                    [*trace, *_command(directory, **options)], capture_output=True, check=False, timeout=120
                )
                if done.returncode not in {0, -signal.SIGKILL, 128 + signal.SIGKILL}:
                    raise AssertionError(f"{trace} ended with {done.returncode}: {done.stderr[-800:]!r}")
                self.outcome.points[f"{name} {call}" if done.returncode else f"{name} not reached"] += 1
                self.judged(directory, f"{name} {call} {number}", **options)

    def _system_calls(self, **options: Any) -> list[tuple[str, int]]:
        with _directory() as directory:
            log = directory / "strace.log"
            subprocess.run(
                [*self._traced(directory, "-o", str(log)), *_command(directory, **options)],
                check=True,
                capture_output=True,
                timeout=120,
            )
            calls = Counter(found[1] for line in log.read_text().splitlines() if (found := _CALL.match(line)))
        return [(call, number) for call, count in calls.items() for number in range(1, count + 1)]

    def _traced(self, directory: Path, *options: str) -> list[str]:
        strace = shutil.which("strace")
        if strace is None:
            raise SystemExit("no strace here: apt-get install strace, or leave out `syscalls`")
        paths = [part for journal in _JOURNALS for part in ("-P", str(directory / f"{_STORE}{journal}"))]
        return [strace, "-f", "-qq", *paths, *options]

    # At random times.

    def at_random_times(self, chance: random.Random, kills: int, **options: Any) -> None:
        """Kill a run at a random moment, again and again."""
        for number in range(kills):
            with _directory() as directory:
                with subprocess.Popen(
                    _command(directory, seconds=0.002, **options), stdout=subprocess.PIPE, stderr=subprocess.PIPE
                ) as worker:
                    self._begun(directory, worker)
                    time.sleep(chance.uniform(0.0, 0.08))
                    worker.kill()
                self.outcome.points["random"] += 1
                self.judged(directory, f"kill {number}", **options)

    def _begun(self, directory: Path, worker: "subprocess.Popen[bytes]", nodes: int = 1) -> None:
        until = time.monotonic() + 60
        while len(_lines(directory)) < nodes and worker.poll() is None:
            if time.monotonic() > until:
                raise AssertionError("the worker never began")
            time.sleep(0.001)

    # Stopped past the lease.

    def stopped(self, chance: random.Random, times: int) -> None:
        """Stop a process past its lease, let another one finish, and let the first go on."""
        for number in range(times):
            with _directory() as directory:
                first = subprocess.Popen(
                    _command(directory, seconds=0.005, lease_seconds=_LEASE_SECONDS), stdout=subprocess.PIPE, text=True
                )
                try:
                    self._stopped(chance, directory, first, number)
                finally:
                    first.kill()
                    first.communicate()

    def _stopped(self, chance: random.Random, directory: Path, first: "subprocess.Popen[str]", number: int) -> None:
        self._begun(directory, first, chance.randrange(1, 30))  # type: ignore[arg-type]
        first.send_signal(signal.SIGSTOP)
        time.sleep(_LEASE_SECONDS * 1.5)
        answer = _answer(_command(directory, busy_seconds=0.2, lease_seconds=5))
        if answer["ended"] == "store":
            # It was stopped in the middle of a commit: until it goes on, the file is its own.
            self.outcome.points["stopped in a commit"] += 1
            return
        self.outcome.points["stopped"] += 1
        begun, rows = len(_lines(directory)), self._rows(directory)
        first.send_signal(signal.SIGCONT)
        told = json.loads(first.communicate(timeout=60)[0].splitlines()[-1])
        if answer["ended"] != "completed" or told["ended"] not in {"lost", "completed"}:
            self.outcome.wrong.append(f"stop {number}: {answer}, then {told}")
        if told["ended"] == "completed" and not told["is_right"]:
            self.outcome.wrong.append(f"stop {number}: {told}")
        self.outcome.stale += self._rows(directory) != rows
        self.outcome.late += len(_lines(directory)) - begun

    def _rows(self, directory: Path) -> list[Any]:
        connection = sqlite3.connect(f"file:{directory / _STORE}?mode=ro", uri=True)
        try:
            runs = connection.execute("SELECT * FROM workflow_executions ORDER BY 1").fetchall()
            return [runs, connection.execute("SELECT * FROM workflow_execution_nodes ORDER BY 1, 2").fetchall()]
        finally:
            connection.close()


def main(arguments: Sequence[str]) -> int:
    """Run the soak, print one JSON line, and return 1 when the promise was broken."""
    parser = argparse.ArgumentParser(prog="scripts/soak workflow", description="kills: no committed node is run again")
    parser.add_argument("--only", choices=["syscalls", "random", "stop"], action="append")
    parser.add_argument("--points", type=int, help="system calls for each library and durability; by default all")
    parser.add_argument("--kills", type=int, default=300, help="kills at random times")
    parser.add_argument("--stops", type=int, default=50)
    parser.add_argument("--library", choices=["apsw", "sqlite3"], action="append")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--mutant", choices=["early"], help="break the promise on purpose: it must be found out")
    options = parser.parse_args(arguments)
    started, only = time.perf_counter(), options.only or ["syscalls", "random", "stop"]
    chance = random.Random(options.seed)  # noqa: S311 - reproducible, not secret
    kills = _Kills(options.mutant)
    if "syscalls" in only:
        for library in options.library or ["apsw", "sqlite3"]:
            for durability in ("group", "strict"):
                kills.at_system_calls(chance, options.points, library=library, durability=durability)
    if "random" in only:
        kills.at_random_times(chance, options.kills)
    if "stop" in only:
        kills.stopped(chance, options.stops)
    outcome, failures = kills.outcome, kills.outcome.failures()
    line = {
        "property": "no committed node is lost or run again, whenever its process is killed or stopped",
        "figure": {"points": outcome.points.total(), "lost": outcome.lost, "again": outcome.again},
        "seed": options.seed,
        "ok": not failures,
        "failures": failures,
        "mutant": options.mutant,
        "points": dict(sorted(outcome.points.items())),
        "committed": outcome.committed,
        "unacknowledged": {"sum": outcome.unacknowledged, "most": outcome.most_unacknowledged, "may": PARALLEL},
        "stale_commits": outcome.stale,
        "late_starts": outcome.late,
        "seconds": round(time.perf_counter() - started, 1),
    }
    print(json.dumps(line))
    return int(bool(failures))
