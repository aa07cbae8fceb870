"""The SQLite queue does what a queue in a few lists does, whatever is asked of it and however time passes."""

import asyncio
import shutil
import tempfile
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import Bundle, RuleBasedStateMachine, consumes, invariant, multiple, rule

from oneiric.adapters.queue import Delivery
from oneiric.adapters.queue.sqlite import SQLiteQueueAdapter, SQLiteQueueSettings

VISIBILITY_MS = 10_000
WINDOW_SECONDS = 60


@dataclass
class Entry:
    """A message of the model: ready while ``until_ms`` is None."""

    id: str
    place: int
    until_ms: int | None = None
    attempts: int = 0
    holder: int = 0
    reason: str = ""


@dataclass
class Model:
    now_ms: int = 1_000_000
    turn: int = 0
    live: dict[str, Entry] = field(default_factory=dict)
    dead: dict[str, Entry] = field(default_factory=dict)
    seen: dict[str, tuple[str, float]] = field(default_factory=dict)

    def next(self) -> int:
        self.turn += 1
        return self.turn

    def ripen(self) -> None:
        ended = [one for one in self.live.values() if one.until_ms is not None and one.until_ms <= self.now_ms]
        for one in sorted(ended, key=lambda one: (one.until_ms, one.place)):
            one.until_ms, one.place = None, self.next()

    def ready(self) -> list[Entry]:
        return sorted((one for one in self.live.values() if one.until_ms is None), key=lambda one: one.place)


seconds = st.sampled_from([0.0, 0.0, 0.0, 4.0, 10.0, 30.0])


class QueueMachine(RuleBasedStateMachine):
    deliveries = Bundle("deliveries")

    def __init__(self) -> None:
        super().__init__()
        self.directory = Path(tempfile.mkdtemp())
        self.runner = asyncio.Runner()
        self.model = Model()
        self.wall = 0.0
        self.opened()

    def opened(self) -> None:
        self.queue = SQLiteQueueAdapter(
            SQLiteQueueSettings(
                path=self.directory / "queue.sqlite",
                visibility_seconds=VISIBILITY_MS / 1000,
                dedup_window_seconds=WINDOW_SECONDS,
            ),
            clock=lambda: self.model.now_ms / 1000,
            wall=lambda: self.model.now_ms / 1000 + self.wall,
            boot="one",
        )
        self.run(self.queue.init())

    def run(self, call: Any) -> Any:
        return self.runner.run(call)

    def teardown(self) -> None:
        self.run(self.queue.cleanup())
        self.runner.close()
        shutil.rmtree(self.directory)

    def now_wall(self) -> float:
        return self.model.now_ms / 1000 + self.wall

    @rule(delay=seconds, dedup=st.sampled_from([None, None, None, "x", "y"]))
    def enqueue(self, delay: float, dedup: str | None) -> None:
        found = self.run(self.queue.enqueue({"n": 1}, delay_seconds=delay, dedup_id=dedup))
        model = self.model
        if dedup is not None:
            # What has ended is forgotten by the next that asks, and does not come back with the clock.
            model.seen = {one: seen for one, seen in model.seen.items() if seen[1] > self.now_wall()}
            known = model.seen.get(dedup)
            if known is not None:
                assert found == known[0]
                return
            model.seen[dedup] = (found, self.now_wall() + WINDOW_SECONDS)
        assert found not in model.live
        until = model.now_ms + int(delay * 1000) if delay else None
        model.live[found] = Entry(id=found, place=model.next(), until_ms=until)

    @rule(target=deliveries, most=st.integers(1, 4))
    def receive(self, most: int) -> Any:
        found: list[Delivery] = self.run(self.queue.receive(max_messages=most))
        model = self.model
        model.ripen()
        expected = model.ready()[:most]
        for one in expected:
            one.attempts += 1
            one.until_ms, one.holder = model.now_ms + VISIBILITY_MS, model.next()
        assert [(one.id, one.attempt) for one in found] == [(one.id, one.attempts) for one in expected]
        return multiple(*((one, self.model.live[one.id].holder) for one in found))

    def held(self, delivery: tuple[Delivery, int]) -> Entry | None:
        one = self.model.live.get(delivery[0].id)
        return one if one is not None and one.holder == delivery[1] else None

    @rule(delivery=consumes(deliveries))
    def ack(self, delivery: tuple[Delivery, int]) -> None:
        held = self.held(delivery)
        assert self.run(self.queue.ack(delivery[0])) is (held is not None)
        if held is not None:
            del self.model.live[held.id]

    @rule(delivery=deliveries, delay=seconds, counted=st.booleans())
    def retry(self, delivery: tuple[Delivery, int], delay: float, counted: bool) -> None:
        held = self.held(delivery)
        settled = self.run(self.queue.retry(delivery[0], delay_seconds=delay, counted=counted))
        assert settled is (held is not None)
        if held is not None:
            held.until_ms = self.model.now_ms + int(delay * 1000) if delay else None
            held.place, held.holder = self.model.next(), 0
            held.attempts -= not counted

    @rule(delivery=deliveries)
    def extend(self, delivery: tuple[Delivery, int]) -> None:
        held = self.held(delivery)
        assert self.run(self.queue.extend(delivery[0])) is (held is not None)
        if held is not None:
            held.until_ms = self.model.now_ms + VISIBILITY_MS

    @rule(delivery=deliveries, reason=st.text(min_size=1).filter(str.strip))
    def dead_letter(self, delivery: tuple[Delivery, int], reason: str) -> None:
        held = self.held(delivery)
        assert self.run(self.queue.dead_letter(delivery[0], reason)) is (held is not None)
        if held is not None:
            held.reason = reason
            self.model.dead[held.id] = self.model.live.pop(held.id)

    @rule(choice=st.integers(0, 3), again=st.booleans())
    def decide_on_a_dead_letter(self, choice: int, again: bool) -> None:
        ids = [*self.model.dead, "unknown"]
        chosen = ids[choice % len(ids)]
        done = self.run(self.queue.requeue(chosen) if again else self.queue.discard(chosen))
        assert done is (chosen in self.model.dead)
        if done:
            del self.model.dead[chosen]
            if again:
                self.model.live[chosen] = Entry(id=chosen, place=self.model.next())

    @rule(passed=st.sampled_from([1_000, 4_000, 10_000, 10_000, 61_000]))
    def time_passes(self, passed: int) -> None:
        self.model.now_ms += passed

    @rule(by=st.sampled_from([-5000.0, 40.0]))
    def somebody_sets_the_clock(self, by: float) -> None:
        self.wall += by

    @rule()
    def it_is_opened_again(self) -> None:
        self.run(self.queue.cleanup())
        self.opened()

    @invariant()
    def depth_and_dead_letters_agree(self) -> None:
        depth = self.run(self.queue.depth())
        model = self.model
        waits = [one for one in model.live.values() if one.until_ms is not None and one.until_ms > model.now_ms]
        assert (depth.waiting, depth.held, depth.dead) == (len(model.live) - len(waits), len(waits), len(model.dead))
        dead = self.run(self.queue.dead_letters())
        assert [(one.id, one.attempts, one.reason) for one in dead] == [
            (one.id, one.attempts, one.reason) for one in model.dead.values()
        ]


QueueMachine.TestCase.settings = settings(max_examples=40, stateful_step_count=30)
TestModel = QueueMachine.TestCase
