"""Soak: processes that pause keys of one store at once; no transition is lost, also when some of them are killed.

A transition is lost when its process was told that it is done and the store does not have it: the store counts the
changes of its rows, and each worker's own key must hold the last state it was told of. Killed workers go on where they
were cut off. The mutant ``forgetful`` lets one acknowledged transition be undone behind the store's back.
"""

import argparse
import asyncio
import json
import random
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from benchmarks.soak._activity_worker import DOMAIN
from oneiric.runtime._activity_copy import read_copy
from oneiric.runtime._activity_table import APPLICATION_ID, MIGRATIONS, Loaded, load
from oneiric.runtime.store import Database, SqliteStore

__all__ = ["Outcome", "Plan", "main", "soak"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """The size of a soak.

    Attributes:
        processes: So many at once.
        transitions: Of all of them together.
        kills: How many workers are killed, each after a random number of its transitions.
        seed: Decides who is killed when.
        forgetful: The mutant.
    """

    processes: int = 8
    transitions: int = 16_000
    kills: int = 40
    seed: int = 1
    forgetful: bool = False


@dataclass(slots=True)
class Outcome:
    """What was counted.

    Attributes:
        acknowledged: Transitions a worker was told are done.
        counted: Changes of rows the store counts.
        killed: Workers killed.
        unfinished: Transitions that a killed worker may have made and was not told of.
        wrong: What does not fit, in words.
        check: SQLite's integrity check.
    """

    acknowledged: int = 0
    counted: int = 0
    killed: int = 0
    unfinished: int = 0
    wrong: list[str] = field(default_factory=list)
    check: str = ""

    @property
    def lost(self) -> int:
        """Acknowledged transitions the store has not counted."""
        return max(0, self.acknowledged - self.counted)

    def failures(self, plan: Plan) -> list[str]:
        """Return the promises that were broken, as sentences."""
        found = list(self.wrong)
        if self.acknowledged < plan.transitions:
            found.append(f"{self.acknowledged} of {plan.transitions} transitions were made")
        if not self.acknowledged <= self.counted <= self.acknowledged + self.unfinished:
            found.append(f"{self.acknowledged} transitions were acknowledged and {self.counted} counted")
        if self.check != "ok":
            found.append(f"integrity check: {self.check}")
        return found


class _Workers:
    """One plan's workers and what they said."""

    def __init__(self, plan: Plan, path: Path, outcome: Outcome) -> None:
        self._plan, self._path, self._outcome = plan, path, outcome
        self._chance = random.Random(plan.seed)  # noqa: S311 - the same kills for the same seed
        self.last_of: dict[str, int] = {}

    async def run(self) -> None:
        each = self._plan.transitions // self._plan.processes
        killings: list[list[int]] = [[] for _ in range(self._plan.processes)]
        for _ in range(self._plan.kills):
            killings[self._chance.randrange(len(killings))].append(self._chance.randrange(1, max(each, 2)))
        async with asyncio.TaskGroup() as group:
            for number, kills in enumerate(killings):
                group.create_task(self._one(f"worker-{number}", each, sorted(set(kills))))

    async def _one(self, name: str, transitions: int, kills: list[int]) -> None:
        done = 0
        while done < transitions:
            until = next((kill for kill in kills if kill > done), None)
            arguments = ["-m", "benchmarks.soak._activity_worker", str(self._path), name, str(done), str(transitions)]
            process = await asyncio.create_subprocess_exec(sys.executable, *arguments, stdout=asyncio.subprocess.PIPE)
            assert process.stdout is not None
            async for line in process.stdout:
                if not line.endswith(b"\n"):
                    break  # cut off by the kill
                number, key = line.decode().split()
                done = int(number) + 1
                self._outcome.acknowledged += 1
                if key == name:
                    self.last_of[name] = int(number)
                if until is not None and done >= until and process.returncode is None:
                    kills = [kill for kill in kills if kill > done]
                    process.kill()
            status = await process.wait()
            if status > 0:
                raise RuntimeError(f"{name} ended with {status}")
            if status < 0:
                self._outcome.killed += 1
                self._outcome.unfinished += 1


async def soak(plan: Plan) -> Outcome:
    """Run a plan."""
    outcome = Outcome()
    with tempfile.TemporaryDirectory() as directory:
        path = Path(directory) / "domain_activity.sqlite"
        workers = _Workers(plan, path, outcome)
        await workers.run()
        store = SqliteStore(path, application_id=APPLICATION_ID, migrations=MIGRATIONS)
        async with store:
            if plan.forgetful:
                await store.write(_forget)
            loaded = await store.read(load)
            check = await store.read(lambda database: database.execute("PRAGMA integrity_check"))
        outcome.counted, outcome.check = loaded.revision, str(check[0][0])
        outcome.wrong = _wrong(workers.last_of, loaded, read_copy(path.with_suffix(".json")))
    return outcome


def _forget(database: Database) -> None:
    database.execute("UPDATE about SET value = value - 2 WHERE name = 'revision'")
    database.execute("UPDATE activity SET note = 'worker-0:0' WHERE key = 'worker-0'")


def _wrong(last_of: dict[str, int], loaded: Loaded, copy: Loaded) -> list[str]:
    found = []
    for name, last in sorted(last_of.items()):
        row = loaded.rows.get((DOMAIN, name))
        said = None if row is None else row.note
        if said is None or int(said.rpartition(":")[2]) < last:
            found.append(f"{name} was told of transition {last}, and the store holds {said!r}")
    if copy.rows != loaded.rows:
        found.append("the copy is not of the last revision")
    return found


def main(arguments: Sequence[str]) -> int:
    """Run the soak, print one JSON line, and return 1 when the promise was broken."""
    parser = argparse.ArgumentParser(prog="scripts/soak activity", description="transitions of processes: none is lost")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--mutant", choices=["forgetful"], help="undo a transition: it must be noticed")
    for name in ("processes", "transitions", "kills"):
        parser.add_argument(f"--{name}", type=int)
    options = parser.parse_args(arguments)
    size: dict[str, Any] = {
        name: given for name in ("processes", "transitions", "kills") if (given := getattr(options, name)) is not None
    }
    plan = Plan(**size, seed=options.seed, forgetful=options.mutant is not None)
    started = time.perf_counter()
    outcome = asyncio.run(soak(plan))
    failures = outcome.failures(plan)
    line = {
        "property": "no acknowledged transition of an activity store is lost, whoever else writes or is killed",
        "figure": {"transitions": outcome.acknowledged, "processes": plan.processes, "lost": outcome.lost},
        "seed": plan.seed,
        "ok": not failures,
        "failures": failures,
        "mutant": options.mutant,
        "killed": outcome.killed,
        "counted": outcome.counted,
        "seconds": round(time.perf_counter() - started, 1),
    }
    print(json.dumps(line))
    return int(bool(failures))
