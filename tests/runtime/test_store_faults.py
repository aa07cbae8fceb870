"""A store that is locked, damaged, full, read-only or killed says so, and loses nothing it acknowledged."""

import asyncio
import contextlib
import json
import os
import random
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from tests.runtime._sqlite_process import elsewhere, locked

from oneiric.core.errors import StoreError
from oneiric.runtime.store import Database, SqliteStore

SCHEMA = "CREATE TABLE item (name TEXT PRIMARY KEY, value INTEGER NOT NULL) STRICT;"
SMALL_DISK = Path(__file__).with_name("_small_disk.py")


@pytest.fixture(params=["sqlite3", "apsw"])
def library(request: pytest.FixtureRequest) -> str:
    if request.param == "apsw":
        pytest.importorskip("apsw", reason="the extra sqlite is not installed")
    return str(request.param)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "store.sqlite"


@pytest.fixture
def make(library: str, path: Path) -> Callable[..., SqliteStore]:
    def store(**options: Any) -> SqliteStore:
        stated: dict[str, Any] = {"application_id": 7, "migrations": [SCHEMA], "library": library, "busy_seconds": 0.05}
        return SqliteStore(path, **(stated | options))

    return store


def put(name: str) -> Callable[[Database], object]:
    return lambda database: database.execute("INSERT INTO item VALUES (?, 1)", (name,))


def held(database: Database) -> list[str]:
    return [str(row[0]) for row in database.execute("SELECT name FROM item ORDER BY name")]


def filled(make: Callable[..., SqliteStore], rows: int = 400, padding: int = 0) -> None:
    async def go() -> None:
        async with make() as store:
            await asyncio.gather(*(store.write(put(f"row-{number:04}{'-' * padding}")) for number in range(rows)))

    asyncio.run(go())


async def test_a_locked_store_is_an_error_after_a_bounded_wait(make: Callable[..., SqliteStore], path: Path) -> None:
    async with make():
        pass
    with locked(path):
        with pytest.raises(StoreError, match="locked") as caught:
            await make().open()
        assert caught.value.kind == "locked"
    async with make():
        pass


@pytest.mark.parametrize("durability", ["group", "strict"])
async def test_writes_that_meet_a_lock_fail_together_and_go_on_when_it_is_gone(
    make: Callable[..., SqliteStore], path: Path, durability: str
) -> None:
    async with make(durability=durability) as store:
        await store.write(put("a"))
        with locked(path, "writing"):
            assert await store.read(held) == ["a"]
            results = await asyncio.gather(*(store.write(put("b")) for _ in range(5)), return_exceptions=True)
            assert [getattr(result, "kind", None) for result in results] == ["locked"] * 5
            assert len({id(result) for result in results}) == 5
        await store.write(put("c"))
        assert await store.read(held) == ["a", "c"]


async def test_strict_writes_that_wait_behind_a_lock_do_not_wait_one_after_the_other(
    make: Callable[..., SqliteStore], path: Path
) -> None:
    async with make(durability="strict", busy_seconds=1.0) as store:
        with locked(path, "writing"):
            async with asyncio.timeout(25):  # fifty times 1 s are 50
                results = await asyncio.gather(*(store.write(put("b")) for _ in range(50)), return_exceptions=True)
        assert {getattr(result, "kind", None) for result in results} == {"locked"}


async def test_a_reader_that_meets_a_new_writer_reads_again(make: Callable[..., SqliteStore], path: Path) -> None:
    async with make() as store:
        await store.write(put("a"))
    reads: list[int] = []
    with contextlib.ExitStack() as stack:

        def read_while_a_writer_comes(database: Database) -> list[str]:
            reads.append(len(reads))
            if len(reads) == 1:
                stack.enter_context(locked(path, "writing"))
            return held(database)

        async with make(readonly=True) as reader:
            assert await reader.read(read_while_a_writer_comes) == ["a"]
    assert len(reads) == 2


async def test_leaving_a_replaced_file_does_not_take_the_new_ones_journal_along(
    make: Callable[..., SqliteStore], path: Path
) -> None:
    async with make() as one:
        await one.write(put("old"))
        move_aside(path)
        async with make() as other:
            await other.write(put("new"))
            await one.write(put("newer"))
            assert await one.read(held) == await other.read(held) == ["new", "newer"]
            assert (other.journal_mode != "wal") or exists(Path(f"{path}-wal"))
        check = await one.read(lambda database: database.execute("PRAGMA integrity_check"))
        assert check == [("ok",)]
    async with make() as again:
        assert await again.read(held) == ["new", "newer"]


def move_aside(path: Path) -> None:
    for each in list(path.parent.iterdir()):
        each.rename(each.with_name(f"aside-{each.name}"))


def exists(path: Path) -> bool:
    return path.exists()


