"""Every provider keeps the family's contract, against the real thing."""

import asyncio
from pathlib import Path
from typing import Any

import pytest

from oneiric.adapters.cache.memory import MemoryCacheAdapter, MemoryCacheSettings
from oneiric.adapters.cache.redis import RedisCacheAdapter, RedisCacheSettings
from oneiric.adapters.cache.sqlite import SQLiteCacheAdapter, SQLiteCacheSettings
from oneiric.adapters.cache.testing import CacheContract, CacheInstance


class TestMemory(CacheContract):
    @pytest.fixture(autouse=True)
    def _surroundings(self, clock: Any) -> None:
        self.clock = clock

    async def make(self) -> CacheInstance:
        cache = MemoryCacheAdapter(MemoryCacheSettings(), clock=self.clock)
        await cache.init()
        return cache

    async def elapse(self, cache: CacheInstance, seconds: float) -> None:
        self.clock.now += seconds


class TestSQLite(CacheContract):
    @pytest.fixture(autouse=True)
    def _surroundings(self, clock: Any, tmp_path: Path) -> None:
        self.clock, self.path = clock, tmp_path / "cache.sqlite"

    async def make(self) -> CacheInstance:
        cache = SQLiteCacheAdapter(SQLiteCacheSettings(path=self.path), clock=self.clock)
        await cache.init()
        return cache

    async def elapse(self, cache: CacheInstance, seconds: float) -> None:
        self.clock.now += seconds


class TestSQLiteUnderAPrefix(TestSQLite):
    async def make(self) -> CacheInstance:
        cache = SQLiteCacheAdapter(SQLiteCacheSettings(path=self.path, key_prefix="é%_*:"), clock=self.clock)
        await cache.init()
        return cache


@pytest.mark.xdist_group("redis")
class TestRedis(CacheContract):
    @pytest.fixture(autouse=True)
    def _surroundings(self, place: Any) -> None:
        self.place = place

    async def make(self) -> CacheInstance:
        cache = RedisCacheAdapter(RedisCacheSettings(**self.place.settings))
        await cache.init()
        return cache

    async def elapse(self, cache: CacheInstance, seconds: float) -> None:
        await asyncio.to_thread(self.place.elapse, seconds)
