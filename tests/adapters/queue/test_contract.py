"""Every provider keeps the family's contract, against the real thing."""

from pathlib import Path
from typing import Any

import pytest

from oneiric.adapters.queue.nats import NATSQueueAdapter, NATSQueueSettings
from oneiric.adapters.queue.redis_streams import RedisStreamsQueueAdapter, RedisStreamsQueueSettings
from oneiric.adapters.queue.sqlite import SQLiteQueueAdapter, SQLiteQueueSettings
from oneiric.adapters.queue.testing import QueueContract, QueueInstance


class TestSQLite(QueueContract):
    @pytest.fixture(autouse=True)
    def _surroundings(self, tmp_path: Path) -> None:
        self.path = tmp_path / "queue.sqlite"

    async def make(self, **settings: Any) -> QueueInstance:
        self.settings = SQLiteQueueSettings(path=self.path, poll_interval_seconds=0.02, **settings)
        queue = SQLiteQueueAdapter(self.settings)
        await queue.init()
        return queue

    async def another(self, queue: QueueInstance) -> QueueInstance:
        beside = SQLiteQueueAdapter(self.settings)
        await beside.init()
        return beside


@pytest.mark.xdist_group("redis")
class TestRedisStreams(QueueContract):
    @pytest.fixture(autouse=True)
    def _surroundings(self, place: Any) -> None:
        self.place = place

    async def make(self, **settings: Any) -> QueueInstance:
        self.settings = RedisStreamsQueueSettings(**self.place.settings, **settings)
        queue = RedisStreamsQueueAdapter(self.settings)
        await queue.init()
        return queue

    async def another(self, queue: QueueInstance) -> QueueInstance:
        beside = RedisStreamsQueueAdapter(self.settings)
        await beside.init()
        return beside


@pytest.mark.xdist_group("nats")
class TestNATS(QueueContract):
    @pytest.fixture(autouse=True)
    def _surroundings(self, corner: Any) -> None:
        self.corner = corner

    async def make(self, **settings: Any) -> QueueInstance:
        self.settings = NATSQueueSettings(**self.corner.settings, **settings)
        queue = NATSQueueAdapter(self.settings)
        await queue.init()
        return queue

    async def another(self, queue: QueueInstance) -> QueueInstance:
        beside = NATSQueueAdapter(self.settings)
        await beside.init()
        return beside
