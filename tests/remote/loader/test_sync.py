"""What a sync does to a system that serves: what changed is swapped as one, and nothing else is."""

from __future__ import annotations

import asyncio
import hashlib
from typing import TYPE_CHECKING

from tests.remote.delivering import URL, Client, Publisher

from oneiric.core.events import Bound
from oneiric.core.resolution import Candidate
from oneiric.remote.apply import change_between

if TYPE_CHECKING:
    from pathlib import Path


async def test_a_published_manifest_is_offered_and_serves(publisher: Publisher, client: Client) -> None:
    publisher.publish("1.0")

    report = await client.loader.sync(URL)

    assert report.outcome == "applied"
    assert report.registered == 2
    assert report.per_domain == {"adapter": 2}
    assert [each.outcome for each in report.plan.verdicts] == ["added", "added"]
    assert await client.version("cache") == "1.0"


async def test_an_update_swaps_what_serves_as_one_group_and_loses_no_lease(
    publisher: Publisher, client: Client
) -> None:
    publisher.publish("1.0")
    await client.loader.sync(URL)
    await client.version("queue")
    publisher.publish("2.0")

    async with client.lifecycle.lease("adapter", "cache") as held:
        bound = asyncio.Event()
        client.lifecycle.observe(lambda event: bound.set() if isinstance(event, Bound) else None)
        syncing = asyncio.create_task(client.loader.sync(URL))
        await bound.wait()
        assert held.version == "1.0"
    report = await syncing

    assert set(report.swapped) == {("adapter", "cache", None), ("adapter", "queue", None)}
    assert await client.version("cache") == await client.version("queue") == "2.0"


async def test_the_same_bytes_again_change_nothing(publisher: Publisher, client: Client, tmp_path: Path) -> None:
    publisher.publish("1.0")
    await client.loader.sync(URL)
    before, revision = client.loader.candidates, client.resolver.revision
    state = (tmp_path / "cache/trusted_state.json").stat().st_mtime_ns
    publisher.fetcher.asked.clear()

    report = await client.loader.sync(URL)

    assert report.outcome == "unchanged"
    assert not report.plan.changes
    assert client.loader.candidates == before
    assert client.resolver.revision == revision
    assert (tmp_path / "cache/trusted_state.json").stat().st_mtime_ns == state
    assert publisher.fetcher.asked == ["root/2", "freshness"]  # neither manifest nor artifacts


async def test_an_entry_that_says_the_same_is_not_swapped_by_the_next_manifest(
    publisher: Publisher, client: Client
) -> None:
    cache = publisher.entry("cache", "1.0")
    publisher.repository.publish([cache, publisher.entry("queue", "1.0")])
    await client.loader.sync(URL)
    kept = await client.lifecycle.activate("adapter", "cache")
    await client.version("queue")
    publisher.repository.publish([cache, publisher.entry("queue", "2.0")])

    report = await client.loader.sync(URL)

    assert report.swapped == (("adapter", "queue", None),)
    assert await client.lifecycle.activate("adapter", "cache") is kept
    assert client.lifecycle.stale() == ()


async def test_an_entry_that_is_gone_is_withdrawn_and_serves_until_it_is_retired(
    publisher: Publisher, client: Client
) -> None:
    publisher.publish("1.0")
    await client.loader.sync(URL)
    await client.version("cache")
    publisher.repository.publish([publisher.entry("queue", "1.0")])

    report = await client.loader.sync(URL)

    assert [each.name for each in report.plan.verdicts if each.outcome == "withdrawn"] == ["adapter:cache/acme"]
    assert client.offered("cache") is None
    assert client.lifecycle.get_status("adapter", "cache").withdrawn
    assert await client.version("cache") == "1.0"


async def test_explain_names_version_digest_and_signers_of_the_manifest(publisher: Publisher, client: Client) -> None:
    envelope = publisher.publish("1.0")
    await client.loader.sync(URL)

    winner = client.resolver.explain("adapter", "cache").winner

    assert winner is not None
    about = winner.metadata["manifest"]
    assert about["version"] == 1
    assert about["digest"] == hashlib.sha256(envelope).hexdigest()
    assert about["signed_by"] == [publisher.repository.keys["manifest"][0].public.key_id]
    assert winner.origin == f"sha256:{about['digest']}"


def candidate(provider: str, version: str, origin: str = "one") -> Candidate:
    return Candidate(
        domain="adapter", key="cache", provider=provider, factory="acme.cache:Part", version=version, origin=origin
    )


def test_from_the_first_difference_of_a_key_on_its_rows_are_registered_anew_in_order() -> None:
    before = [candidate("a", "1"), candidate("b", "1"), candidate("c", "1")]
    after = [candidate("a", "1", "two"), candidate("b", "2", "two"), candidate("c", "1", "two")]

    change = change_between(before, after)

    assert [each.provider for each in change.withdraw] == ["b", "c"]
    assert [each.provider for each in change.add] == ["b", "c"]
    assert change.result[0] is before[0]
    assert [each.outcome for each in change.verdicts] == ["unchanged", "changed", "unchanged"]
