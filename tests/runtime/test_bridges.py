"""Bridges: what serves for a key, with its settings, and never another provider's instance."""

import asyncio
from collections.abc import Callable, Iterator
from typing import Any, Protocol, assert_type

import pytest

from oneiric.core import Key
from oneiric.core.errors import (
    CandidateNotFoundError,
    CapabilityNotFoundError,
    ConfigurationError,
    InactiveError,
    InvalidCandidateError,
    LifecycleError,
    PausedError,
    ResolutionError,
    SelectionNotFoundError,
    SwapError,
)
from oneiric.core.events import Bound
from oneiric.core.lifecycle import LifecycleManager
from oneiric.core.resolution import Candidate, Policy, Resolver
from oneiric.domains import ActionBridge, AdapterBridge, DomainBridge, DomainHandle, ServiceBridge, TaskBridge
from oneiric.runtime.activity import DomainActivityStore
from oneiric.runtime.settings import (
    DomainSettings,
    OneiricSettings,
    ProviderSettings,
    load_settings,
    policy_from,
)

type Offer = Callable[..., Candidate]
STRIPE = {"settings_model": "shop_parts:StripeSettings"}


class Payments(Protocol):
    settings: Any
    is_closed: bool

    async def charge(self, amount: int) -> int: ...


PAY: Key[Payments] = Key("service", "pay")


class System:
    """A resolver, a lifecycle and the bridge of the services."""

    def __init__(self, loaded: Any = None) -> None:
        self.resolver = Resolver(Policy() if loaded is None else policy_from(loaded))
        self.provider_settings = ProviderSettings(loaded)
        self.lifecycle = LifecycleManager(self.resolver, settings_for=self.provider_settings)
        self.services = ServiceBridge(
            resolver=self.resolver,
            lifecycle=self.lifecycle,
            settings=None if loaded is None else loaded.settings.services,
            provider_settings=self.provider_settings,
        )


@pytest.fixture
def system(runner: asyncio.Runner, offer: Offer, shop: Any) -> Iterator[System]:
    built = System()
    built.resolver.apply(
        add=[
            offer("stripe", priority=2, capabilities=("cards",), metadata={"region": "us"}, **STRIPE),
            offer("adyen", priority=1, capabilities=("cards", "refunds")),
        ]
    )
    yield built
    runner.run(built.lifecycle.aclose())


async def test_the_published_call_works_as_written(offer: Offer, shop: Any) -> None:
    resolver = Resolver(Policy())
    resolver.register(offer("stripe", key="payment-processor"))
    lifecycle = LifecycleManager(resolver)
    settings = OneiricSettings()
    service_bridge = ServiceBridge(resolver=resolver, lifecycle=lifecycle, settings=settings.services)
    handle = await service_bridge.use("payment-processor")
    assert isinstance(handle.instance, shop.Payments)
    await lifecycle.aclose()


async def test_a_handle_tells_what_serves(system: System, shop: Any) -> None:
    handle = await system.services.use("pay")
    assert (handle.domain, handle.key, handle.provider, handle.tenant) == ("service", "pay", "stripe", None)
    assert handle.metadata["region"] == "us"
    assert handle.settings is handle.instance.settings
    assert isinstance(handle.settings, shop.StripeSettings)


async def test_a_typed_key_types_the_instance(system: System) -> None:
    handle = await system.services.use(PAY)
    assert_type(handle, DomainHandle[Payments])
    assert_type(handle.instance, Payments)
    assert await handle.instance.charge(3) == 3
    async with system.services.lease(PAY) as payments:
        assert_type(payments, Payments)
        assert payments is handle.instance
    assert await system.services.live(PAY).charge(4) == 4


async def test_asking_for_another_provider_opens_it_beside_and_never_mixes_instances(system: System) -> None:
    active = await system.services.use("pay")
    beside = await system.services.use("pay", provider="adyen")
    assert (active.provider, beside.provider) == ("stripe", "adyen")
    assert beside.instance is not active.instance
    assert (await system.services.use("pay")).instance is active.instance
    await system.lifecycle.retire("service", "pay", provider="adyen")
    with pytest.raises(InactiveError):
        _ = beside.instance
    assert not active.instance.is_closed


