"""Trust: rollback, fast-forward, mix and match (T06, T07, T09, T10, T29)."""

from __future__ import annotations

from pathlib import Path

import pytest
from tests.remote.conftest import entry
from tests.remote.trust.clients import HIGHEST, Client, refused, refused_after_freshness

from oneiric.core.errors import DigestError, RollbackError, SchemaError
from oneiric.remote.keys import SigningKey
from oneiric.remote.testing import RepositorySimulator
from oneiric.remote.trust import TrustedState


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
