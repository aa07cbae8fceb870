"""The hook: where a secret comes from, for how long it is used, and what is told of it."""

import asyncio
import base64
from collections.abc import AsyncIterator, Collection, Iterable
from contextlib import asynccontextmanager
from typing import Any

import pytest

from oneiric.core import Secret
from oneiric.core.errors import AdapterTimeoutError, RejectedError, SecretNotFoundError, UnavailableError
from oneiric.core.events import Bound
from oneiric.core.testing import DrivenClock, run_driven
from oneiric.runtime.secrets import Redactor, SecretsHook, SecretsRefresh, Slot
from oneiric.runtime.settings import SecretsSettings


class Vault:
    """A provider that is told what to hold, and counts."""

    def __init__(self, **values: str) -> None:
        self.values: dict[str, str] = values
        self.asked: list[str] = []
        self.invalidated: list[Collection[str] | None] = []
        self.leases = 0
        self.gate: asyncio.Event | None = None
        self.error: BaseException | None = None

    async def get_secret(self, secret_id: str) -> Secret | None:
        self.asked.append(secret_id)
        value = self.values.get(secret_id)
        if self.gate is not None:
            await self.gate.wait()
        if self.error is not None:
            raise self.error
        return None if value is None else Secret(value)

    async def invalidate_cache(self, ids: Iterable[str] | None = None) -> None:
        self.invalidated.append(None if ids is None else frozenset(ids))

    @asynccontextmanager
    async def lease(self) -> AsyncIterator["Vault"]:
        self.leases += 1
        yield self


def section(**settings: Any) -> SecretsSettings:
    return SecretsSettings(**settings)


def hook_of(vault: Vault, clock: DrivenClock | None = None, **settings: Any) -> SecretsHook:
    return SecretsHook(
        SecretsSettings(**settings), source=vault.lease, clock=clock or DrivenClock(), redactor=Redactor()
    )


async def turns(count: int = 20) -> None:
    for _ in range(count):
        await asyncio.sleep(0)


async def test_inline_wins_and_no_provider_is_asked() -> None:
    vault = Vault(a="of the vault")
    hook = hook_of(vault, inline={"a": "inline"})

    assert (await hook.get("a")).reveal() == "inline"
    assert vault.leases == 0


async def test_a_fetched_secret_is_used_for_its_time_and_not_longer() -> None:
    vault, clock = Vault(a="one"), DrivenClock()
    hook = hook_of(vault, clock, cache_ttl_seconds=10)

    assert (await hook.get("a")).reveal() == "one"
    vault.values["a"] = "two"
    clock.advance(9.9)
    assert (await hook.get("a")).reveal() == "one"
    clock.advance(0.1)
    assert (await hook.get("a")).reveal() == "two"
    assert vault.asked == ["a", "a"]


async def test_its_time_begins_before_it_is_fetched() -> None:
    vault, clock = Vault(a="one"), DrivenClock()
    vault.gate = asyncio.Event()
    hook = hook_of(vault, clock, cache_ttl_seconds=10)
    reading = asyncio.create_task(hook.get("a"))
    await turns()
    clock.advance(10)
    vault.gate.set()

    assert (await reading).reveal() == "one"
    vault.values["a"] = "two"
    assert (await hook.get("a")).reveal() == "two"


async def test_a_time_of_zero_keeps_nothing() -> None:
    vault = Vault(a="one")
    hook = hook_of(vault, cache_ttl_seconds=0)

    await hook.get("a")
    vault.values["a"] = "two"
    assert (await hook.get("a")).reveal() == "two"
    assert hook.info().cached == {}


async def test_concurrent_first_readers_share_one_fetch_and_one_who_leaves_stops_nobody() -> None:
    vault = Vault(a="one")
    vault.gate = asyncio.Event()
    hook = hook_of(vault)
    readers = [asyncio.create_task(hook.get("a")) for _ in range(50)]
    await turns()
    readers[0].cancel()
    await turns()
    vault.gate.set()

    found = await asyncio.gather(*readers[1:])
    assert {one.reveal() for one in found} == {"one"}
    assert vault.asked == ["a"]


