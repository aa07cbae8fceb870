"""A sync that is cancelled while something is under way that cannot be broken off."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import pytest
from tests.remote.delivering import URL, Client, Publisher

from oneiric.core.errors import StoreError
from oneiric.remote.apply import Transaction
from oneiric.remote.artifacts import mounted_artifacts
from oneiric.remote.refresh import RemoteRefresh
from oneiric.remote.trust import TrustedState

if TYPE_CHECKING:
    import os

_LONG = 60


def committed(client: Client) -> int:
    return TrustedState.load(client.directory / "trusted_state.json").manifests[""].version


class Disk:
    """A disk that takes as long as a test wants to write the trusted state."""

    def __init__(self) -> None:
        self.writes, self.over = threading.Event(), threading.Event()

    async def is_writing(self) -> None:
        assert await asyncio.to_thread(self.writes.wait, _LONG)


@contextmanager
def slow_disk(monkeypatch: pytest.MonkeyPatch) -> Iterator[Disk]:
    disk, save = Disk(), TrustedState.save

    def slowly(state: TrustedState, path: str | os.PathLike[str]) -> None:
        disk.writes.set()
        assert disk.over.wait(_LONG)
        save(state, path)

    with monkeypatch.context() as patching:
        patching.setattr(TrustedState, "save", slowly)
        try:
            yield disk
        finally:
            disk.over.set()


async def test_a_commit_that_is_under_way_is_finished_before_the_directory_is_let_go_of(
    publisher: Publisher, client: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    told: list[Any] = []
    client.loader.observe(told.append)
    publisher.publish("1.0")
    await client.loader.sync(URL)
    await client.version("cache")
    publisher.publish("2.0")
    with slow_disk(monkeypatch) as disk:
        syncing = asyncio.create_task(client.loader.sync(URL))
        await disk.is_writing()
        for _ in range(2):
            syncing.cancel()
            await asyncio.sleep(0)
        with pytest.raises(StoreError, match="is in use by"):
            await client.again(lock_seconds=0).loader.sync(URL)
    await asyncio.wait({syncing}, timeout=_LONG)

    assert syncing.cancelled()
    assert [each.outcome for each in told] == ["applied", "applied"]
    assert (await client.version("cache"), committed(client)) == ("2.0", 2)
    assert (await client.loader.sync(URL)).outcome == "unchanged"
    restarted = client.again()
    await restarted.loader.restore()
    assert await restarted.version("cache") == "2.0"


async def test_what_was_verified_is_remembered_before_the_directory_is_let_go_of(
    publisher: Publisher, client: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    publisher.publish("1.0")
    await client.loader.sync(URL)
    publisher.publish("2.0")
    client.on_step = lambda step: step == "stage" and syncing.cancel()
    with slow_disk(monkeypatch) as disk:
        syncing = asyncio.create_task(client.loader.sync(URL))
        await disk.is_writing()
        syncing.cancel()
        await asyncio.sleep(0)
        with pytest.raises(StoreError, match="is in use by"):
            await client.again(lock_seconds=0).loader.sync(URL)
    await asyncio.wait({syncing}, timeout=_LONG)

    assert syncing.cancelled()
    assert (await client.version("cache"), committed(client)) == ("1.0", 1)


async def test_a_stop_while_a_refused_sync_is_put_back_ends_the_refreshing(
    publisher: Publisher, client: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    told: list[Any] = []
    undoing, over, undo = asyncio.Event(), asyncio.Event(), Transaction.undo

    async def slowly(transaction: Transaction) -> str | None:
        undoing.set()
        await over.wait()
        return await undo(transaction)

    monkeypatch.setattr(Transaction, "undo", slowly)
    publisher.publish("1.0")
    await client.loader.sync(URL)
    await client.version("cache")
    client.loader.observe(told.append)
    publisher.publish("2.0", init="raise RuntimeError('no')")
    part = RemoteRefresh(client.loader, URL, interval_seconds=3600, chance=lambda: 0.0)
    await part.start()
    await undoing.wait()
    stopping = asyncio.create_task(part.stop())
    await asyncio.sleep(0)
    over.set()
    done, _ = await asyncio.wait({stopping}, timeout=5)

    assert done
    assert told[-1].error == "SwapError"
    assert (await client.version("cache"), client.offered("cache")) == ("1.0", "1.0")


async def test_what_was_made_importable_before_the_end_is_forgotten(
    publisher: Publisher, client: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    publisher.repository.delegate("plugins", ("adapter", "plugin"))
    publisher.repository.rotate()
    publisher.publish("1.0")
    publisher.repository.publish_for("plugins", [publisher.entry("plugin", "1.0")])
    before, fetch, asked = mounted_artifacts(), publisher.fetcher.fetch, asyncio.Event()

    async def stalling(url: str, **wanted: Any) -> Any:
        if "acme-plugin" in url:
            asked.set()
            await asyncio.Event().wait()
        return await fetch(url, **wanted)

    monkeypatch.setattr(publisher.fetcher, "fetch", stalling)
    syncing = asyncio.create_task(client.loader.sync(URL))
    await asked.wait()
    assert len(mounted_artifacts()) == len(before) + 2
    syncing.cancel()
    await asyncio.wait({syncing})

    assert mounted_artifacts() == before
