"""Who is cancelled while a store does what it was asked holds nothing afterwards, and undoes nothing that was done."""

import asyncio
import json
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
from tests.runtime._held_store import Held, cancelled_on_the_way, turns
from tests.runtime._workflows import Tasks, engine_of, node, workflow

from oneiric.core.errors import CheckpointError
from oneiric.runtime.dead_letters import DeadLetter, DeadLetterStore
from oneiric.runtime.deliveries import DeliveryStore, WorkflowDelivery, delivery_mounts
from oneiric.runtime.scheduler import Schedule, Scheduler, ScheduleStore
from oneiric.runtime.workflows import WorkflowCheckpointStore

TASK = [(b"x-cloudtasks-taskname", b"t-1"), (b"x-cloudtasks-queuename", b"q")]


NOON = 1_767_225_600.0


class Port:
    """What schedules fire into: it notes how often, and does what a test wants."""

    def __init__(self) -> None:
        self.fired = 0
        self.begun = asyncio.Event()
        self.busy: Any = None
        self.gate: asyncio.Event | None = None

    async def fire(self, schedule: Schedule, slot_time: float, idempotency_key: str) -> None:
        self.fired += 1
        if self.busy is not None:
            self.held = await Held(self.busy).__aenter__()
        self.begun.set()
        if self.gate is not None:
            await self.gate.wait()


@asynccontextmanager
async def schedules_at(directory: Path) -> AsyncIterator[list[ScheduleStore]]:
    """Return a store twice, as two processes have it, with one schedule that is due."""
    stores = [ScheduleStore(directory / "schedules.sqlite", clock=lambda: NOON) for _ in range(2)]
    async with stores[0], stores[1]:
        await stores[0].add(Schedule(name="s", target="task:x", at=NOON))
        yield stores


def scheduler_of(store: ScheduleStore, port: Port, **options: Any) -> Scheduler:
    return Scheduler(store, port, clock=lambda: NOON, drain_seconds=0.0, **options)


class Deliveries:
    """Two processes that are delivered to and share a store: each runs nothing, and counts what it is asked for."""

    def __init__(self, directory: Path) -> None:
        self.stores = [DeliveryStore(directory / "deliveries.sqlite") for _ in range(2)]
        self.letters = DeadLetterStore()
        self.runs: list[str] = []
        self.busy: Any = None
        self.done = asyncio.Event()
        self.apps = [delivery_mounts(store, self.letters, processor=self)["/tasks/workflow"] for store in self.stores]

    async def process(self, delivery: WorkflowDelivery, run_id: str) -> Mapping[str, Any]:
        self.runs.append(run_id)
        if self.busy is not None:
            self.held = await Held(self.busy).__aenter__()
        self.done.set()
        return {}

    async def status(self, process: int) -> int:
        sent: list[Any] = []

        async def receive() -> Any:
            return {"type": "http.request", "body": json.dumps({"workflow": "nightly"}).encode()}

        async def send(message: Any) -> None:
            sent.append(message)

        scope = {"type": "http", "method": "POST", "path": "/tasks/workflow", "headers": TASK}
        await self.apps[process](scope, receive, send)
        return int(sent[0]["status"])


@asynccontextmanager
async def delivered_to(directory: Path) -> AsyncIterator[Deliveries]:
    made = Deliveries(directory)
    async with made.stores[0], made.stores[1], made.letters:
        yield made


async def test_a_delivery_that_is_cancelled_while_it_is_claimed_is_done_by_the_next_one(tmp_path: Path) -> None:
    async with delivered_to(tmp_path) as deliveries:
        asked = asyncio.create_task(deliveries.status(0))
        await cancelled_on_the_way(deliveries.stores[0]._store, asked)
        assert deliveries.runs == []
        assert await deliveries.status(1) == 200
        assert len(deliveries.runs) == 1


async def test_a_delivery_that_is_cancelled_when_it_is_done_is_not_done_again(tmp_path: Path) -> None:
    async with delivered_to(tmp_path) as deliveries:
        deliveries.busy = deliveries.stores[0]._store
        asked = asyncio.create_task(deliveries.status(0))
        await deliveries.done.wait()
        # What nobody waits for any more, a store that is about something else does not begin.
        await turns()
        asked.cancel()
        await turns()
        await deliveries.held.__aexit__()
        await asyncio.wait([asked])
        assert asked.cancelled()
        deliveries.busy = None
        assert await deliveries.status(1) == 200
        assert len(deliveries.runs) == 1


