"""Groups, tenants, providers beside, exclusive providers, needs, retirement: each slot serves what it should."""

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

import pytest

from oneiric.core import Candidate, Key, LifecycleManager, LifecycleTimeouts, Policy, Resolver
from oneiric.core.errors import InactiveError, LifecycleError, SwapError
from oneiric.core.events import DrainTimedOut, Retired
from oneiric.core.testing import FakeComponent, Fault, run_driven

A: Key[Any] = Key("service", "a")
B: Key[Any] = Key("service", "b")


class World:
    def __init__(self, policy: Policy | None = None) -> None:
        self.made: dict[str, list[FakeComponent]] = {}
        self.resolver = Resolver(policy)
        timeouts = LifecycleTimeouts(drain_seconds=0.1, activation_seconds=0.2, health_seconds=0.2)
        self.lifecycle = LifecycleManager(self.resolver, timeouts=timeouts)

    def offer(self, key: Key[Any], provider: str, faults: dict[str, Fault] | None = None, **fields: Any) -> None:
        def make(**_: Any) -> FakeComponent:
            component = FakeComponent(faults)
            self.made.setdefault(provider, []).append(component)
            return component

        candidate = Candidate(domain=key.domain, key=key.name, provider=provider, factory=make)
        self.resolver.register(candidate.replace(**fields))

    def serving(self, key: Key[Any], tenant: str | None = None) -> str | None:
        return self.lifecycle.get_status(key, tenant=tenant).current_provider


def run(scenario: Callable[[World], Awaitable[None]], policy: Policy | None = None) -> None:
    async def main() -> None:
        world = World(policy)
        async with world.lifecycle:
            await scenario(world)
        assert all(component.closed for components in world.made.values() for component in components)

    run_driven(main())


def test_no_mixed_pair_is_ever_seen_of_a_group() -> None:
    async def scenario(world: World) -> None:
        for key in (A, B):
            world.offer(key, "old")
            world.offer(key, "new", opt_in=True)
        seen: set[tuple[str, ...]] = set()
        done = asyncio.Event()

        async def look() -> None:
            while not done.is_set():
                async with world.lifecycle.lease_many(A, B) as pair:
                    seen.add(tuple("new" if c in world.made.get("new", ()) else "old" for c in pair))
                    await asyncio.sleep(0)

        looking = [asyncio.create_task(look()) for _ in range(8)]
        for provider in ("new", None, "new", None):
            await world.lifecycle.swap_group({A: provider, B: provider})
        done.set()
        await asyncio.gather(*looking)
        assert seen == {("old", "old"), ("new", "new")}

    run(scenario)


@pytest.mark.parametrize("fault", ["raise", "hang", "unhealthy"])
def test_a_group_with_a_failing_member_leaves_all_old_ones(fault: Fault) -> None:
    async def scenario(world: World) -> None:
        world.offer(A, "old")
        world.offer(B, "old")
        world.offer(A, "good", opt_in=True)
        world.offer(B, "bad", {"health": fault}, opt_in=True)
        for key in (A, B):
            await world.lifecycle.activate(key)
        with pytest.raises(SwapError):
            await world.lifecycle.swap_group({A: "good", B: "bad"})
        assert (world.serving(A), world.serving(B)) == ("old", "old")
        assert world.resolver.selection_for("service", "a") is None
        assert [component.closed for component in world.made["good"]] in ([], [True])

    run(scenario)


def test_groups_that_name_the_same_keys_in_another_order_do_not_wait_for_each_other() -> None:
    async def scenario(world: World) -> None:
        for key in (A, B):
            world.offer(key, "old")
            world.offer(key, "new", opt_in=True)
        world.offer(A, "slow", {"init": "hang"}, opt_in=True)
        await world.lifecycle.activate(A)
        slow = asyncio.create_task(world.lifecycle.swap(A, provider="slow"))
        await asyncio.sleep(0)
        there = asyncio.create_task(world.lifecycle.swap_group({A: "new", B: "new"}))
        back = asyncio.create_task(world.lifecycle.swap_group({B: "old", A: "old"}))
        with pytest.raises(SwapError):
            await slow
        async with asyncio.timeout(60):
            await asyncio.gather(there, back)
        assert (world.serving(A), world.serving(B)) == ("old", "old")

    run(scenario)


