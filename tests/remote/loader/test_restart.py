"""What a process finds on the disk after a restart, and is still verified."""

from __future__ import annotations

import asyncio
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING

import pytest
from tests.remote.delivering import URL, Client, Publisher

from oneiric.core.errors import DigestError, FetchError, SignatureError
from oneiric.remote.trust import TrustedState

if TYPE_CHECKING:
    from pathlib import Path


async def test_the_last_good_manifest_is_in_force_after_a_restart_without_a_network(
    publisher: Publisher, client: Client, tmp_path: Path
) -> None:
    publisher.publish("1.0")
    await client.loader.sync(URL)
    publisher.fetcher.asked.clear()
    publisher.clock.now += 40 * 86_400  # everything has expired meanwhile
    again = client.again()

    report = await again.loader.restore()

    assert report is not None
    assert report.outcome == "restored"
    assert publisher.fetcher.asked == []
    assert await again.version("cache") == "1.0"
    assert again.loader.status_document()["stale"]


async def test_a_cache_that_was_changed_is_not_used(publisher: Publisher, client: Client, tmp_path: Path) -> None:
    publisher.publish("1.0")
    await client.loader.sync(URL)
    (stored,) = (tmp_path / "cache/remote/manifests/sha256").iterdir()
    stored.chmod(0o600)
    stored.write_bytes(stored.read_bytes().replace(b"payload", b"PAYLOAD"))
    again = client.again()

    with pytest.raises(DigestError, match="not stored here"):
        await again.loader.restore()

    assert again.offered("cache") is None
    assert (await again.loader.sync(URL)).outcome == "applied"


async def test_a_refused_manifest_leaves_the_roots_that_came_with_it(
    publisher: Publisher, client: Client, tmp_path: Path
) -> None:
    publisher.publish("1.0")
    await client.loader.sync(URL)
    publisher.repository.rotate("manifest")
    publisher.fetcher.broken["freshness"] = FetchError("gone")

    with pytest.raises(FetchError):
        await client.loader.sync(URL)

    assert len(TrustedState.load(tmp_path / "cache/trusted_state.json").roots) == 1
    again = client.again()
    with pytest.raises(SignatureError):  # its keys no longer count
        await again.loader.restore()


async def test_what_another_process_commits_to_while_a_start_reads_is_put_in_force(
    publisher: Publisher, client: Client
) -> None:
    publisher.publish("1.0")
    await client.again().loader.sync(URL)
    publisher.publish("2.0")
    other, starting = client.again(), client.again()

    def commit(step: str) -> None:
        if step == "verify" and other.offered("cache") is None:
            with ThreadPoolExecutor() as threads:
                threads.submit(asyncio.run, other.loader.sync(URL)).result()

    starting.on_step = commit
    report = await starting.loader.restore()

    assert report is not None
    assert report.outcome == "restored"
    assert await starting.version("cache") == "2.0"
    assert starting.loader.status_document()["consecutive_failures"] == 0
