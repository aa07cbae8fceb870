"""What a sync does to a system that serves: everything of it, or nothing."""

from __future__ import annotations

import asyncio
import base64
import hashlib
import json
import sys
from typing import TYPE_CHECKING, Any

import pytest
from tests.remote.delivering import ALLOWED, AT_ONCE, URL, Client, Clock, Publisher, nothing

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
from oneiric.core.events import Bound
from oneiric.core.resolution import Candidate
from oneiric.remote.apply import Probation, change_between
from oneiric.remote.artifacts import mounted_artifacts
from oneiric.remote.loader import LoaderOptions, RemoteLoader, SyncFailed
from oneiric.remote.testing import tampered
from oneiric.remote.trust import EmbeddedPolicy, TrustedState, TrustRoot

if TYPE_CHECKING:
    from pathlib import Path


@pytest.fixture
def publisher() -> Publisher:
    return Publisher(Clock())


@pytest.fixture
def client(publisher: Publisher, tmp_path: Path) -> Client:
    return Client(publisher, tmp_path / "cache")


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


# What is refused changes nothing


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


# Restart


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


# Delegated publishers


async def test_the_trouble_of_a_delegated_publisher_is_no_matter_of_the_product(
    publisher: Publisher, client: Client
) -> None:
    publisher.repository.delegate("plugins", ("adapter", "plugin"))
    publisher.repository.rotate()
    publisher.publish("1.0")
    publisher.repository.publish_for("plugins", [publisher.entry("plugin", "1.0")])
    await client.loader.sync(URL)
    assert await client.version("plugin") == "1.0"
    publisher.publish("2.0")
    publisher.repository.publish_for("plugins", [publisher.entry("cache", "6.6", provider="evil")])

    report = await client.loader.sync(URL)

    assert report.outcome == "applied"
    assert "plugins" in report.plan.problems[0]
    assert client.offered("cache") == "2.0"
    assert client.offered("plugin") == "1.0"
    again = client.again()
    await again.loader.restore()
    assert again.offered("plugin") == "1.0"


# Local files


def unsigned(path: Path, **changes: Any) -> str:
    entry = {"domain": "adapter", "key": "cache", "provider": "acme", "factory": "acme.cache:Part", **changes}
    path.write_text(json.dumps({"entries": [entry]}))
    return str(path)


async def test_an_unsigned_local_file_is_taken_where_asked_and_said_to_be_unsigned(
    client: Client, tmp_path: Path
) -> None:
    path = unsigned(tmp_path / "local.json")

    with pytest.raises(SignatureError):
        await client.loader.sync(path)
    report = await client.loader.sync(path, verify_signature=False)

    assert report.plan.signature == "unsigned"
    assert client.loader.status_document()["manifest"]["signature"] == "unsigned"
    winner = client.resolver.resolve("adapter", "cache")
    assert winner.metadata["manifest"]["signature"] == "unsigned"
    assert not (tmp_path / "cache/trusted_state.json").exists()


async def test_a_factory_outside_the_allow_list_is_left_out_with_a_verdict(client: Client, tmp_path: Path) -> None:
    path = unsigned(tmp_path / "local.json", factory="elsewhere.cache:Part")

    report = await client.loader.sync(path, verify_signature=False)

    assert report.skipped == 1
    assert "allow-list" in str(report.plan.verdicts[0].reason)
    assert client.offered("cache") is None


async def test_a_signed_local_directory_is_verified_as_the_network_is(
    publisher: Publisher, client: Client, tmp_path: Path
) -> None:
    publisher.publish("1.0")
    directory = tmp_path / "mirror"
    directory.mkdir()
    (directory / "manifest.json").write_bytes(publisher.repository.manifest)
    (directory / "freshness.json").write_bytes(publisher.repository.freshness)

    report = await client.loader.sync(str(directory / "manifest.json"), verify_signature=False)

    assert report.plan.signature == "envelope"
    (directory / "manifest.json").write_bytes(
        tampered(publisher.repository.manifest, lambda body: body.replace(b'"1.0"', b'"6.6"'))
    )
    again = client.again()
    (tmp_path / "cache/trusted_state.json").unlink()
    with pytest.raises(DigestError):
        await again.loader.sync(str(directory / "manifest.json"), verify_signature=False)


# Plans, status, memory


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


# Changes


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


async def test_no_root_means_nobody_is_trusted(client: Client, publisher: Publisher, tmp_path: Path) -> None:
    publisher.publish("1.0")
    loader = RemoteLoader(client.resolver, client.lifecycle, fetcher=publisher.fetcher, cache_dir=tmp_path / "other")

    with pytest.raises(SignatureError, match="no key is trusted"):
        await loader.sync(URL)
    assert loader.status_document()["last_refusal"]["error"] == "SignatureError"


# Keys without a root document


@pytest.fixture
def keys_only(client: Client, publisher: Publisher, tmp_path: Path) -> RemoteLoader:
    keys = tuple(key.public for key in publisher.repository.keys["manifest"])
    return RemoteLoader(
        client.resolver,
        client.lifecycle,
        root=TrustRoot.from_keys(keys, product="acme"),
        fetcher=publisher.fetcher,
        cache_dir=tmp_path / "other",
        options=LoaderOptions(factories=ALLOWED, probation=AT_ONCE, embedded=EmbeddedPolicy(accept=True)),
        clock=publisher.clock,
    )


async def test_a_server_that_says_nothing_changed_is_believed_no_further_than_the_signature(
    publisher: Publisher, client: Client, keys_only: RemoteLoader
) -> None:
    publisher.publish("1.0")
    await keys_only.sync(URL)
    publisher.fetcher.asked.clear()

    report = await keys_only.sync(URL)

    assert report.outcome == "unchanged"
    assert publisher.fetcher.asked == ["manifest"]
    publisher.clock.now += 40 * 86_400
    with pytest.raises(ExpiredError):
        await keys_only.sync(URL)
    assert client.offered("cache") == "1.0"


async def test_a_document_of_an_earlier_format_is_taken_where_that_is_allowed_and_its_tampered_twin_is_not(
    publisher: Publisher, client: Client, keys_only: RemoteLoader
) -> None:
    key = publisher.repository.keys["manifest"][0]
    row = {"domain": "adapter", "key": "cache", "provider": "acme", "factory": "acme.cache:Part", "version": "0.9"}
    document = {"source": "acme", "entries": [row]}
    message = json.dumps(document, sort_keys=True, separators=(",", ":")).encode()
    signature = base64.b64encode(key.sign(message)).decode()
    embedded = {**document, "signature": signature, "signature_algorithm": "ed25519"}
    publisher.repository.manifest = json.dumps(embedded).replace("0.9", "6.6").encode()
    with pytest.raises(SignatureError, match="threshold"):
        await keys_only.sync(URL)
    publisher.repository.manifest = json.dumps(embedded).encode()

    report = await keys_only.sync(URL)

    assert report.plan.signature == "embedded"
    # Nothing but an artifact or an installed distribution stands for the module it names.
    assert [each.outcome for each in report.plan.verdicts] == ["refused"]
    assert "acme.cache" in str(report.plan.verdicts[0].reason)
    assert client.offered("cache") is None