def test_a_swap_selects_above_the_configuration_until_it_is_forgotten() -> None:
    async def scenario(world: World) -> None:
        world.offer(A, "one")
        world.offer(A, "two")
        await world.lifecycle.activate(A)
        assert world.serving(A) == "one"
        await world.lifecycle.swap(A, provider="two", by="ada")
        assert world.resolver.resolve(A).provider == "two"
        explanation = world.resolver.explain(A)
        assert (explanation.active, explanation.selected) == ("two", "two")
        assert "ada" in explanation.why
        assert world.lifecycle.stale() == ()
        await world.lifecycle.swap(A)
        assert (world.serving(A), world.resolver.resolve(A).provider) == ("one", "one")

    run(scenario, Policy(selections={"service": {"a": "one"}}))


def test_activate_never_replaces_and_says_what_does() -> None:
    async def scenario(world: World) -> None:
        world.offer(A, "one")
        world.offer(A, "two")
        first = await world.lifecycle.activate(A)
        assert await world.lifecycle.activate(A) is first
        with pytest.raises(LifecycleError, match="swap"):
            await world.lifecycle.activate(A, provider="one")

    run(scenario)


def test_reconcile_follows_a_changed_ranking_and_retires_a_tenant_whose_overlay_is_gone() -> None:
    async def scenario(world: World) -> None:
        world.offer(A, "one")
        await world.lifecycle.activate(A)
        world.offer(A, "two")
        world.resolver.apply(policy=Policy(tenants={"acme": {"service": {"a": "one"}}}))
        await world.lifecycle.activate(A, tenant="acme")
        assert world.lifecycle.get_instance(A, tenant="acme") is not world.lifecycle.get_instance(A)
        assert world.lifecycle.get_instance(A, tenant="other") is world.lifecycle.get_instance(A)
        assert world.lifecycle.stale() == (("service", "a", None),)
        world.resolver.apply(policy=Policy())
        report = await world.lifecycle.reconcile()
        assert (report.swapped, report.retired) == ((("service", "a", None),), (("service", "a", "acme"),))
        assert world.serving(A) == "two"
        assert world.lifecycle.get_instance(A, tenant="acme") is world.lifecycle.get_instance(A)

    run(scenario)


def test_a_swap_for_a_tenant_gives_it_a_slot_of_its_own_and_back() -> None:
    async def scenario(world: World) -> None:
        world.offer(A, "one")
        world.offer(A, "two")
        await world.lifecycle.activate(A)
        await world.lifecycle.swap(A, provider="one", tenant="acme")
        assert (world.serving(A), world.serving(A, "acme")) == ("two", "one")
        assert await world.lifecycle.swap(A, tenant="acme") is world.lifecycle.get_instance(A)
        assert world.made["one"][0].closed

    run(scenario)


def test_another_provider_opens_beside_and_is_closed_by_name() -> None:
    async def scenario(world: World) -> None:
        world.offer(A, "one")
        world.offer(A, "two")
        await world.lifecycle.activate(A)
        handle = await world.lifecycle.handle(A, provider="one")
        assert (handle.provider, world.serving(A)) == ("one", "two")
        active = await world.lifecycle.handle(A, provider="two")
        assert active.instance is world.lifecycle.get_instance(A)
        await world.lifecycle.swap(A, provider="one")
        with pytest.raises(InactiveError, match="no longer serves"):
            active.acquire()
        await world.lifecycle.retire(A, provider="one")
        assert world.made["one"][0].closed
        with pytest.raises(InactiveError):
            await world.lifecycle.retire(A, provider="one")

    run(scenario)