async def test_what_is_missing_is_asked_for_again() -> None:
    vault = Vault()
    hook = hook_of(vault, provider="file")

    with pytest.raises(SecretNotFoundError, match="'a' in adapter:secrets provider 'file'"):
        await hook.get("a")
    vault.values["a"] = "there now"
    assert (await hook.get("a")).reveal() == "there now"


async def test_an_invalidated_secret_is_fetched_again_also_by_those_who_wait_for_it() -> None:
    vault = Vault(a="old")
    vault.gate = asyncio.Event()
    hook = hook_of(vault)
    reading = asyncio.create_task(hook.get("a"))
    await turns()
    vault.values["a"] = "new"
    hook.invalidate(["a"])
    vault.gate.set()

    assert (await reading).reveal() == "new"
    assert (await hook.get("a")).reveal() == "new"


async def test_an_error_from_before_an_invalidation_is_nobodys() -> None:
    vault = Vault(a="value")
    vault.gate, vault.error = asyncio.Event(), UnavailableError("sealed")
    hook = hook_of(vault)
    reading = asyncio.create_task(hook.get("a"))
    await turns()
    hook.invalidate()
    gate, vault.gate = vault.gate, None
    gate.set()
    await turns(1)
    vault.error = None

    assert (await reading).reveal() == "value"


async def test_invalidating_counts_what_was_held() -> None:
    hook = hook_of(Vault(a="1", b="2", c="3"))
    await hook.prefetch(["a", "b", "c"])

    assert hook.invalidate(["a", "missing"]) == 1
    assert hook.invalidate() == 2
    assert hook.invalidate() == 0


async def test_prefetch_names_everything_that_is_missing() -> None:
    hook = hook_of(Vault(there="x"), inline={"inline": "y"})

    with pytest.raises(SecretNotFoundError, match=r"'a'.*'b'"):
        await hook.prefetch(["a", "there", "b", "inline", "a"])
    assert list(hook.info().cached) == ["there"]


async def test_a_stray_error_of_a_provider_is_ours_and_holds_nothing_of_it() -> None:
    vault = Vault(a="S3CR3T-canary")
    vault.error = RuntimeError("could not parse S3CR3T-canary")
    hook = hook_of(vault)

    with pytest.raises(UnavailableError, match="'a' cannot be read: RuntimeError") as failed:
        await hook.get("a")
    assert (failed.value.__cause__, failed.value.__context__) == (None, None)
    vault.error = RejectedError("one of ours")
    with pytest.raises(RejectedError, match="one of ours"):
        await hook.get("a")
    vault.error = None
    assert (await hook.get("a")).reveal() == "S3CR3T-canary"
    assert hook.info().failures == 2


def test_a_provider_that_does_not_answer_is_given_up() -> None:
    async def scenario() -> None:
        vault = Vault(a="x")
        vault.gate = asyncio.Event()
        hook = SecretsHook(SecretsSettings(), source=vault.lease, timeout_seconds=30)
        with pytest.raises(AdapterTimeoutError, match="within 30 s"):
            await hook.get("a")
        vault.gate.set()
        assert (await hook.get("a")).reveal() == "x"

    run_driven(scenario())


async def test_all_waiters_of_a_failed_fetch_are_told_and_none_is_forgotten() -> None:
    vault = Vault()
    vault.gate = asyncio.Event()
    hook = hook_of(vault)
    readers = [asyncio.create_task(hook.get("a")) for _ in range(3)]
    await turns()
    for reader in readers[1:]:
        reader.cancel()
    vault.gate.set()

    results = await asyncio.gather(*readers, return_exceptions=True)
    assert [type(one) for one in results] == [SecretNotFoundError, asyncio.CancelledError, asyncio.CancelledError]


def bound(key: str) -> Bound:
    fields: dict[str, Any] = dict.fromkeys(Bound.__dataclass_fields__)
    return Bound(**fields | {"domain": "adapter", "key": key})


async def test_another_provider_that_begins_to_serve_makes_everything_fetched_again() -> None:
    vault = Vault(a="one")
    hook = hook_of(vault)
    await hook.get("a")
    hook.on_event(bound("cache"))
    assert list(hook.info().cached) == ["a"]

    hook.on_event(bound("secrets"))
    assert hook.info().cached == {}


