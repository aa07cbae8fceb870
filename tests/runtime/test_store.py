"""The SQLite store: commits are shared and answered after, failures touch nobody else, the file is the user's alone."""

import asyncio
import os
import stat
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from oneiric.core.errors import StoreError
from oneiric.runtime._store_place import is_on_network
from oneiric.runtime.store import Database, SqliteStore

MARK = 0x54455354
SCHEMA = "CREATE TABLE item (name TEXT PRIMARY KEY, value INTEGER NOT NULL) STRICT;"


@pytest.fixture(params=["sqlite3", "apsw"])
def make(request: pytest.FixtureRequest, tmp_path: Path) -> Callable[..., SqliteStore]:
    if request.param == "apsw":
        pytest.importorskip("apsw", reason="the extra sqlite is not installed")

    def store(name: str = "store.sqlite", **options: Any) -> SqliteStore:
        stated = {"application_id": MARK, "migrations": [SCHEMA], "library": request.param, "busy_seconds": 0.05}
        return SqliteStore(tmp_path / name, **(stated | options))

    return store


def put(name: str, value: int = 1) -> Callable[[Database], int]:
    def work(database: Database) -> int:
        database.execute("INSERT INTO item VALUES (?, ?)", (name, value))
        return database.changes

    return work


def everything(database: Database) -> dict[str, int]:
    return dict(database.execute("SELECT name, value FROM item ORDER BY name"))


def stamps(directory: Path) -> dict[str, int]:
    return {each.name: each.stat().st_mtime_ns for each in directory.iterdir()}


def chmod(path: Path, mode: int) -> None:
    path.chmod(mode)


def emptied(directory: Path) -> None:
    for each in directory.iterdir():
        each.unlink()


async def test_what_is_written_is_there_for_the_next_to_open_it(make: Callable[..., SqliteStore]) -> None:
    async with make() as store:
        assert await store.write(put("a", 7)) == 1
        assert await store.read(everything) == {"a": 7}
    async with make() as again:
        assert await again.read(everything) == {"a": 7}


async def test_writes_that_wait_together_share_a_commit(make: Callable[..., SqliteStore]) -> None:
    async with make() as store, make() as other:
        before = await other.read(Database.data_version)
        seen: list[int] = []

        async def write(number: int) -> None:
            await store.write(put(f"n{number}"))
            seen.append(number)

        tasks = [asyncio.create_task(write(number)) for number in range(50)]
        await asyncio.gather(*tasks)

        assert await other.read(Database.data_version) == before + 1
        assert len(await other.read(everything)) == len(seen) == 50


async def test_a_strict_store_gives_each_write_a_commit(make: Callable[..., SqliteStore]) -> None:
    commits: list[int] = []

    async with make(durability="strict") as store, make() as other:
        before = await other.read(Database.data_version)

        def work(database: Database) -> None:
            commits.append(database.execute("SELECT count(*) FROM item")[0][0])
            database.execute("INSERT INTO item VALUES (?, 1)", (f"n{len(commits)}",))

        await asyncio.gather(*(store.write(work) for _ in range(5)))

        assert commits == [0, 1, 2, 3, 4]
        assert await other.read(Database.data_version) > before
        assert len(await other.read(everything)) == 5


async def test_a_write_is_committed_when_its_caller_goes_on(make: Callable[..., SqliteStore]) -> None:
    async with make() as store, make() as other:

        async def write(number: int) -> bool:
            await store.write(put(f"n{number}"))
            return f"n{number}" in await other.read(everything)

        assert all(await asyncio.gather(*(write(number) for number in range(20))))


async def test_work_that_fails_leaves_nothing_and_does_not_touch_its_neighbours(
    make: Callable[..., SqliteStore],
) -> None:
    def half(database: Database) -> None:
        put("half")(database)
        raise LookupError("no")

    async with make() as store:
        results = await asyncio.gather(
            store.write(put("a")),
            store.write(half),
            store.write(put("a", 2)),
            store.write(put("b")),
            return_exceptions=True,
        )

        assert results[0] == results[3] == 1
        assert isinstance(results[1], LookupError)
        assert isinstance(results[2], StoreError)
        assert results[2].kind is None
        assert "UNIQUE" in str(results[2])
        assert await store.read(everything) == {"a": 1, "b": 1}
        with pytest.raises(LookupError):
            await store.write(half)
        with pytest.raises(RuntimeError, match="StopIteration"):
            await store.write(lambda _: next(iter(())))
        assert await store.read(everything) == {"a": 1, "b": 1}


