"""Entries that are checked while they are read: taken exactly as the row schema takes them, or left to it."""

from __future__ import annotations

import base64
import binascii
import copy
import json
from dataclasses import fields
from typing import Any

import pytest
import rfc8785
from hypothesis import example, given, settings
from hypothesis import strategies as st
from tests.remote.conftest import body, entry

from oneiric.core.errors import SchemaError
from oneiric.core.resolution import Candidate, Policy, Resolver
from oneiric.core.security import FactoryAllowList
from oneiric.remote._manifest_rows import Row, Rows
from oneiric.remote.envelope import MANIFEST_TYPE, Envelope
from oneiric.remote.manifest import Entries, FactoryPolicy, candidates_of, parse_manifest

REVOKED = "ee" * 32
POLICY = FactoryPolicy(
    general=FactoryAllowList(("acme", "shop.parts", "os")), domains={"task": FactoryAllowList(("jobs",))}
)

names = st.sampled_from(
    ["cache", "a", "A.b-c_d", "a.", "a..b", ".a", "-a", "", "a b", "a/b", "ä", "a\n", "x" * 200, "x" * 201, "0"]
)
texts = st.sampled_from(["", "text", "größer", 'quoted "text"', "back\\slash", "line\nbreak", "x" * 4000, "x" * 4001])
odd = st.sampled_from([None, True, 0, -1, 1.5, "", "1", [], ["a"], [1], {}, {"a": 1}])
factories = st.sampled_from(
    [
        *("acme.cache:Cache", "acme:Cache", "acmex:Cache", "shop:Cache", "shop.parts.a:B", "jobs.x:run", "os:system"),
        *(
            "os.path:join",
            "acme.cache",
            "acme..cache:C",
            "acme.cache:C.d",
            "1acme:C",
            "acme:C ",
            "acme:\u00c4",
            ":",
            "",
        ),
        *(f"acme.{'x' * 289}:C", f"acme.{'x' * 300}:C", "pickle:loads"),
    ]
)
digests = st.sampled_from(["ab" * 32, "AB" * 32, REVOKED, "ab" * 31, "zz" * 32, ""])
scalars = st.none() | st.booleans() | st.sampled_from([0, -1, 2**53 - 1, 1.5, "text", "ä", ""])
tables = st.dictionaries(
    st.sampled_from(["region", "source", "sha256", "manifest", "x", ""]),
    scalars | st.lists(scalars, max_size=2) | st.dictionaries(st.sampled_from(["a", "b"]), scalars, max_size=2),
    max_size=4,
)
#: What may be right in a field, or just wrong.
FIELDS: dict[str, st.SearchStrategy[Any]] = {
    "domain": st.sampled_from(["task", "custom", "Adapter", "a\n", "1a", "", "x" * 201]),
    "key": names,
    "provider": names,
    "factory": factories,
    "uri": texts,
    "sha256": digests,
    "size": st.sampled_from([0, 1, 2**53 - 1, -1]),
    "priority": st.sampled_from([0, 10, -1000, 1000, 1001]),
    "stack_level": st.sampled_from([0, 5, -100, 100, 101]),
    "version": texts,
    "capabilities": st.lists(texts | st.just({"name": "kv", "event_types": ["a"]}), max_size=3),
    "owner": texts,
    "description": texts,
    "license": texts,
    "documentation_url": texts,
    "requires_secrets": st.booleans(),
    "side_effect_free": st.booleans(),
    "opt_in": st.booleans(),
    "blocking": st.booleans(),
    "exclusive": st.booleans(),
    "settings_model": factories,
    "metadata": tables,
    "timeout_seconds": st.sampled_from([0, 1.5, -1]),
    "requires_python": st.sampled_from([">=3.13", "nonsense"]),
    "event_topics": st.lists(texts, max_size=2),
    "unknown": st.just(1),
}
right = st.fixed_dictionaries(
    {"provider": st.sampled_from(["one", "two", "three"])},
    optional={
        "uri": st.just("https://cdn.example/cache.whl"),
        "sha256": st.just("ab" * 32),
        "size": st.just(1234),
        "metadata": st.just({"region": "eu", "replicas": 3}),
        "capabilities": st.just(["kv", "ttl"]),
        "opt_in": st.booleans(),
        "settings_model": st.just("acme.cache:Settings"),
    },
).map(lambda stated: entry(**stated))
#: More often what is judged by other rules than a field's own.
DECIDING = ["factory", "settings_model", "uri", "sha256", "size", "provider", "metadata"]
changes = st.sampled_from([*FIELDS, *DECIDING * 3]).flatmap(
    lambda name: st.fixed_dictionaries({name: FIELDS[name] | FIELDS[name] | odd})
)
#: Right but for one field or two, so that what is wrong with them decides.
entries = right | st.builds(lambda row, one, other: {**row, **one, **other}, right, changes, changes | st.just({}))


