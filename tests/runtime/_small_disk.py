"""``python _small_disk.py DIRECTORY LIBRARY``: stores on a file system that gets full and read-only, as JSON on stdout.

Run in a mount namespace of its own, where DIRECTORY is mounted and unmounted with nobody else seeing it.
"""

import asyncio
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

from oneiric.core.errors import StoreError
from oneiric.runtime.activity import DomainActivity, DomainActivityStore
from oneiric.runtime.store import Database, SqliteStore

BLOCK = 4096


def fill(directory: Path) -> None:
    with (directory / "filler").open("ab", buffering=0) as filler:
        try:
            while True:
                filler.write(bytes(BLOCK))
        except OSError:
            return


def empty(directory: Path) -> None:
    for each in directory.iterdir():
        each.unlink()


def remount(directory: Path, how: str) -> None:
    subprocess.run(["mount", "-o", f"remount,{how}", str(directory)], check=True)  # noqa: S607 - wherever mount is


async def attempt(awaitable: Any) -> str | None:
    try:
        await awaitable
    except StoreError as error:
        return error.kind or str(error)
    return "done"


def put(number: int) -> Any:
    def work(database: Database) -> None:
        database.execute("INSERT INTO item VALUES (?, ?)", (number, os.urandom(3000)))

    return work


def held(database: Database) -> list[int]:
    return [int(row[0]) for row in database.execute("SELECT id FROM item ORDER BY id")]


def store_in(directory: Path, library: Any, **options: Any) -> SqliteStore:
    schema = "CREATE TABLE item (id INTEGER PRIMARY KEY, data BLOB);"
    return SqliteStore(directory / "s.sqlite", application_id=1, migrations=[schema], library=library, **options)


async def full(directory: Path, library: Any) -> dict[str, Any]:
    acknowledged, refused = [], None
    async with store_in(directory, library) as store:
        await store.write(put(0))
        fill(directory)
        for number in range(1, 400):
            refused = await attempt(store.write(put(number)))
            if refused != "done":
                break
            acknowledged.append(number)
        is_kept = set(acknowledged) <= set(await store.read(held))
        (directory / "filler").unlink()
        healed = await attempt(store.write(put(1_000)))
        check = await store.read(lambda database: database.execute("PRAGMA integrity_check"))
    return {"refused": refused, "kept": is_kept, "healed": healed, "check": check[0][0]}


async def open_and_write(directory: Path, library: Any) -> None:
    async with store_in(directory, library) as store:  # write-ahead mode refuses to open here, a rollback journal later
        await store.write(put(1_500))


async def readonly(directory: Path, library: Any) -> dict[str, Any]:
    async with store_in(directory, library) as store:
        before = await store.read(held)
    remount(directory, "ro")
    refused = await attempt(open_and_write(directory, library))
    async with store_in(directory, library, readonly=True) as reader:
        is_read = await reader.read(held) == before
    remount(directory, "rw")
    async with store_in(directory, library) as store:
        written = await attempt(store.write(put(2_000)))
    return {"refused": refused, "read": is_read, "written": written}


async def activity(directory: Path) -> dict[str, Any]:
    paused = DomainActivity(paused=True, note="x" * 3000)
    found: dict[str, Any] = {}
    async with DomainActivityStore(directory / "domain_activity.sqlite") as store:
        await store.set("service", "pay", paused)
        fill(directory)
        for number in range(400):
            found["refused"] = await attempt(store.set("service", f"key-{number}", paused))
            if found["refused"] != "done":
                found["unchanged"] = store.get("service", f"key-{number}") == DomainActivity()
                break
        found["pay"] = store.get("service", "pay").paused
        found["problem"] = store.problem
        (directory / "filler").unlink()
        found["healed"] = await attempt(store.set("service", "mail", paused))
        found["problem_after"] = store.problem
    remount(directory, "ro")
    async with DomainActivityStore(directory / "domain_activity.sqlite") as store:
        found["pay_readonly"] = store.get("service", "pay").paused
        found["problem_readonly"] = store.problem
        remount(directory, "rw")
        await store.refresh()
        found["problem_writable"] = store.problem
        found["pay_writable"] = store.get("service", "pay").paused
    return found


async def main(directory: Path, library: str) -> None:
    found = {"full": await full(directory, library), "readonly": await readonly(directory, library)}
    empty(directory)
    found["activity"] = await activity(directory)
    sys.stdout.write(json.dumps(found))


if __name__ == "__main__":
    asyncio.run(main(Path(sys.argv[1]), sys.argv[2]))