async def test_a_read_does_not_see_what_is_not_committed(make: Callable[..., SqliteStore]) -> None:
    async with make() as store:
        _, seen, _ = await asyncio.gather(store.write(put("a")), store.read(everything), store.write(put("b")))
        assert seen == {}


async def test_a_cancelled_caller_breaks_nothing(make: Callable[..., SqliteStore]) -> None:
    async with make() as store:
        tasks = [store.write(put(f"n{number}")) for number in range(10)]
        await asyncio.sleep(0)
        for task in tasks[::2]:
            task.cancel()
        results = await asyncio.gather(*tasks, return_exceptions=True)

        assert {f"n{number}" for number in range(1, 10, 2)} <= set(await store.read(everything))
        assert [type(result) for result in results[::2]] == [asyncio.CancelledError] * 5


async def test_what_was_asked_before_the_close_is_done_and_later_calls_are_refused(
    make: Callable[..., SqliteStore],
) -> None:
    store = make()
    with pytest.raises(StoreError, match="closed"):
        await store.read(everything)
    await store.open()
    await store.open()
    asked = store.write(put("a"))
    await asyncio.sleep(0)
    await asyncio.gather(store.aclose(), store.aclose())
    assert await asked == 1
    with pytest.raises(StoreError, match="closed"):
        await store.write(put("b"))
    await store.open()
    assert await store.read(everything) == {"a": 1}
    await store.aclose()


async def test_the_journal_follows_the_version_of_the_library(make: Callable[..., SqliteStore]) -> None:
    async with make() as store:
        name, version = store.library.split()
        is_safe = tuple(map(int, version.split("."))) >= (3, 51, 3)
        assert name in {"sqlite3", "apsw"}
        assert store.journal_mode == ("wal" if is_safe else "delete")
        mode = await store.read(lambda database: database.execute("PRAGMA journal_mode"))
        assert mode == [(store.journal_mode,)]


async def test_the_pragmas_that_make_it_durable_are_on(make: Callable[..., SqliteStore]) -> None:
    def pragmas(database: Database) -> dict[str, int]:
        names = ("synchronous", "foreign_keys", "trusted_schema", "mmap_size")
        rows = {name: database.execute(f"PRAGMA {name}") for name in names}
        return {name: found[0][0] for name, found in rows.items() if found}

    async with make() as store:
        full = 2 if store.journal_mode == "wal" else 3  # FULL, EXTRA
        assert await store.read(pragmas) == {
            "synchronous": full, "foreign_keys": 1, "trusted_schema": 0, "mmap_size": 0,
        }  # fmt: skip
    async with make("fast.sqlite", synchronous="normal") as store:
        assert (await store.read(pragmas))["synchronous"] == 1


async def test_an_index_that_contradicts_its_table_is_found_by_the_deep_check(make: Callable[..., SqliteStore]) -> None:
    index = "UPDATE sqlite_schema SET sql = replace(sql, 'value)', 'name)') WHERE name = 'by_value'"
    async with make(migrations=[f"{SCHEMA}\nCREATE INDEX by_value ON item (value);"]) as store:
        await store.write(put("a"))
        assert await store.check() is None
        await store.write(lambda database: database.execute("PRAGMA writable_schema = ON"))
        await store.write(lambda database: database.execute(index))
    async with make(migrations=[f"{SCHEMA}\nCREATE INDEX by_value ON item (value);"]) as store:
        assert "by_value" in (await store.check() or "")


async def test_an_opening_that_is_cancelled_leaves_nothing_open(make: Callable[..., SqliteStore]) -> None:
    store = make()
    opening = asyncio.create_task(store.open())
    await asyncio.sleep(0)
    opening.cancel()
    with pytest.raises(asyncio.CancelledError):
        await opening
    await store.open()
    assert await store.write(put("a")) == 1
    await store.aclose()


