"""What is the SQLite cache's own: the file, who shares it, how it is bounded."""

import asyncio
import os
import signal
import sqlite3
import stat
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError

from oneiric.adapters.cache._sqlite_file import APPLICATION_ID, journal_mode
from oneiric.adapters.cache.sqlite import SQLiteCacheAdapter, SQLiteCacheSettings


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "state" / "cache.sqlite"


async def opened(path: Path, clock: Any = None, **settings: Any) -> SQLiteCacheAdapter:
    options = {} if clock is None else {"clock": clock}
    cache = SQLiteCacheAdapter(SQLiteCacheSettings(path=path, **settings), **options)
    await cache.init()
    return cache


def owner_threads() -> list[threading.Thread]:
    return [thread for thread in threading.enumerate() if thread.name.startswith("oneiric-cache:")]


@pytest.fixture(autouse=True)
def _no_thread_is_left() -> Iterator[None]:
    yield
    for thread in owner_threads():
        thread.join(10)
    assert owner_threads() == []


def test_what_was_stored_is_there_for_the_next_process(path: Path) -> None:
    async def go() -> None:
        first = await opened(path)
        await first.set("key", {"a": [1]}, ttl=1000)
        await first.cleanup()
        second = await opened(path)
        assert await second.get("key") == {"a": [1]}
        left = await second.ttl("key")
        assert left is not None
        assert 0 < left <= 1000
        await second.cleanup()

    asyncio.run(go())


def test_instances_on_one_file_see_each_others_writes(path: Path) -> None:
    async def go() -> None:
        one, other = await opened(path), await opened(path)
        await one.set("key", 1)
        assert await other.increment("key") == 2
        assert await one.get("key") == 2
        await one.cleanup()
        assert await other.get("key") == 2
        await other.cleanup()

    asyncio.run(go())


COUNTING = """
import asyncio, sys
from oneiric.adapters.cache.sqlite import SQLiteCacheAdapter, SQLiteCacheSettings

async def count():
    cache = SQLiteCacheAdapter(SQLiteCacheSettings(path=sys.argv[1], busy_timeout_seconds=60))
    await cache.init()
    sums = []
    for _ in range(25):
        sums += await asyncio.gather(*(cache.increment("n") for _ in range(10)))
    await cache.cleanup()
    print(*sums)

asyncio.run(count())
"""


def test_increments_of_four_processes_are_all_counted_and_told_apart(path: Path) -> None:
    command = [sys.executable, "-c", COUNTING, str(path)]
    workers = [subprocess.Popen(command, stdout=subprocess.PIPE, text=True) for _ in range(4)]
    told = [int(word) for worker in workers for word in worker.communicate(timeout=100)[0].split()]
    assert sorted(told) == list(range(1, 1001))


WRITING = """
import asyncio, sys
from oneiric.adapters.cache.sqlite import SQLiteCacheAdapter, SQLiteCacheSettings

async def write():
    cache = SQLiteCacheAdapter(SQLiteCacheSettings(path=sys.argv[1]))
    await cache.init()
    while True:
        print(await cache.increment("n"), flush=True)

asyncio.run(write())
"""


@pytest.mark.parametrize("after", [1, 7, 30])
def test_what_was_answered_survives_a_killed_process(path: Path, after: int) -> None:
    with subprocess.Popen([sys.executable, "-c", WRITING, str(path)], stdout=subprocess.PIPE, text=True) as writer:
        assert writer.stdout is not None
        answered = [int(writer.stdout.readline()) for _ in range(after)]
        writer.send_signal(signal.SIGKILL)
        answered += [int(line) for line in writer.stdout if line.endswith("\n")]

    async def go() -> None:
        cache = await opened(path)
        assert await cache.get("n") in (answered[-1], answered[-1] + 1)
        await cache.cleanup()

    asyncio.run(go())


def test_prefixes_share_a_file_without_meeting(path: Path) -> None:
    async def go() -> None:
        prefixes = ["", "a", "a:", "A", "a%", "a_", "é", "\U0010ffff", "a\U0010ffff"]
        caches = {prefix: await opened(path, key_prefix=prefix) for prefix in prefixes}
        for prefix, cache in caches.items():
            await cache.set("|key", prefix)
        for prefix, cache in caches.items():
            assert await cache.get("|key") == prefix
        await caches["a:"].clear()
        await caches["a%"].clear()
        await caches["é"].clear()
        left = {prefix for prefix, cache in caches.items() if await cache.exists("|key")}
        assert left == {"", "a", "A", "a_", "\U0010ffff", "a\U0010ffff"}
        await caches["\U0010ffff"].clear()
        await caches["a"].clear()
        left = {prefix for prefix, cache in caches.items() if await cache.exists("|key")}
        assert left == {"", "A"}
        for cache in caches.values():
            await cache.cleanup()

    asyncio.run(go())


def count(path: Path) -> int:
    with closing(sqlite3.connect(path)) as store:
        number: int = store.execute("SELECT count(*) FROM entries").fetchone()[0]
        assert store.execute("SELECT entries FROM size").fetchone()[0] == number
        return number


def test_a_full_file_drops_the_expired_then_the_oldest_written(path: Path, clock: Any) -> None:
    async def go() -> None:
        cache = await opened(path, clock, max_entries=5)
        await cache.set("short", 1, ttl=10)
        for key in "abcd":
            await cache.set(key, key)
        await cache.set("a", "again")
        assert count(path) == 5
        clock.now += 11
        await cache.set("e", "e")
        assert sorted(await cache.get_many(list("abcde"))) == ["a", "b", "c", "d", "e"]
        await cache.set("f", "f")
        assert sorted(await cache.get_many(list("abcdef"))) == ["a", "c", "d", "e", "f"]
        await cache.set_many({str(number): number for number in range(20)})
        assert count(path) == 5
        assert sorted(await cache.get_many([str(number) for number in range(20)])) == ["15", "16", "17", "18", "19"]
        await cache.cleanup()

    asyncio.run(go())