async def test_a_file_of_another_user_is_refused(make: Callable[..., SqliteStore], path: Path) -> None:
    if os.geteuid() != 0:
        pytest.skip("only root can give a file away")
    async with make():
        pass
    os.chown(path, 12_345, -1)
    with pytest.raises(StoreError, match="another user") as caught:
        await make(on_corrupt="set_aside").open()
    assert caught.value.kind == "foreign"


async def test_journals_are_set_aside_with_the_damaged_file(make: Callable[..., SqliteStore], path: Path) -> None:
    overwrite(path, b"a text that is no database\n" * 100)
    overwrite(Path(f"{path}-wal"), b"its journal")
    async with make(on_corrupt="set_aside") as store:
        assert store.set_aside is not None
        assert read(Path(f"{store.set_aside}-wal")) == b"its journal"
        await store.write(put("a"))
    assert not exists(Path(f"{path}-wal"))


async def test_a_writer_elsewhere_is_waited_for(make: Callable[..., SqliteStore], path: Path) -> None:
    async with make(busy_seconds=5.0) as store:
        await store.write(put("a"))
        elsewhere(path, "INSERT INTO item VALUES ('b', 1)")
        await store.write(put("c"))
        assert await store.read(held) == ["a", "b", "c"]


DAMAGES: dict[str, Callable[[bytes], bytes]] = {
    "header": lambda data: bytes(100) + data[100:],
    "magic": lambda data: b"X" + data[1:],
    "middle": lambda data: data[: len(data) // 2] + b"\xff" * 4096 + data[len(data) // 2 + 4096 :],
    "truncated": lambda data: data[: len(data) // 2 + 7],
    "short": lambda data: data[:50],
    "zeros": lambda data: bytes(len(data)),
    "other": lambda _: b"a text that is no database\n" * 100,
}


@pytest.mark.parametrize("damage", DAMAGES)
def test_a_damaged_file_is_refused_or_set_aside_as_the_caller_decides(
    make: Callable[..., SqliteStore], path: Path, damage: str
) -> None:
    filled(make)
    damaged = DAMAGES[damage](path.read_bytes())
    path.write_bytes(damaged)

    async def go() -> None:
        with pytest.raises(StoreError) as caught:
            await make().open()
        assert caught.value.kind == "corrupt"
        assert read(path) == damaged, "a refused file is not touched"
        async with make(on_corrupt="set_aside") as store:
            assert await store.read(held) == []
            assert store.set_aside is not None
            assert store.set_aside.name.startswith("store.sqlite.corrupt-")
            assert read(store.set_aside) == damaged
            await store.write(put("new"))
        async with make() as store:
            assert await store.read(held) == ["new"]
            assert store.set_aside is None

    asyncio.run(go())


def overwrite(path: Path, data: bytes) -> None:
    path.write_bytes(data)


def read(path: Path) -> bytes:
    return path.read_bytes()


async def test_an_empty_file_is_a_new_store(make: Callable[..., SqliteStore], path: Path) -> None:
    with path.open("wb"):
        pass
    async with make() as store:
        await store.write(put("a"))
        assert await store.read(held) == ["a"]


async def test_two_stores_that_meet_damage_together_set_it_aside_once(
    make: Callable[..., SqliteStore], path: Path
) -> None:
    overwrite(path, b"a text that is no database\n" * 100)
    stores = [make(on_corrupt="set_aside", busy_seconds=5.0) for _ in range(5)]
    await asyncio.gather(*(store.open() for store in stores))
    await asyncio.gather(*(store.write(put(f"n{number}")) for number, store in enumerate(stores)))
    assert await stores[0].read(held) == [f"n{number}" for number in range(5)]
    assert sum(store.set_aside is not None for store in stores) == 1
    for store in stores:
        await store.aclose()


def zero(path: Path) -> None:
    """Write zeros over a file; in another process, since here the closing would drop the store's locks."""
    subprocess.run([sys.executable, "-c", ZERO, str(path)], check=True)


ZERO = """
import os, sys
with open(sys.argv[1], "r+b") as file:
    file.write(bytes(os.path.getsize(sys.argv[1])))
"""


def test_damage_under_an_open_store_is_said_and_the_next_call_opens_it_anew(
    make: Callable[..., SqliteStore], path: Path
) -> None:
    filled(make, padding=10_000)  # more than SQLite keeps in memory

    async def go() -> None:
        async with make(on_corrupt="set_aside") as store:
            await asyncio.to_thread(zero, path)
            with pytest.raises(StoreError) as caught:
                await store.read(held)
            assert caught.value.kind == "corrupt"
            assert await store.read(held) == []
            assert store.set_aside is not None

    asyncio.run(go())


WRITER = """
import asyncio, sys
from oneiric.runtime.store import SqliteStore

async def main(path, library, first):
    schema = "CREATE TABLE item (name TEXT PRIMARY KEY, value INTEGER NOT NULL) STRICT;"
    async with SqliteStore(path, application_id=7, migrations=[schema], library=library) as store:
        async def one(number):
            await store.write(lambda db: db.execute("INSERT INTO item VALUES (?, 1)", (f"{number:06}",)))
            print(f"{number:06}", flush=True)
        while True:
            await asyncio.gather(*(one(first + number) for number in range(7)))
            first += 7

asyncio.run(main(sys.argv[1], sys.argv[2], int(sys.argv[3])))
"""


def test_what_was_acknowledged_survives_the_kill_of_its_writer(
    make: Callable[..., SqliteStore], path: Path, library: str
) -> None:
    chance = random.Random(11)  # noqa: S311 - the same points each time
    acknowledged: set[str] = set()
    for kill in range(6):
        command = [sys.executable, "-c", WRITER, str(path), library, str(kill * 100_000)]
        with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as writer:
            assert writer.stdout is not None
            for _ in range(chance.randrange(1, 60)):
                acknowledged.add(writer.stdout.readline().strip())
            writer.send_signal(signal.SIGKILL)
            acknowledged |= {line.strip() for line in writer.stdout if len(line) == 7}

        async def survivors() -> tuple[list[str], str]:
            async with make(busy_seconds=5.0) as store:
                check = await store.read(lambda database: database.execute("PRAGMA integrity_check"))
                return await store.read(held), str(check[0][0])

        found, check = asyncio.run(survivors())
        assert check == "ok"
        assert acknowledged <= set(found)


OLD_WRITER = """
import asyncio, sys
from oneiric.core.errors import StoreError
from oneiric.runtime.store import SqliteStore

async def main(path):
    schema = "CREATE TABLE item (name TEXT PRIMARY KEY, value INTEGER NOT NULL) STRICT;"
    store = SqliteStore(path, application_id=7, migrations=[schema], library="sqlite3", busy_seconds=0.05)
    for line in sys.stdin:
        try:
            await store.open()
            await store.write(lambda db: db.execute("INSERT INTO item VALUES (?, 1)", (line.strip(),)))
            print("done", store.journal_mode, flush=True)
        except StoreError as error:
            print(error.kind, "write-ahead" in str(error), flush=True)
    await store.aclose()

asyncio.run(main(sys.argv[1]))
"""


async def test_a_library_that_write_ahead_mode_can_corrupt_does_not_share_it(path: Path) -> None:
    pytest.importorskip("apsw", reason="the extra sqlite is not installed")
    new = SqliteStore(path, application_id=7, migrations=[SCHEMA], library="apsw", busy_seconds=0.05)
    if SqliteStore(path, application_id=7, migrations=[SCHEMA], library="sqlite3").library >= "sqlite3 3.51.3":
        pytest.skip("both libraries are safe with write-ahead mode")
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-c", OLD_WRITER, str(path), stdin=subprocess.PIPE, stdout=subprocess.PIPE
    )
    assert process.stdin is not None
    assert process.stdout is not None

    async def old(name: str) -> str:
        assert process.stdin is not None
        assert process.stdout is not None
        process.stdin.write(f"{name}\n".encode())
        return (await process.stdout.readline()).decode().strip()

    assert await old("a") == "done delete"
    await new.open()
    assert new.journal_mode == "wal"
    await new.write(put("b"))
    assert await old("c") == "locked True"
    await new.aclose()
    assert await old("d") == "done delete"
    process.stdin.close()
    await process.wait()
    async with new:
        assert await new.read(held) == ["a", "b", "d"]


@pytest.fixture
def on_a_small_disk(tmp_path: Path) -> Callable[[str], Any]:
    disk = tmp_path / "disk"
    disk.mkdir()
    script = 'mount -t tmpfs -o size=600k,mode=0700 tmpfs "$1" && exec "$2" "$3" "$1" "$4"'

    def run(library: str) -> Any:
        unshare = shutil.which("unshare")
        if unshare is None or subprocess.run([unshare, "-Urm", "true"], check=False, capture_output=True).returncode:
            pytest.skip("no mount namespace of one's own here (unshare -Urm)")
        command = [unshare, "-Urm", "sh", "-c", script, "sh", str(disk), sys.executable, str(SMALL_DISK), library]
        done = subprocess.run(command, check=False, capture_output=True, text=True, timeout=60)
        assert done.returncode == 0, done.stderr
        return json.loads(done.stdout)

    return run


def test_a_full_or_read_only_disk_is_said_loses_nothing_and_heals(
    on_a_small_disk: Callable[[str], Any], library: str
) -> None:
    found = on_a_small_disk(library)

    assert found["full"] == {"refused": "full", "kept": True, "healed": "done", "check": "ok"}
    assert found["readonly"] == {"refused": "readonly", "read": True, "written": "done"}
    activity = found["activity"]
    assert (activity["refused"], activity["unchanged"], activity["pay"]) == ("full", True, True)
    assert (activity["healed"], activity["problem_after"]) == ("done", None)
    assert activity["pay_readonly"] is activity["pay_writable"] is True
    assert "known to be paused or draining stay so" in activity["problem_readonly"]
    assert activity["problem_writable"] is None