def test_exclusive_providers_are_broken_before_made_and_brought_back() -> None:
    async def scenario(world: World) -> None:
        world.offer(A, "bad", {"init": "raise"}, exclusive=True, opt_in=True)
        world.offer(A, "good", exclusive=True)
        await world.lifecycle.activate(A)
        async with world.lifecycle.lease(A):
            with pytest.raises(SwapError, match="leases are held"):
                await world.lifecycle.swap(A)
        await world.lifecycle.swap(A)
        assert [component.closed for component in world.made["good"]] == [True, False]
        with pytest.raises(SwapError) as caught:
            await world.lifecycle.swap(A, provider="bad")
        assert caught.value.rolled_back
        assert (world.serving(A), world.made["good"][-1].closed) == ("good", False)
        assert world.resolver.selection_for("service", "a") is None

    run(scenario)


def test_a_forced_swap_takes_an_exclusive_provider_from_under_its_leases_before_the_next_is_made() -> None:
    async def scenario(world: World) -> None:
        made = world.made["one"] = []
        open_when_made: list[int] = []

        def make() -> FakeComponent:
            open_when_made.append(sum(not component.closed for component in made))
            made.append(FakeComponent())
            return made[-1]

        world.resolver.register(Candidate(domain=A.domain, key=A.name, provider="one", factory=make, exclusive=True))
        async with world.lifecycle.lease(A):
            await world.lifecycle.swap(A, force=True)
        assert open_when_made == [0, 0]
        assert world.lifecycle.broken_leases == 1

    run(scenario)


@pytest.mark.parametrize("ask", [LifecycleManager.activate, LifecycleManager.swap])
def test_steps_of_two_keys_that_ask_for_each_other_are_told_so_and_do_not_hang(ask: Callable[..., Any]) -> None:
    async def scenario(world: World) -> None:
        begun = {A: asyncio.Event(), B: asyncio.Event()}
        told: list[str] = []

        def asking(key: Key[Any], other: Key[Any]) -> Callable[[], Awaitable[FakeComponent]]:
            async def make() -> FakeComponent:
                begun[key].set()
                await begun[other].wait()
                try:
                    await ask(world.lifecycle, other)
                except LifecycleError as error:
                    told.append(str(error))
                return FakeComponent()

            return make

        for key, other in ((A, B), (B, A)):
            factory = asking(key, other)
            world.resolver.register(Candidate(domain=key.domain, key=key.name, provider="p", factory=factory))
        before = asyncio.get_running_loop().time()
        await asyncio.gather(world.lifecycle.activate(A), world.lifecycle.activate(B))
        assert asyncio.get_running_loop().time() == before
        assert all("being changed by the very step that asks for it (service:" in sentence for sentence in told)
        assert told

    run(scenario)


def test_who_waits_for_a_key_when_all_is_closed_is_told_that_it_is_closed() -> None:
    async def scenario(world: World) -> None:
        world.offer(A, "slow", {"init": "hang"})
        slow = asyncio.create_task(world.lifecycle.activate(A))
        await asyncio.sleep(0)
        retiring = asyncio.create_task(world.lifecycle.retire(A))
        await asyncio.sleep(0)
        await world.lifecycle.aclose()
        with pytest.raises(LifecycleError):
            await slow
        with pytest.raises(InactiveError, match="closed"):
            await retiring

    run(scenario)


def test_needs_are_activated_first_and_closed_last() -> None:
    async def scenario(world: World) -> None:
        world.offer(B, "needed")
        given: list[Any] = []

        def make(*, store: Any) -> FakeComponent:
            given.append(store)
            component = FakeComponent()
            world.made["dependent"] = [component]
            return component

        world.resolver.register(Candidate(domain="service", key="a", provider="p", factory=make, needs={"store": B}))
        closed: list[str] = []
        world.lifecycle.observe(lambda event: closed.append(event.provider) if isinstance(event, Retired) else None)
        await world.lifecycle.activate(A)
        assert await given[0].call(3) == 3
        assert world.serving(B) == "needed"
        await world.lifecycle.aclose()
        assert closed == ["p", "needed"], "what depends goes first"

    run(scenario)


