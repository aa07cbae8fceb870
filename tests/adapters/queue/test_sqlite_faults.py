"""Processes that are killed, files that are locked, damaged, full, foreign or gone: what was answered holds."""

import asyncio
import os
import random
import signal
import sqlite3
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

import pytest

from oneiric.adapters.queue import _sqlite_table as sqlite_table
from oneiric.adapters.queue.sqlite import SQLiteQueueAdapter, SQLiteQueueSettings
from oneiric.core.errors import StoreError

CHANCE = random.Random()  # noqa: S311 - chooses moments and places, and keeps no secret

#: Run by another Python: says on its standard output what it was told is stored or done, each as soon as it was told.
CHILD = """
import asyncio, sys
from oneiric.adapters.queue.sqlite import SQLiteQueueAdapter, SQLiteQueueSettings

async def main(path, role):
    queue = SQLiteQueueAdapter(SQLiteQueueSettings(path=path, visibility_seconds=0.2))
    await queue.init()
    say = lambda text: (sys.stdout.write(text + "\\n"), sys.stdout.flush())
    say("ready")
    async def write(number):
        while True:
            say(await queue.enqueue({"n": number}))
    async def consume(number):
        while True:
            for delivery in await queue.receive(max_messages=3, wait_seconds=1):
                say("got " + delivery.id)
                if role != "hold" and await queue.ack(delivery):
                    say("done " + delivery.id)
    await asyncio.gather(*((write if role == "write" else consume)(n) for n in range(4)))

asyncio.run(main(*sys.argv[1:]))
"""


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "queue.sqlite"


async def opened(path: Path, **settings: Any) -> SQLiteQueueAdapter:
    queue = SQLiteQueueAdapter(SQLiteQueueSettings(path=path, **{"visibility_seconds": 0.2, **settings}))
    await queue.init()
    return queue