async def test_new_settings_say_which_inline_secrets_differ_and_forget_another_providers_values() -> None:
    vault = Vault(a="1")
    hook = hook_of(vault, inline={"same": "x", "other": "y", "gone": "z"})
    await hook.get("a")

    assert hook.update(section(inline={"same": "x", "other": "Y", "new": "n"})) == {"other", "gone", "new"}
    assert list(hook.info().cached) == ["a"]
    assert hook.update(SecretsSettings(provider="file")) == {"same", "other", "new"}
    assert hook.info().cached == {}


async def test_what_is_told_holds_ids_and_ages_and_no_value() -> None:
    clock = DrivenClock()
    hook = hook_of(Vault(a="S3CR3T-canary"), clock, inline={"b": "S3CR3T-inline"})
    await hook.get("a")
    clock.advance(5)
    told = hook.info()

    assert told.as_dict() == {
        "provider": None,
        "cache_ttl_seconds": 600,
        "refresh_interval": None,
        "inline_entries": 1,
        "cached": {"a": 5.0},
        "fetches": 1,
        "failures": 0,
        "last_rotation": None,
    }
    shown = f"{told!r} {hook!r} {vars(hook)!r}"
    assert "S3CR3T" not in shown


async def test_every_secret_it_gives_out_is_masked_from_then_on() -> None:
    masks = Redactor()
    vault = Vault(a="S3CR3T-fetched")
    hook = SecretsHook(SecretsSettings(inline={"b": Secret("S3CR3T-inline")}), source=vault.lease, redactor=masks)
    await hook.get("a")
    encoded = base64.b64encode(b"user:S3CR3T-fetched").decode()

    assert "***" in masks.mask(f"{encoded}")
    assert masks.mask("S3CR3T-inline S3CR3T-fetched") == "*** ***"


class Slots:
    """Users of secrets that take part in a rotation as told."""

    def __init__(self, hook: SecretsHook, uses: dict[str, set[str]]) -> None:
        self.hook, self.uses = hook, uses
        self.got: dict[str, str] = {}
        self.fails = ""
        self.renewed: list[str] = []

    def users_of(self, ids: Collection[str]) -> tuple[Slot, ...]:
        return tuple(("service", name, None) for name, used in sorted(self.uses.items()) if used & set(ids))

    def beside(self, ids: Collection[str]) -> tuple[str, ...]:
        return ("service:other/old",) if "beside" in ids else ()

    async def check(self, slots: Collection[Slot]) -> None:
        if self.fails == "check":
            raise RejectedError("the settings are not valid")

    async def renew(self, slots: Collection[Slot]) -> tuple[Slot, ...]:
        made = {
            name: ",".join([(await self.hook.get(one)).reveal() for one in sorted(self.uses[name])])
            for _, name, _ in slots
        }
        if self.fails == "renew":
            raise RejectedError(f"unhealthy with {made}")
        self.got |= made
        self.renewed += made
        return tuple(slots)


async def started(vault: Vault, clock: DrivenClock, uses: dict[str, set[str]]) -> tuple[SecretsHook, Slots]:
    hook = hook_of(vault, clock, cache_ttl_seconds=100)
    hook.users = slots = Slots(hook, uses)
    await slots.renew(slots.users_of({one for used in uses.values() for one in used}))
    slots.renewed.clear()
    return hook, slots


async def test_a_rotation_replaces_the_users_of_what_changed_and_nobody_else() -> None:
    vault = Vault(a="a1", b="b1", c="c1")
    hook, slots = await started(vault, DrivenClock(), {"one": {"a"}, "two": {"b"}, "both": {"a", "b"}, "none": {"c"}})
    vault.values["a"] = "a2"

    report = await hook.rotate(by="ada")
    assert (report.rotated, report.unchanged, report.by, report.step) == (("a",), ("b", "c"), "ada", None)
    assert sorted(slots.renewed) == ["both", "one"]
    assert slots.got == {"one": "a2", "two": "b1", "both": "a2,b1", "none": "c1"}
    assert vault.invalidated == [{"a", "b", "c"}]
    assert (await hook.get("a")).reveal() == "a2"


