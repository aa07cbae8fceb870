"""What is the memory cache's own: its bound, its bookkeeping, its settings."""

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

import pytest
from pydantic import ValidationError

from oneiric.adapters.cache.memory import MemoryCacheAdapter, MemoryCacheSettings
from oneiric.core.errors import InactiveError


def run(clock: Any, use: Callable[[MemoryCacheAdapter], Awaitable[None]], **settings: Any) -> None:
    async def go() -> None:
        cache = MemoryCacheAdapter(MemoryCacheSettings(**settings), clock=clock)
        await cache.init()
        await use(cache)
        await cache.cleanup()

    asyncio.run(go())


def test_it_is_bounded_unless_told_otherwise() -> None:
    assert MemoryCacheSettings().max_entries == 10_000
    assert MemoryCacheSettings(max_entries=None).max_entries is None


def test_a_read_counts_as_a_use_and_looking_does_not(clock: Any) -> None:
    async def use(cache: MemoryCacheAdapter) -> None:
        for key in "abc":
            await cache.set(key, key)
        await cache.get("a")
        await cache.exists("b")
        await cache.ttl("b")
        await cache.set("d", "d")
        assert sorted(await cache.get_many(["a", "b", "c", "d"])) == ["a", "c", "d"]

    run(clock, use, max_entries=3)


def test_the_default_lifetime_holds_where_none_is_given(clock: Any) -> None:
    async def use(cache: MemoryCacheAdapter) -> None:
        await cache.set("default", 1)
        await cache.set("own", 1, ttl=20)
        await cache.set("forever", 1, ttl=float("inf"))
        clock.now += 11
        assert sorted(await cache.get_many(["default", "own", "forever"])) == ["forever", "own"]

    run(clock, use, default_ttl=10)


def test_expired_entries_leave_by_themselves_as_others_are_written(clock: Any) -> None:
    async def use(cache: MemoryCacheAdapter) -> None:
        for number in range(1000):
            await cache.set(f"old{number}", 1, ttl=5)
        clock.now += 6
        for number in range(100):
            await cache.set(f"new{number}", 1)
        # Inside on purpose: what is expired cannot be seen from outside, only what it occupies.
        assert len(cache._entries) == 100
        assert not cache._deadlines

    run(clock, use)


def test_bookkeeping_does_not_grow_with_rewrites(clock: Any) -> None:
    async def use(cache: MemoryCacheAdapter) -> None:
        for number in range(5000):
            await cache.set("key", number, ttl=1000 + number)
            await cache.touch("key", ttl=2000 + number)
            await cache.set("gone", number, ttl=50)
            await cache.delete("gone")
        assert len(cache._deadlines) < 200

    run(clock, use)


def test_it_must_be_initialised_and_says_so() -> None:
    async def go() -> None:
        cache = MemoryCacheAdapter(MemoryCacheSettings())
        for call in (cache.get("key"), cache.set("key", 1), cache.health()):
            with pytest.raises(InactiveError, match="not initialised"):
                await call
        await cache.init()
        await cache.init()
        assert await cache.get("key") is None

    asyncio.run(go())


@pytest.mark.parametrize(
    "wrong",
    [{"max_entries": 0}, {"default_ttl": 0}, {"default_ttl": -1}, {"default_ttl": float("nan")}, {"ttl": 5}],
    ids=str,
)
def test_wrong_settings_are_refused(wrong: dict[str, Any]) -> None:
    with pytest.raises(ValidationError):
        MemoryCacheSettings(**wrong)
