"""The worker on every provider of the queue family: what it does must not depend on whose queue it is."""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path
from typing import Any
from uuid import uuid4

import nats
import nats.js.errors
import pytest
import redis

from oneiric.adapters.queue import ManagedQueue
from oneiric.adapters.queue.nats import NATSQueueAdapter, NATSQueueSettings
from oneiric.adapters.queue.redis_streams import RedisStreamsQueueAdapter, RedisStreamsQueueSettings
from oneiric.adapters.queue.sqlite import SQLiteQueueAdapter, SQLiteQueueSettings
from oneiric.core import Secret
from oneiric.core.errors import ResolutionError
from oneiric.runtime.retry import RetryPolicy
from oneiric.runtime.worker import Worker, task_message

type Make = Callable[[], Any]


@pytest.fixture
def sqlite_queue(tmp_path: Path) -> Make:
    return lambda: SQLiteQueueAdapter(SQLiteQueueSettings(path=tmp_path / "queue.sqlite"))


@pytest.fixture
def redis_queue(redis_url: str) -> Iterator[Make]:
    stream = f"oneiric-test:{uuid4().hex}"
    yield lambda: RedisStreamsQueueAdapter(RedisStreamsQueueSettings(url=Secret(redis_url), stream=stream, block_ms=50))
    with redis.Redis.from_url(redis_url) as client:
        for pattern in (stream, f"{{{stream}}}:*"):
            for name in client.scan_iter(match=pattern, count=1000):
                client.unlink(name)


@pytest.fixture
def nats_queue(nats_url: str) -> Iterator[Make]:
    queue = f"test-{uuid4().hex}"
    yield lambda: NATSQueueAdapter(NATSQueueSettings(servers=(Secret(nats_url),), queue=queue))

    async def delete() -> None:
        client = await nats.connect(nats_url)
        for stream in (f"oneiric-queue-{queue}", f"oneiric-queue-{queue}-dead"):
            with contextlib.suppress(nats.js.errors.NotFoundError):
                await client.jetstream().delete_stream(stream)
        await client.close()

    asyncio.run(delete())


class Errands:
    """Does tasks: ``flaky`` the third time, ``poison`` once it is healed, ``unknown`` never."""

    def __init__(self) -> None:
        self.done: list[str] = []
        self.tries: list[str] = []
        self.is_healed = False
        self.changed = asyncio.Event()

    async def process(self, kind: str, key: str, payload: Any, *, idempotency_key: str, **_: Any) -> None:
        self.tries.append(key)
        self.changed.set()
        if key == "unknown":
            raise ResolutionError("no task unknown")
        if key == "flaky" and self.tries.count(key) < 3:
            raise ConnectionError("not yet")
        if key == "poison" and not self.is_healed:
            raise ValueError("cannot be done")
        self.done.append(f"{key}")

    async def until(self, *done: str) -> None:
        while not set(done) <= set(self.done):
            self.changed.clear()
            await self.changed.wait()


async def dead_after(queue: ManagedQueue, count: int) -> dict[str, Any]:
    """Return the dead letters by their task; the worker writes them after the task has failed."""
    while True:
        found = await queue.dead_letters()
        if len(found) >= count:
            return {letter.payload["task"]: letter for letter in found if letter.payload}
        await asyncio.sleep(0.01)


@pytest.mark.parametrize("provider", ["sqlite", "redis", "nats"])
def test_poison_never_blocks_the_line_and_is_done_when_it_is_requeued(
    provider: str, request: pytest.FixtureRequest
) -> None:
    make: Make = request.getfixturevalue(f"{provider}_queue")
    asyncio.run(poison_in_the_line(make()))


async def poison_in_the_line(queue: Any) -> None:
    await queue.init()

    @contextlib.asynccontextmanager
    async def source() -> AsyncIterator[Any]:
        yield queue

    errands = Errands()
    retry = RetryPolicy(attempts=3, base_delay_seconds=0.01, max_delay_seconds=0.02)
    worker = Worker(source, errands, concurrency=2, retry=retry, wait_seconds=0.05)
    async with asyncio.timeout(60):
        for key in ("poison", "unknown", "flaky", *(f"plain{n}" for n in range(20))):
            await queue.enqueue(task_message(key))
        await worker.start()
        await errands.until("flaky", *(f"plain{n}" for n in range(20)))
        dead = await dead_after(queue, 2)
        assert "cannot be done" in dead["poison"].reason
        assert "no task unknown" in dead["unknown"].reason
        assert (errands.tries.count("poison"), errands.tries.count("unknown")) == (3, 1)

        errands.is_healed = True
        assert await queue.requeue(dead["poison"].id)
        await errands.until("poison")
        assert await queue.discard(dead["unknown"].id)
        await worker.stop()
        depth = await queue.depth()
        assert (depth.waiting, depth.held, depth.dead) == (0, 0, 0)
        assert len(errands.done) == 22
    await queue.cleanup()
