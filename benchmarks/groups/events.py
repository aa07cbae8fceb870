"""What a dispatch costs: handlers in their turns, with their results, all at once, and found among 1,000 topics.

The floor in turns is a loop that awaits each handler and minds nothing; the floor of what runs at once is a TaskGroup
on eager tasks. The handlers return at once, so that nothing is measured but what is done for them.
"""

import asyncio
from typing import Any

from benchmarks._timing import Contest, Figure
from oneiric.runtime.events import EventDispatcher, EventEnvelope, EventHandler

ROUNDS = 300
COUNTS = (1, 10, 100)
TOPICS = 1000


def _handlers(count: int) -> list[EventHandler]:
    # A function each, as handlers are: one that all share would be easier on the interpreter's caches.
    return [EventHandler(name=f"h{number}", call=_handler()) for number in range(count)]


def _handler() -> Any:
    async def handle(envelope: EventEnvelope) -> None:
        """Do nothing, as a handler would."""

    return handle


async def _eager_group(calls: list[Any], envelope: EventEnvelope) -> None:
    async with asyncio.TaskGroup() as group:
        for call in calls:
            group.create_task(call(envelope))


async def _in_turn(calls: list[Any], envelope: EventEnvelope) -> None:
    for call in calls:
        await call(envelope)


async def _routed(index: dict[str, Any], envelope: EventEnvelope) -> None:
    await index[envelope.topic](envelope)


def measure(rounds: int) -> list[Figure]:
    """Measure the group."""
    contest = Contest("events", rounds)
    contest.setup(_use_eager_tasks())
    sent = EventEnvelope("orders.created", {"total": 3})
    for count in COUNTS:
        _fan_out(contest, count, sent)
    for topics in (10, TOPICS):
        _routing(contest, topics)
    contest.run()
    contest.close()
    flat = contest.quotient("routing_flat", "one of 1,000 topics over one of 10", f"routing_{TOPICS}", "routing_10")
    return [*contest.figures(), flat]


def _fan_out(contest: Contest, count: int, sent: EventEnvelope) -> None:
    handlers = _handlers(count)
    ordered, concurrent = EventDispatcher(), EventDispatcher(fanout="concurrent")
    ordered.replace(handlers)
    concurrent.replace(handlers)
    calls = [handler.call for handler in handlers]
    floor, group = f"floor_{count}", f"group_{count}"
    names = {"run": _in_turn, "calls": calls, "event": sent}
    contest.add(floor, "await run(calls, event)", names, who="floor", floor=floor, label=f"{count}: awaited in a loop")
    names = {"dispatch": ordered.dispatch, "event": sent}
    contest.add(f"ordered_{count}", "await dispatch(event)", names, floor=floor, label=f"{count}: in turn")
    recorded = "await dispatch(event, results=True)"
    contest.add(f"results_{count}", recorded, names, floor=floor, label=f"{count}: in turn, results and timing")
    if count == 1:
        return
    names = {"run": _eager_group, "calls": calls, "event": sent}
    contest.add(group, "await run(calls, event)", names, who="floor", floor=group, label=f"{count}: eager TaskGroup")
    names = {"dispatch": concurrent.dispatch, "event": sent}
    contest.add(f"concurrent_{count}", "await dispatch(event)", names, floor=group, label=f"{count}: at once")


def _routing(contest: Contest, topics: int) -> None:
    events = EventDispatcher()
    handlers = [EventHandler(name=f"h{n}", call=_handler(), topics=(f"shop.t{n}.created",)) for n in range(topics)]
    events.replace(handlers)
    index = {handler.topics[0]: handler.call for handler in handlers}
    sent = EventEnvelope(f"shop.t{topics // 2}.created")
    floor = f"index_{topics}"
    names = {"run": _routed, "index": index, "event": sent}
    contest.add(floor, "await run(index, event)", names, who="floor", floor=floor, label=f"{topics}: dict index")
    names = {"dispatch": events.dispatch, "event": sent}
    contest.add(f"routing_{topics}", "await dispatch(event)", names, floor=floor, label=f"one of {topics} topics")


async def _use_eager_tasks() -> None:
    asyncio.get_running_loop().set_task_factory(asyncio.eager_task_factory)
