"""Soak: a system that is killed at every step of a sync, and at times between them; the old serves on, or the new.

Each time a real ``oneiric orchestrate`` (or ``oneiric remote-sync`` where nothing runs) takes the next manifest from a
server on loopback and is ended by SIGKILL. What is then on the disk must be readable, and of one manifest; a process
that is started without a publisher must serve that manifest, both parts of it; and its next sync must bring the new
one. No version may go back. Killed at the beginning of a step, it is known which manifest it has to be.

The mutant ``early`` commits before anything is swapped: it must be found out.
"""

import argparse
import json
import random
import shutil
import signal
import tempfile
import time
from collections import Counter
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

from benchmarks.soak import _kill_switch
from benchmarks.soak._remote_system import Consumer, Site
from oneiric.core.errors import OneiricError

__all__ = ["AFTER", "PHASES", "STEPS", "Outcome", "Plan", "main", "soak"]

#: In their order; ``store``, ``state`` and ``keep`` are what a commit does.
STEPS: Final = (
    *("fetch", "verify", "stage", "plan", "apply", "swap", "probation"),
    *("commit", "store", "state", "keep", "done"),
)
_STORING: Final = ("fetch", "verify", "stage", "plan", "commit", "store", "state", "keep")
#: From here on it is the new manifest.
AFTER: Final = ("keep", "done")
#: Who is killed → at what: a running system, one that starts with what is stored, the command where nothing runs, and
#: the same where nothing was ever stored.
PHASES: Final = {
    "sync": (*STEPS, "random"),
    "restore": ("verify", "stage", "apply", "swap", "done", "random"),
    "stored": (*_STORING, "random"),
    "first": (*_STORING, "random"),
}
#: How often a sync passes a step; in all others it is once.
_OCCURRENCES: Final = {"fetch": 3, "verify": 2}
#: A sync of the two parts takes about as long.
_LATEST_SECONDS: Final = 0.05


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """The size of a soak.

    Attributes:
        kills: For each step.
        phases: Which of `PHASES`.
        steps: Which steps; by default all.
        seed: Of what is left to chance.
        mutant: ``"early"`` breaks the promise on purpose.
    """

    kills: int = 100
    phases: tuple[str, ...] = tuple(PHASES)
    steps: tuple[str, ...] = ()
    seed: int = 1
    mutant: str | None = None


@dataclass(slots=True)
class Outcome:
    """What was counted.

    Attributes:
        killed: Phase and step → how often.
        old: After so many kills the manifest before was in force.
        new: After so many the one that was being taken.
        wrong: What broke the promise, as sentences.
        files: The most files that were left over after a sync that followed a kill.
        seconds: It took.
    """

    killed: Counter[str] = field(default_factory=Counter)
    old: int = 0
    new: int = 0
    wrong: list[str] = field(default_factory=list)
    files: int = 0
    seconds: float = 0.0