async def test_a_dead_letter_whose_replay_is_cancelled_while_it_is_claimed_is_replayed_by_the_next_one(
    tmp_path: Path,
) -> None:
    replayed: list[str] = []

    async def deliver(letter: DeadLetter) -> None:
        replayed.append(letter.id)

    async with DeadLetterStore(tmp_path / "dead_letters.sqlite") as letters:
        kept = await letters.keep_body("event", "orders.created", {}, "failed")
        asked = asyncio.create_task(letters.replay(kept.id, deliver))
        await cancelled_on_the_way(letters._store, asked)
        assert replayed == []
        assert (await letters.replay(kept.id, deliver)).replays == 0
        assert await letters.count() == 0


async def test_a_run_whose_start_is_cancelled_while_it_is_claimed_is_run_by_whoever_asks_next(tmp_path: Path) -> None:
    path, spec = tmp_path / "checkpoints.sqlite", workflow(node("a"))
    async with (
        WorkflowCheckpointStore(path) as one,
        WorkflowCheckpointStore(path) as two,
        engine_of(Tasks(), spec, checkpoints=one) as first,
        engine_of(Tasks(), spec, checkpoints=two) as second,
    ):
        asked = asyncio.create_task(first.start("w", run_id="r"))
        await cancelled_on_the_way(one._store, asked)
        assert (await second.inspect("r")).status == "interrupted"
        assert (await second.run("w", run_id="r")).results == {"a": None}


async def test_a_run_that_is_being_opened_when_its_engine_closes_is_given_back(tmp_path: Path) -> None:
    path, spec = tmp_path / "checkpoints.sqlite", workflow(node("a"))
    async with WorkflowCheckpointStore(path) as one, WorkflowCheckpointStore(path) as two:
        first, second = engine_of(Tasks(), spec, checkpoints=one), engine_of(Tasks(), spec, checkpoints=two)
        asked = asyncio.create_task(first.start("w", run_id="r"))

        async def close() -> None:
            await first.aclose()
            await one.aclose()

        async with Held(one._store):
            closing = asyncio.create_task(close())
            await turns()
        await closing
        with pytest.raises(CheckpointError, match="the engine is closed"):
            await asked
        assert (await second.run("w", run_id="r")).results == {"a": None}
        await second.aclose()


async def test_a_slot_whose_scheduler_is_cancelled_while_it_is_claimed_is_fired_by_the_next_one(tmp_path: Path) -> None:
    port = Port()
    async with schedules_at(tmp_path) as (one, two):
        held: list[Held] = []
        claiming = asyncio.Event()

        def refuses(_: Schedule) -> None:
            held.append(Held(one.store))
            claiming.set()

        first = scheduler_of(one, port, refuses=refuses)
        second = scheduler_of(two, port)
        asked = asyncio.create_task(first.step())
        await claiming.wait()
        async with held[0]:
            asked.cancel()
            await turns()
        await asyncio.wait([asked])
        assert (asked.cancelled(), port.fired) == (True, 0)
        await second.step()
        await second.stop()
        assert port.fired == 1


async def test_a_slot_that_is_done_when_its_scheduler_stops_is_not_fired_again(tmp_path: Path) -> None:
    port = Port()
    async with schedules_at(tmp_path) as (one, two):
        port.busy = one.store
        scheduler = scheduler_of(one, port)
        await scheduler.step()
        await port.begun.wait()
        await turns()
        stopping = asyncio.create_task(scheduler.stop())
        await turns()
        await port.held.__aexit__()
        await stopping
        assert [slot.state for slot in await two.slots("s")] == ["done"]


async def test_a_scheduler_whose_stop_is_cancelled_gives_back_what_it_does_nevertheless(tmp_path: Path) -> None:
    port = Port()
    port.gate = asyncio.Event()
    async with schedules_at(tmp_path) as (one, two):
        scheduler = Scheduler(one, port, clock=lambda: NOON, drain_seconds=60.0)
        await scheduler.start()
        await port.begun.wait()
        async with Held(one.store):
            scheduler.wake()
            await turns()
            stopping = asyncio.create_task(scheduler.stop())
            await turns()
            stopping.cancel()
            await turns()
        await asyncio.wait([stopping])
        assert (stopping.cancelled(), scheduler.firing) == (True, 0)
        port.gate.set()
        second = scheduler_of(two, port)
        await second.step()
        await second.stop()
        assert port.fired == 2
