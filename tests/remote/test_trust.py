"""Trust: each attack that needs no network, against a publisher in memory, and the honest update after it.

An attack is refused with the error it deserves, leaves state as it was, and the honest follow-up works.
"""

from __future__ import annotations

import base64
import hashlib
import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from tests.remote import curve
from tests.remote.conftest import NOW, body, entry

from oneiric.core.errors import (
    DigestError,
    ExpiredError,
    ManifestError,
    RollbackError,
    SchemaError,
    SignatureError,
)
from oneiric.core.security import FactoryAllowList
from oneiric.remote.envelope import FRESHNESS_TYPE, MANIFEST_TYPE, Envelope, sign
from oneiric.remote.keys import SigningKey
from oneiric.remote.manifest import FactoryPolicy
from oneiric.remote.testing import RepositorySimulator, tampered
from oneiric.remote.trust import ClientPolicy, TrustedManifests, TrustedState, TrustRoot

DAY = 86_400.0
HIGHEST = 2**31 - 1


class Clock:
    """The wall clock of publisher and client alike, moved by hand."""

    def __init__(self) -> None:
        self.now = NOW

    def __call__(self) -> float:
        return self.now


class Client:
    """A client across restarts: what it pins, and what it remembers."""

    def __init__(self, repository: RepositorySimulator, clock: Clock, policy: ClientPolicy | None = None) -> None:
        self.repository, self.clock, self.policy = repository, clock, policy
        self.pinned = repository.roots[0]
        self.state = TrustedState()

    def start(self) -> TrustedManifests:
        return TrustedManifests(TrustRoot.pinned(self.pinned), self.policy, state=self.state, now=self.clock())

    def sync(self) -> TrustedManifests:
        """Do what an updater does: newer roots, what is current, the manifest; remember what was accepted."""
        trusted = self.start()
        try:
            for data in self.repository.roots[trusted.root.version :]:
                trusted.update_root(data)
            trusted.update_freshness(self.repository.freshness)
            trusted.update_manifest(self.repository.manifest)
            for publisher, data in self.repository.publishers.items():
                trusted.update_publisher(publisher, data)
        finally:
            self.state = trusted.state
        return trusted


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def repository(clock: Clock) -> RepositorySimulator:
    made = RepositorySimulator(now=clock, thresholds={"manifest": 2})
    made.publish([entry()])
    return made


@pytest.fixture
def client(repository: RepositorySimulator, clock: Clock) -> Client:
    made = Client(repository, clock)
    made.sync()
    return made


@contextmanager
def refused(client: Client, error: type[ManifestError], match: str) -> Iterator[None]:
    """Expect an error, and that nothing of what is remembered changed."""
    before = client.state
    with pytest.raises(error, match=match) as caught:
        yield
    assert type(caught.value) is error
    assert client.state.as_dict() == before.as_dict()


def rewritten(data: bytes, kind: str, keys: list[SigningKey], **changes: Any) -> bytes:
    """Return a document with changes, signed by *keys*."""
    document = json.loads(Envelope.parse(data).payload)
    return sign(json.dumps({**document, **changes}).encode(), kind, keys).to_bytes()


def test_an_honest_update_is_boring(client: Client, repository: RepositorySimulator) -> None:
    repository.publish([entry(), entry(provider="second")])

    manifest = client.sync().manifests[""]

    assert manifest.body is not None
    assert (manifest.body.version, len(manifest.entries), manifest.signature) == (2, 2, "envelope")
    assert len(manifest.signed_by) == 2
    assert manifest.origin == f"sha256:{manifest.digest}"


def test_the_same_manifest_again_is_no_rollback(client: Client) -> None:
    before = client.state.as_dict()
    client.sync()

    assert client.state.as_dict() == before


def test_the_same_manifest_again_is_verified_again_and_parsed_no_more(
    client: Client, repository: RepositorySimulator, clock: Clock
) -> None:
    trusted = client.sync()
    body_before = trusted.manifests[""].body
    later = trusted.at(clock.now + 60)

    assert later.update_manifest(repository.manifest).body is body_before
    later.update_root(repository.rotate("manifest"))
    with pytest.raises(SignatureError, match="signed by 0"):
        later.update_manifest(repository.manifest)
    expired = trusted.at(clock.now + DAY)
    with pytest.raises(ExpiredError):
        expired.update_manifest(repository.manifest)
    assert trusted.root.version == 1
    assert trusted.update_manifest(repository.manifest).body is body_before


