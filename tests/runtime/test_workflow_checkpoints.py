"""What a checkpoint promises: a node that finished is committed before anything depends on it, and never run again."""

import json
import sqlite3
from pathlib import Path
from typing import Any

import pytest
from tests.runtime._workflows import CHAIN, HUNG, Tasks, engine_of, fail_once, failed, hung, node, workflow

from oneiric.core.errors import CheckpointError, NodeError, RunNotFoundError, StoreError
from oneiric.runtime.workflows import WorkflowCheckpointStore


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "workflow_checkpoints.sqlite"


@pytest.fixture(params=["group", "strict"])
def durability(request: pytest.FixtureRequest) -> Any:
    return request.param


async def test_a_node_is_committed_before_anything_that_depends_on_it_starts(path: Path, durability: Any) -> None:
    seen: list[tuple[str, list[str]]] = []

    async with (
        WorkflowCheckpointStore(path, durability=durability) as store,
        WorkflowCheckpointStore(path, readonly=True) as reader,
    ):

        async def look(payload: Any) -> None:
            info = await reader.inspect("r")
            seen.append((payload, [each.node for each in info.nodes if each.status == "completed"]))

        spec = workflow(
            node("a", task="look", payload="a"),
            node("b", "a", task="look", payload="b"),
            node("c", "a", task="look", payload="c"),
            node("d", "b", "c", task="look", payload="d"),
        )
        async with engine_of(Tasks(look=look), spec, checkpoints=store) as engine:
            await engine.run("w", run_id="r")
    found = dict(seen)
    assert found["a"] == []
    assert set(found["b"]) >= {"a"}
    assert set(found["d"]) == {"a", "b", "c"}


async def test_items_of_a_fan_out_and_sub_workflows_are_kept_one_by_one(path: Path) -> None:
    broken = True

    def work(payload: Any) -> Any:
        if payload == 2 and broken:
            raise OSError("disk")
        return payload

    inner = workflow(
        node("x", payload="${context.n}"),
        node("y", "x", task="work", payload=2),
        key="inner",
        output="${nodes.y.output}",
    )
    spec = workflow(
        node("list", payload=[1, 2, 3]),
        node("each", "list", for_each="${nodes.list.output}", task="work", payload="${item}"),
        node("sub", "each", workflow="inner", payload={"n": 5}),
        max_parallel=1,
    )
    tasks = Tasks(work=work)
    async with WorkflowCheckpointStore(path) as store, engine_of(tasks, spec, inner, checkpoints=store) as engine:
        await failed(engine)
        assert tasks.nodes == ["list", "each[0]", "each[1]"]
        broken = False
        await engine.resume("r")
        await engine.wait("r")
        assert tasks.nodes == ["list", "each[0]", "each[1]", "each[1]", "each[2]", "x", "y"]
        tasks.calls.clear()
        broken = True
        await engine.resume("r", from_node="sub")
        with pytest.raises(NodeError):
            await engine.wait("r")
        assert tasks.nodes == ["x", "y"]
        broken = False
        await engine.resume("r")
        assert (await engine.wait("r")).results == {"list": [1, 2, 3], "each": [1, 2, 3], "sub": 2}
        assert tasks.nodes == ["x", "y", "y"]
        assert [run.run_id for run in await engine.list()] == ["r"]
        with pytest.raises(CheckpointError, match="is a part of run 'r'"):
            await engine.resume(tasks.calls[-1].run_id)


async def test_what_nodes_see_is_what_would_be_read_back(path: Path) -> None:
    kept: list[Any] = []
    source: dict[str, Any] = {"rows": (1, 2), "text": "\ud800é"}
    tasks = Tasks(make=lambda _: source, keep=kept.append)
    spec = workflow(node("a", task="make"), node("b", "a", task="keep", payload="${nodes.a.output}"))
    async with WorkflowCheckpointStore(path) as store, engine_of(tasks, spec, checkpoints=store) as engine:
        result = await engine.run("w", {"t": (1,)})
        assert kept == [{"rows": [1, 2], "text": "\ud800é"}]
        assert result.results["a"] == kept[0]
        assert tasks.calls[0].payload == {"t": [1]}


@pytest.mark.parametrize(
    ("value", "sentence"),
    [
        (object(), "Object of type object is not JSON serializable"),
        ({1: "x"}, "the name 1 in it is no text"),
        ({"a": [{(1): 2}]}, "the name 1 in .a.0 is no text"),
        (float("nan"), "nan"),
        ({"x": {1, 2}}, "set is not JSON serializable"),
        (b"bytes", "bytes is not JSON serializable"),
    ],
    ids=["object", "key", "key-inside", "nan", "set", "bytes"],
)
async def test_a_result_that_is_no_plain_data_is_refused_with_its_node(path: Path, value: Any, sentence: str) -> None:
    spec = workflow(node("a", task="make"))
    async with WorkflowCheckpointStore(path) as store:
        engine = engine_of(Tasks(make=lambda _: value), spec, checkpoints=store)
        with pytest.raises(NodeError) as caught:
            await engine.run("w", run_id="r")
        assert caught.value.node == "a"
        assert sentence in str(caught.value)
        assert (await engine.inspect("r")).nodes[0].status == "failed"


async def test_a_context_that_is_no_plain_data_is_refused(path: Path) -> None:
    async with WorkflowCheckpointStore(path) as store:
        engine = engine_of(Tasks(), workflow(node("a")), checkpoints=store)
        with pytest.raises(Exception, match="the context of run 'r' is no plain data"):
            await engine.run("w", {"x": object()}, run_id="r")
        with pytest.raises(Exception, match="the context of run 'q' is no plain data"):
            await engine.enqueue("w", {"x": object()}, run_id="q")


