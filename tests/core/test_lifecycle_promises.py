"""Whatever a step does before the binding, the old one serves; whatever happens after it, the new one stays."""

import asyncio
import sys
import threading
from collections.abc import Awaitable, Callable
from typing import Any

import pytest

from oneiric.core import Candidate, LifecycleManager, LifecycleTimeouts, Resolver
from oneiric.core.errors import ActivationError, LifecycleError, SwapError
from oneiric.core.events import Bound, CleanedUp, CleanupFailed, HookFailed, SwapFailed
from oneiric.core.testing import run_driven

QUICK = LifecycleTimeouts(
    activation_seconds=0.1, health_seconds=0.1, hook_seconds=0.1, drain_seconds=0.1, cleanup_seconds=0.1
)
#: Where a thread takes part, whose time cannot be driven: only what is meant to be late is.
PATIENT = LifecycleTimeouts(activation_seconds=1.0)
STEPS = ("instantiate", "init", "health", "pre_swap")
FAULTS = ("raises", "hangs", "exits", "ignores cancellation", "is cancelled")


class Part:
    """A component whose steps do what they are told; counts what exists."""

    alive: set["Part"]
    faults: dict[str, Callable[[], Awaitable[Any]]]

    def __init__(self, world: "World", faults: dict[str, Callable[[], Awaitable[Any]]]) -> None:
        self.world, self.faults, self.cleanups = world, faults, 0
        world.made.append(self)

    async def _do(self, step: str) -> Any:
        return await self.faults[step]() if step in self.faults else None

    async def init(self) -> None:
        await self._do("init")

    async def health(self) -> Any:
        return await self._do("health")

    async def cleanup(self) -> None:
        self.cleanups += 1
        await self._do("cleanup")


class World:
    """One resolver and lifecycle with a good provider and one that fails as told."""

    def __init__(self, timeouts: LifecycleTimeouts) -> None:
        self.made: list[Part] = []
        self.events: list[Any] = []
        self.release = asyncio.Event()
        self.resolver = Resolver()
        self.lifecycle = LifecycleManager(self.resolver, timeouts=timeouts)
        self.lifecycle.observe(self.events.append)
        self.offer("good", {})

    def offer(self, provider: str, faults: dict[str, Callable[[], Awaitable[Any]]], *, kind: str = "async") -> None:
        def make() -> Part:
            return Part(self, faults)

        async def make_async() -> Part:
            part = make()
            if "instantiate" in faults:
                await faults["instantiate"]()
            return part

        factory = make_async if kind == "async" else make
        self.resolver.register(
            Candidate(domain="service", key="x", provider=provider, factory=factory, opt_in=provider != "good")
        )

    def fault(self, kind: str) -> Callable[[], Awaitable[Any]]:
        async def raises() -> None:
            raise ValueError("told to")

        async def hangs() -> None:
            await asyncio.Event().wait()

        async def exits() -> None:
            sys.exit(3)

        async def ignores_cancellation() -> None:
            while not self.release.is_set():
                try:
                    await self.release.wait()
                except asyncio.CancelledError:
                    continue

        async def is_cancelled() -> None:
            raise asyncio.CancelledError

        return {
            "raises": raises,
            "hangs": hangs,
            "exits": exits,
            "ignores cancellation": ignores_cancellation,
            "is cancelled": is_cancelled,
        }[kind]

    def of(self, kind: type) -> list[Any]:
        return [event for event in self.events if isinstance(event, kind)]


def run(scenario: Callable[[World], Awaitable[None]], *, in_real_time: bool = False) -> None:
    async def main() -> None:
        tasks = asyncio.all_tasks()
        world = World(PATIENT if in_real_time else QUICK)
        async with world.lifecycle:
            await scenario(world)
            world.release.set()
        assert [part for part in world.made if part.cleanups != 1 and "instantiate" not in part.faults] == []
        await asyncio.sleep(0)
        assert asyncio.all_tasks() == tasks

    if in_real_time:
        asyncio.run(main())
    else:
        run_driven(main())


