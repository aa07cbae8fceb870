"""A reload puts the whole of a changed configuration in force, or nothing of it, and says which and why."""

from __future__ import annotations

import asyncio
import json
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any

import pytest

from oneiric.core.errors import LifecycleError
from oneiric.core.lifecycle import LifecycleManager
from oneiric.core.resolution import Resolver
from oneiric.runtime.reload import ConfigReloader, ReloadResult, Swap
from oneiric.runtime.settings import DomainSettings, LoadedSettings, ProviderSettings, load_settings, policy_from

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable

    from oneiric.core.resolution import Candidate

type Offer = Callable[..., Candidate]
type Write = Callable[..., None]

STRIPE = {"settings_model": "shop_parts:StripeSettings"}
CANARY = "S3CR3T-51aa"
FIRST = "services: {selections: {pay: stripe}, provider_settings: {stripe: {retries: 1}}}"


def load(**more: Any) -> LoadedSettings:
    return load_settings("c.yml", environ={"ONEIRIC_SECRET_A": CANARY}, **more)


class System:
    """A resolver, a lifecycle and the reloader of both."""

    def __init__(self, *candidates: Candidate, load: Callable[[], LoadedSettings] = load, **options: Any) -> None:
        loaded = load()
        self.resolver = Resolver(policy_from(loaded))
        self.resolver.apply(add=candidates)
        self.provider_settings = ProviderSettings(loaded)
        self.lifecycle = LifecycleManager(self.resolver, settings_for=self.provider_settings)
        self.reloader = ConfigReloader(
            loaded,
            load,
            resolver=self.resolver,
            lifecycle=self.lifecycle,
            provider_settings=self.provider_settings,
            clock=lambda: 1.5,
            **options,
        )

    def serving(self, key: str = "pay", tenant: str | None = None) -> str | None:
        return self.lifecycle.get_status("service", key, tenant=tenant).current_provider

    def generation(self, key: str = "pay") -> int:
        return self.lifecycle.get_status("service", key).generation

    async def settings(self, key: str = "pay") -> Any:
        async with self.lifecycle.lease("service", key) as payments:
            return payments.settings


@asynccontextmanager
async def running(system: System, *keys: str) -> AsyncIterator[System]:
    async with system.lifecycle:
        for key in keys or ("pay",):
            await system.lifecycle.activate("service", key)
        yield system
        await system.reloader.aclose()


@pytest.fixture(autouse=True)
def picky(shop: Any) -> None:
    class Picky(shop.Payments):  # type: ignore[misc]  # a class written to disk
        """Starts with one token only."""

        def __init__(self, settings: Any) -> None:
            super().__init__(settings)
            if settings.token.reveal() != CANARY:
                raise RuntimeError("the token is not what it was")

    shop.Picky = Picky


@pytest.fixture
def system(offer: Offer, shop: Any, write: Write) -> System:
    write(c_yml=FIRST)
    return System(
        offer("adyen"),
        offer("ill", factory="shop_parts:Ill"),
        offer("stripe", **STRIPE),
        offer("post", key="ship"),
        offer("dhl", key="ship"),
    )


async def test_another_selection_is_swapped_to(system: System, write: Write) -> None:
    async with running(system):
        write(c_yml="services: {selections: {pay: adyen}}")
        result = await system.reloader.reload(by="test")

        assert result.accepted
        assert (result.version, result.reason, result.by) == (2, None, "test")
        assert system.serving() == "adyen"
        assert system.resolver.explain("service", "pay").why.count("c.yml:1") == 1
        assert system.reloader.loaded.settings.services.selections == {"pay": "adyen"}


async def test_other_settings_give_the_provider_a_new_generation(system: System, write: Write) -> None:
    async with running(system):
        assert (await system.settings()).retries == 1
        write(c_yml=FIRST.replace("retries: 1", "retries: 2"))
        result = await system.reloader.reload()

        assert [swap.reason for swap in result.plan.swaps] == ["settings"]
        assert (await system.settings()).retries == 2
        assert system.generation() == 2


