"""Where a manifest comes from: delegated publishers, local files, keys without a root document."""

from __future__ import annotations

import base64
import json
from typing import TYPE_CHECKING, Any

import pytest
from tests.remote.delivering import ALLOWED, AT_ONCE, URL, Client, Publisher

from oneiric.core.errors import DigestError, ExpiredError, FetchError, SignatureError
from oneiric.remote.loader import LoaderOptions, RemoteLoader
from oneiric.remote.testing import tampered
from oneiric.remote.trust import EmbeddedPolicy, TrustRoot

if TYPE_CHECKING:
    from pathlib import Path


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


@pytest.mark.parametrize("before", ["an artifact was missing", "a plan", "stored only"])
async def test_a_server_says_that_nothing_changed_since_a_manifest_that_is_not_in_force(
    publisher: Publisher, client: Client, before: str
) -> None:
    loader = RemoteLoader(
        client.resolver,
        client.lifecycle,
        root=TrustRoot.from_keys((publisher.repository.keys["manifest"][0].public,)),
        fetcher=publisher.fetcher,
        cache_dir=client.directory,
        options=LoaderOptions(factories=ALLOWED, probation=AT_ONCE),
        clock=publisher.clock,
    )
    publisher.publish("1.0")
    await loader.sync(URL)
    assert (await loader.sync(URL)).outcome == "unchanged"
    publisher.publish("2.0")
    if before == "a plan":
        await loader.plan(URL)
    elif before == "stored only":
        await loader.sync(URL, apply=False)
    else:
        publisher.fetcher.broken["acme-cache"] = FetchError("gone")
        with pytest.raises(FetchError):
            await loader.sync(URL)
        publisher.fetcher.broken.clear()

    assert (await loader.sync(URL)).outcome == "applied"
    assert await client.version("cache") == "2.0"