def test_a_library_that_is_not_installed_says_what_to_install() -> None:
    code = (
        "import sys; sys.modules['apsw'] = None\n"
        "from oneiric.runtime.store import SqliteStore\n"
        "print(SqliteStore('x', application_id=1, migrations=[]).library.split()[0])\n"
        "SqliteStore('x', application_id=1, migrations=[], library='apsw')"
    )
    done = subprocess.run([sys.executable, "-c", code], check=False, capture_output=True, text=True)
    assert done.stdout == "sqlite3\n"
    assert "pip install 'oneiric-runtime[sqlite]'" in done.stderr


@pytest.fixture
def open_umask() -> Iterator[None]:
    before = os.umask(0)
    yield
    os.umask(before)


@pytest.mark.usefixtures("open_umask")
async def test_files_are_this_users_alone_under_any_umask(make: Callable[..., SqliteStore], tmp_path: Path) -> None:
    async with make("new/deep/store.sqlite") as store:
        modes = {}

        def look(database: Database) -> None:
            put("a")(database)
            modes.update({each.name: stat.S_IMODE(each.stat().st_mode) for each in (tmp_path / "new/deep").iterdir()})

        await store.write(look)
        modes |= {each.name: stat.S_IMODE(each.stat().st_mode) for each in (tmp_path / "new/deep").iterdir()}

    assert set(modes.values()) == {0o600}
    assert len(modes) >= 2, "a journal is there while something is written"
    assert {stat.S_IMODE(each.stat().st_mode) for each in (tmp_path / "new", tmp_path / "new/deep")} == {0o700}


async def test_a_file_that_others_may_read_is_made_private(make: Callable[..., SqliteStore], tmp_path: Path) -> None:
    async with make():
        pass
    (tmp_path / "store.sqlite").chmod(0o644)
    async with make():
        assert stat.S_IMODE((tmp_path / "store.sqlite").stat().st_mode) == 0o600


@pytest.mark.parametrize("name", ["store.sqlite", "store.sqlite-wal", "store.sqlite-journal"])
async def test_a_symbolic_link_is_refused(make: Callable[..., SqliteStore], tmp_path: Path, name: str) -> None:
    (tmp_path / "elsewhere").write_bytes(b"")
    (tmp_path / name).symlink_to(tmp_path / "elsewhere")
    with pytest.raises(StoreError, match="symbolic link") as caught:
        await make().open()
    assert caught.value.kind == "foreign"
    assert (tmp_path / "elsewhere").read_bytes() == b""


async def test_a_directory_that_is_a_link_is_followed(make: Callable[..., SqliteStore], tmp_path: Path) -> None:
    (tmp_path / "real").mkdir()
    (tmp_path / "link").symlink_to(tmp_path / "real")
    async with make("link/store.sqlite") as store:
        assert store.path == (tmp_path / "real/store.sqlite").resolve()


async def test_a_directory_everybody_may_write_into_is_refused(
    make: Callable[..., SqliteStore], tmp_path: Path
) -> None:
    chmod(tmp_path, 0o777)
    with pytest.raises(StoreError, match="writable by everybody"):
        await make().open()
    chmod(tmp_path, 0o1777)
    async with make():
        pass


async def test_a_database_of_another_application_is_left_alone(make: Callable[..., SqliteStore]) -> None:
    async with make(application_id=7) as store:
        await store.write(put("a"))
    for policy in ("refuse", "set_aside"):
        with pytest.raises(StoreError, match="another application") as caught:
            await make(on_corrupt=policy).open()
        assert caught.value.kind == "foreign"
    async with make(application_id=7) as store:
        assert await store.read(everything) == {"a": 1}


async def test_a_newer_schema_is_refused(make: Callable[..., SqliteStore]) -> None:
    async with make(migrations=[SCHEMA, "CREATE TABLE more (id INTEGER);"]):
        pass
    with pytest.raises(StoreError, match="version 2, and this release knows up to 1") as caught:
        await make(on_corrupt="set_aside").open()
    assert caught.value.kind == "newer"


