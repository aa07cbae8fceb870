"""The scheduler: each slot fires once, whatever clocks, stores and other schedulers do meanwhile."""

import asyncio
from collections.abc import Callable, Coroutine
from pathlib import Path
from typing import Any

import pytest

from oneiric.core.errors import ConfigurationError, PausedError, StoreError
from oneiric.core.testing import DrivenClock, run_driven
from oneiric.runtime.retry import RetryPolicy
from oneiric.runtime.scheduler import SCHEDULES_FILE, Schedule, Scheduler, ScheduleStore
from oneiric.runtime.scheduler._table import Claim, Lease, decide, finish, release, renew, take_over

#: Thursday, 1 January 2026, midnight UTC.
EPOCH = 1_767_225_600.0


class Port:
    """What is fired into: notes each slot, and takes as long or fails as it is told."""

    def __init__(self, wall: Callable[[], float]) -> None:
        self.wall = wall
        self.fired: list[tuple[str, float]] = []
        self.keys: list[str] = []
        self.late: list[float] = []
        self.seconds = 0.0
        self.faults: list[Exception] = []
        self.active = self.most_active = 0
        self.begun = asyncio.Event()

    async def was_fired(self) -> None:
        async with asyncio.timeout(60):
            await self.begun.wait()
        self.begun.clear()

    async def fire(self, schedule: Schedule, slot_time: float, idempotency_key: str) -> None:
        self.begun.set()
        self.active += 1
        self.most_active = max(self.active, self.most_active)
        try:
            self.fired.append((schedule.name, slot_time - EPOCH))
            self.keys.append(idempotency_key)
            self.late.append(self.wall() - slot_time)
            if self.faults:
                raise self.faults.pop(0)
            if self.seconds:
                await asyncio.sleep(self.seconds)
        finally:
            self.active -= 1


class World:
    """A driven clock, a wall clock that can be set, schedules in memory, and what they fire into."""

    def __init__(self, clock: DrivenClock) -> None:
        self.clock = clock
        self.offset = EPOCH
        self.port = Port(self.wall)
        self.store = ScheduleStore(clock=self.wall)

    def wall(self) -> float:
        return self.clock() + self.offset

    def scheduler(self, **options: Any) -> Scheduler:
        return Scheduler(self.store, self.port, **{"clock": self.wall, **options})

    async def add(self, **fields: Any) -> None:
        await self.store.open()
        await self.store.add(Schedule(**{"name": "s", "target": "task:x", **fields}))

    async def outcomes(self) -> list[tuple[float, str]]:
        return [(each.at - EPOCH, each.state) for each in reversed(await self.store.slots("s"))]


def driven(scenario: Callable[[World], Coroutine[Any, Any, None]]) -> None:
    clock = DrivenClock()

    async def run() -> None:
        world = World(clock)
        try:
            await scenario(world)
        finally:
            await world.store.aclose()

    run_driven(run(), clock)


async def for_seconds(scheduler: Scheduler, seconds: float) -> None:
    """Run a scheduler for a while; leave the store open."""
    await scheduler.start()
    await asyncio.sleep(seconds)


@pytest.mark.parametrize(
    "fields",
    [
        {"cron": "*/7 * * * *"},
        {"cron": "0 2 * * *", "time_zone": "Europe/Berlin", "jitter_seconds": 600},
        {"every_seconds": 90, "jitter_seconds": 200},
        {"every_seconds": 61.7},
        {"at": EPOCH + 4000},
    ],
)
def test_what_fires_is_what_was_previewed_and_when(fields: Any) -> None:
    async def scenario(world: World) -> None:
        await world.add(**fields, overlap="allow")
        previewed = [slot for slot in await world.store.preview("s", 5000) if slot.due < EPOCH + 86_400 * 2 + 1]
        assert previewed
        scheduler = world.scheduler(poll_seconds=30)
        await for_seconds(scheduler, 86_400 * 2 + 1)
        due = sorted(previewed, key=lambda slot: (slot.due, slot.at))
        assert world.port.keys == [slot.key for slot in due]
        late = [late - (slot.due - slot.at) for late, slot in zip(world.port.late, due, strict=True)]
        assert max(late) < 0.001
        assert min(late) >= 0
        await scheduler.stop()

    driven(scenario)