# Arbitrary installation, wrong role, type confusion (T01 to T05)


def test_t01_an_unsigned_manifest_is_refused(client: Client, repository: RepositorySimulator) -> None:
    repository.publish([entry()], signers=0)
    with refused_after_freshness(client, SignatureError, "signed by 0 of the 3 trusted keys, and 2 must sign"):
        client.sync()
    repository.publish([entry()])
    client.sync()


@contextmanager
def refused_after_freshness(client: Client, error: type[ManifestError], match: str) -> Iterator[None]:
    """As `refused`, where what is current was taken and only the manifest (of the last publisher) was refused."""
    before = list(client.state.manifests.items())[-1]
    with pytest.raises(error, match=match) as caught:
        yield
    assert type(caught.value) is error
    assert list(client.state.manifests.items())[-1] == before


def test_t01_a_bare_manifest_without_an_envelope_is_refused(client: Client, repository: RepositorySimulator) -> None:
    repository.manifest = json.dumps(body(version=2)).encode()
    repository.refresh(manifest=repository._pin("manifest", repository.manifest))
    with refused_after_freshness(client, SchemaError, "no envelope"):
        client.sync()


def test_t02_a_manifest_signed_by_strangers_is_refused(client: Client, repository: RepositorySimulator) -> None:
    honest = repository.keys["manifest"]
    repository.keys["manifest"] = [SigningKey.generate() for _ in honest]
    repository.publish([entry(factory="evil:Evil")])
    with refused_after_freshness(client, SignatureError, "signed by 0"):
        client.sync()
    repository.keys["manifest"] = honest
    repository.publish([entry()])
    client.sync()


@pytest.mark.parametrize("role", ["root", "freshness"])
def test_t03_keys_of_another_role_do_not_sign_manifests(
    client: Client, repository: RepositorySimulator, role: str
) -> None:
    repository.keys["manifest"] = repository.keys[role]
    repository.publish([entry()], signers=2)
    with refused_after_freshness(client, SignatureError, "signed by 0"):
        client.sync()


def test_t03_manifest_keys_do_not_say_what_is_current(client: Client, repository: RepositorySimulator) -> None:
    repository.keys["freshness"] = repository.keys["manifest"]
    repository.publish([entry()])
    with refused(client, SignatureError, "freshness document is signed by 0"):
        client.sync()


def test_t04_a_document_of_another_type_is_refused_whoever_signed_it(
    client: Client, repository: RepositorySimulator
) -> None:
    keys = repository.keys["manifest"]
    for kind in (FRESHNESS_TYPE, "application/vnd.oneiric.manifest.v2+json", "application/json"):
        repository.manifest = rewritten(repository.manifest, kind, keys, version=2)
        repository.refresh(manifest={**repository._pin("manifest", repository.manifest), "version": 2})
        with refused_after_freshness(client, SchemaError, "of type"):
            client.sync()


def test_t04_each_document_is_refused_in_the_place_of_each_other(
    client: Client, repository: RepositorySimulator
) -> None:
    trusted = client.start()
    for update in (trusted.update_freshness, trusted.update_manifest):
        for data in (repository.roots[0], repository.freshness, repository.manifest):
            right = (update == trusted.update_freshness) is (data is repository.freshness)
            if right and data is not repository.roots[0]:
                continue
            with pytest.raises(ManifestError):
                update(data)
    for data in (repository.freshness, repository.manifest):
        with pytest.raises(ManifestError):
            trusted.update_root(data)
        with pytest.raises(ManifestError):
            TrustRoot.pinned(data)


def test_t05_a_manifest_for_another_audience_is_refused(repository: RepositorySimulator, clock: Clock) -> None:
    repository.publish([entry()], audience=["staging", "test"])
    for audience in (None, "production", "stag"):
        with pytest.raises(SchemaError, match="is for staging, test"):
            Client(repository, clock, ClientPolicy(audience=audience)).sync()
    assert Client(repository, clock, ClientPolicy(audience="staging")).sync().manifests