@contextmanager
def child(path: Path, role: str) -> Iterator[Any]:
    process = subprocess.Popen([sys.executable, "-c", CHILD, str(path), role], stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    assert process.stdout.readline() == "ready\n"
    yield process
    process.kill()
    process.wait()
    process.stdout.close()


def said_before_its_death(process: Any, lines: int) -> list[str]:
    """Let it say so much, kill it in the midst of its work, and return all it said."""
    heard = [process.stdout.readline().strip() for _ in range(lines)]
    process.send_signal(signal.SIGKILL)
    rest: str = process.stdout.read()
    # The last line may be cut: what was not said whole was not said.
    return heard + rest.split("\n")[:-1]


async def drained(path: Path) -> list[tuple[str, int]]:
    queue = await opened(path, visibility_seconds=60)
    found: list[tuple[str, int]] = []
    while deliveries := await queue.receive(max_messages=100, wait_seconds=2):  # ten times what the dead held them for
        for delivery in deliveries:
            assert await queue.ack(delivery)
            found.append((delivery.id, delivery.attempt))
    await queue.cleanup()
    return found


def is_sound(path: Path) -> bool:
    with closing(sqlite3.connect(path)) as store:
        return bool(store.execute("PRAGMA integrity_check").fetchone()[0] == "ok")


def test_a_queue_that_is_closed_in_the_turn_in_which_a_receive_is_cancelled_gives_its_messages_back(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    taking, gate, take = threading.Event(), threading.Event(), sqlite_table.take

    def slowly(*given: Any) -> Any:
        taking.set()
        gate.wait(60)
        return take(*given)

    async def go() -> None:
        queue = await opened(path, visibility_seconds=600)
        sent = await queue.enqueue({"n": 1})
        monkeypatch.setattr(sqlite_table, "take", slowly)
        asked = asyncio.create_task(queue.receive())
        await asyncio.to_thread(taking.wait, 60)
        asyncio.get_running_loop().call_later(0.05, gate.set)
        asked.cancel()
        await queue.cleanup()
        monkeypatch.undo()
        again = await opened(path)
        assert [(one.id, one.attempt) for one in await again.receive()] == [(sent, 1)]
        await again.cleanup()

    asyncio.run(go())


@pytest.mark.xdist_group("kill")
def test_what_a_killed_writer_was_told_is_stored_is_there_once(path: Path) -> None:
    told: list[str] = []
    for _ in range(6):
        with child(path, "write") as process:
            told += said_before_its_death(process, CHANCE.randint(1, 40))
    found = [message_id for message_id, _ in asyncio.run(drained(path))]
    assert len(found) == len(set(found))
    assert set(told) <= set(found)
    # Each of its four writers may have had one stored that it was not told of.
    assert len(found) - len(told) <= 4 * 6
    assert is_sound(path)


@pytest.mark.xdist_group("kill")
def test_a_killed_consumer_loses_nothing_and_what_it_acknowledged_does_not_come_again(path: Path) -> None:
    async def fill() -> set[str]:
        queue = await opened(path)
        sent = await asyncio.gather(*(queue.enqueue({"n": number}) for number in range(400)))
        await queue.cleanup()
        return set(sent)

    sent = asyncio.run(fill())
    said: list[str] = []
    for _ in range(5):
        with child(path, "consume") as process:
            said += said_before_its_death(process, CHANCE.randint(1, 60))
    done = [line.removeprefix("done ") for line in said if line.startswith("done ")]
    left = dict(asyncio.run(drained(path)))
    assert len(done) == len(set(done))
    assert not set(done) & set(left)
    # An acknowledgement that was committed but not yet said is neither.
    assert len(sent - set(done) - set(left)) <= 4 * 5
    assert is_sound(path)


@pytest.mark.xdist_group("kill")
def test_a_message_that_a_killed_consumer_held_comes_again(path: Path) -> None:
    async def go() -> None:
        queue = await opened(path)
        sent = await queue.enqueue({"n": 1})
        with child(path, "hold") as process:
            assert said_before_its_death(process, 1) == [f"got {sent}"]
        (delivery,) = await queue.receive(wait_seconds=20)
        assert (delivery.id, delivery.attempt) == (sent, 2)
        await queue.cleanup()

    asyncio.run(go())


@contextmanager
def locked(path: Path) -> Iterator[None]:
    with closing(sqlite3.connect(path, isolation_level=None)) as other:
        other.execute("BEGIN EXCLUSIVE")
        yield
        other.execute("ROLLBACK")


def test_a_locked_file_is_said_to_be_and_serves_again_when_free(path: Path) -> None:
    async def go() -> None:
        queue = await opened(path, busy_timeout_seconds=0.05, visibility_seconds=30)
        await queue.enqueue({"n": 1})
        (delivery,) = await queue.receive()
        with locked(path):
            for call in (queue.enqueue({}), queue.receive(), queue.ack(delivery), queue.health(), queue.depth()):
                with pytest.raises(StoreError, match="locked") as raised:
                    await call
                assert raised.value.kind == "locked"
        assert await queue.ack(delivery) is True
        await queue.cleanup()

    asyncio.run(go())


def test_a_full_file_refuses_a_message_and_keeps_what_it_has(path: Path) -> None:
    async def go() -> None:
        queue = await opened(path, visibility_seconds=30)
        kept = await queue.enqueue({"n": 1})
        assert queue._owner is not None  # inside on purpose: the limit is the connection's
        await queue._owner.ask(lambda store: store.execute("PRAGMA max_page_count = 20").fetchall(), writes=False)
        with pytest.raises(StoreError, match="full") as raised:
            await queue.enqueue({"n": "x" * 100_000})
        assert raised.value.kind == "full"
        (delivery,) = await queue.receive(max_messages=10)
        assert delivery.id == kept
        assert await queue.ack(delivery) is True
        await queue.cleanup()

    asyncio.run(go())


@pytest.mark.parametrize("seed", range(5))
def test_a_damaged_file_is_an_error_and_is_left_as_it_is(path: Path, seed: int) -> None:
    async def fill() -> None:
        queue = await opened(path)
        for _ in range(3):
            await asyncio.gather(*(queue.enqueue({"n": "x" * 500}) for _ in range(50)))
        await queue.cleanup()

    asyncio.run(fill())
    data, chance = bytearray(path.read_bytes()), random.Random(seed)  # noqa: S311 - as above
    for _ in range(40):
        at = chance.randrange(4096, len(data) - 512)
        data[at : at + 512] = chance.randbytes(512)
    path.write_bytes(data)
    with pytest.raises(StoreError, match=r"corrupt|not a database") as raised:
        asyncio.run(opened(path))
    assert raised.value.kind == "corrupt"
    assert path.read_bytes() == data
    assert [found.name for found in path.parent.iterdir()] == [path.name]


def test_a_file_of_somebody_else_is_refused_and_left_as_it_is(path: Path) -> None:
    with closing(sqlite3.connect(path)) as other:
        other.execute("CREATE TABLE theirs (x)")
        other.commit()
    before = path.read_bytes()
    with pytest.raises(StoreError, match="not a queue") as raised:
        asyncio.run(opened(path))
    assert raised.value.kind == "foreign"
    assert path.read_bytes() == before


def test_a_file_that_was_moved_away_is_unhealthy(path: Path) -> None:
    async def go() -> None:
        queue = await opened(path)
        assert await queue.health() is True
        await asyncio.to_thread(path.rename, path.with_suffix(".moved"))
        with pytest.raises(StoreError):
            await queue.health()
        await queue.cleanup()

    asyncio.run(go())


def test_only_its_owner_can_read_it(path: Path) -> None:
    before = os.umask(0)
    try:
        nested = path.parent / "new" / "queue.sqlite"
        asyncio.run(drained(nested))
    finally:
        os.umask(before)
    assert nested.parent.stat().st_mode & 0o777 == 0o700
    assert [found.stat().st_mode & 0o777 for found in nested.parent.iterdir()] == [0o600]


def test_queues_of_one_file_do_not_meet(path: Path) -> None:
    async def go() -> None:
        first, second = await opened(path, queue="a"), await opened(path, queue="b")
        sent = await first.enqueue({"n": 1}, dedup_id="x")
        assert await second.receive() == []
        assert await second.enqueue({"n": 2}, dedup_id="x") != sent
        (delivery,) = await first.receive(max_messages=5)
        await first.dead_letter(delivery, "why")
        assert await second.dead_letters() == []
        assert await second.requeue(sent) is False
        assert await second.discard(sent) is False
        await first.cleanup()
        await second.cleanup()

    asyncio.run(go())


def test_after_a_restart_of_the_machine_delays_go_on_and_leases_have_ended(path: Path) -> None:
    async def go() -> None:
        settings = SQLiteQueueSettings(path=path, visibility_seconds=1000)
        queue = SQLiteQueueAdapter(settings, clock=lambda: 50_000.0, wall=lambda: 1e9, boot="first")
        await queue.init()
        held = await queue.enqueue({"held": True})
        await queue.receive()
        delayed = await queue.enqueue({"delayed": True}, delay_seconds=100)
        await queue.cleanup()

        now = [5.0]
        queue = SQLiteQueueAdapter(settings, clock=lambda: now[0], wall=lambda: 1e9 + 60, boot="second")
        await queue.init()
        assert [one.id for one in await queue.receive(max_messages=9)] == [held]
        now[0] += 39
        assert await queue.receive() == []
        now[0] += 2
        assert [one.id for one in await queue.receive()] == [delayed]
        await queue.cleanup()

    asyncio.run(go())
