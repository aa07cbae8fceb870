"""Rows of the closed schema: what becomes of each field, and what is said about a wrong one."""

import json
from collections.abc import Mapping
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from oneiric.core import Key
from oneiric.core.catalog import candidate_from_row
from oneiric.core.errors import InvalidCandidateError, OneiricError
from oneiric.core.resolution import Candidate, CandidateSource

LEAST = {"domain": "adapter", "key": "cache", "provider": "redis", "factory": "acme.cache:Redis"}


def made(**fields: object) -> Candidate:
    row: Mapping[str, object] = {**LEAST, **fields}
    return candidate_from_row(row, source=CandidateSource.LOCAL_PKG, origin="acme.cache", where="catalog.toml entry 3")


def refusal(**fields: object) -> InvalidCandidateError:
    with pytest.raises(InvalidCandidateError) as caught:
        made(**fields)
    return caught.value


def test_four_fields_make_a_candidate() -> None:
    candidate = made()
    assert candidate.identity == ("adapter", "cache", "redis", "acme.cache")
    assert (candidate.factory, candidate.source) == ("acme.cache:Redis", CandidateSource.LOCAL_PKG)
    assert (candidate.priority, candidate.stack_level, candidate.metadata) == (None, None, {})


def test_every_candidate_field_arrives() -> None:
    stated: dict[str, Any] = {
        "settings_model": "acme.cache:RedisSettings",
        "priority": 0,
        "stack_level": -3,
        "version": "1.2",
        "capabilities": ["kv", "ttl"],
        "requires_extra": "acme-cache[redis]",
        "opt_in": True,
        "blocking": True,
        "exclusive": True,
        "requires_python": ">=3.13",
        "requires_os": ["linux", "macos"],
        "requires_packages": ["redis>=6"],
        "conflicts_with": ["fakeredis"],
        "needs": {"queue": "adapter:queue"},
    }
    candidate = made(**stated)
    expected = stated | {
        "capabilities": ("kv", "ttl"),
        "requires_os": ("linux", "darwin"),
        "requires_packages": ("redis>=6",),
        "conflicts_with": ("fakeredis",),
        "needs": {"queue": Key("adapter", "queue")},
    }
    assert {name: getattr(candidate, name) for name in stated} == expected


def test_names_of_earlier_manifests_are_understood() -> None:
    candidate = made(python_version="3.13", os_platform=["Linux", "windows"], requires=["redis"])
    assert candidate.requires_python == ">=3.13"
    assert candidate.requires_os == ("linux", "win32")
    assert candidate.requires_packages == ("redis",)
    assert made(python_version=">=3.12,<4").requires_python == ">=3.12,<4"


def test_what_describes_a_candidate_goes_to_its_metadata_as_plain_data() -> None:
    row = {
        "description": "A cache",
        "owner": "platform",
        "license": "MIT",
        "documentation_url": "https://acme.example",
        "requires_secrets": True,
        "side_effect_free": False,
        "timeout_seconds": 2.5,
        "retry_policy": {"attempts": 3, "base_delay": 0, "jitter": 0.25, "retriable_status_codes": [503]},
        "uri": "https://acme.example/redis.whl",
        "sha256": "AB" * 32,
        "size": 1234,
        "event_topics": ["order.*"],
        "event_max_concurrency": 4,
        "event_filters": [{"path": "payload.tenant", "any_of": ["a", "b"]}],
        "event_priority": 5,
        "event_fanout_policy": "exclusive",
        "dag": {"nodes": [{"id": "a", "task": "t"}]},
        "metadata": {"region": "eu", "topics": ["overruled"]},
    }
    metadata = made(**row).metadata
    assert dict(metadata) == {
        "description": "A cache",
        "owner": "platform",
        "license": "MIT",
        "documentation_url": "https://acme.example",
        "requires_secrets": True,
        "side_effect_free": False,
        "timeout_seconds": 2.5,
        "retry_policy": {"attempts": 3, "base_delay": 0, "jitter": 0.25, "retriable_status_codes": [503]},
        "remote_uri": "https://acme.example/redis.whl",
        "sha256": "ab" * 32,
        "size": 1234,
        "topics": ["order.*"],
        "max_concurrency": 4,
        "filters": [{"path": "payload.tenant", "any_of": ["a", "b"]}],
        "event_priority": 5,
        "fanout_policy": "exclusive",
        "dag": {"nodes": [{"id": "a", "task": "t"}]},
        "region": "eu",
    }
    assert json.loads(json.dumps(dict(metadata))) == dict(metadata)