# Threshold bypass


def test_the_same_key_twice_is_one_key(client: Client, repository: RepositorySimulator) -> None:
    one, two, _ = repository.keys["manifest"]
    repository.keys["manifest"] = [one, one]
    repository.publish([entry()])
    with refused_after_freshness(client, SignatureError, "signed by 1 of the 3"):
        client.sync()
    repository.keys["manifest"] = [one, two]
    repository.publish([entry()])
    client.sync()


def test_one_key_under_two_ids_is_one_key(client: Client, repository: RepositorySimulator) -> None:
    one = repository.keys["manifest"][0]
    envelope = json.loads(rewritten(repository.manifest, MANIFEST_TYPE, [one, one], version=2))
    envelope["signatures"][1]["keyid"] = repository.keys["manifest"][1].public.key_id
    repository.manifest = json.dumps(envelope).encode()
    repository.refresh(manifest={**repository._pin("manifest", repository.manifest), "version": 2})
    with refused_after_freshness(client, SignatureError, "signed by 1"):
        client.sync()


def test_a_root_whose_role_lists_one_key_twice_does_not_reach_its_threshold(repository: RepositorySimulator) -> None:
    key = repository.keys["manifest"][0].public.base64
    roles = {role: repository._role(role) for role in ("root", "freshness")}
    repository.rotate(roles={**roles, "manifest": {"keys": [key, key], "threshold": 2}})
    with pytest.raises(SchemaError, match="lists 1 distinct keys"):
        TrustRoot.pinned(repository.roots[-1])


@pytest.mark.parametrize("encoding", sorted(curve.small_order_encodings()), ids=lambda each: each.hex()[:16])
def test_a_small_order_key_is_refused_when_the_root_is_loaded(
    client: Client, repository: RepositorySimulator, encoding: bytes
) -> None:
    roles = {role: repository._role(role) for role in ("root", "manifest", "freshness")}
    keys = [*roles["manifest"]["keys"], base64.b64encode(encoding).decode()]
    repository.rotate(roles={**roles, "manifest": {"keys": keys, "threshold": 1}})
    with refused(client, SchemaError, "small order"):
        client.sync()


@pytest.mark.parametrize("threshold", [0, -1, 1.5, "1", None, True])
def test_a_root_with_a_threshold_that_is_none_is_refused(repository: RepositorySimulator, threshold: Any) -> None:
    roles = {role: repository._role(role) for role in ("root", "manifest", "freshness")}
    roles["manifest"]["threshold"] = threshold
    repository.rotate(roles=roles)
    with pytest.raises(SchemaError):
        TrustRoot.pinned(repository.roots[-1])


# Rollback: T06, T07, T29


def test_t06_an_older_manifest_is_refused(client: Client, repository: RepositorySimulator) -> None:
    repository.publish([entry(provider="second")])
    client.sync()
    repository.manifest = repository.history[0].envelope
    repository.refresh(manifest={**repository._pin("manifest", repository.manifest), "version": 1})
    with refused_after_freshness(client, RollbackError, "version 1, and 2 was accepted before"):
        client.sync()
    repository.publish([entry()], version=3)
    client.sync()


def test_t06_an_older_statement_of_what_is_current_is_refused(client: Client, repository: RepositorySimulator) -> None:
    old_freshness, old_manifest = repository.freshness, repository.manifest
    repository.publish([entry(provider="second")])
    client.sync()
    new_freshness, new_manifest = repository.freshness, repository.manifest
    repository.freshness, repository.manifest = old_freshness, old_manifest
    with refused(client, RollbackError, "version 1, and 2 was seen before"):
        client.sync()
    repository.freshness, repository.manifest = new_freshness, new_manifest
    client.sync()


def test_t07_the_same_version_with_other_bytes_is_refused(client: Client, repository: RepositorySimulator) -> None:
    repository.publish([entry(provider="other")], version=1)
    with refused_after_freshness(client, RollbackError, "two manifests have version 1 and differ"):
        client.sync()


