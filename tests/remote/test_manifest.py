"""Manifests: a closed body, rows that all mean what they say, and documents of earlier versions unchanged."""

from __future__ import annotations

import json
from importlib import resources
from typing import Any

import jsonschema
import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError
from tests.remote.conftest import body, entry

from oneiric.core.catalog import candidate_from_row
from oneiric.core.catalog._rows import _FIELDS
from oneiric.core.errors import ConfigurationError, InvalidCandidateError, SchemaError
from oneiric.core.resolution import CandidateSource, Environment, Policy, Resolver
from oneiric.core.security import FactoryAllowList
from oneiric.remote.manifest import (
    FactoryPolicy,
    ManifestBody,
    ManifestEntry,
    Scope,
    candidates_of,
    manifest_schema,
    pack,
    parse_earlier,
    parse_manifest,
    read_document,
)

ACME = FactoryPolicy(general=FactoryAllowList(("acme",)))

FULL = entry(
    uri="https://cdn.acme.example/cache.whl",
    sha256="ab" * 32,
    size=1234,
    stack_level=5,
    priority=10,
    version="1.2.0",
    metadata={"region": "eu"},
    capabilities=["kv", {"name": "pubsub", "event_types": ["a.b"], "security": {"scopes": ["read"]}}],
    owner="platform",
    requires_secrets=True,
    settings_model="acme.cache:Settings",
    side_effect_free=False,
    timeout_seconds=2.5,
    retry_policy={"attempts": 3, "base_delay": 0.5, "max_delay": 10, "jitter": 0.25, "retriable_status_codes": [503]},
    requires=["redis>=6"],
    conflicts_with=["memcached"],
    python_version=">=3.13",
    os_platform=["linux", "darwin"],
    license="MIT",
    documentation_url="https://acme.example/docs",
    event_topics=["order.*"],
    event_max_concurrency=4,
    event_filters=[{"path": "payload.tenant", "any_of": ["a"]}, {"path": "topic", "exists": True}],
    event_priority=3,
    event_fanout_policy="exclusive",
    dag={"nodes": [{"id": "stage", "task": "stage"}, {"id": "notify", "task": "notify", "depends_on": ["stage"]}]},
)


def parse(**changes: Any) -> ManifestBody:
    return parse_manifest(json.dumps(body(**changes)).encode())


def test_a_manifest_is_parsed_from_the_bytes_that_were_packed() -> None:
    packed = pack(body(entries=[FULL]))

    assert parse_manifest(packed).entries == json.loads(packed)["entries"]
    assert pack(json.loads(packed)) == packed


def test_packing_is_canonical_whatever_the_authoring_form() -> None:
    document = body(entries=[FULL, entry(provider="other", description="größer")])
    as_json = json.dumps(document, indent=3, ensure_ascii=True).encode()
    as_yaml = yaml.safe_dump(document, sort_keys=False, allow_unicode=True).encode()
    reordered = json.dumps(dict(reversed(document.items()))).encode()

    assert pack(read_document(as_json)) == pack(read_document(as_yaml)) == pack(read_document(reordered))


@pytest.mark.parametrize(
    "changes",
    [
        {"version": 0},
        {"version": -1},
        {"version": 2**31},
        {"version": 1.0},
        {"version": "1"},
        {"version": True},
        {"product": "Acme"},
        {"product": "acme\n"},
        {"product": "../acme"},
        {"product": ""},
        {"product": None},
        {"channel": "Stable!"},
        {"issued": "2026-11-18"},
        {"issued": "2026-11-18T00:00:00+00:00"},
        {"issued": "2026-13-18T00:00:00Z"},
        {"issued": 1795000000},
        {"expires": "2026-11-18T00:00:00Z"},
        {"expires": "2026-11-17T00:00:00Z"},
        {"entries": {}},
        {"entries": None},
        {"revoked": ["AB" * 32]},
        {"revoked": ["ab"]},
        {"audience": [""]},
        {"audience": "prod"},
        {"crit": ["quantum"]},
        {"unknown": 1},
        {"Product": "acme"},
        {"delegations": [{"publisher": "p", "keys": [], "scopes": [{"domain": "adapter"}]}]},
        {"delegations": [{"publisher": "p", "keys": ["AAAA"], "scopes": [{"domain": "adapter"}]}]},
        {"delegations": [{"publisher": "p", "keys": ["A" * 43 + "="], "scopes": [{"domain": "adapter"}]}]},
        {"extensions": {"e\u0301": 1}},
    ],
    ids=str,
)
def test_a_body_that_breaks_the_schema_is_refused(changes: dict[str, Any]) -> None:
    with pytest.raises(SchemaError, match="manifest"):
        parse(**changes)