async def test_a_key_that_is_not_concerned_is_left_alone(system: System, write: Write) -> None:
    async with running(system, "pay", "ship"):
        write(c_yml=FIRST.replace("retries: 1", "retries: 2"))
        await system.reloader.reload()

        assert system.generation("ship") == 1


async def test_the_same_content_again_is_accepted_without_a_swap(system: System, write: Write) -> None:
    async with running(system):
        result = await system.reloader.reload()

        assert result.accepted
        assert (result.version, result.plan.as_dict()["swaps"]) == (1, [])
        assert system.generation() == 1


async def test_a_comment_is_a_version_without_a_swap(system: System, write: Write) -> None:
    async with running(system):
        write(c_yml=f"# why\n{FIRST}")
        result = await system.reloader.reload()

        assert (result.version, result.plan.changes, result.plan.swaps) == (2, (), ())
        assert system.generation() == 1
        assert "c.yml:2" in system.resolver.explain("service", "pay").why


BAD = {
    "syntax": ("services: {", "c.yml"),
    "unknown key": ("services: {selection: {}}", "services.selection"),
    "unknown provider": ("services: {selections: {pay: strype}}", "has no provider 'strype'"),
    "invalid settings": (FIRST.replace("1", "99"), "services.provider_settings.stripe.retries"),
    "unknown setting": (FIRST.replace("retries", "retrys"), "services.provider_settings.stripe.retrys"),
    "unhealthy": ("services: {selections: {pay: ill}}", "unhealthy"),
    "an idle key's provider": (FIRST.replace("pay: stripe", "pay: stripe, ship: ups"), "has no provider 'ups'"),
    "missing file": (None, "c.yml"),
}


@pytest.mark.parametrize(("text", "reason"), BAD.values(), ids=BAD)
async def test_a_bad_configuration_is_refused_and_the_last_good_serves(
    system: System, write: Write, here: Any, text: str | None, reason: str
) -> None:
    async with running(system):
        policy = system.resolver.policy
        if text is None:
            (here / "c.yml").unlink()
        else:
            write(c_yml=text)
        result = await system.reloader.reload()

        assert not result.accepted
        assert reason in str(result.reason)
        assert result.version == 1
        assert (system.serving(), system.generation()) == ("stripe", 1)
        assert system.resolver.policy is policy
        assert system.lifecycle.stale() == ()
        assert (await system.settings()).retries == 1
        assert system.provider_settings.raw(system.resolver.resolve("service", "pay")) == {"retries": 1}
        refused = system.reloader.versions.refused
        assert refused is not None
        assert (refused.number, refused.reason) == (2, result.reason)


async def test_a_refusal_is_forgotten_when_the_good_content_comes_back(system: System, write: Write) -> None:
    async with running(system):
        write(c_yml="services: {")
        await system.reloader.reload()
        write(c_yml=FIRST)
        result = await system.reloader.reload()

        assert result.accepted
        assert system.reloader.versions.refused is None
        assert system.reloader.versions.applied.number == 1


async def test_of_several_swaps_all_or_none_are_made(system: System, write: Write) -> None:
    async with running(system, "pay", "ship"):
        write(c_yml="services: {selections: {pay: ill, ship: post}}")
        result = await system.reloader.reload()

        assert not result.accepted
        assert (system.serving("pay"), system.serving("ship")) == ("stripe", "dhl")


async def test_exclusive_providers_that_were_swapped_before_a_failure_are_swapped_back(
    offer: Offer, shop: Any, write: Write
) -> None:
    write(c_yml="services: {selections: {one: a, two: a}}")
    system = System(
        offer("a", key="one", exclusive=True),
        offer("b", key="one", exclusive=True),
        offer("a", key="two", exclusive=True),
        offer("b", key="two", exclusive=True, factory="shop_parts:Ill"),
    )
    async with running(system, "one", "two"):
        write(c_yml="services: {selections: {one: b, two: b}}")
        result = await system.reloader.reload()

        assert not result.accepted
        assert (system.serving("one"), system.serving("two")) == ("a", "a")
        assert system.lifecycle.stale() == ()


