"""A file that is locked, damaged, full, foreign or gone is a `StoreError` in a sentence, and never worse."""

import asyncio
import logging
import os
import random
import sqlite3
import subprocess
import sys
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

import pytest

from oneiric.adapters.cache.sqlite import SQLiteCacheAdapter, SQLiteCacheSettings
from oneiric.core.errors import OneiricError, StoreError


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "cache.sqlite"


async def opened(path: Path, **settings: Any) -> SQLiteCacheAdapter:
    cache = SQLiteCacheAdapter(SQLiteCacheSettings(path=path, **settings))
    await cache.init()
    return cache


def filled(path: Path, entries: int = 200) -> None:
    async def go() -> None:
        cache = await opened(path)
        await cache.set_many({f"key{number}": f"value{number}" * 20 for number in range(entries)})
        await cache.cleanup()

    asyncio.run(go())


@contextmanager
def locked(path: Path) -> Iterator[None]:
    with closing(sqlite3.connect(path, isolation_level=None)) as other:
        other.execute("BEGIN EXCLUSIVE")
        yield
        other.execute("ROLLBACK")


def test_a_locked_file_is_said_to_be_and_serves_again_when_free(path: Path) -> None:
    async def go() -> None:
        cache = await opened(path, busy_timeout_seconds=0.05)
        await cache.set("key", 1)
        with locked(path):
            for call in (cache.set("key", 2), cache.get("key"), cache.health(), cache.clear()):
                with pytest.raises(StoreError, match="locked"):
                    await call
            together = await asyncio.gather(*(cache.increment("key") for _ in range(5)), return_exceptions=True)
            assert [type(error) for error in together] == [StoreError] * 5
            assert len({id(error) for error in together}) == 5
        assert await cache.increment("key") == 2
        await cache.cleanup()

    asyncio.run(go())


def test_opening_a_locked_file_is_an_error_and_not_a_hang(path: Path) -> None:
    filled(path)
    with locked(path), pytest.raises(StoreError, match="locked"):
        asyncio.run(opened(path, busy_timeout_seconds=0.05))


def test_the_event_loop_goes_on_while_a_call_waits_for_the_lock(path: Path) -> None:
    async def go() -> None:
        cache = await opened(path, busy_timeout_seconds=60)
        with locked(path):
            waiting = asyncio.ensure_future(cache.set("key", 1))
            for _ in range(100):
                await asyncio.sleep(0)
            assert not waiting.done()
        assert await waiting is True
        await cache.cleanup()

    asyncio.run(go())


def test_a_full_file_refuses_all_of_a_write_and_keeps_what_it_has(path: Path) -> None:
    async def go() -> None:
        cache = await opened(path)
        await cache.set("kept", "x")
        assert cache._owner is not None  # inside on purpose: the limit is the connection's
        await cache._owner.ask(lambda store: store.execute("PRAGMA max_page_count = 20").fetchall(), writes=False)
        with pytest.raises(StoreError, match="full"):
            await cache.set_many({f"key{number}": "x" * 3000 for number in range(100)})
        assert await cache.get_many(["kept", "key0", "key99"]) == {"kept": "x"}
        assert await cache.set("small", 1)
        await cache.cleanup()

    asyncio.run(go())


LIMITED = """
import asyncio, resource, sys
from oneiric.adapters.cache.sqlite import SQLiteCacheAdapter, SQLiteCacheSettings
from oneiric.core.errors import StoreError

async def fill():
    cache = SQLiteCacheAdapter(SQLiteCacheSettings(path=sys.argv[1]))
    await cache.init()
    resource.setrlimit(resource.RLIMIT_FSIZE, (200_000, 200_000))
    stored = 0
    try:
        while stored < 1000:
            await cache.set(f"key{stored}", "x" * 1000)
            stored += 1
    except StoreError as error:
        print(error)
    found = await cache.get_many([f"key{number}" for number in range(1000)])
    print(stored, len(found))
    await cache.cleanup()

asyncio.run(fill())
"""


