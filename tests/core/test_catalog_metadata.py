"""AdapterMetadata and ActionMetadata: what is stated in code registers as a catalogue row would."""

from pathlib import Path

import pytest

from oneiric.core import Key
from oneiric.core.catalog import (
    ActionMetadata,
    AdapterMetadata,
    register_action_metadata,
    register_adapter_metadata,
)
from oneiric.core.errors import DuplicateCandidateError, InvalidCandidateError
from oneiric.core.resolution import CandidateSource, Policy, Resolver


class CacheSettings:
    """Stands for a settings model."""


class Cache:
    """Stands for a provider."""


FULL = AdapterMetadata(
    category="cache",
    provider="redis",
    factory=Cache,
    version="1.0",
    description="A cache",
    capabilities=["kv", "ttl"],
    stack_level=10,
    priority=400,
    source=CandidateSource.ENTRY_POINT,
    owner="platform",
    requires_secrets=True,
    settings_model=CacheSettings,
    requires_extra="acme-cache[redis]",
    opt_in=True,
    blocking=True,
    exclusive=True,
    needs={"queue": Key("adapter", "queue")},
    extras={"region": "eu"},
)


def test_an_adapter_becomes_a_candidate_of_its_category() -> None:
    candidate = FULL.to_candidate()
    assert (candidate.domain, candidate.key, candidate.provider) == ("adapter", "cache", "redis")
    assert (candidate.factory, candidate.version, candidate.capabilities) == (Cache, "1.0", ("kv", "ttl"))
    assert (candidate.stack_level, candidate.priority, candidate.source) == (10, 400, CandidateSource.ENTRY_POINT)
    assert (candidate.requires_extra, candidate.needs) == ("acme-cache[redis]", {"queue": Key("adapter", "queue")})
    assert (candidate.opt_in, candidate.blocking, candidate.exclusive) == (True, True, True)
    assert candidate.settings_model == f"{__name__}:CacheSettings"
    assert candidate.metadata == {
        "description": "A cache",
        "owner": "platform",
        "requires_secrets": True,
        "region": "eu",
    }


def test_an_action_becomes_a_candidate_of_the_action_domain() -> None:
    action = ActionMetadata(
        key="compression.encode",
        provider="builtin",
        factory="acme.actions:Encode",
        description="Squeezes",
        domains=["task", "workflow"],
        capabilities=["gzip"],
        side_effect_free=True,
        settings_model="acme.actions:Settings",
    )
    candidate = action.to_candidate()
    assert (candidate.domain, candidate.key, candidate.provider) == ("action", "compression.encode", "builtin")
    assert (candidate.capabilities, candidate.settings_model) == (("gzip",), "acme.actions:Settings")
    assert candidate.metadata == {
        "description": "Squeezes",
        "domains": ["task", "workflow"],
        "side_effect_free": True,
    }


def test_what_is_not_stated_leaves_no_trace() -> None:
    assert AdapterMetadata(category="cache", provider="x", factory="a:b").to_candidate().metadata == {}
    assert ActionMetadata(key="cache", provider="x", factory="a:b").to_candidate().metadata == {}


def test_a_settings_model_that_cannot_be_found_by_name_is_refused() -> None:
    class Local: ...

    with pytest.raises(InvalidCandidateError, match="at the top of a module"):
        AdapterMetadata(category="cache", provider="x", factory="a:b", settings_model=Local).to_candidate()


def test_a_bare_string_is_not_a_list_of_capabilities() -> None:
    with pytest.raises(InvalidCandidateError, match="capabilities"):
        AdapterMetadata(category="cache", provider="x", factory="a:b", capabilities="kv").to_candidate()


@pytest.mark.parametrize("field", ["category", "provider", "factory"])
def test_a_wrong_field_is_refused_when_the_candidate_is_made(field: str) -> None:
    stated = {"category": "cache", "provider": "x", "factory": "a:b", field: "a/b"}
    wrong = AdapterMetadata(category=stated["category"], provider=stated["provider"], factory=stated["factory"])
    with pytest.raises(InvalidCandidateError):
        wrong.to_candidate()


def test_registration_is_one_revision_and_takes_the_package_as_origin() -> None:
    resolver = Resolver(Policy())
    adapters = [AdapterMetadata(category="cache", provider=name, factory=Cache) for name in ("a", "b")]
    path = str(Path("anywhere", "acme", "adapters"))
    revision = register_adapter_metadata(resolver, "acme", path, adapters)
    assert revision == resolver.revision == 1
    assert {candidate.origin for candidate in resolver.candidates("adapter")} == {"acme"}
    assert resolver.resolve("adapter", "cache").provider == "b"
    actions = [ActionMetadata(key="encode", provider="a", factory=Cache)]
    register_action_metadata(resolver, "acme", path, actions, priority=7)
    assert resolver.resolve("action", "encode").priority == 7


def test_one_broken_item_registers_nothing() -> None:
    resolver = Resolver(Policy())
    twice = [AdapterMetadata(category="cache", provider="a", factory=Cache)] * 2
    with pytest.raises(DuplicateCandidateError):
        register_adapter_metadata(resolver, "acme", "acme", twice)
    wrong = [*twice[:1], AdapterMetadata(category="", provider="a", factory=Cache)]
    with pytest.raises(InvalidCandidateError):
        register_adapter_metadata(resolver, "acme", "acme", wrong)
    assert resolver.candidates() == ()