async def test_a_migration_keeps_the_data_and_leaves_a_backup(make: Callable[..., SqliteStore], tmp_path: Path) -> None:
    async with make() as store:
        await store.write(put("a"))

    def twice(database: Database) -> None:
        database.execute("UPDATE item SET value = value * 2")

    steps = [SCHEMA, "ALTER TABLE item ADD COLUMN note TEXT;\nCREATE TABLE more (id INTEGER);\n", twice]
    async with make(migrations=steps) as store:
        assert await store.read(lambda database: database.execute("SELECT * FROM item")) == [("a", 2, None)]
    backup = tmp_path / "store.sqlite.backup-v1"
    assert stat.S_IMODE(backup.stat().st_mode) == 0o600
    async with make(backup.name) as store:
        assert await store.read(everything) == {"a": 1}


async def test_a_migration_that_fails_changes_nothing(make: Callable[..., SqliteStore]) -> None:
    async with make() as store:
        await store.write(put("a"))
    with pytest.raises(StoreError, match="no such table"):
        await make(migrations=[SCHEMA, "CREATE TABLE more (id INTEGER);\nDROP TABLE absent;"]).open()
    async with make() as store:
        assert await store.read(lambda database: database.execute("SELECT name FROM sqlite_schema")) != [("more",)]
        assert await store.read(everything) == {"a": 1}


async def test_an_unmarked_database_is_taken_over_only_by_the_table_it_is_known_by(
    make: Callable[..., SqliteStore], tmp_path: Path
) -> None:
    async with make(migrations=[]) as store:
        await store.write(lambda database: database.execute(SCHEMA))
        await store.write(lambda database: database.execute("PRAGMA application_id = 0"))
    with pytest.raises(StoreError, match="another application"):
        await make(migrations=["SELECT 1;"]).open()
    async with make(migrations=["SELECT 1;"], adopts="item") as store:
        assert await store.read(everything) == {}
    assert (tmp_path / "store.sqlite.backup-v0").exists()


async def test_a_read_only_store_makes_no_file_and_sees_what_is_there(
    make: Callable[..., SqliteStore], tmp_path: Path
) -> None:
    with pytest.raises(StoreError):
        await make("absent/store.sqlite", readonly=True).open()
    assert stamps(tmp_path) == {}
    async with make() as store:
        await store.write(put("a"))
    before = stamps(tmp_path)
    async with make(readonly=True) as reader:
        assert await reader.read(everything) == {"a": 1}
        with pytest.raises(StoreError, match="opened to be read"):
            await reader.write(put("b"))
        assert stamps(tmp_path) == before
        async with make() as store:
            await store.write(put("b"))
            assert await reader.read(everything) == {"a": 1, "b": 1}
        assert await reader.read(everything) == {"a": 1, "b": 1}


async def test_a_file_that_is_replaced_while_open_is_left_for_the_new_one(
    make: Callable[..., SqliteStore], tmp_path: Path
) -> None:
    async with make() as store:
        await store.write(put("old"))
        emptied(tmp_path)
        assert await store.read(everything) == {}
        async with make() as other:
            await other.write(put("new"))
        assert await store.read(everything) == {"new": 1}


def test_a_network_mount_is_told_by_the_mount_that_covers_the_path(tmp_path: Path) -> None:
    mounts = tmp_path / "mountinfo"
    mounts.write_text(
        "22 1 0:20 / / rw,relatime shared:1 - ext4 /dev/vda rw\n"
        "23 22 0:21 / /srv/my\\040share rw - nfs4 host:/x rw\n"
        "24 23 0:22 / /srv/my\\040share/local rw - tmpfs tmpfs rw\n"
        "25 22 0:23 / /mnt/remote rw - fuse.sshfs host:/y rw\n"
        "nonsense\n"
    )
    found = {
        path: is_on_network(Path(path), mounts)
        for path in ("/srv/my share/a", "/srv/my share/local/a", "/mnt/remote/a", "/mnt/remotely/a", "/a")
    }
    assert [path for path, is_remote in found.items() if is_remote] == ["/srv/my share/a", "/mnt/remote/a"]
    assert not is_on_network(Path("/a"), tmp_path / "absent")
