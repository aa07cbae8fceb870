"""A component of a lifecycle under supervision: ill ones are renewed without a gap, retired ones left alone."""

import asyncio
from typing import Any

import pytest
from tests.runtime.supervised import Worker

from oneiric.core import Candidate, Key, LifecycleManager, Policy, Resolver
from oneiric.core.errors import LifecycleError
from oneiric.core.testing import FakeComponent, Fault, run_driven
from oneiric.runtime.supervisor import LifecycleChild, RestartBackoff, ServiceSupervisor

PAY: Key[Any] = Key("service", "pay")
AT_ONCE = RestartBackoff(initial_seconds=0, max_seconds=0)


class Shop:
    """Two providers, whose instances are counted and fall ill as told."""

    def __init__(self) -> None:
        self.made: list[tuple[str, FakeComponent]] = []
        self.faults: dict[str, Fault] = {}
        self.resolver = Resolver()
        for provider in ("adyen", "stripe"):
            self.resolver.register(
                Candidate(domain="service", key="pay", provider=provider, factory=self.maker(provider))
            )
        self.lifecycle = LifecycleManager(self.resolver)

    def maker(self, provider: str) -> Any:
        def make() -> FakeComponent:
            component = FakeComponent(self.faults)
            self.made.append((provider, component))
            return component

        return make

    def supervisor(self) -> ServiceSupervisor:
        child = LifecycleChild(self.lifecycle, PAY, unhealthy_after=2, unhealthy_of=2)
        return ServiceSupervisor([child], poll_interval=1, backoff=AT_ONCE)

    @property
    def providers(self) -> list[str]:
        return [provider for provider, _ in self.made]


def test_an_ill_component_is_swapped_to_a_new_one_of_its_provider() -> None:
    async def scenario() -> None:
        shop = Shop()
        supervisor = shop.supervisor()
        await supervisor.start()
        shop.made[0][1].faults["health"] = "unhealthy"
        await asyncio.sleep(2.1)

        assert shop.providers == ["stripe", "stripe"]
        assert shop.made[0][1].closed
        assert shop.resolver.selection_for("service", "pay") is None
        info = supervisor.info().children[0]
        assert (info.name, info.state, info.restarts) == ("service:pay", "running", 1)
        await supervisor.stop()
        assert shop.lifecycle.get_status(PAY).state == "retired"
        assert shop.made[1][1].closed

    run_driven(scenario())


def test_what_an_operator_swapped_to_stays_what_serves() -> None:
    async def scenario() -> None:
        shop = Shop()
        async with shop.lifecycle:
            supervisor = shop.supervisor()
            await supervisor.start()
            await shop.lifecycle.swap(PAY, provider="adyen", by="ann")
            shop.made[1][1].faults["health"] = "raise"
            await asyncio.sleep(3.1)

            assert shop.providers == ["stripe", "adyen", "adyen"]
            selection = shop.resolver.selection_for("service", "pay")
            assert selection is not None
            assert selection.provider == "adyen"
            await supervisor.stop()

    run_driven(scenario())


def test_a_key_that_an_operator_retired_is_left_alone() -> None:
    async def scenario() -> None:
        shop = Shop()
        async with shop.lifecycle:
            supervisor = shop.supervisor()
            await supervisor.start()
            await shop.lifecycle.retire(PAY)
            await asyncio.sleep(20)

            assert shop.providers == ["stripe"]
            assert supervisor.info().children[0].last_error is None
            await supervisor.stop()

    run_driven(scenario())


def test_a_retired_key_reads_as_retired_until_it_serves_again() -> None:
    async def scenario() -> None:
        shop = Shop()
        async with shop.lifecycle:
            supervisor = shop.supervisor()
            seen: list[str] = []
            supervisor.observe(lambda event: seen.append(event.state))
            await supervisor.start()
            await asyncio.sleep(1.1)
            assert supervisor.info().children[0].health is True
            await shop.lifecycle.retire(PAY)
            retired = supervisor.info().children[0]
            assert (retired.state, retired.health) == ("retired", None)

            await shop.lifecycle.swap(PAY)
            assert supervisor.info().children[0].state == "running"
            shop.made[1][1].faults["health"] = "unhealthy"
            await asyncio.sleep(2.1)
            assert len(shop.made) == 3, "it is supervised again"
            await supervisor.stop()
        assert seen == ["starting", "running", "retired", "running", "restarting", "running", "stopped"]

    run_driven(scenario())