async def test_an_exclusive_provider_that_cannot_start_with_its_new_settings_gets_the_old_ones_back(
    offer: Offer, shop: Any, write: Write
) -> None:
    secret = "services: {provider_settings: {stripe: {token: '${ONEIRIC_SECRET_A}'}}}"
    write(c_yml=secret)
    system = System(offer("stripe", exclusive=True, settings_model="shop_parts:Required", factory="shop_parts:Picky"))
    async with running(system):
        write(c_yml=secret.replace("'${ONEIRIC_SECRET_A}'", "wrong"))
        result = await system.reloader.reload()

        assert "is not what it was" in str(result.reason)
        assert "could be put back" not in str(result.reason)
        assert (await system.settings()).token.reveal() == CANARY


async def test_what_an_operator_selected_by_a_swap_stays(system: System, write: Write) -> None:
    async with running(system):
        await system.lifecycle.swap("service", "pay", "adyen", by="ops")
        write(c_yml=FIRST.replace("retries: 1", "retries: 2"))
        result = await system.reloader.reload()

        assert result.accepted
        assert result.plan.swaps == ()
        assert system.serving() == "adyen"
        write(c_yml="services: {selections: {pay: nobody}}")
        refused = await system.reloader.reload()
        assert "'nobody'" in str(refused.reason), "it has to hold when the operator's choice is taken back"


async def test_what_code_selected_and_configured_stays_where_the_files_did_not_change(
    system: System, write: Write
) -> None:
    async with running(system, "pay", "ship"):
        system.resolver.apply(policy=_selecting(system, "adyen"))
        system.provider_settings.update("service", DomainSettings(provider_settings={"stripe": {"retries": 7}}))
        await system.lifecycle.reconcile()
        write(c_yml=f"{FIRST}\nadapters: {{selections: {{cache: memory}}}}")
        result = await system.reloader.reload()

        assert result.accepted
        assert system.serving() == "adyen"
        assert system.provider_settings.raw(system.resolver.resolve("service", "pay", provider="stripe")) == {
            "retries": 7
        }


def _selecting(system: System, provider: str) -> Any:
    from dataclasses import replace  # noqa: PLC0415 - used here alone

    return replace(system.resolver.policy, selections={"service": {"pay": provider}})


async def test_a_tenant_gets_and_loses_a_slot_of_its_own(system: System, write: Write) -> None:
    async with running(system):
        write(c_yml=f"{FIRST}\ntenants: {{acme: {{service: {{pay: adyen}}}}}}")
        assert (await system.reloader.reload()).accepted
        async with system.lifecycle.lease("service", "pay", tenant="acme"):
            assert system.serving(tenant="acme") == "adyen"

        write(c_yml=FIRST)
        plan = (await system.reloader.reload()).plan

        assert plan.swaps == (
            Swap(domain="service", key="pay", tenant="acme", before="adyen", after="stripe", reason="selection"),
        )
        async with system.lifecycle.lease("service", "pay", tenant="acme") as payments:
            assert payments.settings.retries == 1


async def test_a_plan_changes_nothing_and_says_what_would(system: System, write: Write) -> None:
    async with running(system):
        write(c_yml="app: {name: shop}\nservices: {selections: {pay: adyen}}")
        revision = system.resolver.revision
        plan = system.reloader.plan()

        assert plan.as_dict() == {
            "changes": [
                {"key": "app.name", "before": "oneiric", "after": "shop", "origin": "c.yml:1"},
                {
                    "key": "services.provider_settings.stripe.retries",
                    "before": 1,
                    "after": None,
                    "origin": "c.yml:1",
                },
                {"key": "services.selections.pay", "before": "stripe", "after": "adyen", "origin": "c.yml:2"},
            ],
            "swaps": [
                {
                    "domain": "service",
                    "key": "pay",
                    "tenant": None,
                    "from": "stripe",
                    "to": "adyen",
                    "reason": "selection",
                }
            ],
            "starts": [],
            "stops": [],
            "needs_restart": ["app.name"],
            "problems": [],
        }
        assert (system.serving(), system.resolver.revision) == ("stripe", revision)
        assert system.reloader.versions.applied.number == 1


