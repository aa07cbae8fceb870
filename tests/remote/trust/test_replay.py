"""Trust: what was said for another product, channel or publisher is not said for this one (T13, T14)."""

from __future__ import annotations

import json
from typing import Any

import pytest
from tests.remote.conftest import body, entry
from tests.remote.trust.clients import Client, Clock, refused, refused_after_freshness, rewritten

from oneiric.core.errors import RollbackError, SchemaError, SignatureError
from oneiric.remote.envelope import MANIFEST_TYPE, sign
from oneiric.remote.keys import SigningKey
from oneiric.remote.testing import RepositorySimulator
from oneiric.remote.trust import ClientPolicy, TrustedManifests, TrustRoot


@pytest.mark.parametrize("place", [{"product": "other"}, {"channel": "beta"}], ids=str)
def test_t13_another_products_or_channels_documents_are_refused(
    client: Client, repository: RepositorySimulator, place: dict[str, Any]
) -> None:
    repository.publish([entry()], **place)
    with refused_after_freshness(client, SchemaError, "this client takes"):
        client.sync()
    repository.refresh(**place)
    with refused_after_freshness(client, SchemaError, "this client takes"):
        client.sync()
    repository.publish([entry()])
    client.sync()


def test_t13_a_root_of_another_product_does_not_follow(client: Client, repository: RepositorySimulator) -> None:
    repository.rotate(product="other")
    with refused(client, SchemaError, "'other', and the one before of 'acme'"):
        client.sync()


def test_t13_keys_alone_hold_to_the_product_they_first_signed_for(clock: Clock) -> None:
    key = SigningKey.generate()
    root = TrustRoot.from_keys((key.public,))
    acme, other = (
        sign(json.dumps(body(product=name, version=version)).encode(), MANIFEST_TYPE, [key]).to_bytes()
        for name, version in (("acme", 1), ("other", 2))
    )
    trusted = TrustedManifests(root, now=clock())
    trusted.update_manifest(acme)
    with pytest.raises(SchemaError, match="'acme' was accepted before"):
        TrustedManifests(root, state=trusted.state, now=clock()).update_manifest(other)


def test_a_delegated_publisher_offers_what_was_delegated(delegated: Client) -> None:
    manifests = delegated.sync().manifests

    assert sorted(manifests) == ["", "partner"]
    assert manifests["partner"].about()["publisher"] == "partner"


@pytest.mark.parametrize(
    "row",
    [
        entry(key="cache"),
        entry(key="partnerx"),
        entry(domain="task", key="partner.cache"),
        entry(key="rival.cache"),
        {"domain": "adapter"},
        7,
    ],
    ids=str,
)
def test_t13_a_publisher_offers_nothing_else(delegated: Client, repository: RepositorySimulator, row: Any) -> None:
    if isinstance(row, dict):
        repository.publish_for("partner", [entry(key="partner.ok"), row])
    else:
        keys = repository.keys["partner"][:1]
        repository.publish_for("partner", [])
        data = rewritten(repository.publishers["partner"], MANIFEST_TYPE, keys, entries=[row])
        repository.publishers["partner"] = data
        repository.refresh()
    with refused_after_freshness(delegated, SchemaError, "'partner' may not offer"):
        delegated.sync()


def test_t14_a_publishers_manifest_is_refused_in_anothers_place(
    delegated: Client, repository: RepositorySimulator
) -> None:
    repository.publishers["rival"] = repository.publishers["partner"]
    repository._versions["rival"] = repository._versions["partner"]
    repository.refresh()
    with refused_after_freshness(delegated, SignatureError, "publisher 'rival' is signed by 0"):
        delegated.sync()
    repository.publish_for("rival", [], publisher="partner")
    with refused_after_freshness(delegated, SchemaError, "its publisher is 'partner'"):
        delegated.sync()


def test_t14_a_publishers_manifest_is_not_the_products(delegated: Client, repository: RepositorySimulator) -> None:
    repository.keys["manifest"] = repository.keys["partner"]
    repository.publish([entry()])
    with refused_after_freshness(delegated, SignatureError, "signed by 0 of the 3"):
        delegated.sync()