@pytest.mark.parametrize("last", [True, False])
def test_a_field_outranks_the_metadata_table_wherever_the_table_stands(last: bool) -> None:
    table = {"metadata": {"owner": "table"}}
    row = {**LEAST, "owner": "field", **table} if last else {**LEAST, **table, "owner": "field"}
    candidate = candidate_from_row(row, source=CandidateSource.LOCAL_PKG, origin="acme")
    assert candidate.metadata["owner"] == "field"


def test_what_the_reader_of_a_row_knows_outranks_the_row() -> None:
    row = {**LEAST, "owner": "field", "metadata": {"source": "table"}}
    known = {"source": "remote", "owner": "reader"}
    candidate = candidate_from_row(row, source=CandidateSource.REMOTE_MANIFEST, origin="acme", metadata=known)
    assert dict(candidate.metadata) == known


def test_capabilities_may_be_described() -> None:
    described = {"name": "pubsub", "event_types": ["a"], "security": {"auth_required": True, "scopes": ["r"]}}
    candidate = made(capabilities=["kv", described])
    assert candidate.capabilities == ("kv", "pubsub")
    assert candidate.metadata["capability_descriptors"] == [described]


def test_null_counts_as_not_stated() -> None:
    assert made(priority=None, owner=None, retry_policy=None, requires_python=None).metadata == {}
    assert refusal(factory=None).problem == "is missing"


@pytest.mark.parametrize("missing", ["domain", "key", "provider", "factory"])
def test_a_missing_field_is_named(missing: str) -> None:
    row = {name: value for name, value in LEAST.items() if name != missing}
    with pytest.raises(InvalidCandidateError, match=f"'{missing}' of catalog.toml entry 3 is missing"):
        candidate_from_row(row, source=CandidateSource.LOCAL_PKG, origin="acme", where="catalog.toml entry 3")


@pytest.mark.parametrize(
    ("wrong", "right"), [("provder", "provider"), ("capability", "capabilities"), ("require_extra", "requires_extra")]
)
def test_an_unknown_field_is_named_with_the_nearest_right_one(wrong: str, right: str) -> None:
    error = refusal(**{wrong: "x"})
    assert error.field == wrong
    assert str(error).endswith(f"is unknown: did you mean {right!r}?")


def test_an_unknown_field_like_no_other_lists_them_all() -> None:
    assert "there are: blocking, capabilities" in str(refusal(zzz=1))
    assert "there are: " in str(refusal(zzz=None))


@pytest.mark.parametrize(
    ("earlier", "now"),
    [("python_version", "requires_python"), ("os_platform", "requires_os"), ("requires", "requires_packages")],
)
def test_one_thing_stated_under_two_names_is_refused(earlier: str, now: str) -> None:
    value = ">=3.13" if earlier == "python_version" else ["linux"]
    assert f"the earlier name of {now!r}" in refusal(**{earlier: value, now: value}).problem