@pytest.mark.parametrize("missing", ["product", "version", "issued", "expires", "entries"])
def test_a_body_that_lacks_a_field_is_refused(missing: str) -> None:
    document = body()
    del document[missing]

    with pytest.raises(SchemaError, match=missing):
        parse_manifest(json.dumps(document).encode())


def test_what_must_be_understood_and_is_not_refuses_the_manifest() -> None:
    assert parse(extensions={"quantum": {"a": 1}}).extensions == {"quantum": {"a": 1}}
    with pytest.raises(SchemaError, match="'quantum' be understood"):
        parse(extensions={"quantum": 1}, crit=["quantum"])


@pytest.mark.parametrize("payload", [b"", b"null", b"[]", b'"x"', b"1", b"{}"])
def test_what_is_no_object_is_no_manifest(payload: bytes) -> None:
    with pytest.raises(SchemaError):
        parse_manifest(payload)


def test_every_problem_has_its_own_sentence() -> None:
    with pytest.raises(SchemaError) as caught:
        parse(version=0, product="A", unknown=1)

    assert len(caught.value.problems) == 3
    assert "and 2 more" in str(caught.value)


# Entries


def test_every_field_of_an_entry_is_kept_and_those_that_constrain_are_fields_of_the_candidate() -> None:
    (candidate,) = candidates_of([FULL], origin="sha256:abc", policy=ACME, about={"version": 7}).candidates

    assert candidate.source is CandidateSource.REMOTE_MANIFEST
    assert candidate.origin == "sha256:abc"
    assert candidate.requires_python == ">=3.13"
    assert candidate.requires_os == ("linux", "darwin")
    assert candidate.requires_packages == ("redis>=6",)
    assert candidate.conflicts_with == ("memcached",)
    assert candidate.settings_model == "acme.cache:Settings"
    assert candidate.capabilities == ("kv", "pubsub")
    assert (candidate.priority, candidate.stack_level, candidate.version) == (10, 5, "1.2.0")
    assert {**candidate.metadata, "manifest": dict(candidate.metadata["manifest"])} == {
        "region": "eu",
        "remote_uri": "https://cdn.acme.example/cache.whl",
        "sha256": "ab" * 32,
        "size": 1234,
        "capability_descriptors": [FULL["capabilities"][1]],
        "owner": "platform",
        "requires_secrets": True,
        "side_effect_free": False,
        "timeout_seconds": 2.5,
        "retry_policy": FULL["retry_policy"],
        "license": "MIT",
        "documentation_url": "https://acme.example/docs",
        "topics": ["order.*"],
        "max_concurrency": 4,
        "filters": FULL["event_filters"],
        "event_priority": 3,
        "fanout_policy": "exclusive",
        "dag": FULL["dag"],
        "source": "remote",
        "manifest": {"version": 7},
    }


@pytest.mark.parametrize(
    ("constraint", "kind"),
    [
        ({"python_version": ">=99"}, "python"),
        ({"os_platform": ["plan9"]}, "os"),
        ({"requires": ["no-such-distribution>=1"]}, "package"),
        ({"conflicts_with": ["installed"]}, "conflict"),
        ({"requires_extra": "no-such-distribution[x]"}, "extra"),
        ({"opt_in": True}, "opt_in"),
    ],
    ids=str,
)
def test_what_constrains_an_entry_is_enforced(constraint: dict[str, Any], kind: str) -> None:
    machine = Environment(python="3.13.0", os="linux", is_installed=lambda requirement: requirement == "installed")
    resolver = Resolver(Policy(environment=machine))
    resolver.apply(add=candidates_of([entry(**constraint)], origin="m", policy=ACME).candidates)

    (filtered,) = resolver.explain("adapter", "cache").filtered

    assert [obstacle.kind for obstacle in filtered.obstacles] == [kind]


def test_what_a_candidate_says_of_its_manifest_is_json() -> None:
    made = candidates_of([FULL], origin="m", policy=ACME, about={"digest": "x", "signed_by": ["k"]})

    assert json.loads(json.dumps(dict(made.candidates[0].metadata)))["manifest"] == {"digest": "x", "signed_by": ["k"]}


