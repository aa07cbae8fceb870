"""The event bridge: the active candidates handle events, and no swap, pause or failure loses one."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from oneiric.core.errors import DispatchError, LifecycleError
from oneiric.core.lifecycle import LifecycleManager
from oneiric.core.resolution import Candidate, Resolver
from oneiric.domains import EventBridge
from oneiric.runtime.dead_letters import DeadLetterStore
from oneiric.runtime.events import DispatchReport, EventEnvelope, event_record
from oneiric.runtime.state_files import RuntimeTelemetryRecorder, read_telemetry


class Mail:
    """A handler that notes what it is given, takes a moment, and fails as long as it is told to."""

    def __init__(self, name: str, seen: list[str]) -> None:
        self.name, self.seen = name, seen
        self.fault: BaseException | None = None
        self.is_closed = False

    async def handle(self, envelope: EventEnvelope) -> str:
        await asyncio.sleep(0)
        if self.is_closed:
            raise RuntimeError("an event landed on a handler that was cleaned up")
        if self.fault is not None:
            raise self.fault
        self.seen.append(f"{self.name} {envelope.payload}")
        return self.name

    def close(self) -> None:
        self.is_closed = True


class System:
    """A resolver, a lifecycle, dead letters in memory, and the bridge of the events."""

    def __init__(self) -> None:
        self.resolver = Resolver()
        self.lifecycle = LifecycleManager(self.resolver)
        self.letters = DeadLetterStore()
        self.events = EventBridge(resolver=self.resolver, lifecycle=self.lifecycle, dead_letters=self.letters)
        self.seen: list[str] = []
        self.made: dict[str, Mail] = {}

    def offer(self, provider: str, key: str = "mail", *, priority: int = 0, **metadata: Any) -> None:
        def factory() -> Mail:
            self.made[provider] = Mail(provider, self.seen)
            return self.made[provider]

        self.resolver.register(
            Candidate(domain="event", key=key, provider=provider, factory=factory, priority=priority, metadata=metadata)
        )

    async def reasons(self) -> list[tuple[str, str]]:
        return [(each.handler, each.reason) for each in await self.letters.letters()]


@asynccontextmanager
async def system() -> AsyncIterator[System]:
    built = System()
    async with built.lifecycle, built.letters:
        yield built


async def test_active_candidates_handle_the_events_their_metadata_names() -> None:
    async with system() as built:
        built.offer("smtp", topics=["orders.*"], event_priority=5, retry_policy={"attempts": 2})
        built.offer("ses", priority=-1, topics=["orders.*"])
        built.offer("s3", key="archive", topics=["**"], filters=[{"path": "payload", "equals": 2}])
        results = await built.events.emit("orders.created", 1)
        assert [(each.handler, each.value, each.success) for each in results] == [("mail:smtp", "smtp", True)]
        assert [each.handler for each in await built.events.emit("orders.paid", 2)] == ["mail:smtp", "archive:s3"]
        assert await built.events.emit("users.created") == []
        snapshot = built.events.handler_snapshot()
        assert [(each["handler"], each["priority"], each["attempts"]) for each in snapshot] == [
            ("mail:smtp", 5, 2),
            ("archive:s3", 0, 1),
        ]
        assert snapshot[1]["filters"] == [{"path": "payload", "equals": 2}]


async def test_another_winner_and_another_provider_that_serves_get_the_next_event() -> None:
    async with system() as built:
        built.offer("smtp", topics=["orders.*"])
        await built.events.emit("orders.created", 1)
        built.offer("ses", priority=1, topics=["orders.*"])
        await built.events.emit("orders.created", 2)
        assert built.seen == ["smtp 1", "smtp 2"]  # a changed ranking swaps nothing by itself
        await built.lifecycle.reconcile()
        assert [each.handler for each in await built.events.emit("orders.created", 3)] == ["mail:ses"]
        await built.lifecycle.swap("event", "mail", "smtp")
        assert [each.handler for each in await built.events.emit("orders.created", 4)] == ["mail:smtp"]


async def test_what_is_registered_again_is_taken_with_its_new_metadata() -> None:
    async with system() as built:
        built.offer("smtp", topics=["orders.*"])
        assert len(await built.events.emit("orders.created")) == 1
        built.offer("smtp", topics=["users.*"])
        assert await built.events.emit("orders.created") == []
        assert len(await built.events.emit("users.created")) == 1


async def test_no_event_is_lost_while_its_handler_is_swapped_again_and_again() -> None:
    async with system() as built:
        for provider in ("smtp", "ses"):
            built.offer(provider, topics=["orders.*"])
        sent = 0

        async def emit() -> None:
            nonlocal sent
            for _ in range(50):
                sent += 1
                assert [each.error for each in await built.events.emit("orders.created", sent)] == [None]

        async def swap() -> None:
            for number in range(40):
                await built.lifecycle.swap("event", "mail", ("smtp", "ses")[number % 2])

        await asyncio.gather(emit(), emit(), swap(), emit())
        assert (len(built.seen), await built.letters.count()) == (sent, 0)


@pytest.mark.parametrize("state", ["paused", "draining"])
async def test_a_handler_that_takes_no_work_refuses_and_its_events_are_kept_and_replayed(state: str) -> None:
    async with system() as built:
        built.offer("smtp", topics=["orders.*"])
        change = built.events.set_paused if state == "paused" else built.events.set_draining
        await change("mail", True, note="maintenance")
        results = await built.events.emit("orders.created", 1)
        assert [(each.success, each.attempts) for each in results] == [(False, 0)]
        letter = (await built.letters.letters())[0]
        assert (letter.handler, letter.reason, letter.attempts) == ("mail:smtp", "refused", 0)
        assert "maintenance" in (letter.error or "")
        assert built.events.explain_event("orders.created").handlers[0].reason == "paused"
        with pytest.raises(Exception, match="takes no new work"):
            await built.events.replay(letter.id)
        await built.events.resume("mail")
        await built.events.replay(letter.id)
        assert (built.seen, await built.letters.count()) == (["smtp 1"], 0)


async def test_a_dead_letter_is_given_to_the_handler_that_failed_and_to_nobody_else() -> None:
    async with system() as built:
        built.offer("smtp", topics=["orders.*"])
        built.offer("s3", key="archive", topics=["orders.*"])
        await built.lifecycle.activate("event", "mail")
        built.made["smtp"].fault = OSError("gone")
        await built.events.emit("orders.created", 1)
        assert await built.reasons() == [("mail:smtp", "failed")]
        built.offer("ses", topics=["orders.*"])
        await built.lifecycle.swap("event", "mail", "ses")
        letter = (await built.letters.letters())[0]
        await built.events.replay(letter.id)
        assert built.seen == ["s3 1", "ses 1"]


async def test_an_instance_that_cannot_handle_is_told_by_the_published_error() -> None:
    async with system() as built:
        built.resolver.register(Candidate(domain="event", key="mail", provider="odd", factory=object))
        (result,) = await built.events.emit("orders.created")
        assert isinstance(result.error, LifecycleError)
        assert "event-handler-missing-handle-method (mail)" in str(result.error)


async def test_metadata_that_cannot_be_used_keeps_out_its_own_handler_only() -> None:
    async with system() as built:
        built.offer("bad", key="archive", topics=["a..b"])
        built.offer("smtp")
        assert [each.handler for each in await built.events.emit("orders.created")] == ["mail:smtp"]
        assert "segment ''" in built.events.problems["archive:bad"]


async def test_the_limit_of_a_handler_holds_over_a_change_elsewhere() -> None:
    async with system() as built:
        built.offer("smtp", topics=["orders.*"], max_concurrency=1)
        before = built.events.dispatcher().handlers[0]
        built.offer("s3", key="archive")
        assert next(each for each in built.events.dispatcher().handlers if each.name == "mail:smtp") is before


async def test_events_are_handled_from_a_queue_and_dropped_ones_are_kept() -> None:
    async with system() as built:
        built.offer("smtp", topics=["orders.*"])
        queue = built.events.queue(capacity=2, overflow="drop_newest")
        await queue.start()
        taken = [await queue.put(EventEnvelope("orders.created", number)) for number in range(3)]
        await queue.stop()
        assert (taken, built.seen) == ([True, True, False], ["smtp 0", "smtp 1"])
        letter = (await built.letters.letters())[0]
        assert (letter.handler, letter.reason) == ("", "overflow")
        await built.events.replay(letter.id)
        assert built.seen[2:] == ["smtp 2"]


async def test_observers_are_told_and_the_telemetry_file_keeps_the_last_event(tmp_path: Path) -> None:
    path = tmp_path / "runtime_telemetry.json"
    recorder = RuntimeTelemetryRecorder(path)
    reports: list[DispatchReport] = []

    def broken(report: DispatchReport) -> None:
        raise ValueError("an observer that fails")

    async with system() as built:
        built.offer("smtp", topics=["orders.*"])
        for observer in (broken, reports.append):
            built.events.observe(observer)
        stop = built.events.observe(lambda report: recorder.event(event_record(report)))
        await built.events.emit("orders.created", 1)
        await recorder.flush()
        stop()
        await built.events.emit("orders.paid", 1)
        await recorder.flush()
    assert [report.topic for report in reports] == ["orders.created", "orders.paid"]
    found = read_telemetry(tmp_path)
    document = found.document
    assert document is not None
    assert document["last_event"]["topic"] == "orders.created"
    assert document["last_event"]["handlers"][0]["handler"] == "mail:smtp"


async def test_a_loop_of_events_is_ended_however_it_is_sent_off() -> None:
    tasks: list[asyncio.Task[Any]] = []
    async with system() as built:

        class Echo:
            async def handle(self, envelope: EventEnvelope) -> None:
                tasks.append(asyncio.create_task(built.events.emit("orders.created")))

        built.resolver.register(Candidate(domain="event", key="echo", provider="echo", factory=Echo))
        await built.events.emit("orders.created")
        while not all(task.done() for task in tasks):
            await asyncio.wait(tasks)
        assert (len(tasks), await built.reasons()) == (17, [("", "hops")])
        assert isinstance(tasks[-1].exception(), DispatchError)


async def test_without_a_store_what_is_not_taken_is_logged_and_replay_says_so() -> None:
    resolver = Resolver()
    async with LifecycleManager(resolver) as lifecycle:
        events = EventBridge(resolver=resolver, lifecycle=lifecycle)
        resolver.register(Candidate(domain="event", key="mail", provider="odd", factory=object))
        assert [each.success for each in await events.emit("a")] == [False]
        with pytest.raises(DispatchError, match="no dead letters are kept here"):
            await events.replay("x")