def test_t14_a_publisher_cannot_delegate_further(delegated: Client, repository: RepositorySimulator) -> None:
    repository.publish_for("partner", [], delegations=[repository._delegation("rival")])
    with refused_after_freshness(delegated, SchemaError, "delegates further"):
        delegated.sync()


def test_t14_a_name_that_is_taken_is_not_offered_twice(delegated: Client, repository: RepositorySimulator) -> None:
    repository.publish([entry(key="partner.cache", provider="house")])
    repository.publish_for("partner", [entry(key="partner.cache", provider="house")])
    with refused_after_freshness(delegated, SchemaError, "offered by the product already"):
        delegated.sync()


def test_the_manifest_delegates_too_and_cannot_overrule_the_root(
    delegated: Client, repository: RepositorySimulator
) -> None:
    repository.delegate("guest", ("event", "guest"))
    repository.publish([entry()], delegations=[repository._delegation("guest")])
    repository.publish_for("guest", [entry(domain="event", key="guest.created")])
    assert sorted(delegated.sync().manifests) == ["", "guest", "partner"]
    repository.publish([entry()], delegations=[repository._delegation("partner")])
    with refused_after_freshness(delegated, SchemaError, "which the root has delegated to"):
        delegated.sync()


def test_a_publishers_older_manifest_is_refused(delegated: Client, repository: RepositorySimulator) -> None:
    old = repository.publishers["partner"]
    repository.publish_for("partner", [])
    delegated.sync()
    repository.publishers["partner"] = old
    repository._versions["partner"] = 1
    repository.refresh()
    with refused_after_freshness(delegated, RollbackError, "publisher 'partner' has version 1, and 2"):
        delegated.sync()


def test_a_publisher_that_was_accepted_is_judged_again_by_todays_delegation(
    delegated: Client, repository: RepositorySimulator
) -> None:
    """A manifest accepted through one delegation is worth nothing when another one, or none, stands in its place."""
    data = repository.publishers["partner"]
    repository.delegate("partner", ("adapter", "partner"))
    repository.rotate()
    trusted = delegated.start()
    trusted.update_root(repository.roots[-1])
    trusted.update_freshness(repository.freshness)
    trusted.update_manifest(repository.manifest)
    for again in (trusted.update_publisher, lambda name, data: trusted.restore_manifest(data, name)):
        with pytest.raises(SignatureError):
            again("partner", data)
    del repository.delegations["partner"]
    repository.rotate()
    trusted.update_root(repository.roots[-1])
    trusted.update_manifest(repository.manifest)
    with pytest.raises(SchemaError, match="nobody delegates"):
        trusted.update_publisher("partner", data)


def test_a_publishers_cached_manifest_is_held_to_what_is_delegated_and_taken_now(
    delegated: Client, repository: RepositorySimulator
) -> None:
    cached = repository.publishers["partner"]
    repository.publish([entry(key="partner.cache")])
    trusted = delegated.start()
    trusted.update_freshness(repository.freshness)
    trusted.update_manifest(repository.manifest)
    with pytest.raises(SchemaError, match="offered by the product already"):
        trusted.restore_manifest(cached, "partner")
    repository.delegations["partner"] = [{"domain": "event", "key_prefix": "partner"}]
    repository.rotate()
    repository.publish([entry()])
    trusted.update_root(repository.roots[-1])
    trusted.update_freshness(repository.freshness)
    trusted.update_manifest(repository.manifest)
    with pytest.raises(SchemaError, match="'partner' may not offer"):
        trusted.restore_manifest(cached, "partner")


def test_a_client_of_another_channel_is_not_held_to_the_versions_of_the_one_before(clock: Clock) -> None:
    repository = RepositorySimulator(now=clock, channel="beta")
    repository.publish([entry()], version=7)
    client = Client(repository, clock, ClientPolicy(channel="beta"))
    client.sync()
    repository.channel = "stable"
    repository.publish([entry()], version=3)
    client.policy = ClientPolicy()

    body = client.sync().manifests[""].body
    assert body is not None
    assert (body.channel, body.version) == ("stable", 3)


def test_publishers_come_after_the_product(delegated: Client, repository: RepositorySimulator) -> None:
    trusted = delegated.start()
    with pytest.raises(SchemaError, match="comes after"):
        trusted.update_publisher("partner", repository.publishers["partner"])