def test_t07_two_statements_of_one_version_are_refused(client: Client, repository: RepositorySimulator) -> None:
    repository.publish([entry(provider="other")], refresh=False)
    repository.refresh(version=1)
    with refused(client, RollbackError, "two freshness documents have version 1"):
        client.sync()


def test_t29_rollback_is_refused_after_a_restart_and_without_a_cache(
    client: Client, repository: RepositorySimulator, tmp_path: Path
) -> None:
    repository.publish([entry(provider="second")])
    client.sync()
    client.state.save(tmp_path / "trusted_state.json")
    client.state = TrustedState.load(tmp_path / "trusted_state.json")
    repository.manifest = repository.history[0].envelope
    repository.refresh(manifest={**repository._pin("manifest", repository.manifest), "version": 1})
    with refused_after_freshness(client, RollbackError, "version 1, and 2"):
        client.sync()


def test_a_root_is_never_taken_again_or_out_of_turn(client: Client, repository: RepositorySimulator) -> None:
    for _ in range(3):
        repository.rotate("manifest")
    repository.publish([entry()])
    trusted = client.start()
    with pytest.raises(RollbackError, match="2 is the next after 1"):
        trusted.update_root(repository.roots[2])
    client.sync()
    trusted = client.start()
    assert trusted.update_root(repository.roots[3]).version == 4
    with pytest.raises(RollbackError, match="version 2, and 5 is the next"):
        trusted.update_root(repository.roots[1])


# Freeze: T08, T19


def test_t08_what_is_current_expires_within_a_day(
    client: Client, repository: RepositorySimulator, clock: Clock
) -> None:
    clock.now += DAY
    with refused(client, ExpiredError, "freshness document expired"):
        client.sync()
    repository.refresh()
    client.sync()


def test_t08_nothing_is_current_for_longer_than_a_day(client: Client, repository: RepositorySimulator) -> None:
    repository.refresh(lifetime_seconds=DAY + 1)
    with refused(client, SchemaError, "more than 1 days"):
        client.sync()


def test_t19_an_expired_manifest_is_refused_however_fresh_it_is_said_to_be(
    client: Client, repository: RepositorySimulator, clock: Clock
) -> None:
    clock.now += 30 * DAY
    repository.refresh()
    with refused_after_freshness(client, ExpiredError, "manifest expired"):
        client.sync()
    repository.publish([entry()])
    client.sync()


def test_t19_nothing_is_taken_under_an_expired_root(
    client: Client, repository: RepositorySimulator, clock: Clock
) -> None:
    clock.now += 365 * DAY
    repository.publish([entry()])
    with refused(client, ExpiredError, "root version 1 expired"):
        client.sync()
    repository.rotate()
    client.sync()


def test_a_root_is_valid_for_a_year_at_most(repository: RepositorySimulator) -> None:
    repository.rotate(lifetime_seconds=367 * DAY)
    with pytest.raises(SchemaError, match="366 days"):
        TrustRoot.pinned(repository.roots[-1])


def test_the_manifest_that_served_yesterday_may_serve_on_after_a_restart(
    client: Client, repository: RepositorySimulator, clock: Clock
) -> None:
    clock.now += 60 * DAY
    trusted = client.start()
    with pytest.raises(ExpiredError):
        trusted.update_manifest(repository.manifest)
    assert trusted.restore_manifest(repository.manifest).entries == [entry()]
    repository.publish([entry(provider="other")])
    with pytest.raises(DigestError, match="not the one that was accepted"):
        trusted.restore_manifest(repository.manifest)


def test_what_serves_on_must_still_be_signed_by_keys_that_count(
    client: Client, repository: RepositorySimulator
) -> None:
    repository.rotate("manifest")
    trusted = client.start()
    trusted.update_root(repository.roots[-1])
    with pytest.raises(SignatureError):
        trusted.restore_manifest(repository.manifest)


# Fast-forward: T09


