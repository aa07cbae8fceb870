"""Trust: what an honest publisher says is taken, and verified each time."""

from __future__ import annotations

import pytest
from tests.remote.conftest import entry
from tests.remote.trust.clients import DAY, Client, Clock

from oneiric.core.errors import ExpiredError, SignatureError
from oneiric.remote.testing import RepositorySimulator


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


def test_what_a_later_sync_takes_is_nothing_that_the_one_before_took(
    client: Client, repository: RepositorySimulator, clock: Clock
) -> None:
    trusted = client.sync()
    before = trusted.state
    later = trusted.at(clock.now + 60)
    repository.publish([entry(), entry(provider="second")])
    later.update_freshness(repository.freshness)
    later.update_manifest(repository.manifest)

    assert trusted.state == before
    assert len(trusted.manifests[""].entries) == 1
    assert len(later.manifests[""].entries) == 2