def test_two_writers_keep_to_one_bound(path: Path) -> None:
    async def go() -> None:
        caches = [await opened(path, max_entries=10, key_prefix=prefix) for prefix in "ab"]
        await asyncio.gather(*(cache.set(f"k{number}", 1) for number in range(50) for cache in caches))
        assert count(path) == 10
        for cache in caches:
            await cache.cleanup()

    asyncio.run(go())


def test_expired_entries_leave_the_file_as_others_are_written(path: Path, clock: Any) -> None:
    async def go() -> None:
        cache = await opened(path, clock)
        await cache.set_many({f"k{number}": 1 for number in range(100)}, ttl=5)
        clock.now += 6
        await cache.set("a", 1)
        await cache.set("b", 1)
        assert count(path) == 2
        await cache.cleanup()

    asyncio.run(go())


def test_file_and_directory_are_their_owners_alone_under_any_umask(path: Path) -> None:
    async def go() -> None:
        cache = await opened(path)
        await cache.set("key", 1)
        modes = [stat.S_IMODE(found.stat().st_mode) for found in (path.parent, *path.parent.iterdir())]
        assert modes == [0o700] + [0o600] * (len(modes) - 1)
        await cache.cleanup()

    before = os.umask(0)
    try:
        asyncio.run(go())
    finally:
        os.umask(before)


def test_a_file_that_others_can_read_is_closed_to_them(path: Path) -> None:
    path.parent.mkdir()
    path.touch(0o644)
    path.chmod(0o644)

    async def go() -> None:
        await (await opened(path)).cleanup()

    asyncio.run(go())
    assert stat.S_IMODE(path.stat().st_mode) == 0o600


def test_the_journal_mode_follows_the_version_of_sqlite(path: Path) -> None:
    assert [journal_mode(version) for version in [(3, 7, 0), (3, 40, 1), (3, 51, 2)]] == ["DELETE"] * 3
    assert [journal_mode(version) for version in [(3, 51, 3), (3, 54, 0), (4, 0, 0)]] == ["WAL"] * 3

    async def go() -> str:
        cache = await opened(path)
        with closing(sqlite3.connect(path)) as store:
            mode: str = store.execute("PRAGMA journal_mode").fetchone()[0]
            assert store.execute("PRAGMA application_id").fetchone()[0] == APPLICATION_ID
        await cache.cleanup()
        return mode

    assert asyncio.run(go()).upper() == journal_mode(sqlite3.sqlite_version_info)


def test_calls_made_together_share_a_transaction(path: Path) -> None:
    async def go() -> None:
        cache = await opened(path)
        await cache.set("key", 1)
        commits = change_counter(path)
        await asyncio.gather(*(cache.set(f"k{number}", number) for number in range(200)))
        assert change_counter(path) - commits < 20
        await cache.cleanup()

    asyncio.run(go())


def change_counter(path: Path) -> int:
    """Return how many transactions changed the file: bytes 24 to 27 of its header."""
    with path.open("rb") as file:
        return int.from_bytes(file.read(28)[24:28])


def test_a_cancelled_call_leaves_the_cache_working(path: Path) -> None:
    async def go() -> None:
        cache = await opened(path)
        for turn in range(20):
            tasks = [asyncio.ensure_future(cache.increment("n")) for _ in range(20)]
            for _ in range(turn % 4):
                await asyncio.sleep(0)
            for task in tasks[::2]:
                task.cancel()
            answers = await asyncio.gather(*tasks, return_exceptions=True)
            assert all(isinstance(answer, int | asyncio.CancelledError) for answer in answers)
            assert all(isinstance(answer, int) for answer in answers[1::2])
        total = await cache.get("n")
        assert 200 <= total <= 400
        await cache.cleanup()

    asyncio.run(go())


def test_cancelled_start_and_end_leave_no_thread(path: Path) -> None:
    async def go() -> None:
        cache = SQLiteCacheAdapter(SQLiteCacheSettings(path=path))
        starting = asyncio.ensure_future(cache.init())
        await asyncio.sleep(0)
        starting.cancel()
        with pytest.raises(asyncio.CancelledError):
            await starting
        await cache.cleanup()
        other = await opened(path)
        waiting = asyncio.ensure_future(other.set("key", 1))
        ending = asyncio.ensure_future(other.cleanup())
        await asyncio.sleep(0)
        ending.cancel()
        with pytest.raises(asyncio.CancelledError):
            await ending
        assert await waiting is True
        await other.cleanup()

    asyncio.run(go())


def test_what_was_asked_before_the_end_is_answered(path: Path) -> None:
    async def go() -> None:
        cache = await opened(path)
        asked = [asyncio.ensure_future(cache.increment("n")) for _ in range(600)]
        await asyncio.sleep(0)
        await asyncio.gather(cache.cleanup(), cache.cleanup())
        assert sorted(await asyncio.gather(*asked)) == list(range(1, 601))

    asyncio.run(go())


@pytest.mark.parametrize(
    "wrong",
    [{"max_entries": 0}, {"default_ttl": 0}, {"busy_timeout_seconds": 0}, {"path": 5}, {"file": "x"}],
    ids=str,
)
def test_wrong_settings_are_refused(wrong: dict[str, Any]) -> None:
    with pytest.raises(ValidationError):
        SQLiteCacheSettings(**wrong)
