"""A run goes on where it ended: under the definition it began with, or under the one of today."""

import asyncio
from pathlib import Path
from typing import Any

import pytest
from tests.runtime._workflows import CHAIN, Tasks, engine_of, fail_once, failed, mend, node, workflow

from oneiric.core.errors import CandidateNotFoundError, CheckpointError
from oneiric.runtime.workflows import WorkflowCheckpointStore, WorkflowSpec


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "workflow_checkpoints.sqlite"


@pytest.fixture(params=["group", "strict"])
def durability(request: pytest.FixtureRequest) -> Any:
    return request.param


async def test_a_resumed_run_goes_on_where_it_failed_and_runs_no_committed_node_again(
    path: Path, durability: Any
) -> None:
    tasks = fail_once(Tasks())
    async with WorkflowCheckpointStore(path, durability=durability) as store:
        await failed(engine_of(tasks, CHAIN, checkpoints=store), x=1)
        info = await store.inspect("r")
        assert (info.status, info.context) == ("failed", {"x": 1})
        statuses = [(each.node, each.status) for each in info.nodes]
        assert statuses == [("a", "completed"), ("b", "completed"), ("c", "failed")]
    mend(tasks)
    keys = {call.node: call.idempotency_key for call in tasks.calls}
    tasks.calls.clear()
    async with WorkflowCheckpointStore(path, durability=durability) as store:
        async with engine_of(tasks, CHAIN, checkpoints=store) as engine:
            await engine.resume("r")
            result = await engine.wait("r")
            assert tasks.nodes == ["c", "d"]
            assert tasks.calls[0].idempotency_key == keys["c"]
            assert result.results == {key: {"n": 1} for key in "abcd"}
            info = await engine.inspect("r")
            assert (info.status, info.output) == ("completed", result.output)
            assert [each.node for each in info.nodes] == ["a", "b", "c", "d"]
        async with engine_of(tasks, CHAIN, checkpoints=store) as engine:
            assert (await engine.resume("r")).status == "completed"
            assert (await engine.wait("r")).results == result.results
            assert (await engine.start("w", {"x": 1}, run_id="r")).status == "completed"
    assert tasks.nodes == ["c", "d"]


async def test_a_changed_definition_is_refused_with_the_first_difference(path: Path) -> None:
    tasks = fail_once(Tasks())
    changed = workflow(
        node("a", payload={"n": 1}),
        node("b", "a", payload={"n": 7}),
        node("c", "b", task="flaky", payload={"n": "${nodes.b.output.n}"}),
        node("e", "c"),
    )
    async with WorkflowCheckpointStore(path) as store:
        await failed(engine_of(tasks, CHAIN, checkpoints=store))
        mend(tasks)
        tasks.calls.clear()
        engine = engine_of(tasks, changed, checkpoints=store)
        with pytest.raises(CheckpointError) as caught:
            await engine.resume("r")
        assert caught.value.kind == "changed"
        assert "node 'b' has payload {'n': 7} instead of {'n': '${nodes.a.output.n}'}" in str(caught.value)
        with pytest.raises(CheckpointError):
            await engine.start("w", run_id="r")
        await engine.resume("r", on_change="stored")
        assert (await engine.wait("r")).results == {key: {"n": 1} for key in "abcd"}
        assert tasks.nodes == ["c", "d"]


@pytest.mark.parametrize(
    ("spec", "sentence"),
    [
        (workflow(node("a", payload={"n": 1}), node("b", "a")), "node 'b' has payload none instead of"),
        (workflow(node("a", payload={"n": 1}, task="other")), "node 'a' has task 'other' instead of 'echo'"),
        (workflow(node("b", payload={"n": 1})), "node 'a' is gone"),
        (workflow(*CHAIN.as_mapping()["nodes"], node("x")), "node 'x' is new"),
        (workflow(*CHAIN.as_mapping()["nodes"], output="x"), "the workflow has output 'x' instead of none"),
    ],
)
async def test_each_kind_of_change_is_named(path: Path, spec: WorkflowSpec, sentence: str) -> None:
    tasks = fail_once(Tasks())
    async with WorkflowCheckpointStore(path) as store:
        await failed(engine_of(tasks, CHAIN, checkpoints=store))
        with pytest.raises(CheckpointError) as caught:
            await engine_of(tasks, spec, checkpoints=store).resume("r")
        assert sentence in str(caught.value)


