"""What a sync refuses changes nothing."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

import pytest
from tests.remote.delivering import URL, Client, Publisher, nothing

from oneiric.core.errors import (
    DigestError,
    ExpiredError,
    FetchError,
    FetchRefusedError,
    OneiricError,
    RollbackError,
    SignatureError,
    StoreError,
    SwapError,
    UnhealthyError,
)
from oneiric.remote.apply import Probation
from oneiric.remote.artifacts import mounted_artifacts
from oneiric.remote.loader import RemoteLoader
from oneiric.remote.testing import tampered

if TYPE_CHECKING:
    from pathlib import Path


async def assert_refused(client: Client, kind: type[OneiricError], step: str) -> OneiricError:
    before = (client.loader.candidates, client.resolver.revision, await client.version("cache"))
    with pytest.raises(kind) as caught:
        await client.loader.sync(URL)
    assert (client.loader.candidates, client.resolver.revision, await client.version("cache")) == before
    document = client.loader.status_document()
    assert document["consecutive_failures"] == 1
    if step != "fetch":
        assert document["last_refusal"]["step"] == step
        assert document["last_refusal"]["error"] == kind.__name__
    return caught.value


async def test_a_tampered_manifest_is_refused_and_the_honest_one_still_taken(
    publisher: Publisher, client: Client
) -> None:
    publisher.publish("1.0")
    await client.loader.sync(URL)
    await client.version("cache")
    honest = publisher.publish("2.0")
    publisher.repository.manifest = tampered(honest, lambda body: body.replace(b'"2.0"', b'"6.6"'))
    publisher.repository.refresh()

    await assert_refused(client, SignatureError, "verify")

    publisher.repository.manifest = honest
    publisher.repository.refresh()
    assert (await client.loader.sync(URL)).outcome == "applied"


async def test_an_older_manifest_is_refused_also_after_a_restart(
    publisher: Publisher, client: Client, tmp_path: Path
) -> None:
    old = publisher.publish("1.0")
    publisher.publish("2.0")
    await client.loader.sync(URL)
    publisher.repository.manifest = old
    publisher.repository._versions["manifest"] = 1
    publisher.repository.refresh()
    again = client.again()

    with pytest.raises(RollbackError):
        await again.loader.sync(URL)

    assert again.offered("cache") is None


async def test_a_frozen_publisher_is_refused_and_status_says_stale(publisher: Publisher, client: Client) -> None:
    publisher.publish("1.0")
    await client.loader.sync(URL)
    assert not client.loader.status_document()["stale"]
    publisher.clock.now += 2 * 86_400

    await assert_refused(client, ExpiredError, "verify")

    assert client.loader.status_document()["stale"]


async def test_an_artifact_that_is_another_one_refuses_the_whole_manifest_and_runs_nothing(
    publisher: Publisher, client: Client
) -> None:
    publisher.publish("1.0")
    await client.loader.sync(URL)
    await client.version("cache")
    publisher.publish("2.0")
    digest = list(publisher.repository.artifacts)[-1]
    publisher.repository.artifacts[digest] += b"evil"

    await assert_refused(client, DigestError, "stage")

    assert not [name for name in sys.modules if digest in name]
    assert digest not in mounted_artifacts()


async def test_a_publisher_that_cannot_be_reached_changes_nothing(publisher: Publisher, client: Client) -> None:
    publisher.publish("1.0")
    await client.loader.sync(URL)
    await client.version("cache")
    publisher.fetcher.broken["freshness"] = FetchError("the network is gone")

    await assert_refused(client, FetchError, "fetch")


async def test_a_generation_that_does_not_start_leaves_all_of_its_group(publisher: Publisher, client: Client) -> None:
    publisher.publish("1.0")
    await client.loader.sync(URL)
    assert {await client.version(key) for key in publisher.keys} == {"1.0"}
    publisher.repository.publish(
        [
            publisher.entry("cache", "2.0"),
            publisher.entry("queue", "2.0", init="raise RuntimeError('no')"),
        ]
    )

    with pytest.raises(SwapError, match="no"):
        await client.loader.sync(URL)

    assert {await client.version(key) for key in publisher.keys} == {"1.0"}
    assert {client.offered(key) for key in publisher.keys} == {"1.0"}
    assert client.lifecycle.stale() == ()
    assert client.loader.status_document()["manifest"]["version"] == 1


async def test_a_generation_that_falls_ill_in_its_probation_goes_back(publisher: Publisher, client: Client) -> None:
    client = client.again(probation=Probation(seconds=3, interval_seconds=1, sleep=nothing))
    publisher.publish("1.0")
    await client.loader.sync(URL)
    await client.version("cache")
    health = "(setattr(self, 'asked', getattr(self, 'asked', 0) + 1) or self.asked < 3)"
    publisher.publish("2.0", health=health)

    with pytest.raises(UnhealthyError, match=r"adapter:cache reported itself unhealthy in its probation of 3 s"):
        await client.loader.sync(URL)

    assert await client.version("cache") == "1.0"
    assert client.loader.status_document()["last_refusal"]["step"] == "probation"
    restarted = client.again()
    await restarted.loader.restore()
    assert await restarted.version("cache") == "1.0"
    await client.aclose()


async def test_what_was_put_back_is_left_alone_by_the_clock_and_tried_again_when_asked(
    publisher: Publisher, client: Client
) -> None:
    publisher.publish("1.0")
    await client.loader.sync(URL)
    await client.version("cache")
    publisher.publish("2.0", init="raise RuntimeError('no')")
    with pytest.raises(SwapError):
        await client.loader.sync(URL, again=False)
    failed = client.lifecycle.get_status("adapter", "cache").failed_swaps

    with pytest.raises(UnhealthyError, match="put back before"):
        await client.loader.sync(URL, again=False)
    assert client.lifecycle.get_status("adapter", "cache").failed_swaps == failed
    with pytest.raises(SwapError):
        await client.loader.sync(URL)
    publisher.publish("3.0")
    assert (await client.loader.sync(URL, again=False)).outcome == "applied"


async def test_what_cannot_be_remembered_is_not_put_in_force(
    publisher: Publisher, client: Client, tmp_path: Path
) -> None:
    publisher.publish("1.0")
    await client.loader.sync(URL)
    await client.version("cache")
    publisher.publish("2.0")
    (tmp_path / "cache/trusted_state.json").unlink()
    (tmp_path / "cache/trusted_state.json").mkdir()

    with pytest.raises(StoreError):
        await client.loader.sync(URL)

    assert await client.version("cache") == "1.0"
    assert client.offered("queue") == "1.0"


async def test_the_network_is_verified_whoever_asks(client: Client) -> None:
    with pytest.raises(FetchRefusedError, match="verify_signature=False is for local files"):
        await client.loader.sync(URL, verify_signature=False)


async def test_no_root_means_nobody_is_trusted(client: Client, publisher: Publisher, tmp_path: Path) -> None:
    publisher.publish("1.0")
    loader = RemoteLoader(client.resolver, client.lifecycle, fetcher=publisher.fetcher, cache_dir=tmp_path / "other")

    with pytest.raises(SignatureError, match="no key is trusted"):
        await loader.sync(URL)
    assert loader.status_document()["last_refusal"]["error"] == "SignatureError"


async def test_a_manifest_that_came_before_its_freshness_document_is_told_apart_from_an_attack(
    publisher: Publisher, client: Client, tmp_path: Path
) -> None:
    publisher.publish("1.0")
    await client.loader.sync(URL)
    current = publisher.repository.freshness
    publisher.publish("2.0-that-is-longer")
    publisher.repository.freshness = current

    (tmp_path / "manifest.json").write_bytes(publisher.repository.manifest)
    (tmp_path / "freshness.json").write_bytes(current)

    for url in (URL, str(tmp_path / "manifest.json")):
        with pytest.raises(DigestError, match="current") as caught:
            await client.again().loader.sync(url)
        assert caught.value.hint
    publisher.repository.refresh()
    assert (await client.loader.sync(URL)).outcome == "applied"
