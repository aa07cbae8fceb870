"""The worker on the embedded queue: a queue that is swapped, and workers that are killed."""

import asyncio
import json
import signal
import subprocess
import sys
from collections import Counter
from pathlib import Path
from typing import Any

from oneiric.adapters.queue import QUEUE
from oneiric.adapters.queue.sqlite import SQLiteQueueAdapter, SQLiteQueueSettings
from oneiric.core.catalog import discover
from oneiric.core.lifecycle import LifecycleManager
from oneiric.core.resolution import Candidate, Policy, Resolver
from oneiric.runtime.worker import Worker, task_message


class Counting:
    """Counts what it is asked to do, by idempotency key."""

    def __init__(self) -> None:
        self.done: Counter[str] = Counter()
        self.changed = asyncio.Event()

    async def process(self, kind: str, key: str, payload: Any, *, idempotency_key: str, **_: Any) -> None:
        await asyncio.sleep(0.001)
        self.done[idempotency_key] += 1
        self.changed.set()

    async def until(self, count: int) -> None:
        while len(self.done) < count:
            self.changed.clear()
            await self.changed.wait()


def test_each_message_is_worked_on_once_while_its_queue_is_swapped(tmp_path: Path) -> None:
    def settings_for(_candidate: Candidate, _tenant: str | None) -> Any:
        return SQLiteQueueSettings(path=tmp_path / "queue.sqlite")

    async def go() -> None:
        resolver = Resolver(Policy())
        discover(resolver)
        async with LifecycleManager(resolver, settings_for=settings_for) as lifecycle, asyncio.timeout(60):
            work = Counting()
            worker = Worker(lambda: lifecycle.lease(QUEUE), work, wait_seconds=0.05)
            await worker.start()
            for swap in range(5):
                async with lifecycle.lease(QUEUE) as queue:
                    await asyncio.gather(*(queue.enqueue(task_message("t")) for _ in range(40)))
                await lifecycle.swap(QUEUE, provider="sqlite")
                await work.until(40 * swap)
            await work.until(200)
            await worker.stop()
            assert set(work.done.values()) == {1}
            assert worker.info().done == 200
            async with lifecycle.lease(QUEUE) as queue:
                assert await queue.receive() == []

    asyncio.run(go())


CHILD = """
import asyncio, contextlib, sys
from oneiric.adapters.queue.sqlite import SQLiteQueueAdapter, SQLiteQueueSettings
from oneiric.runtime.worker import Worker

class Appending:
    async def process(self, kind, key, payload, *, idempotency_key, **_):
        await asyncio.sleep(0.005)
        print(idempotency_key, flush=True)

async def main(path):
    queue = SQLiteQueueAdapter(SQLiteQueueSettings(path=path, visibility_seconds=1.0))
    await queue.init()

    @contextlib.asynccontextmanager
    async def source():
        yield queue

    worker = Worker(source, Appending(), concurrency=4, wait_seconds=0.05)
    await worker.start()
    await asyncio.Event().wait()

asyncio.run(main(sys.argv[1]))
"""


def test_killed_workers_lose_no_message_and_repeat_only_what_they_held(tmp_path: Path) -> None:
    path, kills, concurrency = tmp_path / "queue.sqlite", 4, 4

    async def fill() -> None:
        queue = SQLiteQueueAdapter(SQLiteQueueSettings(path=path))
        await queue.init()
        await asyncio.gather(*(queue.enqueue(task_message("t", idempotency_key=f"k{n}")) for n in range(200)))
        await queue.cleanup()

    def work(lines: int) -> list[str]:
        with subprocess.Popen([sys.executable, "-c", CHILD, str(path)], stdout=subprocess.PIPE, text=True) as process:
            assert process.stdout is not None
            heard = [process.stdout.readline().strip() for _ in range(lines)]
            process.send_signal(signal.SIGKILL)
            return heard + [line.strip() for line in process.stdout if line.endswith("\n")]

    async def rest() -> dict[str, Any]:
        queue = SQLiteQueueAdapter(SQLiteQueueSettings(path=path))
        await queue.init()
        found: dict[str, Any] = {}
        while deliveries := await queue.receive(max_messages=50, wait_seconds=3):
            for delivery in deliveries:
                assert await queue.ack(delivery)
                found[delivery.payload["idempotency_key"]] = delivery.attempt
        await queue.cleanup()
        return found

    asyncio.run(fill())
    done = [key for kill in range(kills) for key in work(10 + 7 * kill)]
    left = asyncio.run(rest())
    assert set(done) | set(left) == {f"k{n}" for n in range(200)}, json.dumps(sorted(left))
    repeated = sum(count - 1 for count in Counter(done).values()) + len(set(done) & set(left))
    assert repeated <= kills * concurrency