def test_each_wrong_entry_has_its_verdict_and_spoils_no_other() -> None:
    rows = [entry(), entry(provider="b", priority="high"), entry(provider="c"), 7, entry(provider="c"), {}]
    made = candidates_of(rows, origin="m", policy=ACME)

    assert [candidate.provider for candidate in made.candidates] == ["acme", "c"]
    assert [(each.number, each.name) for each in made.refused] == [
        (2, "adapter:cache/b"),
        (4, "?"),
        (5, "adapter:cache/c"),
        (6, "?:?/?"),
    ]
    assert "priority" in made.refused[0].reason
    assert "earlier entry" in made.refused[2].reason
    assert not any(each.is_policy for each in made.refused)


def test_remote_factories_are_denied_where_nothing_is_allowed() -> None:
    made = candidates_of([entry()], origin="m")

    assert made.candidates == ()
    assert made.refused[0].is_policy
    assert "outside the allow-list (allowed: none)" in made.refused[0].reason


def test_each_domain_has_its_own_allow_list() -> None:
    policy = FactoryPolicy(domains={"task": FactoryAllowList(("acme",))})
    made = candidates_of([entry(), entry(domain="task")], origin="m", policy=policy)

    assert [candidate.domain for candidate in made.candidates] == ["task"]


@pytest.mark.parametrize("factory", ["acmex.cache:Cache", "acm:Cache", "evil:acme", "acme_cache:Cache"])
def test_a_prefix_ends_at_a_dot(factory: str) -> None:
    assert candidates_of([entry(factory=factory)], origin="m", policy=ACME).candidates == ()


@pytest.mark.parametrize(
    "factory",
    [
        "os:system",
        "subprocess:Popen",
        "builtins:eval",
        "importlib:import_module",
        "_pickle:loads",
        "acme.cache:Cache.__init__",
        "acme.cache:os.system",
        "acme.cache",
        "acme..cache:Cache",
        "acme.cache:Cache\n",
        "acme.cache:Cache\x00",
        "аcme.cache:Cache",  # noqa: RUF001 - a Cyrillic letter that looks like ours
        "acme.cache:" + "x" * 10_000,
        " acme.cache:Cache",
    ],
)
def test_a_factory_that_reaches_for_more_is_refused_for_factory_and_settings_alike(factory: str) -> None:
    everywhere = FactoryPolicy(
        general=FactoryAllowList(("acme", "os", "subprocess", "builtins", "importlib", "_pickle"))
    )

    assert candidates_of([entry(factory=factory)], origin="m", policy=everywhere).candidates == ()
    assert candidates_of([entry(settings_model=factory)], origin="m", policy=everywhere).candidates == ()


def test_the_settings_model_must_be_allowed_too() -> None:
    assert candidates_of([entry(settings_model="evil:Settings")], origin="m", policy=ACME).refused[0].is_policy


def test_the_allow_list_of_the_environment_keeps_its_meaning() -> None:
    def allowed(environ: dict[str, str], factory: str) -> bool:
        policy = FactoryPolicy.from_environ(environ)
        return bool(candidates_of([entry(factory=factory)], origin="m", policy=policy).candidates)

    assert allowed({}, "oneiric.adapters.cache.memory:MemoryCache")
    assert not allowed({}, "acme.cache:Cache")
    assert allowed({"ONEIRIC_FACTORY_ALLOWLIST": "oneiric,acme."}, "acme.cache:Cache")
    assert not allowed({"ONEIRIC_FACTORY_ALLOWLIST": ""}, "oneiric.adapters.cache.memory:MemoryCache")
    with pytest.raises(ConfigurationError):
        FactoryPolicy.from_environ({"ONEIRIC_FACTORY_ALLOWLIST": "not a module"})


def test_an_artifact_needs_its_digest_and_its_size() -> None:
    uri = "https://acme.example/a.whl"
    for lacking in ({"uri": uri}, {"uri": uri, "sha256": "ab" * 32}, {"uri": uri, "size": 1}):
        (refused,) = candidates_of([entry(**lacking)], origin="m", policy=ACME).refused
        assert "needs sha256 and size" in refused.reason


def test_a_revoked_artifact_is_refused() -> None:
    made = candidates_of([FULL], origin="m", policy=ACME, revoked=frozenset({"ab" * 32}))

    assert "revoked" in made.refused[0].reason


