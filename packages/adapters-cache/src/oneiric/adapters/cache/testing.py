"""The contract every cache keeps, as tests that any provider can inherit.

::

    from oneiric.adapters.cache.testing import CacheContract

    class TestMyCache(CacheContract):
        async def make(self): ...              # a new, initialised and empty cache
        async def elapse(self, cache, seconds): ...   # let that much time pass for it

Each test runs in an event loop of its own; no pytest plugin is needed. The extra ``testing`` brings pytest.
"""
# ruff: noqa: S101, D102 - these are tests, shipped: they assert, and each one's name is its docstring

import asyncio
import math
from abc import ABC, abstractmethod
from collections.abc import Awaitable, Callable
from typing import Any, Protocol

import pytest

from oneiric.adapters.cache import Cache
from oneiric.core.errors import InactiveError, RejectedError

__all__ = ["CacheContract", "CacheInstance", "contract"]

#: Far longer than any answer takes: a test that hangs fails instead.
_DEADLINE_SECONDS = 30.0


class CacheInstance(Cache, Protocol):
    """A cache with its lifecycle."""

    async def init(self) -> None:
        """Open it."""

    async def health(self) -> bool:
        """Say whether it can serve."""

    async def cleanup(self) -> None:
        """Close it."""


type _Check = Callable[[Any, Any], Awaitable[None]]


def contract(check: _Check) -> Callable[[Any], None]:
    """Turn ``async def test_x(self, cache)`` into a test that makes a cache, runs, and cleans up."""

    def test(self: "CacheContract") -> None:
        async def run() -> None:
            async with asyncio.timeout(_DEADLINE_SECONDS):
                cache = await self.make()
                try:
                    await check(self, cache)
                finally:
                    await cache.cleanup()

        with asyncio.Runner() as runner:
            runner.run(run())

    test.__name__, test.__doc__, test.__module__ = check.__name__, check.__doc__, check.__module__
    test.__qualname__ = check.__qualname__
    return test


_ROUND_TRIPS: tuple[Any, ...] = (
    None, True, False, 0, 1, -1, 2**63 - 1, -(2**63), 10**40, 0.0, -0.5, 1e300, 5e-324,
    "", "text", "5", "null", "é\x00\n\U0001f600", "\ud83d\ude00", b"", b"\x00\xff", b"5",
    [], {}, [1, "1", None, [True, 1.0]], {"": {"a b": [{}]}, "1": 1},
)  # fmt: skip

_REFUSED: tuple[Any, ...] = (
    (1, 2), {1, 2}, object(), {1: "a"}, {None: 1}, [(1,)], [b"bytes"], math.nan, math.inf, [-math.inf],
    bytearray(b"x"), 1j,
)  # fmt: skip


