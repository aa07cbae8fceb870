"""WorkflowBridge: definitions of active candidates, run through the tasks' bridge."""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

import pytest

from oneiric.core.errors import CandidateNotFoundError, NodeError, PausedError, WorkflowError
from oneiric.core.lifecycle import LifecycleManager
from oneiric.core.resolution import Candidate, Resolver
from oneiric.domains import TaskBridge, WorkflowBridge

CHAIN = {
    "nodes": [
        {"id": "extract", "task": "extract", "payload": "${context.number}"},
        {"id": "double", "task": "double", "depends_on": ["extract"], "payload": "${nodes.extract.output}"},
    ]
}


def workflow(key: str, dag: Any, *, provider: str = "p", **fields: Any) -> Candidate:
    metadata = {} if dag is None else {"dag": dag}
    return Candidate(domain="workflow", key=key, provider=provider, factory=dict, metadata=metadata, **fields)


def task(key: str, run: Callable[..., Any], *, provider: str = "p", **fields: Any) -> Candidate:
    return Candidate(domain="task", key=key, provider=provider, factory=type(key, (), {"run": run}), **fields)


async def extract(self: Any, payload: int) -> int:
    return payload


async def double(self: Any, payload: int, *, idempotency_key: str, run_id: str, node: str) -> dict[str, Any]:
    return {"value": 2 * payload, "by": [len(idempotency_key), run_id, node]}


@asynccontextmanager
async def shop(*more: Candidate) -> AsyncIterator[tuple[WorkflowBridge, TaskBridge, Resolver]]:
    resolver = Resolver()
    resolver.apply(add=[workflow("fulfil", CHAIN), task("extract", extract), task("double", double), *more])
    async with LifecycleManager(resolver) as lifecycle:
        tasks = TaskBridge(resolver=resolver, lifecycle=lifecycle)
        workflows = WorkflowBridge(resolver=resolver, lifecycle=lifecycle, tasks=tasks)
        yield workflows, tasks, resolver
        await workflows.aclose()


async def test_a_workflow_runs_its_tasks_and_hands_them_what_they_declare() -> None:
    async with shop() as (workflows, _, _):
        result = await workflows.run("fulfil", {"number": 4}, run_id="r1")
        assert result.results == {"extract": 4, "double": {"value": 8, "by": [64, "r1", "double"]}}
        assert (await workflows.execute_dag("fulfil", context={"number": 1}, run_id="r2"))["run_id"] == "r2"
        assert [run.run_id for run in await workflows.runs("fulfil", status="completed")] == ["r2", "r1"]


async def test_what_is_planned_is_the_definition_of_the_candidate_that_ranks_first() -> None:
    async with shop() as (workflows, _, resolver):
        assert list(workflows.dag_specs()) == ["fulfil"]
        assert [node.id for node in workflows.plan("fulfil").nodes] == ["extract", "double"]
        other = {"nodes": [{"id": "only", "task": "extract", "payload": 7}]}
        resolver.register(workflow("fulfil", other, provider="better", priority=9))
        assert [node.id for node in workflows.plan("fulfil").nodes] == ["only"]
        assert (await workflows.run("fulfil")).results == {"only": 7}


async def test_a_workflow_without_a_definition_or_with_a_broken_one_is_named() -> None:
    broken = {"nodes": [{"id": "a", "task": "t", "depends_on": ["b"]}, {"id": "b", "task": "t", "depends_on": ["a"]}]}
    async with shop(workflow("bare", None), workflow("broken", broken)) as (workflows, _, _):
        with pytest.raises(WorkflowError, match="workflow:bare has no definition"):
            await workflows.run("bare")
        with pytest.raises(WorkflowError, match="broken"):
            workflows.plan("broken")
        with pytest.raises(CandidateNotFoundError, match="workflow:nothing"):
            workflows.plan("nothing")
        with pytest.raises(CandidateNotFoundError):
            await workflows.run("nothing")


async def test_a_paused_workflow_is_not_begun_and_a_paused_task_fails_its_node() -> None:
    async with shop() as (workflows, tasks, _):
        await workflows.set_paused("fulfil", True)
        with pytest.raises(PausedError):
            await workflows.run("fulfil", {"number": 1})
        await workflows.resume("fulfil")
        await tasks.set_paused("double", True)
        with pytest.raises(NodeError, match="double"):
            await workflows.run("fulfil", {"number": 1})


async def test_cancelling_the_caller_cancels_the_run() -> None:
    begun = asyncio.Event()

    async def wait(self: Any) -> None:
        begun.set()
        await asyncio.Event().wait()

    async with shop(task("wait", wait), workflow("long", {"nodes": [{"id": "a", "task": "wait"}]})) as (
        workflows,
        _,
        _,
    ):
        running = asyncio.create_task(workflows.run("long", run_id="r1"))
        await begun.wait()
        running.cancel()
        with pytest.raises(asyncio.CancelledError):
            await running
        assert (await workflows.engine.inspect("r1")).status == "cancelled"


async def test_a_swap_in_the_middle_of_a_run_is_taken_up_by_the_next_node() -> None:
    async def swap(self: Any) -> None:
        await lifecycle.swap("task", "greet", "new")

    async def old(self: Any) -> str:
        return "old"

    async def new(self: Any) -> str:
        return "new"

    dag = {
        "nodes": [
            {"id": "first", "task": "greet"},
            {"id": "swap", "task": "swap", "depends_on": ["first"]},
            {"id": "second", "task": "greet", "depends_on": ["swap"]},
        ]
    }
    greet = (task("greet", old, provider="old", priority=1), task("greet", new, provider="new"))
    async with shop(workflow("swapping", dag), task("swap", swap), *greet) as (workflows, tasks, _):
        lifecycle = tasks.lifecycle
        results = (await workflows.run("swapping")).results
        assert (results["first"], results["second"]) == ("old", "new")
