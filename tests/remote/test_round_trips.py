"""What a publisher writes is what a client gets: authored, packed, signed, published, verified, registered."""

from __future__ import annotations

import json
import unicodedata
from typing import Any

import yaml
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.remote.conftest import NOW, body

from oneiric.core.resolution import Policy, Resolver
from oneiric.core.security import FactoryAllowList
from oneiric.remote.envelope import MANIFEST_TYPE, Envelope, sign
from oneiric.remote.keys import SigningKey
from oneiric.remote.manifest import FactoryPolicy, pack, parse_manifest, read_document
from oneiric.remote.testing import RepositorySimulator
from oneiric.remote.trust import TrustedManifests, TrustedState, TrustRoot

POLICY = FactoryPolicy(general=FactoryAllowList(("acme",)))
KEY = SigningKey(bytes(32))

names = st.from_regex(r"[A-Za-z0-9][A-Za-z0-9_-]{0,12}", fullmatch=True)
# YAML 1.1 readers and writers disagree on a few characters of no use in a manifest; all others pass through both.
characters = st.characters(exclude_categories=["Cs", "Cc", "Cn", "Co"], exclude_characters="\ufeff\u2028\u2029\x85")
texts = st.text(characters, max_size=20).map(lambda text: unicodedata.normalize("NFC", text))
numbers = st.integers(-(2**53) + 1, 2**53 - 1) | st.floats(-1e15, 1e15, allow_nan=False)
plain = st.recursive(
    st.none() | st.booleans() | numbers | texts,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(texts, inner, max_size=3),
    max_leaves=8,
)
rows = st.fixed_dictionaries(
    {
        "domain": st.sampled_from(["adapter", "task", "custom"]),
        "key": names,
        "provider": names,
        "factory": st.from_regex(r"acme(\.[a-z]{1,8}){1,3}:[A-Za-z]{1,8}", fullmatch=True),
    },
    optional={
        "priority": st.integers(-1000, 1000),
        "stack_level": st.integers(-100, 100),
        "version": texts,
        "description": texts,
        "capabilities": st.lists(names, max_size=3),
        "requires_secrets": st.booleans(),
        "timeout_seconds": st.floats(0, 1e6) | st.integers(0, 10**6),
        "python_version": st.just(">=3.13"),
        "event_topics": st.lists(texts, max_size=3),
        "metadata": st.dictionaries(names, plain, max_size=4),
    },
)
manifests = st.lists(rows, max_size=5, unique_by=lambda row: (row["domain"], row["key"], row["provider"]))


def canonical(value: Any) -> Any:
    return json.loads(json.dumps(value))


@settings(max_examples=60)
@given(manifests)
def test_both_authoring_forms_pack_to_the_same_bytes(entries: list[dict[str, Any]]) -> None:
    document = body(entries=entries)
    as_yaml = yaml.safe_dump(document, allow_unicode=True, width=10_000).encode()
    as_json = json.dumps(document).encode()

    packed = pack(read_document(as_json))
    assert parse_manifest(packed).entries == canonical(entries)
    assert pack(json.loads(packed)) == packed
    assert pack(read_document(as_yaml)) == packed


@settings(max_examples=60)
@given(manifests)
def test_what_was_packed_and_signed_is_what_is_verified(entries: list[dict[str, Any]]) -> None:
    packed = pack(body(entries=entries))
    envelope = sign(packed, MANIFEST_TYPE, [KEY])

    again = Envelope.parse(envelope.to_bytes())
    assert again.payload == packed
    assert again.require([KEY.public], 1, "manifest") == (KEY.public,)


@settings(max_examples=50)
@given(manifests)
def test_every_entry_that_was_published_is_a_candidate_that_says_the_same(entries: list[dict[str, Any]]) -> None:
    repository = RepositorySimulator(now=lambda: NOW)
    repository.publish(entries)
    trusted = TrustedManifests(TrustRoot.pinned(repository.roots[0]), now=NOW)
    trusted.update_freshness(repository.freshness)
    manifest = trusted.update_manifest(repository.manifest)
    made = manifest.candidates(POLICY)

    assert made.refused == ()
    for row, candidate in zip(entries, made.candidates, strict=True):
        assert (candidate.domain, candidate.key, candidate.provider) == (row["domain"], row["key"], row["provider"])
        assert (candidate.factory, candidate.origin) == (row["factory"], manifest.origin)
        assert (candidate.priority, candidate.version) == (row.get("priority"), row.get("version"))
        assert candidate.capabilities == tuple(row.get("capabilities", ()))
        assert candidate.metadata.get("topics") == row.get("event_topics")
    Resolver(Policy()).apply(add=made.candidates)
    assert TrustedState.from_dict(canonical(trusted.state.as_dict())) == trusted.state