def test_a_key_that_is_retired_while_its_renewal_is_waited_for_stays_retired() -> None:
    async def scenario() -> None:
        shop = Shop()
        async with shop.lifecycle:
            child = LifecycleChild(shop.lifecycle, PAY, unhealthy_after=2, unhealthy_of=2)
            waits = RestartBackoff(initial_seconds=8, max_seconds=8, random=lambda: 0.5)
            supervisor = ServiceSupervisor([child], poll_interval=1, backoff=waits)
            await supervisor.start()
            shop.made[0][1].faults["health"] = "unhealthy"
            await asyncio.sleep(2.1)
            assert supervisor.info().children[0].state == "restarting"
            await shop.lifecycle.retire(PAY)
            await asyncio.sleep(20)

            assert shop.providers == ["stripe"]
            assert supervisor.info().children[0].state == "retired"
            await supervisor.stop()

    run_driven(scenario())


def test_the_instance_a_tenant_has_of_its_own_is_supervised_apart_from_the_base() -> None:
    async def scenario() -> None:
        shop = Shop()
        shop.resolver.apply(policy=Policy(tenants={"acme": {"service": {"pay": "adyen"}}}))
        async with shop.lifecycle:
            children = [LifecycleChild(shop.lifecycle, PAY, tenant=tenant) for tenant in (None, "acme")]
            supervisor = ServiceSupervisor(children, poll_interval=1, backoff=AT_ONCE)
            await supervisor.start()
            assert shop.providers == ["stripe", "adyen"]
            shop.made[1][1].faults["health"] = "unhealthy"
            await asyncio.sleep(3.1)
            assert shop.providers == ["stripe", "adyen", "adyen"]
            assert [child.restarts for child in supervisor.info().children] == [0, 1]

            shop.resolver.apply(policy=Policy())
            await shop.lifecycle.reconcile()
            assert [child.state for child in supervisor.info().children] == ["running", "retired"]
            await supervisor.remove_child("service:pay of acme")
            assert [component.closed for _, component in shop.made] == [False, True, True]
            await supervisor.stop()

    run_driven(scenario())


def test_the_failure_of_a_sibling_does_not_bring_back_what_was_retired() -> None:
    async def scenario() -> None:
        shop = Shop()
        async with shop.lifecycle:
            sibling = Worker("sibling")
            supervisor = ServiceSupervisor(
                [LifecycleChild(shop.lifecycle, PAY), sibling], strategy="one_for_all", backoff=AT_ONCE
            )
            await supervisor.start()
            await shop.lifecycle.retire(PAY)
            sibling.crash()
            await asyncio.sleep(1)

            assert [child.state for child in supervisor.info().children] == ["retired", "running"]
            assert supervisor.info().children[1].restarts == 1
            assert shop.providers == ["stripe"]
            await supervisor.stop()

    run_driven(scenario())


def test_renewals_that_fail_are_given_up_with_the_reason_and_drop_no_lease_before() -> None:
    async def scenario() -> None:
        shop = Shop()
        async with shop.lifecycle:
            supervisor = shop.supervisor()
            await supervisor.start()
            first = shop.made[0][1]
            async with shop.lifecycle.lease(PAY) as pay:
                first.faults["health"] = "unhealthy"
                shop.faults = {"init": "raise"}
                while supervisor.state == "running":
                    assert await pay.call(1) == 1
                    await asyncio.sleep(0.01)
            await asyncio.sleep(60)
            assert supervisor.state == "failed"
            assert "'service:pay'" in str(supervisor.error)
            assert "init fails as told" in str(supervisor.error)
            assert first.closed

    run_driven(scenario())


def test_a_component_that_does_not_start_says_why() -> None:
    async def scenario() -> None:
        shop = Shop()
        shop.faults = {"init": "raise"}
        async with shop.lifecycle:
            supervisor = shop.supervisor()
            with pytest.raises(LifecycleError, match=r"'service:pay'.*init fails as told"):
                await supervisor.start()
            shop.faults = {}
            async with shop.lifecycle.lease(PAY) as pay:
                assert await pay.call(1) == 1, "a failed start leaves the key usable"

    run_driven(scenario())


def test_a_child_states_the_deadlines_of_its_lifecycle() -> None:
    shop = Shop()
    child = LifecycleChild(shop.lifecycle, "service", "pay", tenant="acme")

    assert child.name == "service:pay of acme"
    assert child.spec.start_seconds is None
    assert child.spec.shutdown_seconds == 41
    assert child.spec.health_seconds == 6
    assert child.spec.activity == ("service", "pay")