async def test_a_plan_names_what_speaks_against_it(system: System, write: Write) -> None:
    async with running(system):
        write(c_yml=FIRST.replace("1", "99").replace("pay: stripe", "pay: stripe, ship: ups"))

        problems = system.reloader.plan().problems

        assert [("ups" in problem, "retries" in problem) for problem in problems] == [(True, False), (False, True)]


async def test_what_needs_a_restart_is_listed_until_it_is_taken_back(system: System, write: Write) -> None:
    async with running(system):
        write(c_yml=f"{FIRST}\nhttp: {{port: 9090}}\nlogging: {{level: DEBUG}}")
        result = await system.reloader.reload()
        assert result.accepted
        assert result.plan.needs_restart == ("http.port", "logging.level")

        write(c_yml=f"{FIRST}\nhttp: {{port: 9090}}")
        await system.reloader.reload()
        assert system.reloader.needs_restart == ("http.port",)


async def test_no_secret_is_in_a_plan_a_result_or_a_refusal(system: System, write: Write) -> None:
    async with running(system):
        write(
            c_yml="services: {provider_settings: {stripe: {password: '${ONEIRIC_SECRET_A}', "
            f"plain: 'x://u:{CANARY}@h', extra_pools: {{}}, token: {CANARY}}}, adyen: {{api_key: {CANARY}}}}}}}"
        )
        result = await system.reloader.reload()

        assert not result.accepted
        assert "token" in str(result.reason)
        told = json.dumps([result.as_dict(), system.reloader.versions.as_dict(), system.reloader.plan().as_dict()])
        assert CANARY not in told
        assert '"after": "***"' in told


async def test_a_failing_on_applied_puts_everything_back_and_is_told_so(offer: Offer, shop: Any, write: Write) -> None:
    told: list[str] = []

    async def on_applied(loaded: LoadedSettings) -> None:
        told.append(loaded.settings.services.selections["pay"])
        if told[-1] == "adyen":
            raise RuntimeError("the dispatcher cannot be built")

    write(c_yml=FIRST)
    system = System(offer("adyen"), offer("stripe", **STRIPE), on_applied=on_applied)
    async with running(system):
        write(c_yml="services: {selections: {pay: adyen}}")
        result = await system.reloader.reload()

        assert result.reason == "RuntimeError: the dispatcher cannot be built"
        assert told == ["adyen", "stripe"]
        assert (system.serving(), system.lifecycle.stale()) == ("stripe", ())
        assert (await system.settings()).retries == 1


async def test_a_lease_on_the_old_holds_up_neither_the_result_nor_the_next_reload(system: System, write: Write) -> None:
    async with running(system), asyncio.timeout(60), system.lifecycle.lease("service", "pay") as old:
        for retries in (2, 3):
            write(c_yml=FIRST.replace("retries: 1", f"retries: {retries}"))
            assert (await system.reloader.reload()).accepted
            assert (await system.settings()).retries == retries
        assert await old.charge(5) == 5


async def test_reloads_asked_for_at_once_are_read_once(offer: Offer, shop: Any, write: Write) -> None:
    reads: list[int] = []

    def counted() -> LoadedSettings:
        reads.append(1)
        return load()

    write(c_yml=FIRST)
    system = System(offer("adyen"), offer("stripe", **STRIPE), load=counted)
    async with running(system):
        reads.clear()
        write(c_yml="services: {selections: {pay: adyen}}")
        results = await asyncio.gather(*(system.reloader.reload(by=str(number)) for number in range(5)))

        assert len(reads) == 1
        assert all(result is results[0] for result in results)


async def test_a_caller_that_is_cancelled_leaves_the_reload_to_go_on(system: System, write: Write) -> None:
    results: list[ReloadResult] = []
    async with running(system):
        system.reloader.observe(results.append)
        write(c_yml="services: {selections: {pay: adyen}}")
        caller = asyncio.create_task(system.reloader.reload())
        await asyncio.sleep(0)
        caller.cancel()
        await asyncio.wait([caller])
        await system.reloader.aclose()

        assert caller.cancelled()
        assert [result.accepted for result in results] == [True]
        assert system.serving() == "adyen"