async def test_runs_are_listed_and_forgotten(path: Path) -> None:
    now = 0.0

    def clock() -> float:
        return now

    inner = workflow(node("x"), key="inner")
    spec = workflow(node("a", workflow="inner"))
    async with WorkflowCheckpointStore(path, clock=clock) as store:
        engine = engine_of(Tasks(), spec, inner, checkpoints=store, clock=clock)
        for number in range(5):
            now = float(number)
            await engine.run("w", run_id=f"r{number}")
        await engine.run("inner", run_id="i")
        await engine.enqueue("w", run_id="q")
        assert [run.run_id for run in await engine.list(workflow="w")] == ["q", "r4", "r3", "r2", "r1", "r0"]
        assert [run.run_id for run in await engine.list(limit=2, status="completed")] == ["i", "r4"]
        assert (await engine.list())[-1].nodes == ()
        assert await store.prune(3.0) == 3
        assert [run.run_id for run in await engine.list()] == ["q", "i", "r4", "r3"]
        with pytest.raises(RunNotFoundError):
            await engine.inspect("r0/a")
        await engine.inspect("r3/a")
        assert await store.check() is None


async def test_a_damaged_store_is_set_aside_and_a_run_in_it_is_told_as_lost(path: Path) -> None:
    path.write_bytes(b"no database at all " * 100)  # noqa: ASYNC240 - a small file
    async with WorkflowCheckpointStore(path) as store:
        assert store.set_aside is not None
        assert store.set_aside.read_bytes().startswith(b"no database")
        engine = engine_of(Tasks(), CHAIN, checkpoints=store)
        with pytest.raises(RunNotFoundError):
            await engine.resume("r")


@pytest.mark.parametrize("table", ["workflow_execution_nodes SET result", "workflow_executions SET context"])
async def test_a_value_that_was_damaged_is_told_and_never_taken_for_a_result(path: Path, table: str) -> None:
    tasks = fail_once(Tasks())
    async with WorkflowCheckpointStore(path) as store:
        await failed(engine_of(tasks, CHAIN, checkpoints=store))
        tasks.calls.clear()
        await store._store.write(lambda database: database.execute(f"UPDATE {table} = '{{\"n'"))
        engine = engine_of(tasks, CHAIN, checkpoints=store)
        for awaitable in (engine.resume("r"), engine.inspect("r")):
            with pytest.raises(CheckpointError, match="is damaged in the store") as caught:
                await awaitable
            assert caught.value.kind == "store"
        assert tasks.nodes == []


async def test_a_store_that_is_gone_under_a_run_stops_it(path: Path) -> None:
    tasks, started, gate = hung()
    async with WorkflowCheckpointStore(path) as store:
        engine = engine_of(tasks, HUNG, checkpoints=store)
        await engine.start("w", run_id="r")
        await started.wait()
        path.rename(path.with_name("moved"))  # noqa: ASYNC240 - what an operator might do
        gate.set()
        with pytest.raises(CheckpointError, match="is no longer in the store"):
            await engine.wait("r")
        assert "c" not in tasks.nodes


async def test_nothing_is_acknowledged_by_a_closed_store(path: Path) -> None:
    tasks, started, gate = hung()
    store = WorkflowCheckpointStore(path)
    await store.open()
    engine = engine_of(tasks, HUNG, checkpoints=store)
    await engine.start("w", run_id="r")
    await started.wait()
    await store.aclose()
    gate.set()
    with pytest.raises(CheckpointError, match="cannot be kept") as caught:
        await engine.wait("r")
    assert caught.value.kind == "store"
    assert isinstance(caught.value.__cause__, StoreError)
    assert "c" not in tasks.nodes


async def test_a_store_of_an_earlier_release_is_taken_over_and_its_rows_are_kept(path: Path) -> None:
    connection = sqlite3.connect(path)
    connection.executescript(
        """CREATE TABLE workflow_executions (run_id TEXT PRIMARY KEY, workflow_key TEXT, status TEXT, started_at TEXT,
               ended_at TEXT, error TEXT);
           CREATE TABLE workflow_execution_nodes (run_id TEXT, node_key TEXT, status TEXT, started_at TEXT,
               ended_at TEXT, attempts INTEGER, error TEXT, PRIMARY KEY (run_id, node_key));
           CREATE TABLE workflow_checkpoints (workflow_key TEXT PRIMARY KEY, payload JSON);
           INSERT INTO workflow_executions VALUES ('old', 'w', 'completed', 'x', 'y', NULL);"""
    )
    connection.close()
    async with WorkflowCheckpointStore(path) as store:
        engine = engine_of(Tasks(), workflow(node("a")), checkpoints=store)
        await engine.run("w", run_id="r")
        assert [run.run_id for run in await engine.list()] == ["r"]
        kept = await store._store.read(lambda database: database.execute("SELECT * FROM earlier_workflow_executions"))
        assert kept[0][0] == "old"


async def test_the_file_is_private_and_names_and_texts_are_only_values(path: Path) -> None:
    naughty = "x'; DROP TABLE workflow_executions; --\x00\n"
    async with WorkflowCheckpointStore(path) as store:
        engine = engine_of(Tasks(), workflow(node("a"), key=naughty), checkpoints=store)
        await engine.run(naughty, {"t": naughty}, run_id=naughty)
        assert (await engine.list(workflow=naughty))[0].context == {"t": naughty}
        assert json.loads(json.dumps((await engine.inspect(naughty)).as_dict()))["nodes"][0]["result"] == {"t": naughty}
    assert path.stat().st_mode & 0o777 == 0o600  # noqa: ASYNC240 - a small file