def outcome(found: Entries) -> list[Any]:
    taken = [{each.name: getattr(candidate, each.name) for each in fields(Candidate)} for candidate in found.candidates]
    return [taken, [each.as_dict() for each in found.refused]]


def made(rows: Any, *, digest_required: bool) -> Entries:
    return candidates_of(
        rows,
        origin="sha256:1",
        policy=POLICY,
        about={"version": 7},
        revoked=frozenset({REVOKED}),
        digest_required=digest_required,
    )


@settings(max_examples=500)
@given(st.lists(entries, max_size=4) | st.just(["text", None, entry()]), st.booleans())
@example([entry(), entry()], True)
@example([entry(metadata={"source": "me", "region": "eu"}, opt_in=True)], True)
@example([entry(uri="https://a.example/x.whl", sha256=REVOKED, size=1)], True)
def test_an_entry_is_judged_alike_whichever_way_it_is_read(rows: list[Any], digest_required: bool) -> None:
    payload = rfc8785.dumps(body(entries=rows))
    plain = json.loads(payload)["entries"]
    read = parse_manifest(payload).entries

    assert read == plain
    assert outcome(made(read, digest_required=digest_required)) == outcome(made(plain, digest_required=digest_required))


@given(st.lists(entries, min_size=1, max_size=3), st.randoms(use_true_random=False), st.sampled_from(["  ", "\n", ""]))
def test_bytes_that_are_not_canonical_are_read_alike_too(rows: list[Any], random: Any, space: str) -> None:
    document = body(entries=rows)
    shuffled = [dict(random.sample(list(each.items()), len(each))) for each in rows]
    text = json.dumps({**document, "entries": shuffled}, indent=space or None, ensure_ascii=random.random() < 0.5)

    assert parse_manifest(text.encode()).entries == rows


@pytest.mark.parametrize(
    ("once", "twice"),
    [
        (b'"key":"cache"', b'"key":"other","key":"cache"'),
        (b'"key":"cache"', b'"key":"cache","key":"cache"'),
        (b'"key":"cache"', b'"key":"cache","\\u006bey":"other"'),
        (b'"region":"eu"', b'"region":"eu","region":"us"'),
        (b'"product":', b'"product":"other","product":'),
        (b'"key":"cache"', b'"key":"cache" ,"key":"other"'),
    ],
)
@pytest.mark.parametrize("other", [entry(provider="plain"), entry(provider="rich", event_topics=["a"])])
def test_a_name_stated_twice_is_refused_wherever_it_stands(once: bytes, twice: bytes, other: dict[str, Any]) -> None:
    payload = rfc8785.dumps(body(entries=[entry(metadata={"region": "eu"}), other]))
    assert once in payload

    with pytest.raises(SchemaError, match="twice"):
        parse_manifest(payload.replace(once, twice, 1))


