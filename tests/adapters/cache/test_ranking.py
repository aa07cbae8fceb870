"""What the family's catalogue makes of itself: who serves, and why."""

from pathlib import Path

import oneiric.adapters.cache
from oneiric.adapters.cache import CACHE
from oneiric.core.catalog import discover
from oneiric.core.resolution import Policy, Resolver


def test_memory_serves_unless_told_otherwise_and_redis_waits_to_be_selected() -> None:
    resolver = Resolver(Policy())
    report = discover(resolver)
    assert [error for error in report.errors if "cache" in str(error)] == []
    ours = resolver.explain("adapter", "cache")
    ranked = [row.provider for row in ours.ordered if "oneiric.adapters.cache" in str(row.candidate.factory)]
    assert ranked == ["memory", "sqlite"]
    assert [row.provider for row in ours.filtered] == ["redis"]
    assert resolver.resolve(CACHE).provider == "memory"
    assert resolver.resolve(CACHE, provider="redis").provider == "redis"


def test_the_catalogue_lies_beside_the_package() -> None:
    assert (Path(oneiric.adapters.cache.__file__).parent / "catalog.toml").is_file()