@pytest.mark.parametrize("bound", [True, False], ids=["something serves", "nothing serves"])
@pytest.mark.parametrize("fault", FAULTS)
@pytest.mark.parametrize("step", STEPS)
def test_a_fault_before_the_binding_leaves_the_old_one_serving(step: str, fault: str, *, bound: bool) -> None:
    async def scenario(world: World) -> None:
        old = await world.lifecycle.activate("service", "x") if bound else None
        act = world.fault(fault)
        world.offer("bad", {} if step == "pre_swap" else {step: act})
        if step == "pre_swap":

            @world.lifecycle.hooks.add_pre_swap
            async def veto(candidate: Candidate, _new: Any, _old: Any) -> None:
                if candidate.provider == "bad":
                    await act()

        with pytest.raises(SwapError if bound else ActivationError) as caught:
            await world.lifecycle.swap("service", "x", provider="bad")
        status = world.lifecycle.get_status("service", "x")
        (failed,) = world.of(SwapFailed)
        assert (caught.value.step, failed.step, caught.value.rolled_back, failed.rolled_back) == (
            step,
            step,
            bound,
            bound,
        )
        assert caught.value.__cause__ is not None
        assert (status.state, status.pending_provider) == ("ready" if bound else "failed", None)
        assert status.last_error is not None
        assert step in status.last_error
        assert world.lifecycle.get_instance("service", "x") is old
        assert world.resolver.selection_for("service", "x") is None, "a failed swap leaves no selection"
        assert await world.lifecycle.swap("service", "x") is not None, "the next swap works"

    run(scenario)


@pytest.mark.parametrize("step", STEPS)
def test_a_cancelled_caller_leaves_the_old_one_serving(step: str) -> None:
    async def scenario(world: World) -> None:
        old = await world.lifecycle.activate("service", "x")
        reached = asyncio.Event()

        async def pause() -> None:
            reached.set()
            await asyncio.Event().wait()

        world.offer("bad", {} if step == "pre_swap" else {step: pause})
        if step == "pre_swap":
            world.lifecycle.hooks.add_pre_swap(
                lambda candidate, new, old: pause() if candidate.provider == "bad" else None
            )
        swap = asyncio.create_task(world.lifecycle.swap("service", "x", provider="bad"))
        await reached.wait()
        swap.cancel()
        with pytest.raises(asyncio.CancelledError):
            await swap
        (failed,) = world.of(SwapFailed)
        assert (failed.step, failed.reason) == (step, "it was cancelled")
        assert world.lifecycle.get_instance("service", "x") is old
        assert world.resolver.selection_for("service", "x") is None

    run(scenario)


def test_a_swap_cancelled_at_any_turn_leaves_exactly_one_serving() -> None:
    async def scenario(world: World) -> None:
        async def turn() -> None:
            await asyncio.sleep(0)

        world.offer("slow", dict.fromkeys(("init", "health", "cleanup"), turn))
        await world.lifecycle.activate("service", "x")
        for turns in range(25):
            swap = asyncio.create_task(world.lifecycle.swap("service", "x", provider="slow"))
            for _ in range(turns):
                await asyncio.sleep(0)
            swap.cancel()
            await asyncio.wait((swap,))
            serving = world.lifecycle.get_instance("service", "x")
            assert serving.cleanups == 0
            status = world.lifecycle.get_status("service", "x")
            assert (status.state, status.pending_provider) == ("ready", None)

    run(scenario)


@pytest.mark.parametrize("fault", FAULTS)
def test_after_the_binding_the_new_one_stays_whatever_the_old_ones_cleanup_does(fault: str) -> None:
    async def scenario(world: World) -> None:
        world.offer("bad", {"cleanup": world.fault(fault)})
        await world.lifecycle.activate("service", "x", "bad")
        new = await world.lifecycle.swap("service", "x", provider="good")
        assert world.lifecycle.get_instance("service", "x") is new
        assert len(world.of(CleanupFailed)) == 1
        assert world.lifecycle.get_status("service", "x").last_error is None

    run(scenario)


@pytest.mark.parametrize("fault", FAULTS)
def test_a_failing_post_swap_hook_is_reported_and_changes_nothing(fault: str) -> None:
    async def scenario(world: World) -> None:
        await world.lifecycle.activate("service", "x")
        act = world.fault(fault)
        world.lifecycle.hooks.add_post_swap(lambda candidate, new, old: act())
        new = await world.lifecycle.swap("service", "x")
        assert world.lifecycle.get_instance("service", "x") is new
        assert len(world.of(HookFailed)) == 1
        assert len(world.of(CleanedUp)) == 1
        world.lifecycle.hooks.post_swap.clear()

    run(scenario)


def test_a_blocking_factory_that_comes_too_late_is_cleaned_up_on_arrival() -> None:
    gate = threading.Event()

    async def scenario(world: World) -> None:
        def make() -> Part:
            gate.wait(60)
            return Part(world, {})

        world.resolver.register(
            Candidate(domain="service", key="x", provider="late", factory=make, blocking=True, opt_in=True)
        )
        old = await world.lifecycle.activate("service", "x")
        with pytest.raises(SwapError, match="deadline"):
            await world.lifecycle.swap("service", "x", provider="late")
        assert world.lifecycle.get_instance("service", "x") is old
        cleaned = asyncio.Event()
        world.lifecycle.observe(lambda event: cleaned.set() if isinstance(event, CleanedUp) else None)
        gate.set()
        async with asyncio.timeout(60):
            await cleaned.wait()
        assert [part.cleanups for part in world.made] == [0, 1]

    run(scenario, in_real_time=True)