async def test_a_handle_follows_a_swap_and_a_held_instance_stays(system: System) -> None:
    handle = await system.services.use("pay")
    held, bound = handle.acquire(), asyncio.Event()
    system.lifecycle.observe(lambda event: bound.set() if isinstance(event, Bound) else None)
    swap = asyncio.ensure_future(system.lifecycle.swap("service", "pay", "adyen"))
    await bound.wait()
    assert handle.provider == "adyen"
    assert not held.instance.is_closed
    handle.release(held)
    await swap
    assert held.instance.is_closed
    assert handle.instance is not held.instance


@pytest.mark.parametrize(
    ("active", "wanted", "require_all", "provider"),
    [
        (None, ["cards"], True, "stripe"),
        (None, ["refunds"], True, "adyen"),
        (None, ["refunds", "gifts"], False, "adyen"),
        ("stripe", ["refunds"], True, "adyen"),
        ("stripe", ["cards"], True, "stripe"),
        ("adyen", ["cards"], True, "adyen"),
    ],
)
async def test_capabilities_are_met_by_what_serves_or_by_one_opened_beside(
    system: System, active: str | None, wanted: list[str], require_all: bool, provider: str
) -> None:
    if active:
        await system.lifecycle.activate("service", "pay", active)
    handle = await system.services.use("pay", capabilities=wanted, require_all=require_all)
    assert handle.provider == provider
    if active:
        assert (await system.services.use("pay")).provider == active


async def test_what_serves_is_preferred_to_a_better_ranked_one_that_can_as_much(system: System) -> None:
    await system.services.use("pay")
    # Ranks first now, but swaps nothing by itself; it can do as much, so no second instance is made.
    system.services.update_settings(DomainSettings(selections={"pay": "adyen"}))
    assert (await system.services.use("pay", capabilities=["cards"])).provider == "stripe"


async def test_a_selected_provider_without_the_capability_is_an_error_and_not_passed_over(system: System) -> None:
    system.services.update_settings(DomainSettings(selections={"pay": "stripe"}))
    with pytest.raises(CapabilityNotFoundError):
        await system.services.use("pay", capabilities=["refunds"])


async def test_a_capability_nobody_has_is_an_error(system: System) -> None:
    with pytest.raises(CapabilityNotFoundError):
        await system.services.use("pay", capabilities=["gifts"])


async def test_unknown_keys_and_providers_are_errors(system: System) -> None:
    with pytest.raises(CandidateNotFoundError):
        await system.services.use("pya")
    with pytest.raises(SelectionNotFoundError):
        await system.services.use("pay", provider="paypal")
    with pytest.raises(CandidateNotFoundError):
        system.services.explain("pya")


async def test_a_key_of_another_domain_is_refused(system: System) -> None:
    with pytest.raises(ResolutionError, match="is no key of domain 'service'"):
        await system.services.use(Key("adapter", "cache"))


async def test_listing_and_explaining_agree_with_use(system: System) -> None:
    assert [each.provider for each in system.services.active_candidates()] == ["stripe"]
    assert [each.provider for each in system.services.shadowed_candidates()] == ["adyen"]
    assert system.services.explain(PAY).selected == (await system.services.use(PAY)).provider


async def test_selections_of_a_section_are_selections_of_the_resolver(offer: Offer, shop: Any) -> None:
    resolver = Resolver(Policy())
    resolver.apply(add=[offer("stripe"), offer("adyen", priority=5)])
    async with LifecycleManager(resolver) as lifecycle:
        section = DomainSettings(selections={"pay": "stripe"})
        bridge = ServiceBridge(resolver=resolver, lifecycle=lifecycle, settings=section)
        assert (await bridge.use("pay")).provider == "stripe"
        assert str(resolver.policy.selection_for("service", "pay")) == "settings services.selections.pay"
        bridge.update_settings(DomainSettings())
        assert resolver.resolve("service", "pay").provider == "adyen"
        assert lifecycle.stale() == (("service", "pay", None),)


async def test_new_provider_settings_arrive_with_the_next_swap(system: System) -> None:
    handle = await system.services.use("pay")
    system.services.update_settings(DomainSettings(provider_settings={"stripe": {"retries": 9}}))
    assert handle.settings.retries == 3
    await system.lifecycle.swap("service", "pay")
    assert handle.settings.retries == 9


