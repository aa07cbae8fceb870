"""What comes in the middle of a change: a cancellation, a closing, another change. Nothing is lost by it."""

from __future__ import annotations

import asyncio
from contextlib import suppress
from dataclasses import replace
from typing import Any

import pytest

from oneiric.core.errors import ActivationError, InactiveError, LifecycleError
from oneiric.core.lifecycle import Keeper, LifecycleManager, LifecycleTimeouts
from oneiric.core.resolution import Candidate, Policy, Resolver, Selection

A = ("service", "a")


class Part:
    """An instance whose cleanup ends when a test lets it."""

    def __init__(self, name: str, may_close: asyncio.Event) -> None:
        self.name = name
        self.closing = asyncio.Event()
        self.is_closed = False
        self._may_close = may_close

    async def cleanup(self) -> None:
        self.closing.set()
        await self._may_close.wait()
        self.is_closed = True


class Offer:
    """A candidate whose instances start and stop when a test lets them."""

    def __init__(self, provider: str, *, key: str = "a", **facts: Any) -> None:
        self.begun, self.go, self.may_close = asyncio.Event(), asyncio.Event(), asyncio.Event()
        self.go.set()
        self.may_close.set()
        self.made: list[Part] = []
        self.candidate = Candidate(domain="service", key=key, provider=provider, factory=self._make, **facts)

    async def _make(self) -> Part:
        self.begun.set()
        await self.go.wait()
        self.made.append(Part(self.candidate.provider, self.may_close))
        return self.made[-1]

    @property
    def open(self) -> int:
        return sum(not part.is_closed for part in self.made)


class World:
    def __init__(self, *offers: Offer, timeouts: LifecycleTimeouts | None = None) -> None:
        self.resolver = Resolver(Policy())
        self.resolver.apply(add=[offer.candidate for offer in offers])
        self.lifecycle = LifecycleManager(self.resolver, timeouts=timeouts)

    def select(self, *, tenant: str | None = None, **providers: str) -> None:
        chosen = {"service": {key: Selection(provider, "test") for key, provider in providers.items()}}
        policy = Policy()
        self.resolver.apply(
            policy=replace(policy, selections=chosen) if tenant is None else replace(policy, tenants={tenant: chosen})
        )

    def serving(self, key: str = "a", tenant: str | None = None) -> str | None:
        return self.lifecycle.get_status("service", key, tenant=tenant).current_provider


async def turns(count: int = 20) -> None:
    for _ in range(count):
        await asyncio.sleep(0)


def test_a_retired_key_is_not_started_by_a_first_use_that_began_before() -> None:
    async def run() -> None:
        offer = Offer("one")
        offer.go.clear()
        world = World(offer)
        async with world.lifecycle as lifecycle:

            async def lease() -> None:
                async with lifecycle.lease(*A):
                    pass

            first = asyncio.create_task(lease())
            await offer.begun.wait()
            second = asyncio.create_task(lease())
            retiring = asyncio.create_task(lifecycle.retire(*A))
            await turns()
            offer.go.set()
            await asyncio.wait([first, second, retiring])
            await first
            with pytest.raises(InactiveError):
                await second
            assert world.serving() is None
            assert lifecycle.get_status(*A).state == "retired"
            await lifecycle.activate(*A)
            assert world.serving() == "one"

    asyncio.run(run())


def test_reconcile_does_not_start_what_was_retired_meanwhile() -> None:
    async def run() -> None:
        one, two = Offer("one"), Offer("two")
        two.go.clear()
        world = World(two, one)
        async with world.lifecycle as lifecycle:
            await lifecycle.activate(*A)
            swapping = asyncio.create_task(lifecycle.swap(*A, provider="two"))
            await two.begun.wait()
            retiring = asyncio.create_task(lifecycle.retire(*A))
            reconciling = asyncio.create_task(lifecycle.reconcile(also=[(*A, None)]))
            await turns()
            two.go.set()
            await asyncio.wait([swapping, retiring])
            assert (await reconciling).swapped == ()
            assert world.serving() is None

    asyncio.run(run())


def test_a_tenant_whose_overlay_comes_back_is_served_again() -> None:
    async def run() -> None:
        one, two = Offer("one"), Offer("two")
        world = World(one, two)
        async with world.lifecycle as lifecycle:
            for _ in range(2):
                world.select(tenant="acme", a="one")
                await lifecycle.reconcile()
                async with lifecycle.lease(*A, tenant="acme") as part:
                    assert part.name == "one"
                world.select()
                await lifecycle.reconcile()
                async with lifecycle.lease(*A, tenant="acme") as part:
                    assert part.name == "two"

    asyncio.run(run())


def test_a_tenant_whose_overlay_comes_back_during_a_reconcile_keeps_its_slot() -> None:
    async def run() -> None:
        one, two, b1, b2 = Offer("one"), Offer("two"), Offer("b1", key="b"), Offer("b2", key="b")
        world = World(one, two, b1)
        async with world.lifecycle as lifecycle:
            world.select(tenant="acme", a="one")
            await lifecycle.activate(*A, tenant="acme")
            await lifecycle.activate("service", "b")
            b2.go.clear()
            world.resolver.register(b2.candidate)
            world.select()
            reconciling = asyncio.create_task(lifecycle.reconcile())
            await b2.begun.wait()
            world.select(tenant="acme", a="one")
            b2.go.set()
            report = await reconciling
            assert report.retired == ()
            assert world.serving(tenant="acme") == "one"

    asyncio.run(run())