@pytest.mark.parametrize("name", ["remote_uri", "sha256", "size", "source", "manifest", "artifact_path"])
def test_an_entry_cannot_say_in_its_metadata_what_is_verified(name: str) -> None:
    made = candidates_of([entry(metadata={name: ["forged"], "kept": 1})], origin="m", policy=ACME)

    assert made.candidates[0].metadata.get(name) != ["forged"]
    assert made.candidates[0].metadata["kept"] == 1


# Scopes


@pytest.mark.parametrize(
    ("prefix", "key", "covered"),
    [
        ("", "anything", True),
        ("acme", "acme", True),
        ("acme", "acme.cache", True),
        ("acme.", "acme.cache", True),
        ("acme", "acmex", False),
        ("acme", "acme-cache", False),
        ("acme.cache", "acme", False),
        ("acme", "Acme", False),
    ],
)
def test_a_scope_covers_a_key_and_those_below_it(prefix: str, key: str, covered: bool) -> None:
    assert Scope(domain="adapter", key_prefix=prefix).covers("adapter", key) is covered
    assert not Scope(domain="adapter", key_prefix=prefix).covers("task", key)


# Documents of earlier versions

EARLIER = {
    "source": "oneiric-production",
    "generated_at": "2024-01-01",
    "entries": [{**FULL, "novelty": 1, "retry_policy": {"attempts": 2, "strategy": "x"}}, entry(provider="v1")],
    "signature": "c2ln",
    "signature_algorithm": "ed25519",
    "signatures": [{"signature": "dHdv", "algorithm": "ed25519", "key_id": "ops"}],
    "signed_at": "2024-01-01T00:00:00+00:00",
    "expires_at": None,
}


@pytest.mark.parametrize("write", [json.dumps, yaml.safe_dump])
def test_documents_of_both_earlier_formats_load_unchanged(write: Any) -> None:
    manifest = parse_earlier(read_document(write(EARLIER).encode()))

    assert manifest.source == "oneiric-production"
    assert manifest.entries == ({**FULL, "retry_policy": {"attempts": 2}}, entry(provider="v1"))
    assert manifest.ignored == ("entries.novelty", "entries.retry_policy.strategy", "generated_at")
    assert manifest.signatures == ("c2ln", "dHdv")
    assert (manifest.signed_at, manifest.expires_at) == (EARLIER["signed_at"], None)
    assert manifest.document == EARLIER
    made = candidates_of(manifest.entries, origin="m", policy=ACME, digest_required=False)
    assert (len(made.candidates), made.refused) == (2, ())


def test_an_earlier_document_is_packed_once_it_is_said_what_it_lacks() -> None:
    lacks = {name: value for name, value in body().items() if name != "entries"}
    packed = parse_manifest(pack(EARLIER, **lacks))

    assert (packed.product, packed.source, packed.version) == ("acme", "oneiric-production", 1)
    assert len(packed.entries) == 2
    with pytest.raises(SchemaError, match="product"):
        pack(EARLIER)


@pytest.mark.parametrize(
    "document",
    [
        {"entries": {}},
        {"entries": [], "signatures": "x"},
        {"entries": [], "signatures": [1]},
        {"entries": [], "signatures": [{"signature": 1}]},
        {"entries": [], "signature": "x", "signature_algorithm": "rsa"},
        {"entries": [], "signed_at": 1},
    ],
    ids=str,
)
def test_an_earlier_document_that_cannot_be_read_is_a_schema_error(document: dict[str, Any]) -> None:
    with pytest.raises(SchemaError):
        parse_earlier(document)


def test_packing_says_which_entries_are_wrong() -> None:
    with pytest.raises(SchemaError, match="and 1 more") as caught:
        pack(body(entries=[entry(), entry(provider="b", priority=1.5), entry(provider="c", unknown=1)]))

    assert [problem[:8] for problem in caught.value.problems] == ["entry 2 ", "entry 3 "]


@pytest.mark.parametrize("wrong", [float("nan"), float("inf"), 2**60, {1: 2}, object()])
def test_what_json_cannot_say_is_not_packed(wrong: object) -> None:
    with pytest.raises(SchemaError):
        pack(body(extensions={"x": wrong}))


# Hardened YAML


