"""Swapping, leasing and calling."""

import asyncio

from benchmarks.measure import Group, interleaved, interleaved_async
from oneiric.core.lifecycle import LifecycleManager
from oneiric.core.resolution import Candidate, Policy, Resolver

__all__ = ["lifecycle"]


class Component:
    """A component with every step of its own, none of which suspends."""

    def __init__(self) -> None:
        self.ready = False

    async def init(self) -> None:
        """Get ready."""
        self.ready = True

    async def health(self) -> bool:
        """Say yes."""
        return True

    async def call(self) -> int:
        """Do nothing."""
        return 1

    async def cleanup(self) -> None:
        """Stop."""
        self.ready = False


class _Box:
    component: Component


def lifecycle() -> Group:
    """An idle swap against making and binding the same component; leases against ``D[a, b]``."""
    return asyncio.run(_lifecycle())


async def _lifecycle() -> Group:
    resolver = Resolver(Policy())
    for provider in ("one", "two"):
        resolver.register(Candidate(domain="service", key="x", provider=provider, factory=Component))
    async with LifecycleManager(resolver) as manager:
        await manager.activate("service", "x")
        box, live = _Box(), manager.live("service", "x")
        handle = await manager.handle("service", "x")
        table = {("service", "x"): box}

        async def create(size: int) -> None:
            for _ in range(size):
                box.component = Component()

        async def swap(size: int) -> None:
            for _ in range(size):
                await manager.swap("service", "x")

        async def named(size: int) -> None:
            for number in range(size):
                await manager.swap("service", "x", provider=("one", "two")[number & 1])

        async def lease(size: int) -> None:
            for _ in range(size):
                async with manager.lease("service", "x"):
                    pass

        async def call(size: int) -> None:
            for _ in range(size):
                await live.call()

        def floor(size: int, domain: str = "service", key: str = "x") -> None:
            for _ in range(size):
                table[domain, key]

        def acquire(size: int) -> None:
            take, give = handle.acquire, handle.release
            for _ in range(size):
                give(take())

        swaps = await interleaved_async({"create": create, "swap": swap, "named": named}, size=100, rounds=150)
        await manager.swap("service", "x")
        calls = await interleaved_async({"lease": lease, "call": call}, size=1000)
        counts = interleaved({"floor": floor, "acquire": acquire}, size=4000)
    return Group(
        "lifecycle",
        {
            "swap, idle": swaps["swap"] / swaps["create"],
            "acquire and release": counts["acquire"] / counts["floor"],
            "async with lease": calls["lease"] / counts["floor"],
            "live call": calls["call"] / counts["floor"],
        },
        [
            f"create and rebind: {swaps['create']:.0f} ns; swap: {swaps['swap'] / 1000:.1f} µs; "
            f"swap that names another provider: {swaps['named'] / 1000:.1f} µs",
            f"D[a, b]: {counts['floor']:.0f} ns",
        ],
    )
