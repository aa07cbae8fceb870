"""What a checkpoint promises: a node that finished is committed before anything depends on it, and never run again."""

import asyncio
import json
import sqlite3
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from tests.runtime._workflows import Tasks, engine_of, node, workflow

from oneiric.core.errors import CandidateNotFoundError, CheckpointError, NodeError, RunNotFoundError, StoreError
from oneiric.runtime.workflows import LocalWorkflowEngine, WorkflowCheckpointStore, WorkflowSpec


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "workflow_checkpoints.sqlite"


@pytest.fixture(params=["group", "strict"])
def durability(request: pytest.FixtureRequest) -> Any:
    return request.param


class Clock:
    """Time that a test moves; the wall and the monotonic clock apart."""

    def __init__(self) -> None:
        self.now = 1_000.0
        self.ticks = 50.0

    def wall(self) -> float:
        return self.now

    def monotonic(self) -> float:
        return self.ticks


def fail_once(tasks: Tasks, name: str = "flaky") -> Tasks:
    """Make a task fail until somebody takes the fault away."""

    def fail(_: Any) -> None:
        raise KeyError("gone")

    tasks.tasks[name] = fail
    return tasks


def mend(tasks: Tasks, name: str = "flaky") -> None:
    tasks.tasks[name] = lambda payload: payload


async def failed(engine: LocalWorkflowEngine, run_id: str = "r", **context: Any) -> None:
    with pytest.raises(NodeError):
        await engine.run("w", context or None, run_id=run_id)


CHAIN = workflow(
    node("a", payload={"n": 1}),
    node("b", "a", payload={"n": "${nodes.a.output.n}"}),
    node("c", "b", task="flaky", payload={"n": "${nodes.b.output.n}"}),
    node("d", "c", payload={"n": "${nodes.c.output.n}"}),
)


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


@pytest.fixture
def hung() -> Callable[[], tuple[Tasks, asyncio.Event, asyncio.Event]]:
    def make() -> tuple[Tasks, asyncio.Event, asyncio.Event]:
        started, gate = asyncio.Event(), asyncio.Event()

        async def wait(payload: Any) -> Any:
            started.set()
            await gate.wait()
            return payload

        return Tasks(wait=wait), started, gate

    return make


HUNG = workflow(node("a"), node("b", "a", task="wait"), node("c", "b"))


async def test_a_run_that_somebody_runs_is_held_until_the_lease_ends_and_then_the_late_one_commits_nothing(
    path: Path, hung: Any
) -> None:
    clock = Clock()
    one_tasks, started, gate = hung()
    options: dict[str, Any] = {"lease_seconds": 30, "clock": clock.wall, "monotonic": clock.monotonic}
    async with WorkflowCheckpointStore(path, **options) as one, WorkflowCheckpointStore(path, **options) as two:
        first = engine_of(one_tasks, HUNG, checkpoints=one)
        await first.start("w", run_id="r")
        await started.wait()
        tasks = Tasks(wait=lambda payload: payload)
        second = engine_of(tasks, HUNG, checkpoints=two)
        for wall in (0.0, 1e12, -1e9):  # the clock on the wall says nothing of leases
            clock.now = wall
            with pytest.raises(CheckpointError, match="is being run by process") as caught:
                await second.resume("r")
            assert caught.value.kind == "held"
        clock.ticks += 30
        assert (await two.inspect("r")).status == "interrupted"
        await second.resume("r")
        await second.wait("r")
        assert tasks.nodes == ["b", "c"]
        gate.set()
        with pytest.raises(CheckpointError, match="was taken over by another process") as caught:
            await first.wait("r")
        assert caught.value.kind == "lost"
        assert one_tasks.nodes == ["a", "b"]
        info = await two.inspect("r")
        assert (info.status, len(info.nodes)) == ("completed", 3)
        await first.aclose()


async def test_who_takes_a_run_over_takes_its_sub_workflows_over_whatever_their_leases_say(
    path: Path, hung: Any
) -> None:
    clock = Clock()
    one_tasks, started, gate = hung()

    def late(payload: Any) -> Any:
        clock.ticks += 20  # the sub-workflow begins later, and so does its lease
        return payload

    inner = workflow(node("x", task="wait"), key="inner")
    spec = workflow(node("a", task="late"), node("b", "a", workflow="inner"))
    options: dict[str, Any] = {"lease_seconds": 30, "monotonic": clock.monotonic}
    async with WorkflowCheckpointStore(path, **options) as one, WorkflowCheckpointStore(path, **options) as two:
        one_tasks.tasks["late"] = late
        first = engine_of(one_tasks, spec, inner, checkpoints=one)
        await first.start("w", run_id="r")
        await started.wait()
        clock.ticks += 15
        assert (await two.inspect("r")).status == "interrupted"
        assert (await two.inspect("r/b")).status == "running"
        tasks = Tasks(wait=lambda payload: "done")
        second = engine_of(tasks, spec, inner, checkpoints=two)
        await second.resume("r")
        assert (await second.wait("r")).results["b"] == {"x": "done"}
        gate.set()
        with pytest.raises(CheckpointError, match="taken over"):
            await first.wait("r")
        assert (await two.inspect("r")).status == "completed"


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