@pytest.mark.parametrize("role", ["manifest", "freshness"])
def test_t09_versions_a_thief_ran_up_are_forgotten_with_his_keys(
    client: Client, repository: RepositorySimulator, role: str
) -> None:
    if role == "manifest":
        repository.publish([entry(provider="evil")], version=HIGHEST)
    else:
        repository.refresh(version=HIGHEST)
    client.sync()
    repository.rotate(role)
    repository._versions = {"manifest": 1, "freshness": 1 if role == "freshness" else 5}
    repository.publish([entry(provider="honest")], version=2 if role == "manifest" else 3)

    manifest = client.sync().manifests[""]

    assert manifest.entries[0]["provider"] == "honest"


def test_t09_a_version_beyond_the_highest_is_refused(client: Client, repository: RepositorySimulator) -> None:
    repository.publish([entry()], version=HIGHEST + 1, refresh=False)
    repository.refresh(manifest={**repository._pin("manifest", repository.manifest), "version": HIGHEST})
    with refused_after_freshness(client, SchemaError, "2147483647"):
        client.sync()


def test_t09_adding_a_key_forgets_nothing(client: Client, repository: RepositorySimulator) -> None:
    repository.publish([entry(provider="second")])
    client.sync()
    repository.keys["manifest"].append(SigningKey.generate())
    repository.rotate()
    repository.manifest = repository.history[0].envelope
    repository.refresh(manifest={**repository._pin("manifest", repository.manifest), "version": 1})
    with pytest.raises(RollbackError, match="version 1, and 2"):
        client.sync()


# Mix and match: T10


def test_t10_a_manifest_that_is_not_the_current_one_is_refused(client: Client, repository: RepositorySimulator) -> None:
    old = repository.manifest
    repository.publish([entry(provider="second")])
    repository.manifest = old
    with refused_after_freshness(client, DigestError, "current is"):
        client.sync()


def test_t10_a_pin_that_lies_about_the_version_is_refused(client: Client, repository: RepositorySimulator) -> None:
    repository.publish([entry(provider="second")])
    repository.refresh(manifest={**repository._pin("manifest", repository.manifest), "version": 7})
    with refused_after_freshness(client, RollbackError, "version 2, and current is 7"):
        client.sync()


def test_t10_more_bytes_than_were_pinned_are_refused(client: Client, repository: RepositorySimulator) -> None:
    repository.manifest += b" "
    with refused_after_freshness(client, DigestError, "bytes of digest"):
        client.sync()


# Cross-product, cross-channel and cross-publisher replay (T13, T14)


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


@pytest.fixture
def delegated(repository: RepositorySimulator, clock: Clock) -> Client:
    repository.delegate("partner", ("adapter", "partner"))
    repository.delegate("rival", ("adapter", "rival"), ("task", ""))
    client = Client(repository, clock)
    repository.rotate()
    repository.publish([entry()])
    repository.publish_for("partner", [entry(key="partner.cache", factory="partner.cache:Cache")])
    client.sync()
    return client


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


def test_publishers_come_after_the_product(delegated: Client, repository: RepositorySimulator) -> None:
    trusted = delegated.start()
    with pytest.raises(SchemaError, match="comes after"):
        trusted.update_publisher("partner", repository.publishers["partner"])


# Key compromise, rotation, revocation (T16 to T18)


def test_t16_a_root_takes_the_keys_before_and_its_own(client: Client, repository: RepositorySimulator) -> None:
    before = repository.keys["root"]
    honest = repository.rotate("root", "manifest")
    only_new = rewritten(honest, "application/vnd.oneiric.root.v1+json", repository.keys["root"])
    only_old = rewritten(honest, "application/vnd.oneiric.root.v1+json", before)
    for data, match in ((only_new, "after version 1 is signed by 0"), (only_old, "root is signed by 0")):
        with pytest.raises(SignatureError, match=match):
            client.start().update_root(data)
    repository.publish([entry()])
    assert client.sync().root.version == 2


def test_t16_fewer_root_keys_than_the_threshold_change_nothing(client: Client, repository: RepositorySimulator) -> None:
    repository.keys["root"] = repository.keys["root"][:1]
    roles = {role: repository._role(role) for role in ("manifest", "freshness")}
    repository.rotate(roles={**roles, "root": {**repository._role("root"), "threshold": 1}})
    with refused(client, SignatureError, "signed by 1 of the 3 trusted keys, and 2 must sign"):
        client.sync()