async def test_wrong_settings_refuse_a_swap_and_the_old_instance_serves(
    offer: Offer, shop: Any, write: Callable[..., None]
) -> None:
    write(c_yml="services:\n  provider_settings:\n    stripe:\n      retries: 99\n")
    system = System(load_settings("c.yml", environ={}))
    system.resolver.apply(add=[offer("adyen", priority=9), offer("stripe", **STRIPE)])
    async with system.lifecycle:
        before = (await system.services.use("pay")).instance
        with pytest.raises(SwapError, match=r"c\.yml:4: services\.provider_settings\.stripe\.retries") as caught:
            await system.lifecycle.swap("service", "pay", "stripe")
        assert isinstance(caught.value.__cause__, ConfigurationError)
        assert (caught.value.step, caught.value.rolled_back) == ("settings", True)
        assert (await system.services.use("pay")).instance is before
        assert shop.made == [before]
        assert not before.is_closed


async def test_settings_that_could_not_take_effect_are_refused(system: System) -> None:
    section = DomainSettings(provider_settings={"stripe": {"retries": 9}})
    lifecycle = LifecycleManager(system.resolver, settings_for=lambda candidate, tenant: None)
    with pytest.raises(ConfigurationError, match="would never reach their factories"):
        ServiceBridge(resolver=system.resolver, lifecycle=lifecycle, settings=section)


async def test_a_bridge_brings_its_settings_to_a_lifecycle_that_was_made_without(offer: Offer, shop: Any) -> None:
    resolver = Resolver()
    resolver.apply(add=[offer("stripe", **STRIPE), offer("adyen", domain="adapter", **STRIPE)])
    async with LifecycleManager(resolver) as lifecycle:
        section = DomainSettings(provider_settings={"stripe": {"retries": 9}})
        services = ServiceBridge(resolver=resolver, lifecycle=lifecycle, settings=section)
        adapters = AdapterBridge(
            resolver=resolver,
            lifecycle=lifecycle,
            settings=DomainSettings(provider_settings={"adyen": {"retries": 8}}),
        )
        assert (await services.use("pay")).settings.retries == 9
        assert (await adapters.use("pay")).settings.retries == 8


async def test_a_choice_that_stays_keeps_its_place_of_origin(write: Callable[..., None], shop: Any) -> None:
    write(c_yml="services:\n  selections:\n    pay: stripe\n")
    system = System(load_settings("c.yml", environ={}))
    revision = system.resolver.revision
    system.services.update_settings(DomainSettings(selections={"pay": "stripe", "refund": "adyen"}))
    assert str(system.resolver.policy.selection_for("service", "pay")) == "c.yml:3"
    assert system.resolver.revision == revision + 1
    system.services.update_settings(system.services.settings)
    assert system.resolver.revision == revision + 1


async def test_any_domain_has_a_bridge(system: System, offer: Offer) -> None:
    system.resolver.register(offer("sqlite", domain="ledger", key="main"))
    ledger = DomainBridge("ledger", resolver=system.resolver, lifecycle=system.lifecycle)
    assert (await ledger.use("main")).provider == "sqlite"
    adapters = AdapterBridge(resolver=system.resolver, lifecycle=system.lifecycle)
    assert (adapters.domain, adapters.active_candidates()) == ("adapter", ())
    with pytest.raises(InvalidCandidateError):
        DomainBridge("No Domain", resolver=system.resolver, lifecycle=system.lifecycle)


async def test_a_tenant_with_a_selection_of_its_own_has_an_instance_of_its_own(
    offer: Offer, shop: Any, write: Callable[..., None]
) -> None:
    write(c_yml="tenants: {acme: {service: {pay: adyen}}}")
    system = System(load_settings("c.yml", environ={}))
    system.resolver.apply(add=[offer("adyen"), offer("stripe", priority=3)])
    async with system.lifecycle:
        base, acme = await system.services.use("pay"), await system.services.use("pay", tenant="acme")
        other = await system.services.use("pay", tenant="other")
        assert (base.provider, acme.provider) == ("stripe", "adyen")
        assert other.instance is base.instance


