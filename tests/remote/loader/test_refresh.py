"""The loop that keeps a system current."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

import pytest
from tests.remote.delivering import URL, Client, Publisher

from oneiric.core.errors import FetchError
from oneiric.remote.refresh import RemoteRefresh

if TYPE_CHECKING:
    pass


class Pauses:
    """Pauses that last until the test goes on."""

    def __init__(self) -> None:
        self.asked: asyncio.Queue[float] = asyncio.Queue()
        self.over: asyncio.Queue[None] = asyncio.Queue()

    async def __call__(self, seconds: float) -> None:
        await self.asked.put(seconds)
        await self.over.get()


async def test_a_start_without_a_stored_manifest_waits_for_the_first_sync(publisher: Publisher, client: Client) -> None:
    publisher.publish("1.0")
    part = RemoteRefresh(client.loader, URL)

    await part.start()

    assert client.offered("cache") == "1.0"
    await part.stop()
    await part.stop()


async def test_a_start_with_one_touches_no_network_first(publisher: Publisher, client: Client) -> None:
    publisher.publish("1.0")
    await client.loader.sync(URL)
    publisher.fetcher.asked.clear()
    again = client.again()
    part = RemoteRefresh(again.loader, URL)

    await part.start()

    assert again.offered("cache") == "1.0"
    assert publisher.fetcher.asked == []
    await part.stop()


async def test_a_sync_that_fails_is_tried_again_after_the_interval(publisher: Publisher, client: Client) -> None:
    pauses = Pauses()
    publisher.publish("1.0")
    publisher.fetcher.broken["freshness"] = FetchError("gone")
    part = RemoteRefresh(client.loader, URL, interval_seconds=100, sleep=pauses, chance=lambda: 1.0)

    await part.start()
    assert await pauses.asked.get() == pytest.approx(100)
    assert client.offered("cache") is None
    publisher.fetcher.broken.clear()
    pauses.over.put_nowait(None)
    assert await pauses.asked.get() == pytest.approx(110)

    assert client.offered("cache") == "1.0"
    await part.stop()


async def test_clients_that_start_together_do_not_ask_together(publisher: Publisher, client: Client) -> None:
    pauses = Pauses()
    publisher.publish("1.0")
    chances = iter([0.3, 0.5, 0.0])
    await client.loader.sync(URL)
    part = RemoteRefresh(client.loader, URL, interval_seconds=100, sleep=pauses, chance=lambda: next(chances))

    await part.start()

    asked = [await pauses.asked.get()]
    for _ in range(2):
        pauses.over.put_nowait(None)
        asked.append(await pauses.asked.get())
    assert asked == pytest.approx([10, 55, 90])
    await part.stop()


async def test_a_publisher_that_never_answers_does_not_keep_a_system_from_starting(client: Client) -> None:
    class Silent:
        async def restore(self) -> None:
            return None

        async def sync(self, manifest_url: str, *, verify_signature: bool = True, again: bool = True) -> None:
            await asyncio.Event().wait()

    part = RemoteRefresh(Silent(), URL, first_seconds=0.01)

    await part.start()

    await part.stop()
    assert client.offered("cache") is None


async def test_a_stop_in_the_middle_of_a_swap_leaves_what_served(publisher: Publisher, client: Client) -> None:
    publisher.publish("1.0")
    await client.loader.sync(URL)
    await client.version("cache")
    publisher.publish("2.0", init="import asyncio; await asyncio.Event().wait()")
    part = RemoteRefresh(client.loader, URL, first_seconds=0.01)
    swapping = asyncio.Event()

    await part.start()
    client.on_step = lambda step: swapping.set() if step == "swap" else None  # of the sync: the start has one too
    await swapping.wait()
    await part.stop()

    assert await client.version("cache") == "1.0"
    assert client.offered("cache") == "1.0"