def test_t17_after_rotation_the_old_keys_sign_nothing(client: Client, repository: RepositorySimulator) -> None:
    stolen = repository.keys["manifest"]
    repository.rotate("manifest")
    honest, repository.keys["manifest"] = repository.keys["manifest"], stolen
    repository.publish([entry(provider="evil")])
    with pytest.raises(SignatureError, match="signed by 0"):
        client.sync()
    repository.keys["manifest"] = honest
    repository.publish([entry()])
    client.sync()


def test_t17_many_rotations_are_followed_one_by_one(client: Client, repository: RepositorySimulator) -> None:
    for _ in range(20):
        repository.rotate("root", "manifest", "freshness")
    repository.publish([entry()])

    assert client.sync().root.version == 21
    assert client.start().problems == ()


def test_t18_a_revoked_artifact_is_refused_and_the_rest_is_not(client: Client, repository: RepositorySimulator) -> None:
    artifact = repository.add_artifact(b"bad")
    repository.revoked.add(artifact["sha256"])
    repository.publish([entry(**artifact), entry(provider="good")])
    made = client.sync().manifests[""].candidates(FactoryPolicy(general=FactoryAllowList(("acme",))))

    assert [candidate.provider for candidate in made.candidates] == ["good"]
    assert "revoked" in made.refused[0].reason


def test_t18_a_revoked_manifest_of_a_publisher_is_refused(delegated: Client, repository: RepositorySimulator) -> None:
    repository.revoked.add(hashlib.sha256(repository.publishers["partner"]).hexdigest())
    repository.publish([entry()])
    with refused_after_freshness(delegated, DigestError, "was revoked"):
        delegated.sync()


# The wall clock: T20


def test_t20_a_clock_far_ahead_refuses_and_poisons_nothing(
    client: Client, repository: RepositorySimulator, clock: Clock
) -> None:
    published = clock.now
    clock.now = published + 20 * 365 * DAY
    with refused(client, ExpiredError, "expired"):
        client.sync()
    clock.now = published
    client.sync()


def test_t20_a_clock_set_back_does_not_bring_back_what_expired(
    client: Client, repository: RepositorySimulator, clock: Clock
) -> None:
    old = repository.freshness
    clock.now += 2 * DAY
    repository.publish([entry()])
    client.sync()
    clock.now -= 2 * DAY
    state, trusted = client.state, client.start()
    assert trusted.now >= NOW + 2 * DAY - 1
    with pytest.raises(ExpiredError, match="expired"):
        trusted.update_freshness(old)
    assert trusted.state.as_dict() == state.as_dict()


def test_t20_what_was_signed_in_the_future_is_refused(
    client: Client, repository: RepositorySimulator, clock: Clock
) -> None:
    clock.now += DAY / 2
    repository.publish([entry()])
    clock.now -= DAY / 2
    with refused(client, ExpiredError, "in the future .* set the clock"):
        client.sync()


def test_t20_clocks_may_differ_by_minutes(client: Client, repository: RepositorySimulator, clock: Clock) -> None:
    clock.now += 240
    repository.publish([entry()])
    clock.now -= 240
    client.sync()


# Tampering, parser differentials


@pytest.mark.parametrize(
    "change",
    [
        lambda payload: payload.replace(b"acme.cache", b"evil.cache"),
        lambda payload: payload + b" ",
        lambda payload: payload[:-1],
        lambda payload: b"",
        lambda payload: payload.replace(b'"version":1', b'"version":9'),
        lambda payload: payload.upper(),
    ],
)
def test_tampered_payloads_are_refused_with_and_without_a_pin(
    client: Client, repository: RepositorySimulator, change: Callable[[bytes], bytes]
) -> None:
    repository.manifest = tampered(repository.manifest, change)
    with refused_after_freshness(client, DigestError, "current is"):
        client.sync()
    repository.refresh()
    with refused_after_freshness(client, SignatureError, "signed by 0"):
        client.sync()


