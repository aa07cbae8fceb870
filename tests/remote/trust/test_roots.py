"""Trust: the root a client pins, and keys in the place of one."""

from __future__ import annotations

import hashlib
import json

import pytest
from tests.remote.conftest import body
from tests.remote.trust.clients import Clock

from oneiric.core.errors import DigestError, ExpiredError, RollbackError, SchemaError, SignatureError
from oneiric.remote.envelope import MANIFEST_TYPE, sign
from oneiric.remote.keys import SigningKey
from oneiric.remote.testing import RepositorySimulator, tampered
from oneiric.remote.trust import ClientPolicy, TrustedManifests, TrustRoot


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
