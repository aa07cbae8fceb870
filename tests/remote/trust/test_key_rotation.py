"""Trust: keys that were lost, rotated or revoked (T16 to T18)."""

from __future__ import annotations

import hashlib

import pytest
from tests.remote.conftest import entry
from tests.remote.trust.clients import Client, refused, refused_after_freshness, rewritten

from oneiric.core.errors import DigestError, SignatureError
from oneiric.core.security import FactoryAllowList
from oneiric.remote.manifest import FactoryPolicy
from oneiric.remote.testing import RepositorySimulator


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


def test_t18_what_the_product_revokes_is_revoked_of_its_publishers_too(
    delegated: Client, repository: RepositorySimulator
) -> None:
    artifact = repository.add_artifact(b"bad")
    row = entry(key="partner.cache", factory="partner.cache:Cache")
    repository.revoked.add(artifact["sha256"])
    repository.publish([entry()])
    repository.publish_for("partner", [row | artifact, row | {"provider": "good"}])
    made = delegated.sync().manifests["partner"].candidates(FactoryPolicy(general=FactoryAllowList(("partner",))))

    assert [candidate.provider for candidate in made.candidates] == ["good"]
    assert "revoked" in made.refused[0].reason


def test_t18_a_revoked_manifest_of_a_publisher_is_refused(delegated: Client, repository: RepositorySimulator) -> None:
    repository.revoked.add(hashlib.sha256(repository.publishers["partner"]).hexdigest())
    repository.publish([entry()])
    with refused_after_freshness(delegated, DigestError, "was revoked"):
        delegated.sync()