@pytest.mark.parametrize("state", ["paused", "draining"])
async def test_a_key_that_takes_no_new_work_refuses_every_way_to_it_and_finishes_what_runs(
    system: System, state: str
) -> None:
    bridge = system.services
    handle, live, lease = await bridge.use("pay"), bridge.live("pay"), bridge.lease("pay")
    assert bridge.should_accept_work("pay")
    change = bridge.set_paused if state == "paused" else bridge.set_draining
    async with bridge.lease("pay") as held:
        await change("pay", True, note="new disks", owner="ops")
        assert (bridge.should_accept_work("pay"), bridge.in_flight("pay")) == (False, 1)
        with pytest.raises(PausedError, match=f"service:pay is {state} and takes no new work: new disks"):
            await bridge.use("pay")
        for refused in (lease.__aenter__(), live.charge(1), bridge.lease("pay").__aenter__()):
            with pytest.raises(PausedError):
                await refused
        with pytest.raises(PausedError):
            handle.acquire()
        assert await held.charge(1) == 1
        emptied = asyncio.create_task(bridge.drained("pay"))
        await asyncio.sleep(0)
        assert not emptied.done()
    await emptied
    await change("pay", False)
    assert (await live.charge(2), bridge.activity_snapshot()) == (2, {})


async def test_a_pause_says_who_and_why_and_ends_by_itself(system: System) -> None:
    now = [1000.0]
    store = DomainActivityStore(clock=lambda: now[0])
    bridge = ServiceBridge(resolver=system.resolver, lifecycle=system.lifecycle, activity=store)
    state = await bridge.set_paused(PAY, True, note="new disks", owner="ops", until=1060)
    assert (state.note, state.owner, state.since, state.until) == ("new disks", "ops", 1000, 1060)
    state = await bridge.set_draining(PAY, True, note="")
    assert (state.paused, state.draining, state.note, state.owner, state.until) == (True, True, None, "ops", None)
    assert bridge.activity_snapshot() == {"pay": state}
    assert (await bridge.resume(PAY)).is_default
    await bridge.set_paused(PAY, True, until=1060)
    now[0] = 1060
    assert bridge.should_accept_work(PAY)


async def test_what_cannot_be_a_key_cannot_be_paused(system: System) -> None:
    with pytest.raises(InvalidCandidateError):
        await system.services.set_paused("no key", True)


async def test_forcing_a_reload_renews_the_instance_and_keeps_the_choice(system: System, shop: Any) -> None:
    await system.lifecycle.swap("service", "pay", "adyen", by="ops")
    before = (await system.services.use("pay")).instance
    after = await system.services.use("pay", force_reload=True)
    assert (after.provider, before.is_closed) == ("adyen", True)
    assert after.instance is not before
    assert system.services.explain("pay").selected == "adyen"


async def test_forcing_a_reload_of_a_provider_beside_leaves_the_active_one(system: System) -> None:
    active = await system.services.use("pay")
    serving = active.instance
    first = (await system.services.use("pay", provider="adyen")).instance
    second = await system.services.use("pay", provider="adyen", force_reload=True)
    assert second.instance is not first
    assert (first.is_closed, active.instance is serving) == (True, True)


class Double:
    async def run(self, payload: int = 1) -> int:
        return 2 * payload

    async def execute(self, payload: dict[str, Any]) -> dict[str, Any]:
        return {"status": "done", **payload}


async def test_a_task_runs_and_an_action_is_invoked_under_a_lease(offer: Offer, shop: Any) -> None:
    resolver = Resolver()
    for domain in ("task", "action"):
        resolver.register(offer("double", domain=domain, key="double", factory=Double))
        resolver.register(offer("other", domain=domain, key="other"))
    async with LifecycleManager(resolver) as lifecycle:
        tasks = TaskBridge(resolver=resolver, lifecycle=lifecycle)
        actions = ActionBridge(resolver=resolver, lifecycle=lifecycle)
        assert (await tasks.run("double", 4), await tasks.run(Key("task", "double"))) == (8, 2)
        assert await actions.invoke("double", {"a": 1}) == {"status": "done", "a": 1}
        assert await actions.invoke("double") == {"status": "done"}
        with pytest.raises(LifecycleError, match="task:other is served by Payments, which has no method 'run'"):
            await tasks.run("other")
        with pytest.raises(LifecycleError, match="no method 'execute'"):
            await actions.invoke("other")