async def test_what_did_not_change_swaps_nothing() -> None:
    hook, slots = await started(Vault(a="a1"), DrivenClock(), {"one": {"a"}})

    report = await hook.rotate(["a"])
    assert (report.rotated, report.unchanged, report.swapped) == ((), ("a",), ())
    assert slots.renewed == []


@pytest.mark.parametrize(("fails", "step"), [("check", "settings"), ("renew", "swap")])
async def test_a_rotation_that_fails_keeps_the_old_and_says_at_which_step(fails: str, step: str) -> None:
    vault, clock = Vault(a="old-value"), DrivenClock()
    hook, slots = await started(vault, clock, {"one": {"a"}})
    clock.advance(40)
    vault.values["a"], slots.fails = "S3CR3T-new", fails

    with pytest.raises(RejectedError):
        await hook.rotate(["a"])
    last = hook.info().last_rotation
    assert last is not None
    assert (last.step, last.is_complete, last.rotated) == (step, False, ("a",))
    assert "S3CR3T" not in str(last.as_dict())
    assert slots.got == {"one": "old-value"}
    assert (await hook.get("a")).reveal() == "old-value"
    assert hook.info().cached["a"] == 40
    slots.fails = ""
    assert (await hook.rotate()).rotated == ("a",)
    assert slots.got == {"one": "S3CR3T-new"}


async def test_a_secret_that_cannot_be_read_rotates_nothing() -> None:
    vault = Vault(a="a1", b="b1")
    hook, slots = await started(vault, DrivenClock(), {"one": {"a"}, "two": {"b"}})
    vault.values = {"a": "a2"}

    with pytest.raises(SecretNotFoundError, match="'b'"):
        await hook.rotate()
    last = hook.info().last_rotation
    assert last is not None
    assert (last.step, last.reason) == ("read", "there is no secret 'b' in adapter:secrets")
    assert (await hook.get("a")).reveal() == "a1"
    vault.error = RuntimeError("S3CR3T")
    with pytest.raises(UnavailableError, match="2 secrets cannot be read: RuntimeError"):
        await hook.rotate()
    assert slots.renewed == []


async def test_a_secret_that_is_gone_and_nobodys_is_forgotten() -> None:
    vault = Vault(a="a1", once="x")
    hook, _slots = await started(vault, DrivenClock(), {"one": {"a"}})
    await hook.get("once")
    del vault.values["once"]

    assert (await hook.rotate()).unchanged == ("a",)
    with pytest.raises(SecretNotFoundError):
        await hook.rotate(["once"])


async def test_a_value_that_changed_by_its_time_running_out_still_replaces_those_who_have_the_old_one() -> None:
    vault, clock = Vault(a="a1"), DrivenClock()
    hook, slots = await started(vault, clock, {"one": {"a"}})
    vault.values["a"] = "a2"
    clock.advance(100)
    assert (await hook.get("a")).reveal() == "a2"

    assert (await hook.rotate()).rotated == ("a",)
    assert slots.got == {"one": "a2"}
    assert (await hook.rotate()).rotated == ()


async def test_whoever_holds_secrets_outside_the_lifecycle_hears_of_what_changed() -> None:
    vault = Vault(a="a1")
    hook, _slots = await started(vault, DrivenClock(), {"one": {"a"}})
    heard: list[tuple[str, ...]] = []

    def bad(_report: object) -> None:
        raise ValueError("S3CR3T")

    stops = [hook.observe(bad), hook.observe(lambda report: heard.append(report.rotated))]
    vault.values["a"] = "a2"
    await hook.rotate()
    await hook.rotate()
    for stop in stops:
        stop()
        stop()
    vault.values["a"] = "a3"
    await hook.rotate()
    assert heard == [("a",)]


async def test_an_inline_secret_that_new_settings_change_reaches_its_users_by_rotation() -> None:
    vault = Vault(a="a1")
    hook = hook_of(vault, inline={"b": "b1"})
    hook.users = slots = Slots(hook, {"one": {"a"}, "two": {"b"}})
    await slots.renew(slots.users_of(["a", "b"]))
    assert (await hook.rotate()).inline == ("b",)

    changed = hook.update(section(inline={"b": "b2"}))
    vault.asked.clear()
    report = await hook.rotate(changed)
    assert (report.rotated, report.inline) == (("b",), ("b",))
    assert slots.got == {"one": "a1", "two": "b2"}
    assert vault.asked == []
    vault.values["b"] = "b3"
    assert (await hook.rotate(hook.update(section()))).inline == ()
    assert slots.got == {"one": "a1", "two": "b3"}


