"""Every provider keeps the family's contract, against the real thing."""

from pathlib import Path
from typing import Any

import pytest

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