def test_a_cycle_of_needs_is_an_error_that_names_it() -> None:
    async def scenario(world: World) -> None:
        for key, other in ((A, B), (B, A)):
            world.offer(key, "p", needs={"other": other})
        with pytest.raises(LifecycleError) as caught:
            await world.lifecycle.activate(A)
        assert "service:a → service:b → service:a" in str(caught.value)

    run(scenario)


def test_what_was_retired_is_not_started_by_a_lease() -> None:
    async def scenario(world: World) -> None:
        world.offer(A, "one")
        await world.lifecycle.activate(A)
        await world.lifecycle.retire(A)
        with pytest.raises(InactiveError, match="retired"):
            async with world.lifecycle.lease(A):
                pass
        assert await world.lifecycle.activate(A) is not None

    run(scenario)


def test_what_was_forgotten_starts_at_its_first_use_while_the_old_one_still_drains() -> None:
    async def scenario(world: World) -> None:
        world.offer(A, "one")
        world.offer(A, "two", opt_in=True)
        async with world.lifecycle.lease(A) as old:
            forgetting = asyncio.create_task(world.lifecycle.retire(A, forget=True))
            await asyncio.sleep(0)
            async with world.lifecycle.lease(A) as new:
                assert new is not old
            await world.lifecycle.swap(A, provider="two")
            await forgetting
        status = world.lifecycle.get_status(A)
        assert (status.state, status.current_provider) == ("ready", "two")
        assert world.lifecycle.stale() == ()

    run(scenario)


def test_once_changes_are_ended_a_start_under_way_fails_and_a_key_can_be_retired() -> None:
    async def scenario(world: World) -> None:
        world.offer(A, "one")
        world.offer(A, "two", {"init": "hang"}, opt_in=True)
        await world.lifecycle.activate(A)
        swapping = asyncio.create_task(world.lifecycle.swap(A, provider="two"))
        queued = asyncio.create_task(world.lifecycle.swap(A, provider="two"))
        retiring = asyncio.create_task(world.lifecycle.retire(A))
        await asyncio.sleep(0)
        assert not retiring.done()
        world.lifecycle.end_changes()
        await retiring
        for swap in (swapping, queued):
            with pytest.raises((SwapError, InactiveError), match="closing"):
                await swap
        with pytest.raises(InactiveError):
            await world.lifecycle.activate(A)

    run(scenario)


def test_a_withdrawn_candidate_serves_until_it_is_swapped() -> None:
    async def scenario(world: World) -> None:
        world.offer(A, "one", origin="acme")
        await world.lifecycle.activate(A)
        world.resolver.withdraw("acme")
        assert world.lifecycle.get_status(A).withdrawn
        async with world.lifecycle.lease(A) as component:
            assert await component.call(1) == 1

    run(scenario)


def test_swapping_back_does_not_wait_for_a_stuck_lease() -> None:
    async def scenario(world: World) -> None:
        world.offer(A, "one")
        world.offer(A, "two")
        events: list[Any] = []
        world.lifecycle.observe(events.append)
        stuck = world.lifecycle.lease(A)
        component = await stuck.__aenter__()
        await world.lifecycle.swap(A, provider="one")
        assert any(isinstance(event, DrainTimedOut) for event in events)
        await world.lifecycle.swap(A, provider="two")
        assert (world.serving(A), component.closed, world.lifecycle.get_status(A).draining) == ("two", False, 1)
        await stuck.__aexit__(None, None, None)
        while world.lifecycle.get_status(A).draining:  # noqa: ASYNC110 - a state, not an event
            await asyncio.sleep(0)
        assert component.closed

    run(scenario)


