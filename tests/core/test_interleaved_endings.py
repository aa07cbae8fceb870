"""Closings, failures and cancellations that come while something else is under way."""

from __future__ import annotations

import asyncio
from contextlib import suppress

import pytest
from tests.core.interleaving import A, Offer, Part, World, turns

from oneiric.core.errors import ActivationError, LifecycleError
from oneiric.core.lifecycle import Keeper, LifecycleManager, LifecycleTimeouts
from oneiric.core.resolution import Candidate, Policy, Resolver


def test_a_closing_that_is_cancelled_closes_everything_all_the_same() -> None:
    async def run() -> None:
        a1, b1 = Offer("a1"), Offer("b1", key="b")
        b1.may_close.clear()
        world = World(a1, b1)
        lifecycle = world.lifecycle
        await lifecycle.activate(*A)
        await lifecycle.activate("service", "b")
        closing = asyncio.create_task(lifecycle.aclose())
        await b1.made[0].closing.wait()
        closing.cancel()
        await turns()
        b1.may_close.set()
        await lifecycle.aclose()
        assert (a1.open, b1.open) == (0, 0)

    asyncio.run(run())


@pytest.mark.parametrize("drain_seconds", [None, 0.05])
def test_closing_cleans_up_what_still_drains_when_it_begins(drain_seconds: float | None) -> None:
    async def run() -> None:
        one = Offer("one")
        timeouts = LifecycleTimeouts(drain_seconds=0.1, cleanup_seconds=0.01)
        if drain_seconds is not None:
            timeouts = LifecycleTimeouts(drain_seconds=60, cleanup_seconds=0.01)
        world = World(one, timeouts=timeouts)
        lifecycle = world.lifecycle
        async with lifecycle.lease(*A) as held:
            swapping = asyncio.create_task(lifecycle.swap(*A))
            await turns()
            assert lifecycle.get_status(*A).draining == 1
            await lifecycle.aclose(drain_seconds=drain_seconds)
            assert held.is_closed
            assert lifecycle.broken_leases == 1
        await swapping

    asyncio.run(run())


def test_nothing_is_begun_after_the_end_of_changes() -> None:
    async def run() -> None:
        one, two = Offer("one"), Offer("two")
        one.go.clear()
        one.may_close.clear()
        world = World(one)
        async with world.lifecycle as lifecycle:
            using = asyncio.create_task(lifecycle.activate(*A))
            await one.begun.wait()
            world.resolver.register(two.candidate)
            one.go.set()
            await turns()
            await one.made[0].closing.wait()
            lifecycle.end_changes()
            one.may_close.set()
            with pytest.raises(LifecycleError, match="closing"):
                await using
            assert not two.begun.is_set()

    asyncio.run(run())


def test_a_cancelled_attempt_that_had_failed_is_recorded() -> None:
    async def run() -> None:
        parts: list[Part] = []

        class Bad(Part):
            def init(self) -> None:
                raise ValueError("bad")

        may = asyncio.Event()

        def make() -> Part:
            parts.append(Bad("bad", may))
            return parts[-1]

        world = World()
        world.resolver.register(Candidate(domain="service", key="a", provider="bad", factory=make))
        async with world.lifecycle as lifecycle:
            using = asyncio.create_task(lifecycle.activate(*A))
            await turns()
            assert parts[0].closing.is_set()
            using.cancel()
            await asyncio.wait([using])
            status = lifecycle.get_status(*A)
            assert (status.state, status.pending_provider, status.failed_swaps) == ("failed", None, 1)
            may.set()

    asyncio.run(run())


def test_a_keeper_whose_opening_was_cancelled_closes_quietly() -> None:
    async def run() -> None:
        keeper = Keeper(asyncio.TaskGroup())
        opening = asyncio.create_task(keeper.open())
        await asyncio.sleep(0)
        opening.cancel()
        await asyncio.wait([opening])
        await keeper.close()

    asyncio.run(run())


def test_a_component_that_registers_itself_anew_as_it_starts_is_started_all_the_same() -> None:
    async def run() -> None:
        resolver = Resolver(Policy())
        made: list[object] = []

        async def make() -> object:
            made.append(object())
            resolver.register(Candidate(domain="service", key="a", provider="one", factory=make))
            await asyncio.sleep(0)
            return made[-1]

        resolver.register(Candidate(domain="service", key="a", provider="one", factory=make))
        async with LifecycleManager(resolver) as lifecycle:
            async with asyncio.timeout(0.2):
                await lifecycle.activate(*A)

    asyncio.run(run())


def test_a_failed_group_leaves_no_key_without_a_provider() -> None:
    async def run() -> None:
        one, two, b1 = Offer("one", exclusive=True), Offer("two", exclusive=True, opt_in=True), Offer("b1", key="b")
        world = World(one, two, b1)
        async with world.lifecycle as lifecycle:
            await lifecycle.activate(*A)
            b1.go.clear()
            g = asyncio.create_task(lifecycle.swap_group({A: "two", ("service", "b"): "b1"}))
            await turns()
            g.cancel()
            await asyncio.wait([g])
            assert world.serving() == "one"

    asyncio.run(run())


def test_an_instance_whose_late_init_returns_it_is_cleaned_up() -> None:
    async def run() -> None:
        gone = asyncio.Event()

        class Fluent:
            async def init(self) -> Fluent:
                with suppress(asyncio.CancelledError):
                    await asyncio.Event().wait()
                return self

            def close(self, reason: str) -> None:
                raise AssertionError(reason)

            def cleanup(self) -> None:
                gone.set()

        world = World(timeouts=LifecycleTimeouts(activation_seconds=0))
        world.resolver.register(Candidate(domain="service", key="a", provider="one", factory=Fluent))
        async with world.lifecycle as lifecycle:
            with pytest.raises(ActivationError, match="deadline"):
                await lifecycle.activate(*A)
            async with asyncio.timeout(1):
                await gone.wait()

    asyncio.run(run())