async def test_a_run_can_go_on_with_the_current_definition(path: Path) -> None:
    tasks = fail_once(Tasks())
    changed = workflow(node("a", payload={"n": 9}), node("new", "a", payload="${nodes.a.output}"), node("e", "new"))
    async with WorkflowCheckpointStore(path) as store:
        await failed(engine_of(tasks, CHAIN, checkpoints=store))
        tasks.calls.clear()
        engine = engine_of(tasks, changed, checkpoints=store)
        await engine.resume("r", on_change="current")
        assert (await engine.wait("r")).results["new"] == {"n": 1}
        assert tasks.nodes == ["new", "e"]
        assert [each.node for each in (await engine.inspect("r")).nodes] == ["a", "b", "new", "e"]
        assert (await engine.resume("r")).definition == changed.digest


async def test_retries_and_timeouts_may_change_and_a_gone_workflow_may_go_on_as_it_began(path: Path) -> None:
    tasks = fail_once(Tasks())
    stated = CHAIN.as_mapping()
    patient = WorkflowSpec.from_mapping("w", stated | {"retry_policy": {"attempts": 2, "base_delay": 0}})
    assert WorkflowSpec.from_mapping("w", stated) == CHAIN
    async with WorkflowCheckpointStore(path) as store:
        await failed(engine_of(tasks, CHAIN, checkpoints=store))
        await failed(engine_of(tasks, patient, checkpoints=store))
        assert tasks.nodes == ["a", "b", "c", "c", "c"]
        mend(tasks)
        engine = engine_of(tasks, checkpoints=store)
        with pytest.raises(CandidateNotFoundError):
            await engine.resume("r")
        await engine.resume("r", on_change="stored")
        assert (await engine.wait("r")).results["d"] == {"n": 1}


async def test_a_retry_from_a_node_runs_it_and_all_below_it_under_new_keys(path: Path) -> None:
    tasks = Tasks()
    spec = workflow(node("a"), node("b", "a"), node("c", "b"), node("other", "a"))
    async with WorkflowCheckpointStore(path) as store, engine_of(tasks, spec, checkpoints=store) as engine:
        await engine.run("w", run_id="r")
        keys = {call.node: call.idempotency_key for call in tasks.calls}
        tasks.calls.clear()
        await engine.resume("r", from_node="b")
        await engine.wait("r")
        assert tasks.nodes == ["b", "c"]
        again = {call.node: call.idempotency_key for call in tasks.calls}
        assert set(keys.values()).isdisjoint(again.values())
        with pytest.raises(CheckpointError, match="has no node 'x'"):
            await engine.resume("r", from_node="x")


async def test_a_run_that_was_undone_does_again_what_was_undone_and_what_depends_on_it(path: Path) -> None:
    tasks = fail_once(Tasks(undo=lambda payload: None))
    spec = workflow(
        node("before"),
        node("a", "before", compensate="undo"),
        node("b", "a"),
        node("aside", "before"),
        node("last", "b", "aside", task="flaky"),
    )
    async with WorkflowCheckpointStore(path) as store, engine_of(tasks, spec, checkpoints=store) as engine:
        await failed(engine)
        info = await engine.inspect("r")
        assert (info.nodes[-1].node, info.nodes[-1].status) == ("a:compensate", "completed")
        keys = {call.node: call.idempotency_key for call in tasks.calls}
        mend(tasks)
        tasks.calls.clear()
        await engine.resume("r")
        await engine.wait("r")
        assert tasks.nodes == ["a", "b", "last"]
        again = {call.node: call.idempotency_key for call in tasks.calls}
        assert again["a"] != keys["a"], "its effect was undone, and is wanted anew"
        assert again["b"] == keys["b"], "its effect was not"


