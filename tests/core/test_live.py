"""A live proxy speaks to what serves, holds a lease for each call, and refuses what would outlive it."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any

import pytest

from oneiric.core import Candidate, LifecycleManager, Resolver


class Store:
    size = 3

    def __init__(self) -> None:
        self.closed = False

    async def read(self) -> str:
        await asyncio.sleep(0)
        assert not self.closed
        return type(self).__name__

    async def items(self) -> AsyncIterator[int]:
        for number in range(3):
            await asyncio.sleep(0)
            assert not self.closed
            yield number

    @asynccontextmanager
    async def transaction(self) -> AsyncIterator["Store"]:
        yield self
        assert not self.closed

    def promised(self) -> Awaitable[str]:
        return self.read()

    def count(self) -> int:
        raise AssertionError("a refused method must not run")

    async def cleanup(self) -> None:
        self.closed = True


class Other(Store): ...


def run(scenario: Callable[[LifecycleManager, Any], Awaitable[None]]) -> None:
    async def main() -> None:
        resolver = Resolver()
        for provider, factory in (("other", Other), ("store", Store)):
            resolver.register(Candidate(domain="service", key="store", provider=provider, factory=factory))
        async with LifecycleManager(resolver) as lifecycle:
            await scenario(lifecycle, lifecycle.live("service", "store"))

    asyncio.run(main())


def test_the_first_call_activates_and_later_ones_follow_the_swap() -> None:
    async def scenario(lifecycle: LifecycleManager, live: Any) -> None:
        assert await live.read() == "Store"
        await lifecycle.swap("service", "store", provider="other")
        assert await live.read() == "Other"
        assert await live.promised() == "Other"

    run(scenario)


def test_an_iteration_and_a_context_hold_their_instance_through_a_swap() -> None:
    async def scenario(lifecycle: LifecycleManager, live: Any) -> None:
        seen = []
        swap: asyncio.Task[Any] | None = None
        async for number in live.items():
            seen.append(number)
            swap = swap or asyncio.create_task(lifecycle.swap("service", "store", provider="other"))
        assert seen == [0, 1, 2]
        assert swap is not None
        await swap
        async with live.transaction() as store:
            back = asyncio.create_task(lifecycle.swap("service", "store"))
            await asyncio.sleep(0)
            assert isinstance(store, Other)
            assert not store.closed
        await back

    run(scenario)


@pytest.mark.parametrize("attribute", ["count", "size"])
def test_what_would_outlive_its_lease_is_refused_before_it_runs(attribute: str) -> None:
    async def scenario(lifecycle: LifecycleManager, live: Any) -> None:
        await lifecycle.activate("service", "store")
        with pytest.raises(TypeError, match="lease"):
            getattr(live, attribute)
        with pytest.raises(AttributeError):
            _ = live.missing
        with pytest.raises(TypeError, match="lease"):
            live.size = 4

    run(scenario)


def test_a_refused_method_does_not_run_on_first_use_either() -> None:
    async def scenario(_lifecycle: LifecycleManager, live: Any) -> None:
        with pytest.raises(TypeError, match="lease"):
            await live.count()

    run(scenario)


def test_a_gate_refuses_calls_as_they_begin_and_no_lease_is_taken() -> None:
    refusals: list[str] = []

    async def scenario(lifecycle: LifecycleManager, _live: Any) -> None:
        is_open = True

        def gate() -> None:
            if not is_open:
                refusals.append("refused")
                raise RuntimeError("paused")

        live: Any = lifecycle.live("service", "store", gate=gate)
        assert await live.read() == "Store"
        is_open = False
        for begin in (live.read, live.promised):
            with pytest.raises(RuntimeError, match="paused"):
                await begin()
        with pytest.raises(RuntimeError, match="paused"):
            await anext(aiter(live.items()))
        with pytest.raises(RuntimeError, match="paused"):
            async with live.transaction():
                raise AssertionError("nothing is entered")
        assert lifecycle.get_status("service", "store").in_flight == 0
        is_open = True
        assert await live.read() == "Store"

    run(scenario)
    assert len(refusals) == 4
