"""The feed of events: bounded, in order, resumable."""

import asyncio
from collections import deque
from threading import Thread

import pytest

from oneiric.core.events import Registered, SwapFailed
from oneiric.core.resolution import Candidate
from oneiric.runtime.control import ControlEvent, EventFeed, Subscription


async def read(stream: Subscription, count: int) -> list[ControlEvent]:
    return [await anext(stream) for _ in range(count)]


def numbers(events: list[ControlEvent]) -> list[object]:
    return [event.data.get("n", event.name) for event in events]


def publish(feed: EventFeed, *values: int) -> None:
    for n in values:
        feed.publish("count", {"n": n})


async def test_a_follower_reads_what_happens_from_then_on() -> None:
    feed = EventFeed()
    publish(feed, 1)
    follower = feed.subscribe()
    publish(feed, 2, 3)

    assert numbers(await read(follower, 2)) == [2, 3]


async def test_one_that_comes_back_goes_on_where_it_was() -> None:
    feed = EventFeed()
    follower = feed.subscribe()
    publish(feed, 1, 2, 3)
    (first,) = await read(follower, 1)
    await follower.aclose()
    again = feed.subscribe(after=first.id)
    publish(feed, 4)

    assert numbers(await read(again, 3)) == [2, 3, 4]


@pytest.mark.parametrize("after", ["", "x-1", "nonsense", "-", "00000000-2", "00000000-99999999999999999999999"])
async def test_an_id_of_another_process_is_told_of_the_gap(after: str) -> None:
    feed = EventFeed()
    publish(feed, 1, 2)
    follower = feed.subscribe(after=after)

    assert numbers(await read(follower, 3)) == ["gap", 1, 2]


async def test_what_is_no_longer_kept_is_a_gap() -> None:
    feed = EventFeed(length=2)
    follower = feed.subscribe()
    publish(feed, 1)
    (first,) = await read(follower, 1)
    publish(feed, 2, 3, 4)
    again = feed.subscribe(after=first.id)
    events = await read(again, 3)

    assert numbers(events) == ["gap", 3, 4]
    assert numbers(await read(feed.subscribe(after=events[0].id), 2)) == [3, 4]


async def test_a_slow_follower_is_dropped_and_holds_nothing() -> None:
    feed = EventFeed(backlog=3)
    slow, quick = feed.subscribe(), feed.subscribe()
    publish(feed, 1, 2, 3)
    await read(quick, 3)
    publish(feed, 4)

    assert [event async for event in slow] == []
    assert slow.was_dropped
    assert not quick.was_dropped
    assert feed.followers == 1


async def test_closing_the_feed_ends_every_stream_after_what_is_there() -> None:
    feed = EventFeed()
    follower = feed.subscribe()
    publish(feed, 1)
    feed.close()

    assert numbers([event async for event in follower]) == [1]
    assert feed.followers == 0


async def test_events_of_other_threads_arrive_in_order() -> None:
    feed = EventFeed(backlog=5000)
    follower = feed.subscribe()
    await asyncio.gather(*(asyncio.to_thread(publish, feed, *range(100)) for _ in range(8)))
    events = await read(follower, 800)

    assert [int(event.id.rpartition("-")[2]) for event in events] == list(range(1, 801))


async def test_a_follower_that_another_thread_drops_while_it_reads_has_come_to_its_end() -> None:
    feed = EventFeed(backlog=1)

    class Slow(deque[ControlEvent]):
        def popleft(self) -> ControlEvent:
            threads.append(Thread(target=publish, args=(feed, 2, 3)))
            threads[-1].start()
            threads[-1].join()
            return super().popleft()

    follower, threads = feed.subscribe(), list[Thread]()
    publish(feed, 1)
    follower._events = Slow(follower._events)

    assert [event async for event in follower] == []
    assert follower.was_dropped


async def test_events_of_the_core_become_plain_data() -> None:
    feed = EventFeed()
    follower = feed.subscribe(wanted=lambda event: event.data.get("domain") == "service")
    feed.observe(SwapFailed(1.0, "adapter", "x", None, "p", 1, "init", "no", True, 3))
    feed.observe(SwapFailed(2.0, "service", "pay", None, "p", 1, "init", "no", True, 3))
    feed.observe(Registered(3.0, 7, Candidate(domain="service", key="pay", provider="p", factory="a:B")))
    failed, registered = await read(follower, 2)

    assert (failed.name, failed.data["step"], failed.data["rolled_back"]) == ("swap-failed", "init", True)
    assert (registered.name, registered.data["provider"], registered.data["revision"]) == ("registered", "p", 7)