async def test_a_reload_that_is_cancelled_with_its_loop_leaves_everything_as_it_was(
    offer: Offer, shop: Any, write: Write
) -> None:
    entered, told = asyncio.Event(), 0

    async def on_applied(_: LoadedSettings) -> None:
        nonlocal told
        told += 1
        entered.set()
        if told == 1:
            await asyncio.Event().wait()

    write(c_yml=FIRST)
    system = System(offer("adyen"), offer("stripe", **STRIPE), on_applied=on_applied)
    async with running(system):
        write(c_yml="services: {selections: {pay: adyen}}")
        before = asyncio.all_tasks()
        caller = asyncio.create_task(system.reloader.reload())
        await entered.wait()
        assert system.serving() == "adyen"
        for task in asyncio.all_tasks() - before - {caller}:
            task.cancel()
        await asyncio.wait([caller])

        assert (system.serving(), system.lifecycle.stale()) == ("stripe", ())
        assert system.reloader.versions.applied.number == 1


async def test_a_reload_that_takes_too_long_at_the_end_is_put_back(offer: Offer, shop: Any, write: Write) -> None:
    entered, told = asyncio.Event(), 0

    async def on_applied(_: LoadedSettings) -> None:
        nonlocal told
        told += 1
        entered.set()
        if told == 1:
            await asyncio.Event().wait()

    write(c_yml=FIRST)
    system = System(offer("adyen"), offer("stripe", **STRIPE), on_applied=on_applied)
    async with running(system):
        write(c_yml="services: {selections: {pay: adyen}}")
        caller = asyncio.create_task(system.reloader.reload())
        await entered.wait()
        await system.reloader.aclose(wait_seconds=0)
        with pytest.raises(LifecycleError, match="shutting down"):
            await caller
        assert (system.serving(), told) == ("stripe", 2)


async def test_a_closed_reloader_refuses(system: System) -> None:
    async with running(system):
        await system.reloader.aclose()
        with pytest.raises(LifecycleError, match="not reloaded any more"):
            await system.reloader.reload()


async def test_observers_hear_of_every_result_and_cannot_break_it(system: System, write: Write) -> None:
    heard: list[bool] = []
    asyncio.get_running_loop().set_exception_handler(lambda _, context: heard.append("failed" in context["message"]))

    def failing(result: ReloadResult) -> None:
        heard.append(result.accepted)
        raise RuntimeError("as told")

    async with running(system):
        stop = system.reloader.observe(failing)
        write(c_yml="services: {")
        await system.reloader.reload()
        stop()
        stop()
        await system.reloader.reload()

    assert heard == [False, True]


async def test_bad_reloads_in_a_row_are_all_refused_while_calls_go_on(system: System, write: Write) -> None:
    """The sample of ``scripts/soak reload``."""
    async with running(system):
        live, calls, done = system.lifecycle.live("service", "pay"), 0, False

        async def caller() -> None:
            nonlocal calls
            while not done:
                assert await live.charge(calls) == calls
                calls += 1
                await asyncio.sleep(0)

        calling = asyncio.create_task(caller())
        texts = [text for text, _ in BAD.values() if text is not None]
        for number in range(21):
            write(c_yml=f"# {number}\n{texts[number % len(texts)]}")
            assert not (await system.reloader.reload()).accepted
        write(c_yml="services: {selections: {pay: adyen}}")
        result = await system.reloader.reload()
        done = True
        await calling

        assert (result.accepted, result.version, system.serving()) == (True, 2, "adyen")
        assert calls > 21


async def test_the_result_is_plain_data(system: System, write: Write) -> None:
    async with running(system):
        write(c_yml="services: {")
        result = (await system.reloader.reload(by="SIGHUP")).as_dict()

        assert json.loads(json.dumps(result)) == result
        assert set(result) == {"accepted", "version", "digest", "reason", "plan", "by", "duration_seconds"}
        assert system.reloader.versions.as_dict()["refused"] == {
            "version": 2,
            "digest": "",
            "at": 1.5,
            "reason": result["reason"],
        }