async def test_a_run_that_died_while_it_was_undone_goes_on_being_undone(path: Path) -> None:
    hang = asyncio.Event()
    undone: list[str] = []

    async def undo(payload: Any) -> None:
        undone.append(payload["output"])
        if payload["output"] == "a" and not hang.is_set():
            hang.set()
            await asyncio.Event().wait()

    tasks = fail_once(Tasks(undo=undo))
    spec = workflow(
        node("a", payload="a", compensate="undo"),
        node("b", "a", payload="b", compensate="undo"),
        node("c", "b", task="flaky"),
    )
    async with WorkflowCheckpointStore(path) as store:
        async with engine_of(tasks, spec, checkpoints=store) as engine:
            await engine.start("w", run_id="r")
            await hang.wait()
        assert (await store.inspect("r")).status == "interrupted"
        tasks.calls.clear()
        async with engine_of(tasks, spec, checkpoints=store) as engine:
            await engine.resume("r")
            with pytest.raises(Exception, match="KeyError"):
                await engine.wait("r")
            assert (await engine.inspect("r")).status == "failed"
    assert undone == ["b", "a", "a"]
    assert tasks.nodes == ["a:compensate"]


async def test_a_closed_engine_leaves_a_run_that_can_be_resumed_at_once(path: Path) -> None:
    started, gate = asyncio.Event(), asyncio.Event()

    async def wait(_: Any) -> str:
        started.set()
        await gate.wait()
        return "done"

    tasks = Tasks(wait=wait)
    inner = workflow(node("x"), node("y", "x", task="wait"), key="inner")
    spec = workflow(node("a"), node("b", "a", workflow="inner"))
    async with WorkflowCheckpointStore(path) as store, WorkflowCheckpointStore(path) as other:
        async with engine_of(tasks, spec, inner, checkpoints=store) as engine:
            await engine.start("w", run_id="r")
            await started.wait()
            assert (await other.inspect("r")).status == "running"
        assert (await other.inspect("r")).status == (await other.inspect("r/b")).status == "interrupted"
        assert [run.run_id for run in await other.list(status="interrupted")] == ["r"]
        gate.set()
        async with engine_of(tasks, spec, inner, checkpoints=other) as engine:
            await engine.resume("r")
            await engine.wait("r")
    assert tasks.nodes == ["a", "x", "y", "y"]


async def test_a_sub_workflow_that_cannot_go_on_interrupts_its_run_and_does_not_fail_it(path: Path) -> None:
    undone: list[Any] = []
    tasks = fail_once(Tasks(undo=undone.append))
    spec = workflow(node("a", compensate="undo"), node("b", "a", workflow="inner"))
    inner = workflow(node("x", task="flaky"), key="inner")
    async with WorkflowCheckpointStore(path) as store:
        await failed(engine_of(tasks, spec, inner, checkpoints=store))
        assert len(undone) == 1
        mend(tasks)
        changed = workflow(node("x", task="flaky", payload=1), key="inner")
        engine = engine_of(tasks, spec, changed, checkpoints=store)
        await engine.resume("r")
        with pytest.raises(CheckpointError, match="workflow 'inner' has changed since run 'r/b' began"):
            await engine.wait("r")
        assert (await engine.inspect("r")).status == "interrupted"
        assert len(undone) == 1
        await engine.resume("r", on_change="current")
        assert (await engine.wait("r")).results["b"] == {"x": 1}


async def test_an_enqueued_run_begins_with_the_definition_of_the_day(path: Path) -> None:
    tasks = Tasks()
    async with WorkflowCheckpointStore(path, clock=lambda: 7.0) as store:
        info = await engine_of(tasks, CHAIN, checkpoints=store).enqueue("w", {"x": 1}, run_id="q")
        assert (info.status, info.queued_at, info.started_at) == ("queued", 7.0, None)
        engine = engine_of(tasks, workflow(node("z")), checkpoints=store)
        with pytest.raises(CheckpointError, match="there is a run 'q' already"):
            await engine.enqueue("w", run_id="q")
        await engine.start("w", {"x": 1}, run_id="q")
        assert (await engine.wait("q")).results == {"z": {"x": 1}}
