"""A first use, or a swap, that is under way while the registry changes."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from oneiric.core.errors import ActivationError, CandidateNotFoundError, ResolutionError
from oneiric.core.lifecycle import LifecycleManager
from oneiric.core.resolution import Candidate, Policy, Resolver


class Part:
    def __init__(self, version: str) -> None:
        self.version = version
        self.is_closed = False

    async def cleanup(self) -> None:
        self.is_closed = True


class Offer:
    """A candidate that is made when a test lets it, and what was made of it."""

    def __init__(self, version: str, *, fails: bool = False, provider: str = "a") -> None:
        self.begun, self.over = asyncio.Event(), asyncio.Event()
        self.made: list[Part] = []

        async def make() -> Part:
            self.begun.set()
            await self.over.wait()
            if fails:
                raise ModuleNotFoundError("it was taken away")
            self.made.append(Part(version))
            return self.made[-1]

        self.candidate = Candidate(domain="service", key="x", provider=provider, factory=make, version=version)


async def used(resolver: Resolver, lifecycle: LifecycleManager, old: Offer, **change: Any) -> Any:
    """Change the registry in the middle of a first use, and return what that brings."""
    resolver.apply(add=[old.candidate])
    using = asyncio.create_task(lifecycle.activate("service", "x"))
    await old.begun.wait()
    resolver.apply(withdraw=[old.candidate], **change)
    await lifecycle.reconcile()
    old.over.set()
    return await using


@pytest.mark.parametrize("fails", [False, True])
def test_what_came_in_its_place_meanwhile_serves(fails: bool) -> None:
    async def run() -> None:
        resolver, old, new = Resolver(Policy()), Offer("1", fails=fails), Offer("2")
        new.over.set()
        async with LifecycleManager(resolver) as lifecycle:
            assert (await used(resolver, lifecycle, old, add=[new.candidate])).version == "2"
            assert lifecycle.stale() == ()
            assert [each.is_closed for each in old.made] == ([] if fails else [True])
            assert lifecycle.get_status("service", "x").state == "ready"

    asyncio.run(run())


def test_what_is_no_longer_on_offer_does_not_serve() -> None:
    async def run() -> None:
        resolver, old = Resolver(Policy()), Offer("1")
        async with LifecycleManager(resolver) as lifecycle:
            with pytest.raises(CandidateNotFoundError):
                await used(resolver, lifecycle, old)
            assert old.made[0].is_closed
            assert lifecycle.get_status("service", "x").state == "failed"

    asyncio.run(run())


def test_what_fails_although_nothing_changed_is_not_tried_again() -> None:
    async def run() -> None:
        resolver, old = Resolver(Policy()), Offer("1", fails=True)
        old.over.set()
        resolver.apply(add=[old.candidate])
        async with LifecycleManager(resolver) as lifecycle:
            with pytest.raises(ActivationError, match="taken away"):
                await lifecycle.activate("service", "x")
            assert lifecycle.get_status("service", "x").failed_swaps == 1

    asyncio.run(run())


@pytest.mark.parametrize("fails", [False, True])
def test_a_swap_binds_what_came_in_the_place_of_what_it_named(fails: bool) -> None:
    async def run() -> None:
        resolver, before, old = Resolver(Policy()), Offer("0"), Offer("1", provider="b", fails=fails)
        new = Offer("2", provider="b")
        before.over.set()
        new.over.set()
        resolver.apply(add=[old.candidate, before.candidate])
        async with LifecycleManager(resolver) as lifecycle:
            await lifecycle.activate("service", "x")
            swapping = asyncio.create_task(lifecycle.swap("service", "x", provider="b"))
            await old.begun.wait()
            resolver.apply(withdraw=[old.candidate], add=[new.candidate])
            await lifecycle.reconcile()
            old.over.set()

            assert (await swapping).version == "2"
            assert lifecycle.stale() == ()
            assert [each.is_closed for each in old.made] == ([] if fails else [True])

    asyncio.run(run())


def test_a_swap_to_what_is_withdrawn_meanwhile_leaves_what_serves() -> None:
    async def run() -> None:
        resolver, before, old = Resolver(Policy()), Offer("0"), Offer("1", provider="b")
        before.over.set()
        resolver.apply(add=[old.candidate, before.candidate])
        async with LifecycleManager(resolver) as lifecycle:
            serving = await lifecycle.activate("service", "x")
            swapping = asyncio.create_task(lifecycle.swap("service", "x", provider="b"))
            await old.begun.wait()
            resolver.apply(withdraw=[old.candidate])
            old.over.set()

            with pytest.raises(ResolutionError):
                await swapping
            assert old.made[0].is_closed
            assert await lifecycle.activate("service", "x") is serving
            assert not serving.is_closed

    asyncio.run(run())
