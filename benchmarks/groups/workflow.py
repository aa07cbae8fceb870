"""Workflows: what the engine costs a node, in memory and with its result kept; makespan; memory.

The floor of nodes is what one writes without an engine: graphlib says what is ready, a TaskGroup runs it, and a queue
brings back what is done. Ours also gives each node variables of its own, a time, a bounded number of neighbours, and
can cancel it. The floor of results that are kept is one commit per node on a connection that is held.
"""

import asyncio
import gc
import json
import sqlite3
import tempfile
import time
import tracemalloc
from collections.abc import Callable, Mapping
from functools import partial
from graphlib import TopologicalSorter
from itertools import count
from pathlib import Path
from typing import Any, Literal

from benchmarks._timing import Contest, Figure
from oneiric.runtime.workflows import LocalWorkflowEngine, NodeCall, WorkflowCheckpointStore, WorkflowSpec

ROUNDS = 15
#: Nodes of the fan-out whose results are kept, and of the floor that commits each.
KEPT = 1_000
COMMITTED = 250
MANY = 10_000

type Graph = Mapping[str, list[str]]


class _Tasks:
    """Run tasks that do nothing; or sleep, where the payload says how long."""

    async def run(self, task: str, payload: Any, call: NodeCall) -> Any:  # noqa: ARG002 - the port's
        if payload is not None:
            await asyncio.sleep(payload)
        return None


class _Results:
    async def run(self, task: str, payload: Any, call: NodeCall) -> Any:  # noqa: ARG002 - the port's
        return {"path": "/var/spool/orders/0001.json", "rows": 1_000, "ok": True}


def measure(rounds: int) -> list[Figure]:
    """Measure the group."""
    contest = Contest("workflow", rounds)
    for name, graph in _graphs().items():
        spec = _spec(name, graph)
        engine = LocalWorkflowEngine(_Tasks(), {name: spec}, max_parallel=MANY)
        size = len(graph)
        names = {"engine": engine, "key": name}
        contest.add(name, "await engine.run(key)", names, floor=f"graphlib_{name}", operations=size)
        floor = {"run": _by_queue, "graph": graph, "tasks": _Tasks()}
        contest.add(
            f"graphlib_{name}", "await run(graph, tasks)", floor, who="floor", floor=f"graphlib_{name}", operations=size
        )
        contest.add(
            f"tight_{name}",
            "await run(graph, tasks)",
            floor | {"run": _by_itself},
            who="peer",
            floor=f"graphlib_{name}",
            operations=size,
            label="graphlib, TaskGroup, each task starts those behind it",
        )
    with tempfile.TemporaryDirectory() as directory:
        closing = [
            close
            for library in _libraries()
            for synchronous in ("full", "normal")
            for close in _add_kept(contest, Path(directory), library, synchronous)
        ]
        contest.run()
        for close in closing:
            close()
    figures = [*contest.figures(), _makespan(contest), _memory(contest)]
    contest.close()
    return figures


def _graphs() -> dict[str, Graph]:
    return {
        "chain_100": {f"n{place}": [f"n{place - 1}"] if place else [] for place in range(100)},
        "fan_out_1000": {f"n{place}": [] for place in range(1_000)},
        "layers_10_100": {
            f"n{layer}-{place}": [f"n{layer - 1}-{place}", f"n{layer - 1}-{(place + 1) % 100}"] if layer else []
            for layer in range(10)
            for place in range(100)
        },
    }


def _spec(key: str, graph: Graph) -> WorkflowSpec:
    nodes = [{"id": node, "task": "nothing", "depends_on": above} for node, above in graph.items()]
    return WorkflowSpec.from_mapping(key, {"nodes": nodes})


async def _by_queue(graph: Graph, tasks: _Tasks) -> dict[str, Any]:
    """Run a graph as graphlib's documentation shows it, with tasks for workers."""
    sorter = TopologicalSorter(graph)
    sorter.prepare()
    finished: asyncio.Queue[str] = asyncio.Queue()
    results: dict[str, Any] = {}

    async def one(node: str) -> None:
        results[node] = await tasks.run(node, None, None)  # type: ignore[arg-type]
        finished.put_nowait(node)

    async with asyncio.TaskGroup() as group:
        while sorter.is_active():
            for node in sorter.get_ready():
                group.create_task(one(node))
            sorter.done(await finished.get())
    return results


async def _by_itself(graph: Graph, tasks: _Tasks) -> dict[str, Any]:
    """Run a graph so that whoever ends starts what it made ready."""
    sorter = TopologicalSorter(graph)
    sorter.prepare()
    results: dict[str, Any] = {}

    async def one(node: str) -> None:
        results[node] = await tasks.run(node, None, None)  # type: ignore[arg-type]
        sorter.done(node)
        for ready in sorter.get_ready():
            group.create_task(one(ready))

    async with asyncio.TaskGroup() as group:
        for node in sorter.get_ready():
            group.create_task(one(node))
    return results


# Results that are kept.


def _libraries() -> list[Literal["sqlite3", "apsw"]]:
    try:
        import apsw  # noqa: F401 - is it there?
    except ModuleNotFoundError:
        return ["sqlite3"]
    return ["apsw", "sqlite3"]


