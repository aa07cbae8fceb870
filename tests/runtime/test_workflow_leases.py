"""Who runs a run: nobody else while its lease lasts, and who lost it commits nothing."""

from pathlib import Path
from typing import Any

import pytest
from tests.runtime._sqlite_process import locked
from tests.runtime._workflows import CHAIN, HUNG, Tasks, engine_of, hung, node, workflow

from oneiric.core.errors import CheckpointError, RunNotFoundError
from oneiric.runtime.workflows import WorkflowCheckpointStore


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "workflow_checkpoints.sqlite"


class Clock:
    """Time that a test moves; the wall and the monotonic clock apart."""

    def __init__(self) -> None:
        self.now = 1_000.0
        self.ticks = 50.0

    def wall(self) -> float:
        return self.now

    def monotonic(self) -> float:
        return self.ticks


async def test_a_run_that_somebody_runs_is_held_until_the_lease_ends_and_then_the_late_one_commits_nothing(
    path: Path,
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


async def test_who_takes_a_run_over_takes_its_sub_workflows_over_whatever_their_leases_say(path: Path) -> None:
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


async def test_a_late_process_starts_nothing_of_a_run_that_another_one_has_taken_over(path: Path) -> None:
    clock = Clock()
    one_tasks, started, gate = hung()
    spec = workflow(node("a", task="wait"), node("b"), max_parallel=1)
    options: dict[str, Any] = {"lease_seconds": 30, "monotonic": clock.monotonic}
    async with WorkflowCheckpointStore(path, **options) as one, WorkflowCheckpointStore(path, **options) as two:
        first = engine_of(one_tasks, spec, checkpoints=one)
        await first.start("w", run_id="r")
        await started.wait()
        clock.ticks += 30  # the very moment from which on others may take it
        tasks = Tasks(wait=lambda payload: payload)
        second = engine_of(tasks, spec, checkpoints=two)
        await second.resume("r")
        await second.wait("r")
        gate.set()
        with pytest.raises(CheckpointError, match="was taken over by another process"):
            await first.wait("r")
        assert one_tasks.nodes == ["a"]
        assert tasks.nodes == ["a", "b"]


async def test_a_late_process_starts_nothing_before_it_knows_that_the_run_is_still_its_own(path: Path) -> None:
    clock = Clock()
    held = locked(path, "writing")

    def be_late(payload: Any) -> Any:
        clock.ticks += 30  # the very moment from which on others may take the run
        held.__enter__()  # and nobody can be asked whether one has
        return payload

    spec = workflow(node("a"), node("b", "a", task="late"), node("c", "a"))
    options: dict[str, Any] = {"lease_seconds": 30, "busy_seconds": 0.02, "library": "sqlite3"}
    tasks = Tasks(late=be_late)
    async with WorkflowCheckpointStore(path, monotonic=clock.monotonic, **options) as store:
        with pytest.raises(CheckpointError, match="cannot be kept"):
            await engine_of(tasks, spec, checkpoints=store).run("w")
        held.__exit__(None, None, None)
    assert tasks.nodes == ["a", "b"]


async def test_a_late_process_whose_run_is_still_its_own_goes_on(path: Path) -> None:
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


async def test_a_lease_of_another_boot_or_of_a_process_that_is_gone_holds_nobody(path: Path) -> None:
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


async def test_a_run_is_cancelled_from_elsewhere(path: Path) -> None:
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


async def test_two_engines_of_one_process_do_not_run_one_run(path: Path) -> None:
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
