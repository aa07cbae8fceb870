"""Trust: arbitrary installation, keys of another role, confused types, thresholds bypassed (T01 to T05)."""

from __future__ import annotations

import base64
import json
from typing import Any

import pytest
from tests.remote import curve
from tests.remote.conftest import body, entry
from tests.remote.trust.clients import Client, Clock, refused, refused_after_freshness, rewritten

from oneiric.core.errors import ManifestError, SchemaError, SignatureError
from oneiric.remote.envelope import FRESHNESS_TYPE, MANIFEST_TYPE
from oneiric.remote.keys import SigningKey
from oneiric.remote.testing import RepositorySimulator
from oneiric.remote.trust import ClientPolicy, TrustRoot


def test_t01_an_unsigned_manifest_is_refused(client: Client, repository: RepositorySimulator) -> None:
    repository.publish([entry()], signers=0)
    with refused_after_freshness(client, SignatureError, "signed by 0 of the 3 trusted keys, and 2 must sign"):
        client.sync()
    repository.publish([entry()])
    client.sync()


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