@pytest.mark.parametrize(
    ("overlap", "fired", "outcomes"),
    [
        ("skip", [10, 40], ["done", "skipped", "skipped", "running"]),
        ("allow", [10, 20, 30, 40], ["done", "running", "running", "running"]),
    ],
)
def test_a_slot_that_meets_one_still_being_done(overlap: Any, fired: list[float], outcomes: list[str]) -> None:
    async def scenario(world: World) -> None:
        world.port.seconds = 28
        await world.add(every_seconds=10, start=EPOCH, overlap=overlap)
        scheduler = world.scheduler()
        await for_seconds(scheduler, 41)
        assert [at for _, at in world.port.fired] == fired
        assert [state for _, state in await world.outcomes()] == outcomes
        assert world.port.most_active == (3 if overlap == "allow" else 1)
        await scheduler.stop()

    driven(scenario)


def test_of_many_that_wait_one_is_kept_and_done_as_soon_as_it_can_be() -> None:
    async def scenario(world: World) -> None:
        world.port.seconds = 35
        await world.add(every_seconds=10, start=EPOCH, overlap="buffer_one")
        scheduler = world.scheduler(lease_seconds=30)
        await for_seconds(scheduler, 51)
        assert await world.outcomes() == [
            (10, "done"), (20, "running"), (30, "skipped"), (40, "skipped"), (50, "buffered"),
        ]  # fmt: skip
        assert world.port.fired == [("s", 10), ("s", 20)]
        await scheduler.stop()

    driven(scenario)


def test_slots_nobody_was_there_for_are_caught_up_with_within_the_window_and_missed_before_it() -> None:
    async def scenario(world: World) -> None:
        await world.add(every_seconds=60, start=EPOCH, catch_up_seconds=150, overlap="allow")
        world.offset += 600
        scheduler = world.scheduler()
        await for_seconds(scheduler, 1)
        assert [at for _, at in world.port.fired] == [480, 540, 600]
        assert (await world.outcomes())[:7] == [(60 * number, "missed") for number in range(1, 8)]
        await scheduler.stop()

    driven(scenario)


def test_a_schedule_nobody_ran_for_years_begins_at_once() -> None:
    async def scenario(world: World) -> None:
        await world.add(every_seconds=1, start=EPOCH, catch_up_seconds=0, overlap="allow")
        world.offset += 86_400 * 365 * 3
        scheduler = world.scheduler()
        await for_seconds(scheduler, 3)
        assert 7 <= len(world.port.fired) <= 10
        await scheduler.stop()

    driven(scenario)


def test_a_single_time_that_has_just_passed_fires_and_one_long_past_does_not() -> None:
    async def scenario(world: World) -> None:
        await world.add(name="just", at=EPOCH - 10)
        await world.add(name="long", at=EPOCH - 7200)
        scheduler = world.scheduler()
        await for_seconds(scheduler, 10)
        assert world.port.fired == [("just", -10)]
        await scheduler.stop()

    driven(scenario)


def test_a_clock_that_is_set_back_fires_nothing_twice_and_goes_on() -> None:
    async def scenario(world: World) -> None:
        await world.add(every_seconds=60, start=EPOCH)
        scheduler = world.scheduler()
        await for_seconds(scheduler, 601)
        world.offset -= 300
        await asyncio.sleep(600)
        assert [at for _, at in world.port.fired] == [60 * number for number in range(1, 16)]
        await scheduler.stop()

    driven(scenario)


def test_a_clock_that_was_far_ahead_for_a_moment_does_not_silence_a_schedule() -> None:
    async def scenario(world: World) -> None:
        await world.add(every_seconds=3600, start=EPOCH, catch_up_seconds=0)
        scheduler = world.scheduler()
        await for_seconds(scheduler, 1)
        world.offset += 86_400 * 3650
        await asyncio.sleep(5)
        world.offset -= 86_400 * 3650
        world.port.fired.clear()
        await asyncio.sleep(3600 * 3)
        assert [at for _, at in world.port.fired] == [3600, 7200, 10_800]
        await scheduler.stop()

    driven(scenario)