def test_a_quota_that_is_used_up_loses_nothing_that_was_answered(path: Path) -> None:
    done = subprocess.run([sys.executable, "-c", LIMITED, str(path)], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")
    error, counts = done.stdout.splitlines()
    assert str(path) in error
    stored, found = map(int, counts.split())
    assert 10 < stored == found < 1000


def test_a_damaged_cache_is_set_aside_with_a_warning_and_begins_empty(
    path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    filled(path)
    size = path.stat().st_size
    with path.open("r+b") as file:
        file.seek(4096)
        file.write(os.urandom(size - 4096))
    damaged = path.read_bytes()

    async def go() -> None:
        cache = await opened(path)
        assert await cache.get_many([f"key{number}" for number in range(200)]) == {}
        await cache.set("key", 1)
        await cache.health()
        await cache.cleanup()

    with caplog.at_level(logging.WARNING, "oneiric.adapters.cache"):
        asyncio.run(go())
    (aside,) = path.parent.glob("cache.sqlite.corrupt-*")
    assert aside.read_bytes() == damaged
    (record,) = caplog.records
    assert str(path) in record.getMessage()
    assert aside.name in record.getMessage()


@pytest.mark.parametrize("seed", range(20))
def test_random_damage_is_never_worse_than_an_error_of_oneirics(path: Path, seed: int) -> None:
    filled(path)
    damage, content = random.Random(seed), bytearray(path.read_bytes())  # noqa: S311 - a fixed sample
    for _ in range(damage.choice([1, 10, 200])):
        content[damage.randrange(len(content))] ^= 1 << damage.randrange(8)
    path.write_bytes(content[: damage.choice([len(content), len(content) // 2, 5000])])

    async def go() -> None:
        try:
            cache = await opened(path)
        except StoreError:
            return
        for call in (
            cache.get_many([f"key{n}" for n in range(200)]),
            cache.set("new", 1),
            cache.clear(),
            cache.health(),
        ):
            try:
                await call
            except OneiricError:
                continue
        await cache.cleanup()

    asyncio.run(go())


@pytest.mark.parametrize("content", [b"my notes, not a cache\n" * 50, b"SQLite format 3\x00" + b"\xff" * 5000])
def test_a_file_that_is_no_cache_is_left_alone(path: Path, content: bytes) -> None:
    path.write_bytes(content)
    with pytest.raises(StoreError, match=r"not a database|corrupt"):
        asyncio.run(opened(path))
    assert path.read_bytes() == content
    assert list(path.parent.glob("*corrupt*")) == []


def test_another_applications_database_is_left_alone(path: Path) -> None:
    with closing(sqlite3.connect(path)) as other:
        other.execute("CREATE TABLE theirs (x)")
    before = path.read_bytes()
    with pytest.raises(StoreError, match="not a cache of Oneiric"):
        asyncio.run(opened(path))
    assert path.read_bytes() == before


def test_a_later_schema_is_refused(path: Path) -> None:
    filled(path, 1)
    with closing(sqlite3.connect(path)) as later:
        later.execute("PRAGMA user_version = 2")
    with pytest.raises(StoreError, match="schema version 2"):
        asyncio.run(opened(path))


def test_an_empty_file_becomes_a_cache(path: Path) -> None:
    path.touch(0o600)

    async def go() -> None:
        cache = await opened(path)
        await cache.set("key", 1)
        await cache.cleanup()
        again = await opened(path)
        assert await again.get("key") == 1
        await again.cleanup()

    asyncio.run(go())


def test_places_that_cannot_hold_a_cache_are_named(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("x")
    (tmp_path / "directory").mkdir()
    (tmp_path / "link").symlink_to(tmp_path / "file")
    (tmp_path / "dangling").symlink_to(tmp_path / "nothing")
    shared = tmp_path / "shared"
    shared.mkdir()
    shared.chmod(0o777)
    places = [tmp_path / "file" / "cache", tmp_path / "directory", tmp_path / "link", tmp_path / "dangling"]
    for path in (*places, shared / "cache", Path("/proc/oneiric/cache"), tmp_path / ("x" * 300), Path("nul\x00")):
        with pytest.raises(StoreError) as raised:
            asyncio.run(opened(path))
        assert raised.value.hint
    assert not (tmp_path / "nothing").exists()


READ_ONLY = """
import asyncio, os, sys
from oneiric.adapters.cache.sqlite import SQLiteCacheAdapter, SQLiteCacheSettings
from oneiric.core.errors import StoreError

os.chdir(sys.argv[1])
if os.geteuid() == 0:
    os.setresuid(65534, 65534, 65534)  # nothing is read-only to root
try:
    asyncio.run(SQLiteCacheAdapter(SQLiteCacheSettings(path="cache.sqlite")).init())
except StoreError as error:
    print(error)
"""


def test_a_read_only_directory_is_said_to_be(tmp_path: Path) -> None:
    tmp_path.chmod(0o555)
    command = [sys.executable, "-c", READ_ONLY, str(tmp_path)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")
    assert "cache.sqlite" in done.stdout
    assert "Permission denied" in done.stdout


def test_a_file_that_was_removed_or_replaced_is_unhealthy(path: Path) -> None:
    async def go() -> None:
        cache = await opened(path)
        assert await cache.health()
        os.remove(path)  # noqa: PTH107 - of this test's event loop
        with pytest.raises(StoreError):
            await cache.health()
        other = await opened(path)
        with pytest.raises(StoreError):
            await cache.health()
        assert await other.health()
        for each in (cache, other):
            await each.cleanup()

    asyncio.run(go())


@pytest.mark.parametrize("at_once", [2, 5])
def test_processes_that_find_one_damaged_file_rebuild_it_once(path: Path, at_once: int) -> None:
    filled(path)
    size = path.stat().st_size
    with path.open("r+b") as file:
        file.seek(4096)
        file.write(b"\xa5" * (size - 4096))

    async def go() -> None:
        caches = await asyncio.gather(*(opened(path, busy_timeout_seconds=60) for _ in range(at_once)))
        assert sorted(await asyncio.gather(*(cache.increment("n") for cache in caches))) == list(range(1, at_once + 1))
        await asyncio.gather(*(cache.cleanup() for cache in caches))

    asyncio.run(go())
    assert len(list(path.parent.glob("cache.sqlite.corrupt-*"))) == 1