@pytest.mark.parametrize(
    "text",
    [
        "a: &x 1\nb: *x",
        "a: &x {b: 1}\nc:\n  <<: *x",
        "<<: {a: 1}",
        "a: !!python/object/apply:os.system ['true']",
        "a: !!binary YQ==",
        "a: 1\na: 2",
        "a: 1\n---\nb: 2",
        "? [a, b]\n: 1",
        "a: [",
        "a: " + "[" * 900,
        "\t- x",
        "just text",
        "- a",
        "a: 99999999999999999",
        "a: 1.0e+999",
        "a: \x07",
    ],
    ids=lambda text: repr(text[:24]),
)
def test_yaml_that_is_more_than_data_is_refused(text: str) -> None:
    with pytest.raises(SchemaError):
        read_document(text.encode())


def test_yaml_scalars_stay_what_they_look_like() -> None:
    text = "a: no\nb: 012\nc: 1:30:00\nd: 2026-01-01\ne: 3.13\nf: true\ng: null\nh: 0x1F\ni: .inf\n"
    text += "j: '1'\nk: 7\nl: 1e5\nm: 1.0e+2\n"

    assert read_document(text.encode()) == {
        "a": "no",
        "b": "012",
        "c": "1:30:00",
        "d": "2026-01-01",
        "e": 3.13,
        "f": True,
        "g": None,
        "h": "0x1F",
        "i": ".inf",
        "j": "1",
        "k": 7,
        "l": "1e5",
        "m": 100.0,
    }


def test_a_document_beyond_its_cap_is_not_even_parsed() -> None:
    for text in (b"{" + b" " * 100 + b"}", b"a: 1" + b" " * 100):
        with pytest.raises(SchemaError, match="50 is the most"):
            read_document(text, max_bytes=50)


# The schema


def test_the_shipped_schema_is_the_one_the_models_give() -> None:
    shipped = resources.files("oneiric.remote").joinpath("manifest.schema.json").read_text(encoding="utf-8")

    assert json.loads(shipped) == manifest_schema(), "python scripts/manifest_schema.py"


def test_the_schema_accepts_an_honest_manifest_and_refuses_a_wrong_one() -> None:
    validator = jsonschema.Draft202012Validator(manifest_schema())
    validator.check_schema(manifest_schema())

    validator.validate(json.loads(pack(body(entries=[FULL]))))
    for wrong in (body(version=0), body(unknown=1), body(entries=[{}]), body(entries=[entry(priority="x")])):
        with pytest.raises(jsonschema.ValidationError):
            validator.validate(wrong)


def test_the_models_have_the_fields_of_the_row_schema() -> None:
    assert set(ManifestEntry.model_fields) == _FIELDS


VALUES: dict[str, list[Any]] = {
    "domain": ["task", "A", "", 1],
    "key": ["a.b", "a b", "", 1],
    "factory": ["acme.x:Y", "os:system", "x", 1],
    "priority": [0, 1000, 1001, "1"],
    "stack_level": [100, 101],
    "size": [1, 0, -1],
    "sha256": ["ab" * 32, "zz" * 32, "ab"],
    "capabilities": [["a"], [{"name": "a"}], [{"nam": "a"}], "a"],
    "timeout_seconds": [0, 1.5, -1],
    "retry_policy": [{"attempts": 1}, {"attempts": 0}, {"x": 1}, 1],
    "event_max_concurrency": [1, 0],
    "event_filters": [[{"path": "a"}], [{"equals": 1}]],
    "event_fanout_policy": ["broadcast", "all"],
    "dag": [{"nodes": []}, []],
    "metadata": [{"a": 1}, 1],
    "unknown": [1],
}


@given(st.fixed_dictionaries({}, optional={name: st.sampled_from(values) for name, values in VALUES.items()}))
def test_what_the_row_schema_takes_the_models_take_too(changes: dict[str, Any]) -> None:
    """The models may know less (they know no blocked module), but never refuse what is accepted."""
    row = entry(**changes)
    try:
        candidate_from_row(row, source=CandidateSource.REMOTE_MANIFEST, origin="m")
        taken = True
    except InvalidCandidateError:
        taken = False
    try:
        ManifestEntry.model_validate(row, strict=False)
        modelled = True
    except ValidationError:
        modelled = False
    assert modelled or not taken


@given(st.binary(max_size=200) | st.text(max_size=200).map(str.encode))
def test_any_bytes_are_a_document_or_a_schema_error(content: bytes) -> None:
    try:
        document = read_document(content)
    except SchemaError:
        return
    assert isinstance(document, dict)