async def test_a_resume_of_a_schedule_that_is_not_paused_lets_no_slot_of_it_pass() -> None:
    now = [float(EPOCH)]
    async with ScheduleStore(clock=lambda: now[0]) as store:
        await store.add(Schedule(name="s", target="x", every_seconds=60))
        floor = (await store.get("s")).floor
        now[0] += 90
        assert (await store.resume("s")).floor == floor
        await store.pause("s")
        assert (await store.resume("s")).floor == now[0]


def test_a_paused_schedule_lets_its_slots_pass_and_goes_on_when_it_is_resumed() -> None:
    async def scenario(world: World) -> None:
        await world.add(every_seconds=60, start=EPOCH)
        scheduler = world.scheduler()
        await for_seconds(scheduler, 61)
        assert (await world.store.pause("s", "maintenance")).note == "maintenance"
        assert await world.store.preview("s") == []
        await asyncio.sleep(300)
        assert not (await world.store.resume("s")).paused
        await asyncio.sleep(61)
        assert [at for _, at in world.port.fired] == [60, 420]
        await scheduler.stop()

    driven(scenario)


@pytest.mark.parametrize("way", ["refuses", "raises"])
def test_a_target_that_takes_no_work_skips_its_slots(way: str) -> None:
    async def scenario(world: World) -> None:
        refused: list[str] = ["task:x is paused"] if way == "refuses" else []
        world.port.faults = [PausedError("task", "x")] if way == "raises" else []
        await world.add(every_seconds=60, start=EPOCH)
        scheduler = world.scheduler(refuses=lambda schedule: refused.pop() if refused else None)
        await for_seconds(scheduler, 121)
        assert await world.outcomes() == [(60, "skipped"), (120, "done")]
        await scheduler.stop()

    driven(scenario)


def test_a_slot_that_fails_is_tried_again_under_its_key_as_often_as_the_policy_says() -> None:
    async def scenario(world: World) -> None:
        world.port.faults = [OSError("gone")] * 5
        await world.add(every_seconds=60, start=EPOCH)
        scheduler = world.scheduler(retry=RetryPolicy(attempts=3, base_delay_seconds=1))
        await for_seconds(scheduler, 130)
        assert [at for _, at in world.port.fired] == [60, 60, 60, 120, 120, 120]
        assert len(set(world.port.keys)) == 2
        assert await world.outcomes() == [(60, "failed"), (120, "done")]
        assert (await world.store.slots("s"))[1].detail == "OSError: gone"
        await scheduler.stop()

    driven(scenario)


def test_two_schedulers_on_one_store_fire_each_slot_once() -> None:
    async def scenario(world: World) -> None:
        await world.add(every_seconds=7, start=EPOCH)
        schedulers = [world.scheduler(), world.scheduler(poll_seconds=0.3), world.scheduler(poll_seconds=5)]
        for scheduler in schedulers:
            await scheduler.start()
        await asyncio.sleep(701)
        assert [at for _, at in world.port.fired] == [7 * number for number in range(1, 101)]
        for scheduler in schedulers:
            await scheduler.stop()

    driven(scenario)


def test_what_is_not_done_when_a_scheduler_stops_is_done_by_the_next_under_the_same_key(tmp_path: Path) -> None:
    async def scenario() -> None:
        path = tmp_path / SCHEDULES_FILE
        wall = [EPOCH]
        port = Port(lambda: wall[0])
        port.seconds = 3600
        async with ScheduleStore(path, clock=lambda: wall[0]) as store:
            await store.add(Schedule(name="s", target="x", every_seconds=60, start=EPOCH))
        wall[0] += 60
        first = Scheduler(ScheduleStore(path), port, clock=lambda: wall[0], poll_seconds=0.01, drain_seconds=0.01)
        await first.start()
        await port.was_fired()
        await first.stop()
        await first.stop()
        port.seconds = 0
        second = Scheduler(ScheduleStore(path), port, clock=lambda: wall[0], poll_seconds=0.01)
        await second.start()
        await port.was_fired()
        await second.stop()
        assert port.keys[0] == port.keys[1]
        async with ScheduleStore(path) as store:
            assert [(each.state, each.attempt) for each in await store.slots("s")] == [("done", 2)]

    asyncio.run(scenario())


