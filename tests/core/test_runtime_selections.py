"""What a swap selects is published as a revision of its own: whoever holds an older one sees it whole and unchanged."""

from __future__ import annotations

import asyncio

from oneiric.core.lifecycle import LifecycleManager
from oneiric.core.resolution import Candidate, Policy, Resolver


def stocked() -> Resolver:
    resolver = Resolver(Policy())
    resolver.apply(
        add=[Candidate(domain="service", key=key, provider=name, factory=object) for key in "xy" for name in ("a", "b")]
    )
    return resolver


async def swapped(resolver: Resolver, *providers: str | None, tenant: str | None = None) -> None:
    async with LifecycleManager(resolver) as lifecycle:
        await lifecycle.activate("service", "x")
        for provider in providers:
            await lifecycle.swap("service", "x", provider, tenant=tenant)


def winners(resolver: Resolver) -> dict[str, str]:
    return {key: candidate.provider for key, candidate in resolver.view("service").items()}


def test_a_view_from_before_a_swap_keeps_its_winners() -> None:
    resolver = stocked()
    before = resolver.view("service")

    asyncio.run(swapped(resolver, "a"))

    assert {key: candidate.provider for key, candidate in before.items()} == {"x": "b", "y": "b"}
    assert winners(resolver) == {"x": "a", "y": "b"}


def test_a_swap_without_a_provider_gives_the_key_back_to_the_ranking() -> None:
    resolver = stocked()

    asyncio.run(swapped(resolver, "a", None))

    assert winners(resolver) == {"x": "b", "y": "b"}


def test_a_tenants_swap_leaves_the_winners_of_the_base() -> None:
    resolver = stocked()

    asyncio.run(swapped(resolver, "a", tenant="acme"))

    assert winners(resolver) == {"x": "b", "y": "b"}
    assert resolver.resolve("service", "x", tenant="acme").provider == "a"


def test_questions_of_ever_new_tenants_are_forgotten_again() -> None:
    resolver = stocked()

    for number in range(10_000):
        resolver.explain("service", "x", tenant=f"tenant-{number}")

    assert len(resolver._current.memo) < 5_000  # tenants are users' data: nothing else bounds their number