async def test_what_stands_beside_the_active_ones_is_named() -> None:
    vault = Vault(beside="1")
    hook, _slots = await started(vault, DrivenClock(), {})
    await hook.get("beside")
    vault.values["beside"] = "2"

    assert (await hook.rotate(["beside"])).beside == ("service:other/old",)


async def test_rotations_run_one_after_another_and_old_values_on_their_way_are_fetched_again() -> None:
    vault = Vault(a="a1")
    hook, slots = await started(vault, DrivenClock(), {"one": {"a"}})
    hook.invalidate()
    vault.gate = asyncio.Event()
    reading = asyncio.create_task(hook.get("a"))
    await turns()
    vault.values["a"] = "a2"
    rotations = [asyncio.create_task(hook.rotate()) for _ in range(2)]
    await turns()
    vault.gate.set()

    first, second = await asyncio.gather(*rotations)
    assert (first.rotated, second.rotated) == (("a",), ())
    assert (await hook.get("a")).reveal() == "a2"
    assert (await reading).reveal() in {"a1", "a2"}
    assert slots.got == {"one": "a2"}


async def test_a_cancelled_rotation_keeps_the_old() -> None:
    vault = Vault(a="a1")
    hook, _slots = await started(vault, DrivenClock(), {"one": {"a"}})
    vault.gate, vault.values["a"] = asyncio.Event(), "a2"
    rotation = asyncio.create_task(hook.rotate())
    await turns()
    rotation.cancel()
    await asyncio.wait([rotation])

    last = hook.info().last_rotation
    assert last is not None
    assert (last.step, last.reason) == ("read", "it was cancelled")
    assert (await hook.get("a")).reveal() == "a1"


def test_the_refresh_rotates_each_interval_and_outlives_failures() -> None:
    clock = DrivenClock()

    async def scenario() -> list[tuple[float, str | None]]:
        seen: list[tuple[float, str | None]] = []
        vault = Vault(a="a1")
        hook = SecretsHook(SecretsSettings(refresh_interval=60), source=vault.lease, clock=clock, redactor=Redactor())
        slots = Slots(hook, {"one": {"a"}})
        hook.users = slots
        await slots.renew([("service", "one", None)])
        refresh = SecretsRefresh(hook, jitter=iter([0.0, 1.0, 0.5, 0.5]).__next__)
        await refresh.start()
        await refresh.start()
        for error in (None, RuntimeError("S3CR3T"), None):
            vault.error, vault.values["a"] = error, f"a{len(seen) + 2}"
            before = hook.info().last_rotation
            while hook.info().last_rotation is before:  # noqa: ASYNC110 - the clock is driven: this takes no time
                await asyncio.sleep(1)
            last = hook.info().last_rotation
            assert last is not None
            seen.append((clock.now, last.step))
        await refresh.stop()
        await refresh.stop()
        assert slots.got == {"one": "a4"}
        return seen

    seen = run_driven(scenario(), clock)
    assert [step for _, step in seen] == [None, "read", None]
    assert [round(at) for at, _ in seen] == pytest.approx([54, 120, 180], abs=2)


def test_without_an_interval_nothing_is_refreshed_until_new_settings_bring_one() -> None:
    clock = DrivenClock()

    async def scenario() -> None:
        hook = hook_of(Vault(a="1"), clock)
        refresh = SecretsRefresh(hook, jitter=lambda: 0.5)
        await refresh.start()
        await asyncio.sleep(100_000)
        assert hook.info().last_rotation is None
        hook.update(section(refresh_interval=60))
        await asyncio.sleep(30)
        hook.update(section(refresh_interval=60, cache_ttl_seconds=5))
        await asyncio.sleep(31)
        first = hook.info().last_rotation
        assert first is not None
        hook.update(section())
        await asyncio.sleep(100_000)
        assert hook.info().last_rotation is first
        await refresh.stop()

    run_driven(scenario(), clock)