def test_a_long_firing_keeps_its_lease_and_is_not_taken_over() -> None:
    async def scenario(world: World) -> None:
        world.port.seconds = 500
        await world.add(at=EPOCH + 10)
        schedulers = [world.scheduler(lease_seconds=9), world.scheduler(lease_seconds=9)]
        for scheduler in schedulers:
            await scheduler.start()
        await asyncio.sleep(600)
        assert world.port.fired == [("s", 10)]
        assert await world.outcomes() == [(10, "done")]
        for scheduler in schedulers:
            await scheduler.stop()

    driven(scenario)


def test_no_more_than_so_many_are_done_at_once() -> None:
    async def scenario(world: World) -> None:
        world.port.seconds = 10
        for number in range(20):
            await world.add(name=f"s{number}", at=EPOCH + 5)
        scheduler = world.scheduler(most_at_once=4)
        await for_seconds(scheduler, 100)
        assert (len(world.port.fired), world.port.most_active) == (20, 4)
        await scheduler.stop()

    driven(scenario)


async def test_a_store_that_cannot_be_opened_is_told_at_the_start(tmp_path: Path) -> None:
    path = tmp_path / SCHEDULES_FILE
    path.write_bytes(b"SQLite format 3\x00" + b"\xff" * 8192)
    path.chmod(0o600)
    scheduler = Scheduler(ScheduleStore(path), Port(lambda: 0.0))
    with pytest.raises(StoreError):
        await scheduler.start()
    await scheduler.stop()


async def test_schedules_are_added_replaced_and_removed(tmp_path: Path) -> None:
    async with ScheduleStore(tmp_path / SCHEDULES_FILE, clock=lambda: EPOCH) as store:
        hourly = Schedule(name="s", target="task:x", cron="@hourly", payload={"a": [1]})
        await store.add(hourly)
        await store.add(hourly)
        daily = Schedule(name="s", target="task:x", cron="@daily")
        with pytest.raises(ConfigurationError, match="there is another schedule 's'"):
            await store.add(daily)
        await store.add(daily, replace=True)
        assert [each.schedule for each in await store.schedules()] == [daily]
        assert [slot.at for slot in await store.preview("s", 2)] == [EPOCH + 86_400, EPOCH + 172_800]
        assert (await store.get("s")).as_dict()["cron"] == "@daily"
        await store.remove("s")
        for change in (store.remove, store.pause, store.resume, store.get, store.preview):
            with pytest.raises(ConfigurationError, match="there is no schedule 's'"):
                await change("s")


async def test_a_payload_that_is_no_plain_data_is_refused() -> None:
    async with ScheduleStore() as store:
        with pytest.raises(ConfigurationError, match="is no plain data"):
            await store.add(Schedule(name="s", target="x", at=3.0, payload={"a": object()}))


def test_a_target_cannot_change_the_payload_of_the_next_slot() -> None:
    async def scenario(world: World) -> None:
        seen: list[Any] = []

        class Greedy:
            async def fire(self, schedule: Schedule, slot_time: float, idempotency_key: str) -> None:
                seen.append(list(schedule.payload["a"]))
                schedule.payload["a"].append(2)

        await world.add(every_seconds=60, start=EPOCH, payload={"a": [1]})
        scheduler = Scheduler(world.store, Greedy(), clock=world.wall)
        await for_seconds(scheduler, 121)
        assert seen == [[1], [1]]
        await scheduler.stop()

    driven(scenario)


