"""A lifecycle swaps one cache for another while callers use the key."""

import asyncio
from pathlib import Path
from typing import Any

from oneiric.adapters.cache import CACHE
from oneiric.adapters.cache.sqlite import SQLiteCacheSettings
from oneiric.core.catalog import discover
from oneiric.core.lifecycle import LifecycleManager
from oneiric.core.resolution import Candidate, Policy, Resolver


def test_no_call_is_lost_while_memory_and_sqlite_take_turns(tmp_path: Path) -> None:
    def settings_for(candidate: Candidate, _tenant: str | None) -> Any:
        if candidate.provider == "sqlite":
            return SQLiteCacheSettings(path=tmp_path / "cache.sqlite")
        return None

    async def go() -> None:
        resolver = Resolver(Policy())
        discover(resolver)
        async with LifecycleManager(resolver, settings_for=settings_for) as lifecycle:
            calls = 0
            done, called = asyncio.Event(), asyncio.Event()

            async def call() -> None:
                nonlocal calls
                while not done.is_set():
                    async with lifecycle.lease(CACHE) as cache:
                        await cache.set("key", [calls])
                        await asyncio.sleep(0)
                        assert await cache.get("key") is not None
                    calls += 1
                    called.set()

            callers = [asyncio.ensure_future(call()) for _ in range(8)]
            for number in range(20):
                await lifecycle.swap(CACHE, provider=("sqlite", "memory")[number % 2])
                called.clear()
                await called.wait()
            done.set()
            await asyncio.gather(*callers)
            assert calls >= 20

    asyncio.run(go())