class _Kills:
    """One consumer that is killed again and again."""

    def __init__(self, plan: Plan, home: Path, site: Site) -> None:
        self.outcome = Outcome()
        self._plan, self._site = plan, site
        self._chance = random.Random(plan.seed)  # noqa: S311 - reproducible, not secret
        self._consumer = Consumer(home, site, plugins=(Path(_kill_switch.__file__),))
        self._order = home / "kill.json"
        self._offered = 0

    def begin(self) -> None:
        """Have the first manifest taken."""
        self._publish()
        self._consumer.start()
        self._consumer.until_ready()
        self._judge("at the beginning", {self._offered})

    def all(self) -> None:
        """Kill as often as planned; stop where nothing comes up again."""
        self.begin()
        for _ in range(self._plan.kills):
            for phase in self._plan.phases:
                for step in PHASES[phase]:
                    if not self._plan.steps or step in self._plan.steps:
                        self.one(phase, step)

    def one(self, phase: str, step: str) -> None:
        """Kill once, start again without a publisher, sync, and hold it against the promise."""
        what = f"{phase}, {step}"
        before = self._offered
        wanted = getattr(self, f"_{phase}")(step)
        found = self._judge(f"{what}: after the kill", wanted, is_first=phase == "first")
        self.outcome.killed[what] += 1
        self.outcome.old += found <= before
        self.outcome.new += found > before
        self._again(what, found)

    def end(self) -> None:
        """End what runs."""
        self._consumer.kill()

    # Who is killed

    def _sync(self, step: str) -> set[int]:
        """Kill a running system; return which manifests may be in force now."""
        before = self._publish()
        self._arm("sync", step)
        with suppress(OneiricError):  # nobody is left to answer
            self._consumer.ask("remote_sync")
        return self._killed(step, before)

    def _restore(self, step: str) -> set[int]:
        """Kill a system that starts with what is stored."""
        self._consumer.stop()
        self._site.is_reachable = False
        self._arm("restore", step)
        self._consumer.start()
        return self._killed("", self._offered)

    def _stored(self, step: str) -> set[int]:
        """Kill the command that verifies and stores where nothing runs."""
        self._consumer.stop()
        return self._commanded("stored", step, self._publish())

    def _first(self, step: str) -> set[int]:
        """Kill the command where nothing was ever stored: afterwards nothing is, or the first manifest."""
        self._consumer.stop()
        shutil.rmtree(self._consumer.state)
        self._publish()
        return self._commanded("first", step, 0)

    def _commanded(self, phase: str, step: str, before: int) -> set[int]:
        self._arm(phase, step)
        status, _ = self._consumer.run("remote-sync")
        told, document = self._consumer.run("remote-status")
        if told != 0 or (before and document["status"]["manifest"] is None):
            self.outcome.wrong.append(f"{step}: remote-status ended with {told} and said {document}")
        return self._wanted(step, before, status)

    def _publish(self) -> int:
        self._offered += 1
        self._site.publish(self._offered)
        return self._offered - 1

    def _arm(self, phase: str, step: str) -> None:
        occurrence, seconds = self._chance.randint(1, _OCCURRENCES.get(step, 1) if phase != "restore" else 1), 0.0
        if step == "random":
            steps = [each for each in PHASES[phase] if each != "random"]
            step, occurrence, seconds = self._chance.choice(steps), 1, self._chance.uniform(0.0, _LATEST_SECONDS)
        order = {"mark": step, "occurrence": occurrence, "seconds": seconds, "mutant": self._plan.mutant}
        self._order.write_text(json.dumps(order))

    def _killed(self, step: str, before: int) -> set[int]:
        status, said = self._consumer.ended()
        if status != -signal.SIGKILL:
            self.outcome.wrong.append(f"{step}: it ended with {status}: {said[-300:]}")
        return self._wanted(step, before, -signal.SIGKILL)

    def _wanted(self, step: str, before: int, status: int) -> set[int]:
        self._order.unlink()
        if step == "random":
            return {before, self._offered}
        if status != -signal.SIGKILL:
            self.outcome.wrong.append(f"{step}: it ended with {status}, and was to be killed")
        return {self._offered if step in AFTER else before}

    # What is there after it

    def _again(self, what: str, found: int) -> None:
        self._site.is_reachable = not found  # who has nothing needs the publisher to start
        self._consumer.start()
        try:
            self._consumer.until_ready()
            serves = found or self._offered
            self._serves(f"{what}: started again", serves)
            if found:
                # The sync of the start fails, as nobody answers; what follows is another one.
                self._consumer.until(lambda: self._consumer.ask("status")["remote"]["last_outcome"] == "failed")
            self._site.is_reachable = True
            outcome = self._consumer.ask("remote_sync")["outcome"]
            if outcome != ("unchanged" if serves == self._offered else "applied"):
                self.outcome.wrong.append(f"{what}: the next sync was {outcome}")
            self._serves(f"{what}: after the next sync", self._offered)
            self._judge(f"{what}: after the next sync", {self._offered})
        finally:
            self._site.is_reachable = True
        self.outcome.files = max(self.outcome.files, self._left_over())

    def _judge(self, what: str, wanted: set[int], *, is_first: bool = False) -> int:
        """Look at what is on the disk; return the version that is committed to."""
        state = self._consumer.trusted()
        own = state.manifests.get("")
        found = 0 if own is None else own.version
        if state.problem or found not in wanted:
            self.outcome.wrong.append(f"{what} version {found} is committed to, and not {wanted} ({state.problem})")
        path = self._consumer.state / "remote_status.json"
        if is_first and not path.exists():
            return found  # it is written last
        try:
            status = json.loads(path.read_text())
            if status["schema"] != 1:
                raise ValueError(status["schema"])
        except (OSError, ValueError, KeyError) as error:
            self.outcome.wrong.append(f"{what} remote_status.json cannot be read: {error}")
        return found

    def _serves(self, what: str, version: int) -> None:
        told = self._consumer.ask("status")["remote"]["manifest"]
        serving = self._consumer.serving()
        if set(serving) != {str(version)} or (told["version"], told["applied"]) != (version, True):
            self.outcome.wrong.append(f"{what} {serving} serve, status says {told}, and not {version}")

    def _left_over(self) -> int:
        """Return how many files lie in the cache that are of no manifest in force: the next sync removes them."""
        digests = {self._consumer.trusted().manifests[""].sha256, *self._site.repository.artifacts}
        paths = [*self._consumer.state.glob(".trusted_state.json.*"), *(self._consumer.state / "remote").rglob("*")]
        return sum(1 for path in paths if path.is_file() and path.name not in digests)


def soak(plan: Plan) -> Outcome:
    """Kill again and again, and count."""
    started = time.perf_counter()
    with tempfile.TemporaryDirectory(prefix="oneiric-kills-") as directory, Site() as site:
        kills = _Kills(plan, Path(directory), site)
        try:
            kills.all()
        except AssertionError as error:
            kills.outcome.wrong.append(str(error)[:1_000])
        finally:
            kills.end()
    kills.outcome.seconds = time.perf_counter() - started
    if kills.outcome.files:
        kills.outcome.wrong.append(f"a sync after a kill left {kills.outcome.files} files lying")
    return kills.outcome


def main(arguments: Sequence[str]) -> int:
    """Run the soak, print one JSON line, and return 1 when the promise was broken."""
    parser = argparse.ArgumentParser(prog="scripts/soak kills", description="syncs that are killed: the old or the new")
    parser.add_argument("--kills", type=int, default=100, help="for each step")
    parser.add_argument("--phase", choices=list(PHASES), action="append", help="by default all")
    parser.add_argument("--step", action="append", help="by default all")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--mutant", choices=["early"], help="break the promise on purpose: it must be found out")
    given = parser.parse_args(arguments)
    plan = Plan(
        kills=given.kills,
        phases=tuple(given.phase or PHASES),
        steps=tuple(given.step or ()),
        seed=given.seed,
        mutant=given.mutant,
    )
    outcome = soak(plan)
    wrong = outcome.wrong
    line: dict[str, Any] = {
        "property": "a sync that is killed leaves the old manifest in force or the new one, and nothing in between",
        "figure": {
            "kills": outcome.killed.total(),
            "old": outcome.old,
            "new": outcome.new,
            "wrong": len(outcome.wrong),
        },
        "seed": plan.seed,
        "ok": not wrong,
        "failures": wrong[:20],
        "mutant": plan.mutant,
        "killed": dict(outcome.killed),
        "files_left": outcome.files,
        "seconds": round(outcome.seconds, 1),
    }
    print(json.dumps(line))
    return int(bool(wrong))
