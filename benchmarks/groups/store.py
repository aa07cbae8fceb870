"""Durable writes of a thousand callers at once, against one commit each on a connection that is held.

The floor does what a careful caller would do without the store, in the same process: no thread, no event loop, the same
pragmas, one transaction per record. ``full`` survives a power failure, ``normal`` the death of the process.
"""

import asyncio
import sqlite3
import tempfile
import time
from collections.abc import Callable
from itertools import count
from pathlib import Path
from typing import Any, Literal

from benchmarks._timing import Contest, Figure
from oneiric.runtime.activity import DomainActivity, DomainActivityStore
from oneiric.runtime.store import Database, SqliteStore

ROUNDS = 7
#: Callers at once.
CALLERS = 1_000
#: Records of the cases that sync the disk for each.
SYNCED = 250
_SCHEMA = "CREATE TABLE node (run INTEGER, id TEXT, value BLOB, PRIMARY KEY (run, id)) WITHOUT ROWID;"
_INSERT = "INSERT INTO node VALUES (?, ?, ?)"
_RESULT = b"x" * 64


def measure(rounds: int) -> list[Figure]:
    """Measure the group."""
    with tempfile.TemporaryDirectory() as directory:
        contest = Contest("store", rounds)
        closing: list[Callable[[], Any]] = []
        for library in _libraries():
            for synchronous in ("full", "normal"):
                closing += _add(contest, Path(directory), library, synchronous)
        activity = contest.setup(_activity(Path(directory)))
        names = {"D": {("service", f"key-{n}"): n for n in range(10)}, "a": "service", "b": "key-3"}
        contest.add("lookup", "D[a, b]", names, who="floor", floor="lookup")
        contest.add("activity", "get(a, b)", {"get": activity.get, "a": "service", "b": "key-3"}, floor="lookup")
        contest.run()
        contest.setup(activity.aclose())
        for close in closing:
            close()
        contest.close()
        return contest.figures()


def _libraries() -> list[Literal["sqlite3", "apsw"]]:
    try:
        import apsw  # noqa: F401 - is it there?
    except ModuleNotFoundError:
        return ["sqlite3"]
    return ["apsw", "sqlite3"]


def _add(
    contest: Contest, directory: Path, library: Literal["sqlite3", "apsw"], synchronous: Literal["full", "normal"]
) -> list[Callable[[], Any]]:
    """Add the cases of one library and one promise; return what closes them."""
    stores: dict[str, SqliteStore] = {}
    for durability in ("group", "strict"):
        stores[durability] = SqliteStore(
            directory / f"{library}-{synchronous}-{durability}.sqlite",
            application_id=1,
            migrations=[_SCHEMA],
            durability=durability,
            synchronous=synchronous,
            library=library,
        )
        contest.setup(stores[durability].open())
    journal = stores["group"].journal_mode or ""
    held = _held(directory / f"{library}-{synchronous}-held.sqlite", library, synchronous, journal)
    what = f"{library}, {journal}, {synchronous}"
    suffix = f"{library}_{synchronous}"
    floor = f"held_{suffix}"

    def add(name: str, run: Callable[[int], float], label: str, operations: int) -> None:
        who: Literal["ours", "floor"] = "floor" if name == "held" else "ours"
        full_name = f"{name}_{suffix}"
        contest.add_timed(
            full_name, run, label=f"{label}: {what}", who=who, floor=floor, operations=operations, number=1
        )

    add("held", _one_commit_each(held), "one commit per record, held connection", SYNCED)
    add("group", _fan_out(contest, stores["group"], CALLERS), f"{CALLERS} callers at once, group", CALLERS)
    add("strict", _fan_out(contest, stores["strict"], SYNCED), f"{SYNCED} callers at once, strict", SYNCED)
    add("alone", _in_turn(contest, stores["group"], SYNCED), "one caller, one record after the other", SYNCED)
    return [held.close, *(lambda store=store: contest.setup(store.aclose()) for store in stores.values())]


def _held(path: Path, library: str, synchronous: str, journal: str) -> Any:
    if library == "apsw":
        import apsw

        connection: Any = apsw.Connection(str(path))
    else:
        connection = sqlite3.connect(path, isolation_level=None)
    connection.execute(f"PRAGMA journal_mode = {journal}").fetchall()
    full = "FULL" if journal == "wal" else "EXTRA"
    connection.execute(f"PRAGMA synchronous = {full if synchronous == 'full' else 'NORMAL'}")
    connection.execute(_SCHEMA)
    return connection


def _one_commit_each(connection: Any) -> Callable[[int], float]:
    runs = count()

    def run(_: int) -> float:
        number = next(runs)
        started = time.perf_counter()
        for node in range(SYNCED):
            connection.execute("BEGIN IMMEDIATE")
            connection.execute(_INSERT, (number, f"node-{node}", _RESULT)).fetchall()
            connection.execute("COMMIT")
        return time.perf_counter() - started

    return run


def _record(run: int, node: int) -> Callable[[Database], Any]:
    return lambda database: database.execute(_INSERT, (run, f"node-{node}", _RESULT))


def _fan_out(contest: Contest, store: SqliteStore, callers: int) -> Callable[[int], float]:
    runs = count()

    async def together() -> float:
        number = next(runs)
        started = time.perf_counter()
        await asyncio.gather(*(store.write(_record(number, node)) for node in range(callers)))
        return time.perf_counter() - started

    def run(_: int) -> float:
        return float(contest.setup(together()))

    return run


def _in_turn(contest: Contest, store: SqliteStore, records: int) -> Callable[[int], float]:
    runs = count(1_000_000)

    async def in_turn() -> float:
        number = next(runs)
        started = time.perf_counter()
        for node in range(records):
            await store.write(_record(number, node))
        return time.perf_counter() - started

    def run(_: int) -> float:
        return float(contest.setup(in_turn()))

    return run


async def _activity(directory: Path) -> DomainActivityStore:
    store = DomainActivityStore(directory / "domain_activity.sqlite")
    await store.open()
    await store.set("service", "paused", DomainActivity(paused=True))
    return store