class CacheContract(ABC):
    """What holds for every cache. Inherit, and say how to make one and how its time passes."""

    @abstractmethod
    async def make(self) -> CacheInstance:
        """Return a new cache: initialised, empty, and sharing nothing with the one made before."""

    @abstractmethod
    async def elapse(self, cache: CacheInstance, seconds: float) -> None:
        """Let *seconds* pass for *cache*, by its own clock; never by sleeping."""

    @contract
    async def test_it_satisfies_the_protocol_is_healthy_and_may_be_initialised_again(
        self, cache: CacheInstance
    ) -> None:
        assert isinstance(cache, Cache)
        assert await cache.health() is not False
        await cache.set("key", 1)
        await cache.init()
        assert await cache.get("key") == 1

    @contract
    async def test_a_miss_gives_the_default_and_a_stored_none_does_not(self, cache: CacheInstance) -> None:
        missing = object()
        assert await cache.get("key") is None
        assert await cache.get("key", missing) is missing
        await cache.set("key", None)
        assert await cache.get("key", missing) is None
        assert await cache.exists("key")

    @contract
    async def test_every_value_comes_back_equal_and_of_its_type(self, cache: CacheInstance) -> None:
        for value in _ROUND_TRIPS:
            assert await cache.set("key", value) is True
            found = await cache.get("key")
            assert (found, type(found)) == (value, type(value))
            assert repr(found) == repr(value)
        await cache.set_many({str(number): value for number, value in enumerate(_ROUND_TRIPS)})
        found = await cache.get_many([str(number) for number in range(len(_ROUND_TRIPS))])
        assert repr(list(found.values())) == repr(list(_ROUND_TRIPS))

    @contract
    async def test_what_would_not_come_back_equal_is_refused_and_changes_nothing(self, cache: CacheInstance) -> None:
        await cache.set("key", "before")
        for value in _REFUSED:
            with pytest.raises(RejectedError):
                await cache.set("key", value)
            with pytest.raises(RejectedError):
                await cache.set_many({"other": 1, "key": value})
        assert await cache.get_many(["key", "other"]) == {"key": "before"}

    @contract
    async def test_a_container_is_nobody_elses(self, cache: CacheInstance) -> None:
        mine = {"list": [1]}
        await cache.set("key", mine)
        mine["list"].append(2)
        theirs = await cache.get("key")
        assert theirs == {"list": [1]}
        theirs["list"].append(3)
        assert await cache.get("key") == {"list": [1]}

    @contract
    async def test_any_text_is_a_key_and_keys_are_distinct(self, cache: CacheInstance) -> None:
        keys = [*"kK _%\\\x00\né", "k ", "a:b", "a*", "a?", "[a]", "k\x00", "e\u0301", "\U0010ffff", "x" * 10_000]
        for number, key in enumerate(keys):
            await cache.set(key, number)
        assert await cache.get_many(keys) == {key: number for number, key in enumerate(keys)}
        assert await cache.delete("a*")
        assert await cache.delete("%")
        assert len(await cache.get_many(keys)) == len(keys) - 2

    @contract
    async def test_what_is_no_key_is_refused_everywhere(self, cache: CacheInstance) -> None:
        wrong: Any
        for wrong in (None, 5, b"key", "", "\ud800", "x" * 70_000, ["key"]):
            calls = (cache.get, cache.delete, cache.exists, cache.touch, cache.ttl, cache.increment)
            for call in calls:
                with pytest.raises(RejectedError):
                    await call(wrong)
            with pytest.raises(RejectedError):
                await cache.set(wrong, 1)
        for many in (cache.get_many, cache.delete_many):
            with pytest.raises(RejectedError):
                await many("key")

    @contract
    async def test_set_replaces_value_and_lifetime(self, cache: CacheInstance) -> None:
        await cache.set("key", 1, ttl=10)
        await cache.set("key", "two")
        assert (await cache.get("key"), await cache.ttl("key")) == ("two", math.inf)

    @contract
    async def test_an_entry_is_gone_after_its_lifetime_and_not_before(self, cache: CacheInstance) -> None:
        await cache.set("key", "value", ttl=50.5)
        await cache.set("container", [1], ttl=50.5)
        await cache.set("forever", 1, ttl=math.inf)
        await self.elapse(cache, 50)
        assert await cache.get_many(["key", "container"]) == {"key": "value", "container": [1]}
        await self.elapse(cache, 1)
        assert await cache.get("key", "missing") == "missing"
        assert not await cache.exists("key")
        assert await cache.ttl("key") is None
        assert not await cache.delete("key")
        assert not await cache.touch("key")
        assert await cache.get_many(["key", "container", "forever"]) == {"forever": 1}

    @contract
    async def test_ttl_tells_what_is_left(self, cache: CacheInstance) -> None:
        assert await cache.ttl("key") is None
        await cache.set("key", 1)
        assert await cache.ttl("key") == math.inf
        await cache.set("key", 1, ttl=100)
        left = await cache.ttl("key")
        assert left is not None
        assert 0 < left <= 100
        await self.elapse(cache, 60)
        left = await cache.ttl("key")
        assert left is not None
        assert 0 < left <= 40

    @contract
    async def test_the_shortest_lifetime_is_accepted(self, cache: CacheInstance) -> None:
        await cache.set("key", 1, ttl=1e-9)
        await self.elapse(cache, 1)
        assert not await cache.exists("key")

    @contract
    async def test_a_lifetime_that_is_none_is_refused_and_changes_nothing(self, cache: CacheInstance) -> None:
        await cache.set("key", 1, ttl=100)
        wrong: Any
        for wrong in (0, -1, -0.5, math.nan, -math.inf, 1e12, "5", True):
            for call in (
                cache.set("key", 2, ttl=wrong),
                cache.touch("key", ttl=wrong),
                cache.increment("key", ttl=wrong),
                cache.set_many({"key": 2}, ttl=wrong),
            ):
                with pytest.raises(RejectedError):
                    await call
        left = await cache.ttl("key")
        assert left is not None
        assert left > 50
        assert await cache.get("key") == 1

    @contract
    async def test_touch_gives_a_new_lifetime_and_keeps_the_value(self, cache: CacheInstance) -> None:
        assert not await cache.touch("key", ttl=5)
        await cache.set("key", ["v"], ttl=10)
        assert await cache.touch("key", ttl=100)
        await self.elapse(cache, 50)
        assert await cache.get("key") == ["v"]
        assert await cache.touch("key", ttl=math.inf)
        assert await cache.ttl("key") == math.inf
        assert await cache.touch("key")
        assert await cache.touch("key", ttl=5)
        await self.elapse(cache, 6)
        assert not await cache.exists("key")

    @contract
    async def test_only_if_absent_stores_once_until_it_is_gone(self, cache: CacheInstance) -> None:
        assert await cache.set("lock", "a", ttl=10, only_if_absent=True) is True
        assert await cache.set("lock", "b", only_if_absent=True) is False
        left = await cache.ttl("lock")
        assert (await cache.get("lock"), left is not None and left <= 10) == ("a", True)
        await self.elapse(cache, 11)
        assert await cache.set("lock", "c", only_if_absent=True) is True
        await cache.set("none", None)
        assert await cache.set("none", 1, only_if_absent=True) is False

    @contract
    async def test_one_of_many_callers_is_told_that_it_stored(self, cache: CacheInstance) -> None:
        told = await asyncio.gather(*(cache.set("lock", n, only_if_absent=True) for n in range(50)))
        assert told.count(True) == 1
        assert await cache.get("lock") == told.index(True)

    @contract
    async def test_delete_tells_whether_it_was_there(self, cache: CacheInstance) -> None:
        await cache.set("key", None)
        assert await cache.delete("key") is True
        assert await cache.delete("key") is False
        await cache.set_many({"a": 1, "b": 2, "c": 3})
        assert await cache.delete_many(iter(["a", "b", "a", "missing"])) == 2
        assert await cache.get_many(["a", "b", "c"]) == {"c": 3}

    @contract
    async def test_increment_counts_from_zero_and_up_and_down(self, cache: CacheInstance) -> None:
        assert await cache.increment("n") == 1
        assert await cache.increment("n", 41) == 42
        assert await cache.increment("n", -50) == -8
        assert await cache.get("n") == -8
        await cache.set("n", 2**63 - 2)
        assert await cache.increment("n") == 2**63 - 1

    @contract
    async def test_concurrent_increments_are_all_counted_and_told_apart(self, cache: CacheInstance) -> None:
        sums = await asyncio.gather(*(cache.increment("n", ttl=100) for _ in range(200)))
        assert sorted(sums) == list(range(1, 201))

    @contract
    async def test_increment_refuses_what_is_no_integer_and_what_does_not_fit(self, cache: CacheInstance) -> None:
        for value in ("5", "text", 1.0, True, None, [1], b"5", 2**63, -(2**63) - 1):
            await cache.set("key", value)
            with pytest.raises(RejectedError):
                await cache.increment("key")
            assert await cache.get("key") == value
        await cache.set("key", 2**63 - 1)
        with pytest.raises(RejectedError):
            await cache.increment("key")
        assert await cache.get("key") == 2**63 - 1
        wrong: Any
        for wrong in (1.5, "1", True, None, 2**63):
            with pytest.raises(RejectedError):
                await cache.increment("new", wrong)
        assert not await cache.exists("new")

    @contract
    async def test_a_counter_keeps_the_lifetime_it_was_created_with(self, cache: CacheInstance) -> None:
        await cache.increment("n", ttl=10)
        await self.elapse(cache, 6)
        assert await cache.increment("n", ttl=10) == 2
        await self.elapse(cache, 6)
        assert await cache.increment("n", ttl=10) == 1
        await cache.set("stays", 1)
        await cache.increment("stays", ttl=10)
        assert await cache.ttl("stays") == math.inf

    @contract
    async def test_many_of_nothing_is_nothing(self, cache: CacheInstance) -> None:
        await cache.set_many({})
        assert await cache.get_many([]) == {}
        assert await cache.delete_many([]) == 0

    @contract
    async def test_set_many_gives_each_the_lifetime(self, cache: CacheInstance) -> None:
        await cache.set_many({"a": 1, "b": [2]}, ttl=10)
        await self.elapse(cache, 9)
        assert await cache.get_many(iter(["b", "a", "a", "missing"])) == {"b": [2], "a": 1}
        await self.elapse(cache, 2)
        assert await cache.get_many(["a", "b"]) == {}

    @contract
    async def test_clear_leaves_nothing_and_the_cache_usable(self, cache: CacheInstance) -> None:
        await cache.set_many({f"key{n}": n for n in range(2500)}, ttl=1000)
        await cache.set("other", "x")
        await cache.clear()
        assert await cache.get_many([*(f"key{n}" for n in range(2500)), "other"]) == {}
        await cache.set("key1", 1)
        assert await cache.get("key1") == 1

    @contract
    async def test_a_closed_cache_says_so_on_every_call_and_closes_again(self, cache: CacheInstance) -> None:
        await cache.set("key", 1)
        await cache.cleanup()
        await cache.cleanup()
        for call in (
            cache.get("key"), cache.get("missing"), cache.set("key", 1), cache.delete("key"), cache.exists("key"),
            cache.touch("key"), cache.ttl("key"), cache.increment("key"), cache.get_many(["key"]), cache.get_many([]),
            cache.set_many({"key": 1}), cache.set_many({}), cache.delete_many(["key"]), cache.delete_many([]),
            cache.clear(), cache.health(), cache.init(),
        ):  # fmt: skip
            with pytest.raises(InactiveError, match="closed"):
                await call
