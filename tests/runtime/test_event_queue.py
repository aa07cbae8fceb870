"""Event queues: bounded, in order, and nothing is lost that was not said to be."""

import asyncio
from typing import Any

import pytest

from oneiric.core.errors import DispatchError
from oneiric.core.testing import run_driven
from oneiric.runtime.events import EventDispatcher, EventEnvelope, EventHandler, EventQueue


class Line:
    """A handler that waits for its gate, and the letters of what was dropped."""

    def __init__(self, **options: Any) -> None:
        self.seen: list[Any] = []
        self.letters: list[tuple[Any, str]] = []
        self.gate = asyncio.Event()
        self.events = EventDispatcher()
        self.events.subscribe(EventHandler(name="line", call=self.handle))
        self.queue = EventQueue(self.events, dead_letter=self.bury, **options)

    async def handle(self, envelope: EventEnvelope) -> None:
        await self.gate.wait()
        self.seen.append(envelope.payload)

    def bury(self, envelope: EventEnvelope, handler: str, reason: str, error: Any, attempts: int) -> None:
        self.letters.append((envelope.payload, reason))

    async def put(self, *payloads: Any) -> list[bool]:
        taken = []
        for payload in payloads:
            taken.append(await self.queue.put(EventEnvelope("a", payload)))
            await asyncio.sleep(0)
        return taken


def test_events_are_handled_in_the_order_they_were_put_and_before_the_end() -> None:
    async def scenario() -> None:
        line = Line()
        await line.queue.start()
        line.gate.set()
        assert await line.put(1, 2, 3) == [True] * 3
        await line.queue.stop()
        assert line.seen == [1, 2, 3]
        found = line.queue.statistics
        assert (found.waiting, found.taken, found.handled, found.dropped) == (0, 3, 3, 0)

    run_driven(scenario())


def test_workers_handle_so_many_at_a_time() -> None:
    async def scenario() -> None:
        line = Line(workers=3, capacity=10)
        await line.queue.start()
        await line.put(1, 2, 3, 4, 5)
        assert line.queue.statistics.waiting == 2
        line.gate.set()
        await line.queue.stop()
        assert sorted(line.seen) == [1, 2, 3, 4, 5]

    run_driven(scenario())


def test_where_there_is_no_room_a_put_waits() -> None:
    async def scenario() -> None:
        line = Line(capacity=1)
        await line.queue.start()
        await line.put(1, 2)
        third = asyncio.create_task(line.put(3))
        await asyncio.sleep(1)
        assert not third.done()
        line.gate.set()
        assert await third == [True]
        await line.queue.stop()
        assert (line.seen, line.letters) == ([1, 2, 3], [])

    run_driven(scenario())


def test_a_full_queue_rejects() -> None:
    async def scenario() -> None:
        line = Line(capacity=1, overflow="reject")
        await line.queue.start()
        await line.put(1, 2)
        with pytest.raises(DispatchError, match=r"is full \(1 events wait\)"):
            await line.put(3)
        line.gate.set()
        await line.queue.stop()
        assert line.seen == [1, 2]

    run_driven(scenario())


@pytest.mark.parametrize(
    ("overflow", "taken", "seen", "dropped"),
    [("drop_oldest", [True] * 4, [1, 4], [2, 3]), ("drop_newest", [True, True, False, False], [1, 2], [3, 4])],
)
def test_what_is_dropped_becomes_a_dead_letter(overflow: Any, taken: Any, seen: Any, dropped: Any) -> None:
    async def scenario() -> None:
        line = Line(capacity=1, overflow=overflow)
        await line.queue.start()
        assert await line.put(1, 2, 3, 4) == taken
        line.gate.set()
        await line.queue.stop()
        assert line.seen == seen
        assert line.letters == [(payload, "overflow") for payload in dropped]
        assert line.queue.statistics.dropped == 2

    run_driven(scenario())


def test_what_cannot_be_handled_in_time_becomes_a_dead_letter() -> None:
    async def scenario() -> None:
        line = Line(drain_seconds=5)
        await line.queue.start()
        await line.put(1, 2, 3)
        await line.queue.stop()
        await line.queue.stop()
        assert (line.seen, line.letters) == ([], [(1, "shutdown"), (2, "shutdown"), (3, "shutdown")])
        with pytest.raises(DispatchError, match="takes no events"):
            await line.put(4)

    run_driven(scenario())


def test_a_put_that_waits_when_the_queue_ends_is_refused() -> None:
    async def scenario() -> None:
        line = Line(capacity=1, drain_seconds=0)
        await line.queue.start()
        await line.put(1, 2)
        third = asyncio.create_task(line.put(3))
        await asyncio.sleep(0)
        await line.queue.stop()
        with pytest.raises(DispatchError, match="takes no events"):
            await third

    run_driven(scenario())


def test_a_queue_can_be_started_again() -> None:
    async def scenario() -> None:
        line = Line()
        line.gate.set()
        for number in (1, 2):
            await line.queue.start()
            await line.queue.start()
            await line.put(number)
            await line.queue.stop()
        assert line.seen == [1, 2]

    run_driven(scenario())


def test_a_handler_that_fills_its_own_queue_is_refused_instead_of_waiting_for_itself() -> None:
    async def scenario() -> None:
        errors: list[BaseException | None] = []

        async def twice(envelope: EventEnvelope) -> None:
            await queue.put(EventEnvelope("b"))
            await queue.put(EventEnvelope("b"))

        events = EventDispatcher(dead_letter=lambda *letter: errors.append(letter[3]))
        events.subscribe(EventHandler(name="twice", call=twice, topics=("a",)))
        queue = EventQueue(events, capacity=1)
        await queue.start()
        await queue.put(EventEnvelope("a"))
        await asyncio.sleep(1)
        await queue.stop()
        assert ["cannot wait for room" in str(error) for error in errors] == [True]

    run_driven(scenario())


def test_a_loop_of_events_through_the_queue_is_found_and_the_queue_goes_on() -> None:
    async def scenario() -> None:
        rounds, letters, errors = 0, [], []

        async def again(envelope: EventEnvelope) -> None:
            nonlocal rounds
            rounds += 1
            if envelope.topic == "loop":
                await queue.put(EventEnvelope("loop"))

        events = EventDispatcher(dead_letter=lambda *letter: letters.append(letter[2]))
        events.subscribe(EventHandler(name="again", call=again))
        queue = EventQueue(events, on_error=lambda envelope, error: errors.append(type(error)))
        await queue.start()
        await queue.put(EventEnvelope("loop"))
        await asyncio.sleep(1)
        await queue.put(EventEnvelope("fine"))
        await queue.stop()
        assert (rounds, letters, errors) == (18, ["hops"], [DispatchError])

    run_driven(scenario())


@pytest.mark.parametrize("options", [{"capacity": 0}, {"workers": 0}, {"overflow": "explode"}])
def test_a_queue_that_cannot_work_is_refused(options: Any) -> None:
    with pytest.raises(DispatchError):
        EventQueue(EventDispatcher(), **options)