@pytest.mark.parametrize(
    ("field", "value", "said"),
    [
        ("domain", 5, "must be a string, not 5"),
        ("domain", "Adapter", "must be a lower-case letter"),
        ("key", "a/b", "must be a letter or digit"),
        ("key", "x" * 10_000, "at most"),
        ("provider", "a\x00b", "NUL"),
        ("factory", "os:system", "no factory may come from"),
        ("factory", "acme.cache", "module:attr"),
        ("factory", 3, "module:attr"),
        ("settings_model", "Redis", "module:attr"),
        ("priority", True, "must be an integer"),
        ("priority", 1.0, "must be an integer"),
        ("priority", "1", "must be an integer"),
        ("priority", 1001, "from -1000 to 1000"),
        ("stack_level", -101, "from -100 to 100"),
        ("opt_in", 1, "true or false"),
        ("opt_in", "true", "true or false"),
        ("blocking", 0, "true or false"),
        ("capabilities", "kv", "must be a list"),
        ("capabilities", ["kv", 5], "item 2 must be a string"),
        ("capabilities", [{"description": "x"}], "item 1 lacks its field 'name'"),
        ("capabilities", [{"name": "x", "sekurity": {}}], "did you mean 'security'"),
        (
            "capabilities",
            [{"name": "x", "security": {"scopes": "r"}}],
            "field 'security' field 'scopes' must be a list",
        ),
        ("capabilities", ["x"] * 1001, "at most 1000 items"),
        ("requires_extra", "acme[", "must be a requirement"),
        ("requires_python", "3", "must be a version specifier"),
        ("python_version", "three", "must be a version specifier"),
        ("requires_os", "linux", "must be a list"),
        ("requires_packages", ["redis>=6", "redis>"], "item 2 must be a requirement"),
        ("conflicts_with", [None], "item 1 must be a string"),
        ("needs", ["adapter:queue"], "must be a table"),
        ("needs", {"queue": "adapter"}, "'domain:key'"),
        ("needs", {"queue": "Adapter:queue"}, "lower-case"),
        ("needs", {"not a name": "adapter:queue"}, "parameter names"),
        ("owner", ["me"], "must be a string"),
        ("requires_secrets", "yes", "true or false"),
        ("timeout_seconds", -1, "at least 0"),
        ("timeout_seconds", True, "must be a number"),
        ("timeout_seconds", float("nan"), "must be a number"),
        ("timeout_seconds", float("inf"), "must be a number"),
        ("retry_policy", {"attempt": 3}, "did you mean 'attempts'"),
        ("retry_policy", {"attempts": 0}, "field 'attempts' must be an integer"),
        ("sha256", "abc", "64 hexadecimal digits"),
        ("event_fanout_policy", "all", "one of broadcast, exclusive"),
        ("event_filters", [{"equals": 1}], "lacks its field 'path'"),
        ("event_max_concurrency", 0, "must be an integer"),
        ("dag", [], "must be a table"),
        ("metadata", "x", "must be a table"),
        ("metadata", {"a": {1: 2}}, "strings for names"),
        ("metadata", {"a": float("nan")}, "must hold"),
        ("metadata", {"a": {3, 4}}, "must hold"),
    ],
)
def test_a_wrong_value_is_named_with_its_field_its_place_and_the_rule(field: str, value: object, said: str) -> None:
    error = refusal(**{field: value})
    assert error.field == field
    assert f"{field!r} of catalog.toml entry 3 " in str(error)
    assert said in error.problem
    assert len(str(error)) < 500


def test_metadata_nested_without_end_is_refused() -> None:
    nested: dict[str, object] = {}
    for _ in range(200):
        nested = {"a": nested}
    assert "nested at most" in refusal(metadata=nested).problem


def test_metadata_is_a_copy() -> None:
    table = {"list": [1]}
    candidate = made(metadata=table)
    table["list"].append(2)
    assert candidate.metadata["list"] == [1]


@pytest.mark.parametrize("row", [None, [], "x", 3])
def test_an_entry_that_is_no_table_is_refused(row: Any) -> None:
    with pytest.raises(InvalidCandidateError, match="must be a table"):
        candidate_from_row(row, source=CandidateSource.LOCAL_PKG, origin="acme")


_junk = st.recursive(
    st.one_of(st.none(), st.booleans(), st.integers(), st.floats(), st.text(max_size=8), st.binary(max_size=4)),
    lambda inner: st.one_of(st.lists(inner, max_size=3), st.dictionaries(st.text(max_size=8), inner, max_size=3)),
    max_leaves=5,
)
_field_names = st.sampled_from(
    [*LEAST, "settings_model", "priority", "capabilities", "needs", "metadata", "retry_policy", "dag", "zzz"]
) | st.sampled_from(["requires_python", "requires_os", "event_filters", "sha256", "opt_in", "version"])


@given(st.dictionaries(_field_names, _junk, max_size=4))
def test_no_value_whatever_raises_anything_but_our_own_error(junk: dict[str, object]) -> None:
    try:
        candidate = candidate_from_row({**LEAST, **junk}, source=CandidateSource.REMOTE_MANIFEST, origin="digest")
    except OneiricError as error:
        assert type(error) is InvalidCandidateError  # noqa: PT017 - both outcomes are right
    else:
        json.dumps(dict(candidate.metadata), allow_nan=False)
