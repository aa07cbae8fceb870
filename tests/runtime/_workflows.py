"""What the tests of workflows share: a runner that plays tasks by their names, and short ways to say a workflow."""

import asyncio
from collections.abc import Callable, Mapping
from typing import Any

import pytest

from oneiric.core.errors import NodeError
from oneiric.runtime.workflows import LocalWorkflowEngine, NodeCall, WorkflowSpec


class Tasks:
    """Run tasks that are functions of the payload, sync or async, and remember the calls."""

    def __init__(self, **tasks: Callable[..., Any]) -> None:
        self.tasks: dict[str, Callable[..., Any]] = {"echo": lambda payload: payload, **tasks}
        self.calls: list[NodeCall] = []
        self.running = 0
        self.most_running = 0

    @property
    def nodes(self) -> list[str]:
        return [call.node for call in self.calls]

    async def run(self, task: str, payload: Any, call: NodeCall) -> Any:
        self.calls.append(call)
        self.running += 1
        self.most_running = max(self.most_running, self.running)
        try:
            found = self.tasks[task](payload)
            return await found if asyncio.iscoroutine(found) else found
        finally:
            self.running -= 1


def node(name: str, *depends_on: str, task: str = "echo", **stated: Any) -> dict[str, Any]:
    runs = {} if "workflow" in stated else {"task": task}
    return {"id": name, "depends_on": list(depends_on), **runs, **stated}


def workflow(*nodes: Mapping[str, Any], key: str = "w", **stated: Any) -> WorkflowSpec:
    return WorkflowSpec.from_mapping(key, {"nodes": list(nodes), **stated})


def engine_of(tasks: Tasks, *specs: WorkflowSpec, **options: Any) -> LocalWorkflowEngine:
    return LocalWorkflowEngine(tasks, {spec.key: spec for spec in specs}, **options)


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


def hung() -> tuple[Tasks, asyncio.Event, asyncio.Event]:
    """Return tasks of which ``wait`` waits, the event that it has begun, and the event that lets it end."""
    started, gate = asyncio.Event(), asyncio.Event()

    async def wait(payload: Any) -> Any:
        started.set()
        await gate.wait()
        return payload

    return Tasks(wait=wait), started, gate


CHAIN = workflow(
    node("a", payload={"n": 1}),
    node("b", "a", payload={"n": "${nodes.a.output.n}"}),
    node("c", "b", task="flaky", payload={"n": "${nodes.b.output.n}"}),
    node("d", "c", payload={"n": "${nodes.c.output.n}"}),
)
HUNG = workflow(node("a"), node("b", "a", task="wait"), node("c", "b"))
