"""The fakes do what they say."""

import asyncio

import pytest

from oneiric.core import Candidate, Key, LifecycleManager, Resolver
from oneiric.core.errors import SwapError
from oneiric.core.events import DrainTimedOut
from oneiric.core.testing import DrivenClock, FakeComponent, fake_environment, override, run_driven

STORE: Key[FakeComponent] = Key("service", "store")


def offer(resolver: Resolver, provider: str, component: FakeComponent, *, opt_in: bool = False) -> None:
    resolver.register(
        Candidate(domain="service", key="store", provider=provider, factory=lambda: component, opt_in=opt_in)
    )


def test_a_driven_clock_moves_only_forward_and_only_when_told() -> None:
    clock = DrivenClock(5.0)
    clock.advance(1.5)
    assert clock() == 6.5
    with pytest.raises(ValueError, match="backwards"):
        clock.advance(-1)


def test_the_default_deadlines_pass_in_their_order_without_waiting() -> None:
    async def scenario() -> list[str]:
        seen: list[str] = []
        resolver = Resolver()
        offer(resolver, "good", FakeComponent())
        async with LifecycleManager(resolver) as lifecycle:
            await lifecycle.activate(STORE)
            for step, seconds in (("init", 30), ("health", 5)):
                bad = FakeComponent({step: "hang"})
                offer(resolver, f"bad-{step}", bad, opt_in=True)
                with pytest.raises(SwapError, match=f"deadline of {seconds} s") as caught:
                    await lifecycle.swap(STORE, provider=f"bad-{step}")
                seen.append(caught.value.step)
            lifecycle.observe(lambda event: seen.append("drain") if isinstance(event, DrainTimedOut) else None)
            lease = lifecycle.lease(STORE)
            await lease.__aenter__()
            before = asyncio.get_running_loop().time()
            await lifecycle.swap(STORE)
            assert asyncio.get_running_loop().time() - before == pytest.approx(30)
            await lease.__aexit__(None, None, None)
        return seen

    clock = DrivenClock()
    assert run_driven(scenario(), clock) == ["init", "health", "drain"]
    assert clock.now >= 65


def test_an_override_serves_inside_the_block_and_leaves_no_trace() -> None:
    async def scenario() -> None:
        resolver = Resolver()
        real, fake = FakeComponent(), FakeComponent()
        offer(resolver, "real", real)
        async with LifecycleManager(resolver) as lifecycle:
            async with override(lifecycle, STORE, fake):
                assert lifecycle.get_instance(STORE) is fake
                assert resolver.explain(STORE).selected == "override"
            assert fake.closed
            assert lifecycle.get_status(STORE).state == "inactive"
            assert [row.provider for row in resolver.explain(STORE).rows] == ["real"]
            async with lifecycle.lease(STORE) as serving:
                assert serving is real
            async with override(lifecycle, STORE, FakeComponent()):
                assert lifecycle.get_status(STORE).current_provider == "override"
            assert lifecycle.get_status(STORE).current_provider == "real"
            assert resolver.selection_for("service", "store") is None

    asyncio.run(scenario())


def test_a_component_that_is_closed_tells_of_a_call() -> None:
    async def scenario() -> None:
        component = FakeComponent()
        call = asyncio.ensure_future(component.call(1))
        await asyncio.sleep(0)
        await component.cleanup()
        with pytest.raises(RuntimeError, match="cleaned up"):
            await call
        assert component.steps == ["call", "cleanup"]

    asyncio.run(scenario())


def test_a_fake_environment_meets_what_it_is_told() -> None:
    environment = fake_environment({"redis>=6"}, os="darwin")
    assert environment.is_installed("redis>=6")
    assert not environment.is_installed("redis")
    assert environment.os == "darwin"


def test_closing_with_a_budget_ends_all_drains_together_however_many_leases_are_held() -> None:
    async def scenario() -> float:
        resolver = Resolver()
        lifecycle = LifecycleManager(resolver)
        for name in ("first", "second", "third"):
            resolver.register(Candidate(domain="service", key=name, provider="one", factory=FakeComponent))
            await lifecycle.lease("service", name).__aenter__()
        before = asyncio.get_running_loop().time()
        await lifecycle.aclose(drain_seconds=4)
        assert lifecycle.broken_leases == 3
        return asyncio.get_running_loop().time() - before

    assert run_driven(scenario(), DrivenClock()) == pytest.approx(4)