async def test_a_late_process_starts_nothing_before_it_knows_that_the_run_is_still_its_own(
    path: Path, hung: Any
) -> None:
    clock = Clock()
    tasks, started, gate = hung()
    spec = workflow(node("a"), node("b", "a", task="wait"), node("c", "b"), node("d", "c"))
    async with WorkflowCheckpointStore(path, lease_seconds=30, monotonic=clock.monotonic) as store:
        engine = engine_of(tasks, spec, checkpoints=store)
        await engine.start("w", run_id="r")
        await started.wait()
        clock.ticks += 1_000
        gate.set()
        await engine.wait("r")  # nobody has taken it: the lease is renewed, and the run goes on
        assert tasks.nodes == ["a", "b", "c", "d"]


async def test_a_lease_of_another_boot_or_of_a_process_that_is_gone_holds_nobody(path: Path, hung: Any) -> None:
    tasks, started, _ = hung()
    async with WorkflowCheckpointStore(path) as store:
        await engine_of(tasks, HUNG, checkpoints=store).start("w", run_id="r")
        await started.wait()
        async with WorkflowCheckpointStore(path) as other:
            engine = engine_of(Tasks(wait=lambda payload: payload), HUNG, checkpoints=other)
            with pytest.raises(CheckpointError):
                await engine.resume("r")
            change = "UPDATE workflow_executions SET lease_boot = 'another'"
            await other._store.write(lambda database: database.execute(change))
            await engine.resume("r")
            await engine.wait("r")


async def test_a_run_is_cancelled_from_elsewhere(path: Path, hung: Any) -> None:
    for lease_seconds in (0.02, 600):
        tasks, started, gate = hung()
        run_id = f"r{lease_seconds}"
        async with (
            WorkflowCheckpointStore(path, lease_seconds=lease_seconds) as store,
            WorkflowCheckpointStore(path) as other,
            engine_of(tasks, HUNG, checkpoints=store) as engine,
        ):
            await engine.start("w", run_id=run_id)
            await started.wait()
            outside = engine_of(Tasks(), HUNG, checkpoints=other)
            lapsed = {"cancelled"} if lease_seconds < 1 else set()  # on a busy machine nobody may hold it just then
            assert (await outside.cancel(run_id)).status in {"running", "interrupted"} | lapsed
            if lease_seconds == 600:
                gate.set()
            with pytest.raises(CheckpointError, match="was cancelled|was taken over" if lapsed else "was cancelled"):
                await engine.wait(run_id)
            assert (await outside.inspect(run_id)).status == "cancelled"
            assert (await outside.start("w", run_id=run_id)).status == "cancelled"
            assert "c" not in tasks.nodes
            gate.set()
            await engine.resume(run_id)
            await engine.wait(run_id)
            assert tasks.nodes.count("a") == 1


async def test_a_run_that_nobody_runs_is_cancelled_at_once(path: Path) -> None:
    async with WorkflowCheckpointStore(path) as store:
        engine = engine_of(Tasks(), CHAIN, checkpoints=store)
        await engine.enqueue("w", run_id="q")
        assert (await engine.cancel("q")).status == "cancelled"
        assert (await engine.cancel("q")).status == "cancelled"
        with pytest.raises(RunNotFoundError):
            await engine.cancel("x")
        with pytest.raises(RunNotFoundError):
            await engine.resume("x")


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


async def test_a_store_that_is_gone_under_a_run_stops_it(path: Path, hung: Any) -> None:
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


async def test_nothing_is_acknowledged_by_a_closed_store(path: Path, hung: Any) -> None:
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


async def test_two_engines_of_one_process_do_not_run_one_run(path: Path, hung: Any) -> None:
    tasks, started, gate = hung()
    async with WorkflowCheckpointStore(path) as store:
        one, two = engine_of(tasks, HUNG, checkpoints=store), engine_of(tasks, HUNG, checkpoints=store)
        await one.start("w", run_id="r")
        await started.wait()
        for engine in (one, two):
            with pytest.raises(CheckpointError):
                await engine.resume("r")
        gate.set()
        await one.wait("r")
    assert tasks.nodes == ["a", "b", "c"]