def test_a_tenant_that_goes_back_to_the_base_while_it_is_given_another_is_served() -> None:
    async def run() -> None:
        zero, one, two = Offer("zero"), Offer("one"), Offer("two")
        world = World(zero, one, two)
        async with world.lifecycle as lifecycle:
            await lifecycle.swap(*A, provider="zero", tenant="acme")
            one.go.clear()
            own = asyncio.create_task(lifecycle.swap(*A, provider="one", tenant="acme"))
            await one.begun.wait()
            back = asyncio.create_task(lifecycle.swap(*A, tenant="acme"))
            await turns()
            one.go.set()
            await asyncio.wait([own, back])
            async with lifecycle.lease(*A, tenant="acme") as part:
                assert part.name == "two"

    asyncio.run(run())


def test_a_lease_of_a_named_provider_never_gives_another() -> None:
    async def run() -> None:
        one, two = Offer("one"), Offer("two")
        one.go.clear()
        world = World(one)
        async with world.lifecycle as lifecycle:

            async def lease() -> str:
                async with lifecycle.lease(*A, provider="one") as part:
                    return str(part.name)

            leasing = asyncio.create_task(lease())
            await one.begun.wait()
            world.resolver.register(two.candidate)
            one.go.set()
            assert await leasing == "one"
            assert (await lifecycle.handle(*A, provider="one")).instance.name == "one"

    asyncio.run(run())


def test_a_group_binds_what_ranks_first_by_the_time_it_is_ready() -> None:
    async def run() -> None:
        offers = [Offer(p, key=k) for k in "ab" for p in ("one", "two")]
        world = World(*offers)
        world.select(a="one", b="one")
        async with world.lifecycle as lifecycle:
            await lifecycle.activate(*A)
            await lifecycle.activate("service", "b")
            offers[3].go.clear()
            world.select(a="two", b="two")
            first = asyncio.create_task(lifecycle.reconcile())
            await offers[3].begun.wait()
            world.select(a="one", b="one")
            second = asyncio.create_task(lifecycle.reconcile())
            await turns()
            offers[3].go.set()
            await asyncio.gather(first, second)
            assert (world.serving("a"), world.serving("b")) == ("one", "one")
            assert lifecycle.stale() == ()
            assert [offer.open for offer in offers] == [1, 0, 1, 0]

    asyncio.run(run())


def test_an_exclusive_swap_that_is_cancelled_in_its_gap_brings_the_old_one_back_after_its_cleanup() -> None:
    async def run() -> None:
        one, two = Offer("one", exclusive=True), Offer("two", exclusive=True, opt_in=True)
        world = World(one, two)
        async with world.lifecycle as lifecycle:
            await lifecycle.activate(*A)
            one.may_close.clear()
            swapping = asyncio.create_task(lifecycle.swap(*A, provider="two"))
            await one.made[0].closing.wait()
            swapping.cancel()
            await turns()
            using = asyncio.create_task(lifecycle.activate(*A))
            await turns()
            assert one.open + two.open == 1
            one.may_close.set()
            await asyncio.wait([swapping, using])
            assert swapping.cancelled()
            assert lifecycle.get_status(*A).state == "ready"
            assert (world.serving(), one.open, two.open) == ("one", 1, 0)

    asyncio.run(run())


def test_a_second_cancellation_does_not_let_anybody_in_before_an_exclusive_one_is_back() -> None:
    async def run() -> None:
        one, two = Offer("one", exclusive=True), Offer("two", exclusive=True, opt_in=True)
        two.go.clear()
        world = World(one, two)
        async with world.lifecycle as lifecycle:
            await lifecycle.activate(*A)
            swapping = asyncio.create_task(lifecycle.swap(*A, provider="two"))
            await two.begun.wait()
            one.go.clear()
            one.begun.clear()
            swapping.cancel()
            await one.begun.wait()
            swapping.cancel()
            await turns()
            using = asyncio.create_task(lifecycle.activate(*A))
            await turns()
            one.go.set()
            await asyncio.wait([swapping, using])
            await turns()
            assert swapping.cancelled()
            assert (len(one.made), one.open, two.open) == (2, 1, 0)

    asyncio.run(run())


def test_a_forced_exclusive_swap_waits_for_the_cleanup_of_what_goes_first() -> None:
    async def run() -> None:
        one, two = Offer("one", exclusive=True), Offer("two", exclusive=True, opt_in=True)
        one.may_close.clear()
        world = World(one, two, timeouts=LifecycleTimeouts(drain_seconds=0))
        async with world.lifecycle as lifecycle:
            async with lifecycle.lease(*A):
                swapping = asyncio.create_task(lifecycle.swap(*A, provider="two", force=True))
                await one.made[0].closing.wait()
                await turns()
                assert (one.open, two.open) == (1, 0)
                one.may_close.set()
                await swapping
            assert (one.open, two.open) == (0, 1)

    asyncio.run(run())


def test_what_a_group_had_prepared_is_torn_down_however_often_it_is_cancelled() -> None:
    async def run() -> None:
        a1, b1, c1 = Offer("a1"), Offer("b1", key="b"), Offer("c1", key="c")
        c1.go.clear()
        a1.may_close.clear()
        world = World(a1, b1, c1)
        async with world.lifecycle as lifecycle:
            group = asyncio.create_task(lifecycle.swap_group({A: None, ("service", "b"): None, ("service", "c"): None}))
            await c1.begun.wait()
            await turns()
            group.cancel()
            await a1.made[0].closing.wait()
            group.cancel()
            await turns()
            a1.may_close.set()
            await asyncio.wait([group])
            await turns()
            assert group.cancelled()
            assert (a1.open, b1.open, c1.open) == (0, 0, 0)

    asyncio.run(run())


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
