"""What comes in the middle of a change: a cancellation, a closing, another change. Nothing is lost by it."""

from __future__ import annotations

import asyncio

import pytest
from tests.core.interleaving import A, Offer, World, turns

from oneiric.core.errors import InactiveError
from oneiric.core.lifecycle import LifecycleTimeouts


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