@pytest.mark.parametrize(
    ("stated", "written"),
    [
        (b'"size":1234', b'"size":9007199254740993'),
        (b'"size":1234', b'"size":1e999'),
        (b'"size":1234', b'"size":NaN'),
        (b'"size":1234', b'"size":01'),
        (b'"owner":"us"', b'"owner":"\xff"'),
        (b'"owner":"us"', b'"owner":"e\xcc\x81"'),
        (b'"owner":"us"', b'"owner":"\\ud800"'),
        (b'"owner":"us"', b'"owner":"a\tb"'),
        (b'"owner":"us"', b'"owner":' + b"[" * 40 + b"]" * 40),
        (b'"owner":"us"', b'"owner":' + b"[" * 100_000 + b"]" * 100_000),
        (b'"owner":"us"', b'"owner":"us",'),
        (b'"version":1', b'"version":1}x'),
    ],
    ids=lambda text: repr(text[:24]),
)
def test_what_strict_json_refuses_is_refused_in_an_entry_too(stated: bytes, written: bytes) -> None:
    payload = rfc8785.dumps(body(entries=[entry(size=1234, owner="us")]))
    assert stated in payload

    with pytest.raises(SchemaError):
        parse_manifest(payload.replace(stated, written, 1))


def test_only_what_states_other_fields_is_read_by_itself() -> None:
    rows = [entry(provider=str(number)) for number in range(3)]
    rich = {**entry(provider="rich"), "event_topics": ["order.*"], "owner": None}
    payload = rfc8785.dumps(body(entries=[*rows, rich]))
    read = parse_manifest(payload).entries

    assert isinstance(read, Rows)
    assert [type(each) for each in read.read] == [Row, Row, Row, dict]
    assert read[-1] == rich
    assert read[:2] == rows[:2]
    assert list(read) == [*rows, rich]


def test_the_fields_of_a_row_stand_in_the_order_of_canonical_form() -> None:
    assert list(Row.__struct_fields__) == sorted(Row.__struct_fields__)


def test_a_candidate_made_of_a_row_is_one_like_any_other() -> None:
    row = entry(
        owner="us", version="1.2", capabilities=["kv"], metadata={"region": "eu"}, opt_in=True, settings_model="acme:S"
    )
    (candidate,) = made(parse_manifest(rfc8785.dumps(body(entries=[row]))).entries, digest_required=True).candidates
    (other,) = made([row], digest_required=True).candidates

    assert not hasattr(candidate, "nothing")
    assert repr(candidate) == repr(other)
    assert candidate.capabilities == ("kv",)
    assert candidate.opt_in
    with pytest.raises(AttributeError):
        candidate.version = "2"  # type: ignore[misc]  # it is frozen
    with pytest.raises(TypeError):
        candidate.metadata["region"] = "us"  # type: ignore[index]  # so is this
    assert candidate.replace(priority=5).metadata == other.metadata
    again = copy.copy(candidate)
    assert (again.version, again.capabilities, again.unconditional) == ("1.2", ("kv",), False)


def test_ranking_asks_what_the_rows_say() -> None:
    rows = [entry(provider="low", priority=1), entry(provider="high", priority=9), entry(provider="opt", opt_in=True)]
    resolver = Resolver(Policy(selections={"adapter": {"queue": "opt"}}))
    rows += [entry(key="queue", provider="opt", opt_in=True), entry(key="queue", provider="other", priority=9)]
    resolver.apply(add=made(parse_manifest(rfc8785.dumps(body(entries=rows))).entries, digest_required=True).candidates)

    assert resolver.resolve("adapter", "cache").provider == "high"
    assert resolver.resolve("adapter", "queue").provider == "opt"
    assert "opt-in" in str(resolver.explain("adapter", "cache").why_not("opt"))


@given(st.binary(max_size=40), st.integers(0, 60), st.sampled_from(["", "=", "A", " ", "\n", "-", "é", "=="]))
def test_base64_has_one_spelling(data: bytes, place: int, inserted: str) -> None:
    text = base64.b64encode(data).decode()
    text = text[:place] + inserted + text[place:]
    document = {"payload": text, "payloadType": MANIFEST_TYPE, "signatures": []}
    try:
        expected = binascii.a2b_base64(text.encode("ascii"), strict_mode=True)
        is_canonical = base64.b64encode(expected).decode() == text
    except ValueError:
        is_canonical = False

    if is_canonical:
        assert Envelope.parse(json.dumps(document).encode()).payload == expected
    elif "-" not in text:  # the other alphabet has tests of its own
        with pytest.raises(SchemaError, match="base64"):
            Envelope.parse(json.dumps(document).encode())