def _add_kept(
    contest: Contest, directory: Path, library: Literal["sqlite3", "apsw"], synchronous: Literal["full", "normal"]
) -> list[Callable[[], Any]]:
    suffix = f"{library}_{synchronous}"
    floor = f"held_{suffix}"
    closing: list[Callable[[], Any]] = []
    journal = ""
    for durability, size in (("group", KEPT), ("strict", COMMITTED)):
        store = WorkflowCheckpointStore(
            directory / f"{suffix}-{durability}.sqlite",
            durability=durability,  # type: ignore[arg-type]
            synchronous=synchronous,
            library=library,
        )
        contest.setup(store.open())
        journal = store.journal_mode or ""
        spec = _spec("kept", {f"n{place}": [] for place in range(size)})
        engine = LocalWorkflowEngine(_Results(), {"kept": spec}, checkpoints=store, max_parallel=KEPT)
        contest.add_timed(
            f"{durability}_{suffix}",
            _timed(contest, engine),
            label=f"fan-out of {size}, {durability}: {library}, {journal}, {synchronous}",
            floor=floor,
            operations=size,
            number=1,
        )
        closing.append(partial(_close, contest, store, engine))
    held = _held(directory / f"{suffix}-held.sqlite", library, synchronous, journal)
    label = f"one commit per node, held connection: {library}, {journal}, {synchronous}"
    contest.add_timed(
        floor, _one_commit_each(held), label=label, who="floor", floor=floor, operations=COMMITTED, number=1
    )
    return [*closing, held.close]


def _close(contest: Contest, store: WorkflowCheckpointStore, engine: LocalWorkflowEngine) -> None:
    contest.setup(_closed(store, engine))


async def _closed(store: WorkflowCheckpointStore, engine: LocalWorkflowEngine) -> None:
    await engine.aclose()
    await store.aclose()


def _timed(contest: Contest, engine: LocalWorkflowEngine) -> Callable[[int], float]:
    async def once() -> float:
        started = time.perf_counter()
        await engine.run("kept")
        return time.perf_counter() - started

    return lambda _: float(contest.setup(once()))


def _held(path: Path, library: str, synchronous: str, journal: str) -> Any:
    if library == "apsw":
        import apsw

        connection: Any = apsw.Connection(str(path))
    else:
        connection = sqlite3.connect(path, isolation_level=None)
    connection.execute(f"PRAGMA journal_mode = {journal}").fetchall()
    full = "FULL" if journal == "wal" else "EXTRA"
    connection.execute(f"PRAGMA synchronous = {full if synchronous == 'full' else 'NORMAL'}")
    connection.execute(
        """CREATE TABLE node (run TEXT, id TEXT, status TEXT, started REAL, ended REAL, attempts INTEGER, result TEXT,
               PRIMARY KEY (run, id)) WITHOUT ROWID"""
    )
    return connection


def _one_commit_each(connection: Any) -> Callable[[int], float]:
    runs = count()
    result = {"path": "/var/spool/orders/0001.json", "rows": 1_000, "ok": True}

    def run(_: int) -> float:
        number = f"run-{next(runs)}"
        started = time.perf_counter()
        for node in range(COMMITTED):
            row = (number, f"n{node}", "completed", started, started, 1, json.dumps(result))
            connection.execute("BEGIN IMMEDIATE")
            connection.execute("INSERT INTO node VALUES (?, ?, ?, ?, ?, ?, ?)", row).fetchall()
            connection.execute("COMMIT")
        return time.perf_counter() - started

    return run


# Makespan and memory.


def _makespan(contest: Contest) -> Figure:
    """Run two chains of ten, whose long nodes stand at different places, against the longer chain alone."""
    long, short = 0.010, 0.001
    nodes: list[dict[str, Any]] = []
    for chain in range(2):
        for place in range(10):
            above = [f"c{chain}-{place - 1}"] if place else []
            seconds = long if place % 2 == chain else short
            nodes.append({"id": f"c{chain}-{place}", "task": "sleep", "depends_on": above, "payload": seconds})
    spec = WorkflowSpec.from_mapping("skewed", {"nodes": nodes})
    engine = LocalWorkflowEngine(_Tasks(), {"skewed": spec})

    async def timed(work: Callable[[], Any]) -> float:
        started = time.perf_counter()
        await work()
        return time.perf_counter() - started

    async def critical() -> None:
        for place in range(10):
            await asyncio.sleep(long if place % 2 else short)

    ours = alone = float("inf")
    for _ in range(10):
        ours = min(ours, float(contest.setup(timed(lambda: engine.run("skewed")))))
        alone = min(alone, float(contest.setup(timed(critical))))
    label = "two skewed chains of ten, over their critical path"
    return Figure(name="workflow.makespan", label=label, who="ours", value=ours / alone, seconds=ours)


def _memory(contest: Contest) -> Figure:
    """Return the bytes that a fan-out of ten thousand takes at most, for each node."""
    spec = _spec("many", {f"n{place}": [] for place in range(MANY)})
    spec.plan()

    class Suspending:
        async def run(self, task: str, payload: Any, call: NodeCall) -> Any:  # noqa: ARG002 - the port's
            await asyncio.sleep(0)

    engine = LocalWorkflowEngine(Suspending(), {"many": spec})
    contest.setup(engine.run("many"))
    gc.collect()
    tracemalloc.start()
    before = tracemalloc.get_traced_memory()[0]
    contest.setup(engine.run("many"))
    peak = tracemalloc.get_traced_memory()[1] - before
    tracemalloc.stop()
    label = f"memory at most, fan-out of {MANY}, each"
    return Figure(name="workflow.bytes", label=label, who="ours", value=peak / MANY, unit="B")
