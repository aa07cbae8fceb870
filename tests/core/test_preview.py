"""A preview answers what would be, and leaves what is alone."""

from __future__ import annotations

import asyncio

from oneiric.core.lifecycle import LifecycleManager
from oneiric.core.resolution import Candidate, Policy, Resolver


def stocked() -> Resolver:
    resolver = Resolver(Policy())
    resolver.apply(add=[candidate("a"), candidate("b")])
    return resolver


def candidate(provider: str, origin: str = "local") -> Candidate:
    return Candidate(domain="service", key="x", provider=provider, factory=object, origin=origin)


def test_a_preview_ranks_under_another_policy_and_the_resolver_stays() -> None:
    resolver = stocked()
    revision = resolver.revision

    preview = resolver.preview(policy=Policy(selections={"service": {"x": "a"}}))

    assert preview.resolve("service", "x").provider == "a"
    assert preview.explain("service", "x").selected == "a"
    assert resolver.resolve("service", "x").provider == "b"
    assert resolver.revision == revision
    assert len([entry for entry in resolver.journal if entry.provider == "a"]) == 0


def test_a_preview_adds_and_withdraws_candidates_for_itself() -> None:
    resolver = stocked()
    resolver.register(candidate("c", origin="remote"))

    assert resolver.preview(withdraw=["remote"]).resolve("service", "x").provider == "b"
    assert resolver.preview(add=[candidate("d")]).resolve("service", "x").provider == "d"
    assert [row.provider for row in resolver.candidates("service")] == ["c", "b", "a"]


def test_a_preview_keeps_what_a_swap_selected() -> None:
    async def swapped() -> str:
        resolver = stocked()
        async with LifecycleManager(resolver) as lifecycle:
            await lifecycle.swap("service", "x", "a")
            preview = resolver.preview(policy=Policy(selections={"service": {"x": "b"}}))
            return preview.resolve("service", "x").provider

    assert asyncio.run(swapped()) == "a"


def test_what_is_registered_later_stays_where_it_was_registered() -> None:
    resolver = stocked()
    preview = resolver.preview()

    resolver.register(candidate("c"))
    preview.register(candidate("d"))

    assert resolver.resolve("service", "x").provider == "c"
    assert preview.resolve("service", "x").provider == "d"