def test_who_lost_a_slot_can_neither_keep_nor_settle_nor_give_it_back() -> None:
    async def scenario(world: World) -> None:
        await world.add(at=EPOCH + 10)
        schedule = (await world.store.get("s")).schedule
        slot = schedule.slot_at(EPOCH + 10)
        write = world.store.store.write

        def lease(now: float) -> Lease:
            return Lease(owner="o", boot="b", now=now, until=now + 30)

        decided = await write(
            lambda database: decide(database, schedule, slot, lease(0), now=EPOCH, refused=None, settles=True)
        )
        assert decided == ("running", 1)
        assert await write(lambda database: take_over(database, schedule, slot, lease(29), EPOCH)) == ("taken", 0)
        assert await write(lambda database: take_over(database, schedule, slot, lease(31), EPOCH)) == ("running", 2)
        first, second = (Claim(schedule=schedule, slot=slot, attempt=attempt) for attempt in (1, 2))
        assert not await write(lambda database: renew(database, first, lease(40)))
        assert not await write(lambda database: finish(database, first, "done", None, EPOCH))
        await write(lambda database: release(database, first))
        assert await write(lambda database: take_over(database, schedule, slot, lease(40), EPOCH)) == ("taken", 0)
        assert await write(lambda database: renew(database, second, lease(40)))
        assert await write(lambda database: finish(database, second, "done", None, EPOCH))

    driven(scenario)


def test_a_firing_whose_slot_somebody_else_took_is_cancelled() -> None:
    async def scenario(world: World) -> None:
        world.port.seconds = 1000
        await world.add(at=EPOCH + 10)
        scheduler = world.scheduler(lease_seconds=30)
        await for_seconds(scheduler, 11)
        assert world.port.active == 1
        await world.store.store.write(lambda database: database.execute("UPDATE slots SET attempt = 2"))
        await asyncio.sleep(11)
        assert (world.port.active, scheduler.firing) == (0, 0)
        assert await world.outcomes() == [(10, "running")]
        await scheduler.stop()

    driven(scenario)


def test_slots_of_a_process_that_is_gone_are_held_for_a_whole_lease_however_long_their_turn_takes(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    async def scenario(world: World) -> None:
        gone = Lease(owner="gone", boot="another", now=0, until=30)
        for number in range(5):
            await world.add(name=f"s{number}", at=EPOCH)
            schedule = (await world.store.get(f"s{number}")).schedule
            work = lambda database, it=schedule: decide(  # noqa: E731 - what the store is asked for
                database, it, it.slot_at(EPOCH), gone, now=EPOCH, refused=None, settles=True
            )
            await world.store.store.write(work)
        store, write, left = world.store.store, world.store.store.write, []

        async def slowly(work: Any) -> Any:
            await asyncio.sleep(8)
            found = await write(work)
            ours = "SELECT min(lease_until) FROM slots WHERE state = 'running' AND boot <> 'another'"
            rows = await write(lambda database: database.execute(ours))
            left.append(rows[0][0] - world.clock())
            return found

        monkeypatch.setattr(store, "read", write)
        monkeypatch.setattr(store, "write", slowly)
        world.port.seconds = 1000
        scheduler = world.scheduler(lease_seconds=30)
        await scheduler.step()
        monkeypatch.undo()
        assert scheduler.firing == 5
        assert min(left) > 0
        await scheduler.stop()

    driven(scenario)


def test_what_kills_every_process_that_fires_it_is_not_fired_for_ever() -> None:
    async def scenario(world: World) -> None:
        await world.add(at=EPOCH + 10)
        schedule = (await world.store.get("s")).schedule
        slot = schedule.slot_at(EPOCH + 10)
        now = 0.0
        states = []
        for number in range(7):
            now += 31
            taken = Lease(owner=f"o{number}", boot="b", now=now, until=now + 30)
            work = (
                (lambda database, by=taken: take_over(database, schedule, slot, by, EPOCH))
                if number
                else (lambda database, by=taken: decide(
                    database, schedule, slot, by, now=EPOCH, refused=None, settles=True
                ))
            )  # fmt: skip
            states.append(await world.store.store.write(work))
        assert states[:5] == [("running", attempt) for attempt in range(1, 6)]
        assert states[5:] == [("failed", 5), ("taken", 0)]

    driven(scenario)
