"""Signatures inside documents of earlier versions: only where a flag asks for them, and honestly counted."""

from __future__ import annotations

import base64
import json
from datetime import UTC, datetime
from typing import Any

import pytest
import yaml
from tests.remote.conftest import NOW, body, entry

from oneiric.core.errors import ExpiredError, SchemaError, SignatureError
from oneiric.core.security import FactoryAllowList
from oneiric.remote.envelope import MANIFEST_TYPE, sign
from oneiric.remote.keys import PublicKey, SigningKey
from oneiric.remote.manifest import FactoryPolicy
from oneiric.remote.trust import EmbeddedPolicy, VerifiedManifest, read_embedded, read_unsigned

ONE, TWO, THREE = (SigningKey(bytes([number]) * 32) for number in (1, 2, 3))
ACCEPT = EmbeddedPolicy(accept=True)


def moment(offset: float = 0.0) -> str:
    return datetime.fromtimestamp(NOW + offset, UTC).isoformat()


def signed(*keys: SigningKey, **changes: Any) -> dict[str, Any]:
    """Sign as earlier versions did: over the sorted JSON of everything but the signatures."""
    document = {"source": "acme", "entries": [entry(description="größer", timeout_seconds=1.5)], **changes}
    message = json.dumps(document, sort_keys=True, separators=(",", ":")).encode()
    values = [base64.b64encode(key.sign(message)).decode() for key in keys]
    return {
        **document,
        "signature": values[0] if values else None,
        "signature_algorithm": "ed25519",
        "signatures": [{"signature": value, "algorithm": "ed25519", "key_id": "any"} for value in values],
    }


def read(
    document: dict[str, Any], *keys: PublicKey, policy: EmbeddedPolicy = ACCEPT, write: Any = json.dumps
) -> VerifiedManifest:
    return read_embedded(write(document).encode(), keys or (ONE.public, TWO.public), policy, now=NOW)


@pytest.mark.parametrize("write", [json.dumps, yaml.safe_dump, lambda document: json.dumps(document, indent=2)])
def test_what_an_earlier_version_signed_still_verifies(write: Any) -> None:
    manifest = read(signed(ONE, signed_at=moment(-60), expires_at=moment(60)), write=write)

    assert (manifest.signature, manifest.signed_by) == ("embedded", (ONE.public.key_id,))
    made = manifest.candidates(FactoryPolicy(general=FactoryAllowList(("acme",))))
    assert made.candidates[0].metadata["manifest"]["signature"] == "embedded"


def test_without_the_flag_no_embedded_signature_counts() -> None:
    with pytest.raises(SignatureError, match="accept_embedded_signatures"):
        read(signed(ONE), policy=EmbeddedPolicy())


@pytest.mark.parametrize(
    "change",
    [
        {"source": "evil"},
        {"entries": [entry(factory="evil:Evil")]},
        {"expires_at": "2099-01-01T00:00:00+00:00"},
        {"signed_at": "2026-11-18T00:00:00+00:00"},
        {"extra": 1},
    ],
    ids=str,
)
def test_whatever_is_changed_the_signature_is_gone(change: dict[str, Any]) -> None:
    with pytest.raises(SignatureError, match="Signature threshold not met"):
        read({**signed(ONE), **change})


def test_a_stripped_signature_is_no_signature() -> None:
    document = signed(ONE)
    for name in ("signature", "signature_algorithm", "signatures"):
        del document[name]
    with pytest.raises(SignatureError, match="signed by 0 of the 2"):
        read(document)


def test_one_key_counts_once_however_often_it_signs() -> None:
    with pytest.raises(SignatureError, match="signed by 1 of the 2 trusted keys, and 2 must sign"):
        read(signed(ONE, ONE, ONE), policy=EmbeddedPolicy(accept=True, threshold=2))
    assert len(read(signed(ONE, TWO), policy=EmbeddedPolicy(accept=True, threshold=2)).signed_by) == 2


def test_a_key_that_is_not_trusted_does_not_count() -> None:
    with pytest.raises(SignatureError, match="signed by 0"):
        read(signed(THREE))
    with pytest.raises(SignatureError, match="No trusted public keys configured"):
        read_embedded(json.dumps(signed(ONE)).encode(), (), ACCEPT, now=NOW)


def test_a_threshold_of_nobody_is_never_met() -> None:
    with pytest.raises(SignatureError):
        read(signed(), policy=EmbeddedPolicy(accept=True, threshold=0))


@pytest.mark.parametrize(
    ("changes", "policy", "match"),
    [
        ({"expires_at": moment(0)}, {}, "expired at"),
        ({}, {"require_expiry": True}, "does not say when it expires"),
        ({}, {"max_age_seconds": 60}, "does not say when it was signed"),
        ({"signed_at": moment(-61)}, {"max_age_seconds": 60}, "more than 60 s ago"),
        ({"signed_at": moment(600)}, {}, "in the future"),
    ],
)
def test_times_are_enforced(changes: dict[str, Any], policy: dict[str, Any], match: str) -> None:
    with pytest.raises(ExpiredError, match=match):
        read(signed(ONE, **changes), policy=EmbeddedPolicy(accept=True, **policy))


@pytest.mark.parametrize("text", ["yesterday", "2026-11-18T00:00:00"])
def test_a_time_that_is_none_is_a_schema_error(text: str) -> None:
    with pytest.raises(SchemaError, match=r"no time|lacks its zone"):
        read(signed(ONE, expires_at=text))


# Unsigned: a local file that somebody named


def test_an_unsigned_file_is_read_and_says_that_it_is_unsigned() -> None:
    for document in (body(), {"source": "acme", "entries": [entry()]}, signed(ONE)):
        manifest = read_unsigned(json.dumps(document).encode())
        assert (manifest.signature, manifest.signed_by) == ("unsigned", ())
        made = manifest.candidates(FactoryPolicy(general=FactoryAllowList(("acme",))))
        assert made.candidates[0].metadata["manifest"]["signature"] == "unsigned"


def test_an_unsigned_file_must_be_understood_too() -> None:
    with pytest.raises(SchemaError, match="be understood"):
        read_unsigned(json.dumps(body(extensions={"x": 1}, crit=["x"])).encode())


def test_an_envelope_is_never_read_unsigned() -> None:
    envelope = sign(json.dumps(body()).encode(), MANIFEST_TYPE, [ONE]).to_bytes()

    with pytest.raises(SchemaError, match="not read unsigned"):
        read_unsigned(envelope)
