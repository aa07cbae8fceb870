"""What a loader says of itself: plans, status, observers; and what it keeps in memory."""

from __future__ import annotations

import asyncio
import json
from typing import TYPE_CHECKING, Any

import pytest
from tests.remote.delivering import URL, Client, Publisher

from oneiric.core.errors import CandidateNotFoundError, FetchError
from oneiric.remote.artifacts import mounted_artifacts
from oneiric.remote.loader import SyncFailed

if TYPE_CHECKING:
    from pathlib import Path


async def test_a_plan_says_what_would_be_swapped_and_changes_nothing(publisher: Publisher, client: Client) -> None:
    publisher.publish("1.0")
    await client.loader.sync(URL)
    await client.version("cache")
    publisher.publish("2.0")
    revision, mounted = client.resolver.revision, mounted_artifacts()

    plan = await client.loader.plan(URL)

    assert [(each.key, each.before, each.after) for each in plan.swaps] == [("cache", "acme", "acme")]
    assert {each.outcome for each in plan.verdicts} == {"changed"}
    assert client.resolver.revision == revision
    assert mounted_artifacts() == mounted
    assert await client.version("cache") == "1.0"


async def test_without_anything_running_what_is_verified_is_stored_for_the_next_start(
    publisher: Publisher, client: Client, tmp_path: Path
) -> None:
    publisher.publish("1.0")

    report = await client.loader.sync(URL, apply=False)

    assert report.outcome == "stored"
    assert client.offered("cache") is None
    again = client.again()
    await again.loader.restore()
    assert await again.version("cache") == "1.0"


async def test_status_keeps_the_published_fields(publisher: Publisher, client: Client, tmp_path: Path) -> None:
    publisher.publish("1.0")
    await client.loader.sync(URL)

    document = json.loads((tmp_path / "cache/remote_status.json").read_text())

    published = "last_success_at last_failure_at consecutive_failures last_error last_source last_registered "
    published += "last_duration_ms last_digest_checks last_per_domain last_skipped"
    assert set(published.split()) <= set(document)
    assert document["last_registered"] == 2
    assert document["last_digest_checks"] == 2
    assert document["last_source"] == URL
    assert document["manifest"]["version"] == 1
    assert document["trust"]["root_version"] == 1


async def test_observers_are_told_how_each_sync_ended(publisher: Publisher, client: Client) -> None:
    told: list[Any] = []
    client.loader.observe(told.append)
    publisher.publish("1.0")
    await client.loader.sync(URL)
    publisher.fetcher.broken["freshness"] = FetchError("gone")
    with pytest.raises(FetchError):
        await client.loader.sync(URL)

    assert told[0].outcome == "applied"
    assert isinstance(told[1], SyncFailed)
    assert told[1].step == "fetch"


async def test_only_artifacts_that_are_offered_or_serve_stay_importable(publisher: Publisher, client: Client) -> None:
    before = set(mounted_artifacts())
    for version in ("1.0", "2.0", "3.0"):
        publisher.publish(version)
        await client.loader.sync(URL)
        await client.version("cache")

    assert len(set(mounted_artifacts()) - before) == 2


async def test_two_syncs_at_once_are_one_after_the_other(publisher: Publisher, client: Client) -> None:
    publisher.publish("1.0")

    reports = await asyncio.gather(client.loader.sync(URL), client.loader.sync(URL))

    assert [each.outcome for each in reports] == ["applied", "unchanged"]


async def test_what_serves_although_it_was_revoked_is_said_until_it_is_replaced_or_retired(
    publisher: Publisher, client: Client, tmp_path: Path
) -> None:
    publisher.publish("1.0")
    await client.loader.sync(URL)
    old = await client.version("cache")
    digest = publisher.entry("cache", "1.0")["sha256"]
    publisher.repository.revoked.add(digest)
    publisher.publish("1.0")

    report = await client.loader.sync(URL)

    assert [(each.name, each.outcome) for each in report.plan.verdicts if each.reason] == [
        ("adapter:cache/acme", "refused")
    ]
    assert await client.version("cache") == old  # calls are not lost for it
    (told,) = client.loader.status_document()["revoked"]
    assert (told["key"], told["provider"], told["sha256"]) == ("cache", "acme", digest)
    assert "was revoked" in told["reason"]
    assert json.loads((tmp_path / "cache/remote_status.json").read_text())["revoked"] == [told]
    assert (await client.loader.sync(URL)).outcome == "unchanged"
    assert client.loader.status_document()["revoked"] == [told]

    publisher.publish("2.0")
    await client.loader.sync(URL)
    assert await client.version("cache") == "2.0"
    assert client.loader.status_document()["revoked"] == []


async def test_what_was_revoked_is_not_there_any_more_once_it_is_retired_or_the_process_ends(
    publisher: Publisher, client: Client
) -> None:
    publisher.publish("1.0")
    await client.loader.sync(URL)
    await client.version("cache")
    publisher.repository.revoked.add(publisher.entry("cache", "1.0")["sha256"])
    publisher.publish("1.0")
    await client.loader.sync(URL)
    again = client.again()

    await again.loader.restore()
    assert again.offered("cache") is None
    assert again.loader.status_document()["revoked"] == []
    await client.lifecycle.retire("adapter", "cache")
    assert client.loader.status_document()["revoked"] == []
    await client.loader.sync(URL)
    with pytest.raises(CandidateNotFoundError):
        await client.version("cache")
