"""Swaps under load: run the order service and its customers on a lifecycle, and swap the cache meanwhile."""

import asyncio
from collections.abc import Callable, Coroutine, Sequence
from dataclasses import dataclass, field
from itertools import cycle
from typing import Any

from oneiric.cli.demo.load import Call, Load
from oneiric.cli.demo.orders import CACHE, CACHE_SLOT, OrderService
from oneiric.core.errors import LifecycleError, SwapError
from oneiric.core.events import Bound, Event
from oneiric.core.lifecycle import LifecycleManager

__all__ = ["Outcome", "Plan", "swap_under_load"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """How much of what.

    Attributes:
        rotation: Providers that serve in turn; each swap is to the next one.
        failing: A provider that must never serve, tried once a round; None tries none.
        swaps: Swaps to make.
        customers: Orders at once.
        calls_between: Calls answered between the end of one swap and the next one.
        seconds: No swap begins later than this after the first one.
    """

    rotation: Sequence[str] = ("sqlite", "memory")
    failing: str | None = "flaky"
    swaps: int = 60
    customers: int = 32
    calls_between: int = 64
    seconds: float = 10.0

    @property
    def in_flight_wanted(self) -> int:
        """Orders that must hold a lease before anything is bound."""
        return max(1, self.customers // 4)


@dataclass(slots=True)
class Outcome:
    """What happened.

    Attributes:
        calls: Every order.
        windows: Begin and end of every swap, also of those that failed, by the event loop's clock.
        bound: Provider and leases in flight, for every binding that replaced one.
        rollbacks: Swaps that failed and left the old one serving.
        seconds: How long it took.
    """

    calls: list[Call] = field(default_factory=list)
    windows: list[tuple[float, float]] = field(default_factory=list)
    bound: list[tuple[str, int]] = field(default_factory=list)
    rollbacks: int = 0
    seconds: float = 0.0


async def swap_under_load(
    lifecycle: LifecycleManager, plan: Plan, *, progress: Callable[[Outcome], None] = lambda _: None
) -> Outcome:
    """Serve orders while the cache is swapped, and return what happened to every one of them.

    Args:
        lifecycle: Resolves ``adapter:cache`` and the providers of the plan; in use by nobody else.
        plan: How much of what.
        progress: Called after each swap.

    Raises:
        SwapError: A provider of the rotation could not be swapped to.
        LifecycleError: The failing provider came to serve.
        ResolutionError: A provider is not on offer.
    """
    await lifecycle.activate(CACHE)
    clock = asyncio.get_running_loop().time
    async with OrderService(lifecycle) as service:
        load = Load(service.port, plan.customers)
        swaps = _Swaps(lifecycle, plan, service, load)
        began = clock()
        with swaps.watching():
            await _together(load.run(), swaps.run(progress))
        swaps.outcome.seconds = clock() - began
    return swaps.outcome


async def _together(*parts: Coroutine[Any, Any, None]) -> None:
    """Run all to their end; the first failure ends the others and is raised as itself."""
    try:
        async with asyncio.TaskGroup() as group:
            for part in parts:
                group.create_task(part)
    except* Exception as failures:  # noqa: BLE001 - raised again below, unwrapped
        first: BaseException = failures
        while isinstance(first, BaseExceptionGroup):
            first = first.exceptions[0]
        failure = first
    else:
        return
    raise failure


class _Swaps:
    """The operator of the demo: swaps the cache whenever enough orders are in flight."""

    def __init__(self, lifecycle: LifecycleManager, plan: Plan, service: OrderService, load: Load) -> None:
        self._lifecycle, self._plan, self._service, self._load = lifecycle, plan, service, load
        self.outcome = Outcome(calls=load.calls)

    def watching(self) -> "_Watching":
        """Count bindings, and let nothing be bound before orders are in flight."""
        return _Watching(self._lifecycle, self._count, self._wait_for_load)

    async def run(self, progress: Callable[[Outcome], None]) -> None:
        """Make the swaps of the plan, then end the load."""
        try:
            await self._rotate(progress)
        finally:
            self._load.end()

    async def _rotate(self, progress: Callable[[Outcome], None]) -> None:
        plan, clock = self._plan, asyncio.get_running_loop().time
        latest = clock() + plan.seconds
        providers = cycle(plan.rotation)
        while len(self.outcome.bound) < plan.swaps:
            await self._answered(plan.calls_between)
            await self._swap(next(providers))
            if plan.failing is not None and len(self.outcome.bound) % 10 == len(plan.rotation):
                await self._answered(plan.calls_between)
                await self._swap_to_failing(plan.failing)
            progress(self.outcome)
            if clock() > latest and len(self.outcome.bound) > len(plan.rotation):
                return

    async def _answered(self, calls: int) -> None:
        """Wait until customers got as many answers more: the undisturbed service, to compare with."""
        wanted = len(self.outcome.calls) + calls
        while len(self.outcome.calls) < wanted:
            await self._service.until_next_lease()

    async def _swap(self, provider: str) -> None:
        clock = asyncio.get_running_loop().time
        began = clock()
        try:
            await self._lifecycle.swap(CACHE, provider=provider)
        finally:
            self._service.release_payments()
            self.outcome.windows.append((began, clock()))

    async def _swap_to_failing(self, provider: str) -> None:
        serving = self._lifecycle.get_instance(CACHE)
        try:
            await self._swap(provider)
        except SwapError as error:
            if not error.rolled_back or self._lifecycle.get_instance(CACHE) is not serving:
                raise
            self.outcome.rollbacks += 1
        else:
            raise LifecycleError(f"provider {provider!r} fails its health check and was bound all the same")

    def _count(self, event: Event) -> None:
        if isinstance(event, Bound) and (event.domain, event.key) == CACHE_SLOT and event.previous is not None:
            self._service.release_payments()
            self.outcome.bound.append((event.provider, event.in_flight))

    async def _wait_for_load(self, candidate: Any, new: Any, old: Any) -> None:  # noqa: ARG002 - a hook's arguments
        await self._service.hold_payments(self._plan.in_flight_wanted)


class _Watching:
    """An observer and a pre_swap hook, taken off at the end."""

    def __init__(
        self, lifecycle: LifecycleManager, observer: Callable[[Event], None], hook: Callable[..., Any]
    ) -> None:
        self._lifecycle, self._observer, self._hook = lifecycle, observer, hook
        self._unsubscribe: Callable[[], None] = lambda: None

    def __enter__(self) -> None:
        self._unsubscribe = self._lifecycle.observe(self._observer)
        self._lifecycle.hooks.pre_swap.append(self._hook)

    def __exit__(self, *_: object) -> None:
        self._unsubscribe()
        self._lifecycle.hooks.pre_swap.remove(self._hook)