def test_closing_breaks_a_lease_at_the_deadline_and_counts_it() -> None:
    async def scenario(world: World) -> None:
        world.offer(A, "one")
        await world.lifecycle.lease(A).__aenter__()
        await world.lifecycle.aclose()
        assert world.lifecycle.broken_leases == 1
        with pytest.raises(InactiveError, match="closed"):
            await world.lifecycle.activate(A)

    run(scenario)


def test_reconcile_also_renews_the_slots_that_are_named_as_one_group_with_the_stale_ones() -> None:
    async def scenario(world: World) -> None:
        for key in (A, B):
            world.offer(key, f"first-{key.name}")
            await world.lifecycle.activate(key)
        world.offer(B, "better")
        report = await world.lifecycle.reconcile(also=[(A.domain, A.name, None)])

        assert report.swapped == (("service", "a", None), ("service", "b", None))
        assert [len(world.made[name]) for name in ("first-a", "better")] == [2, 1]
        assert world.made["first-a"][0].closed
        assert not world.made["first-a"][1].closed

    run(scenario)


def test_a_failing_member_of_a_renewal_leaves_every_old_one_serving() -> None:
    async def scenario(world: World) -> None:
        for key in (A, B):
            world.offer(key, f"first-{key.name}")
            await world.lifecycle.activate(key)
        world.offer(B, "broken", {"health": "raise"})
        with pytest.raises(SwapError):
            await world.lifecycle.reconcile(also=[(A.domain, A.name, None)])

        assert (world.serving(A), world.serving(B)) == ("first-a", "first-b")
        assert not world.made["first-a"][0].closed

    run(scenario)


def test_a_slot_that_serves_nothing_is_not_started_by_a_renewal() -> None:
    async def scenario(world: World) -> None:
        world.offer(A, "first")
        report = await world.lifecycle.reconcile(also=[(A.domain, A.name, None)])

        assert report.swapped == ()
        assert world.made == {}

    run(scenario)


def test_settings_for_is_set_once() -> None:
    def settings_for(candidate: Candidate, tenant: str | None) -> None: ...

    lifecycle = LifecycleManager(Resolver())
    lifecycle.settings_for = settings_for
    lifecycle.settings_for = settings_for  # the same again is no change

    assert lifecycle.settings_for is settings_for
    with pytest.raises(LifecycleError, match="already"):
        lifecycle.settings_for = lambda candidate, tenant: None


def test_renewing_a_tenants_slot_whose_overlay_is_gone_retires_it_and_no_other() -> None:
    async def scenario(world: World) -> None:
        world.offer(A, "one")
        base = await world.lifecycle.activate(A)
        world.resolver.apply(
            policy=Policy(tenants={"acme": {"service": {"a": "one"}}, "foo": {"service": {"a": "one"}}})
        )
        for tenant in ("acme", "foo"):
            await world.lifecycle.activate(A, tenant=tenant)
        world.resolver.apply(policy=Policy())

        report = await world.lifecycle.renew(("service", "a", "acme"))

        assert (report.swapped, report.retired) == ((), (("service", "a", "acme"),))
        assert [made.closed for made in world.made["one"]] == [False, True, False]
        assert world.lifecycle.get_instance(A) is base
        assert world.lifecycle.stale() == (("service", "a", "foo"),)

    run(scenario)


def test_renewing_touches_the_slots_that_are_named_and_keeps_what_was_selected() -> None:
    async def scenario(world: World) -> None:
        for key in (A, B):
            world.offer(key, "one")
            await world.lifecycle.activate(key)
            world.offer(key, "better")
        await world.lifecycle.swap(A, provider="one")
        before = world.lifecycle.get_instance(A)
        report = await world.lifecycle.renew((A.domain, A.name, None), ("service", "unused", None))

        assert report.swapped == (("service", "a", None),)
        assert (world.serving(A), world.serving(B)) == ("one", "one")
        assert world.lifecycle.get_instance(A) is not before

    run(scenario)