@pytest.mark.parametrize(
    "payload",
    [
        b'{"version":1,"version":2}',
        b'{"product":"acme","product":"evil"}',
        b'{"version":NaN}',
        b'{"version":1e3}',
        b'{"version":2.0}',
        b"[" * 1000,
        b"\xff\xfe",
        b"",
        b"null",
        b'{"version":99999999999999999999}',
    ],
    ids=lambda payload: repr(payload[:24]),
)
def test_even_what_was_signed_must_have_one_reading(
    client: Client, repository: RepositorySimulator, payload: bytes
) -> None:
    repository.manifest = sign(payload, MANIFEST_TYPE, repository.keys["manifest"]).to_bytes()
    repository.refresh(manifest={**repository._pin("manifest", repository.manifest), "version": 2})
    with refused_after_freshness(client, SchemaError, "manifest"):
        client.sync()


def test_an_endless_manifest_is_refused_by_its_length(client: Client, repository: RepositorySimulator) -> None:
    repository.manifest = b"x" * (len(repository.manifest) * 1000)
    with refused_after_freshness(client, DigestError, "bytes of digest"):
        client.sync()


def test_a_manifest_beyond_the_clients_cap_is_refused_unread(repository: RepositorySimulator, clock: Clock) -> None:
    with pytest.raises(SchemaError, match="100 is the most"):
        Client(repository, clock, ClientPolicy(max_bytes=100)).sync()


@pytest.mark.parametrize("page", [b"<!DOCTYPE html><html>", b"", b"\x1f\x8b\x08\x00", b"%PDF", b"\x00" * 64])
def test_t15_a_captive_portals_page_is_a_schema_error(
    client: Client, repository: RepositorySimulator, page: bytes
) -> None:
    repository.freshness = page
    with refused(client, SchemaError, "freshness document is not JSON"):
        client.sync()


# The pinned root


def test_the_pinned_root_may_be_held_to_its_digest(repository: RepositorySimulator) -> None:
    data = repository.roots[0]
    assert TrustRoot.pinned(data, sha256=hashlib.sha256(data).hexdigest().upper()).version == 1
    with pytest.raises(DigestError, match="was asked for"):
        TrustRoot.pinned(data, sha256="ab" * 32)


def test_a_pinned_root_that_its_own_keys_did_not_sign_is_refused(repository: RepositorySimulator) -> None:
    with pytest.raises(SignatureError):
        TrustRoot.pinned(tampered(repository.roots[0], lambda payload: payload.replace(b"stable", b"beta") + b" "))


def test_a_client_of_another_product_does_not_start(repository: RepositorySimulator, clock: Clock) -> None:
    with pytest.raises(SchemaError, match="'other' was asked for"):
        TrustedManifests(TrustRoot.pinned(repository.roots[0]), ClientPolicy(product="other"), now=clock())


def test_nothing_is_current_before_somebody_says_so(repository: RepositorySimulator, clock: Clock) -> None:
    with pytest.raises(ExpiredError, match="nothing says which manifest is current"):
        TrustedManifests(TrustRoot.pinned(repository.roots[0]), now=clock()).update_manifest(repository.manifest)


# Keys alone


def test_keys_alone_are_a_root_of_threshold_one(clock: Clock) -> None:
    key, other = SigningKey.generate(), SigningKey.generate()
    trusted = TrustedManifests(TrustRoot.from_keys((key.public, other.public)), now=clock())
    data = sign(json.dumps(body()).encode(), MANIFEST_TYPE, [key]).to_bytes()

    assert trusted.update_manifest(data).signed_by == (key.public.key_id,)
    older = sign(json.dumps(body(version=1, source="x")).encode(), MANIFEST_TYPE, [key]).to_bytes()
    with pytest.raises(RollbackError):
        trusted.update_manifest(older)
    with pytest.raises(SchemaError, match="trusts keys only"):
        trusted.update_root(data)
    with pytest.raises(SchemaError, match="no key is trusted for it"):
        trusted.update_freshness(data)


def test_a_root_of_no_keys_trusts_nobody() -> None:
    with pytest.raises(SignatureError, match="no key is trusted"):
        TrustRoot.from_keys(())
    key = SigningKey.generate().public
    with pytest.raises(SignatureError, match="2 keys must sign, and 1 are trusted"):
        TrustRoot.from_keys((key, key), threshold=2)