@pytest.mark.parametrize("made", [None, "awaitable"])
def test_a_factory_that_returns_nothing_usable_is_refused(made: str | None) -> None:
    async def scenario(world: World) -> None:
        async def inner() -> None: ...

        async def factory() -> Any:
            return inner() if made else None

        world.resolver.register(Candidate(domain="service", key="y", provider="p", factory=factory))
        with pytest.raises(ActivationError) as caught:
            await world.lifecycle.activate("service", "y")
        assert caught.value.step == "instantiate"

    run(scenario)


def test_a_cleanup_that_swaps_its_own_key_is_refused_and_does_not_hang() -> None:
    async def scenario(world: World) -> None:
        async def swap_again() -> None:
            await world.lifecycle.swap("service", "x")

        world.offer("bad", {"cleanup": swap_again})
        await world.lifecycle.activate("service", "x", "bad")
        await world.lifecycle.swap("service", "x", provider="good")
        (failed,) = world.of(CleanupFailed)
        assert "by the very step that asks for it" in failed.reason

    run(scenario)


def test_a_second_event_loop_is_refused() -> None:
    resolver = Resolver()
    resolver.register(Candidate(domain="service", key="x", provider="p", factory=object))
    lifecycle = LifecycleManager(resolver)

    async def activate() -> None:
        await lifecycle.activate("service", "x")

    with asyncio.Runner() as first:
        first.run(activate())
        with pytest.raises(LifecycleError, match="another event loop"):
            # A loop of its own, while the first one still exists.
            _in_thread(activate)
        first.run(lifecycle.aclose())


def _in_thread(coroutine: Callable[[], Awaitable[None]]) -> None:
    failure: list[BaseException] = []

    def work() -> None:
        async def main() -> None:
            await coroutine()

        try:
            asyncio.run(main())
        except BaseException as error:  # noqa: BLE001 - carried over to the test
            failure.append(error)

    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    if failure:
        raise failure[0]


def test_swaps_of_one_key_take_turns_and_of_different_keys_do_not() -> None:
    async def scenario(world: World) -> None:
        inside: set[str] = set()
        together: list[set[str]] = []

        def component(key: str) -> type:
            class Component:
                async def init(self) -> None:
                    assert key not in inside, "two attempts of one key at once"
                    inside.add(key)
                    for _ in range(5):
                        await asyncio.sleep(0)
                    together.append(set(inside))
                    inside.discard(key)

            return Component

        for key in ("a", "b"):
            world.resolver.register(Candidate(domain="task", key=key, provider="p", factory=component(key)))
        await asyncio.gather(*(world.lifecycle.swap("task", key) for key in "abababab"))
        assert {"a", "b"} in together
        assert len(world.of(Bound)) == 8

    run(scenario)


def test_first_users_share_one_activation_and_its_failure() -> None:
    async def scenario(world: World) -> None:
        async def turn() -> None:
            await asyncio.sleep(0)

        world.offer("good", {"init": turn})
        found = await asyncio.gather(*(world.lifecycle.activate("service", "x") for _ in range(10)))
        assert len({id(instance) for instance in found}) == 1

        attempts = 0

        async def fails() -> None:
            nonlocal attempts
            attempts += 1
            await asyncio.sleep(0)
            raise ValueError("told to")

        world.resolver.register(Candidate(domain="task", key="bad", provider="p", factory=fails))
        errors = await asyncio.gather(
            *(world.lifecycle.activate("task", "bad") for _ in range(10)), return_exceptions=True
        )
        assert {type(error) for error in errors} == {ActivationError}
        assert attempts == 1

    run(scenario)


def test_a_cancelled_first_user_does_not_fail_the_others() -> None:
    async def scenario(world: World) -> None:
        async def turn() -> None:
            await asyncio.sleep(0)
            await asyncio.sleep(0)

        world.offer("good", {"init": turn})
        first = asyncio.create_task(world.lifecycle.activate("service", "x"))
        second = asyncio.create_task(world.lifecycle.activate("service", "x"))
        await asyncio.sleep(0)
        first.cancel()
        assert await second is not None
        assert first.cancelled()

    run(scenario)
