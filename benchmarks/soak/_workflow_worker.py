"""What the soak ``workflow`` runs in processes that are killed: one run of 50 nodes, each of which leaves a line.

A line is written when a task begins. A node whose dependant has left a line was committed: what the store promises.
"""

import asyncio
import hashlib
import json
import os
import sys
from pathlib import Path
from typing import Any, Final

from oneiric.core.errors import CheckpointError
from oneiric.runtime.workflows import LocalWorkflowEngine, NodeCall, WorkflowCheckpointStore, WorkflowSpec

__all__ = ["KEY", "NODES", "PARALLEL", "RUN", "SPEC", "Work", "expected", "work"]

KEY, RUN = "soak", "run-1"
NODES: Final = 50
#: Nodes that run at the same time; a kill may make this many run again, and no more.
PARALLEL: Final = 4


def _spec() -> WorkflowSpec:
    nodes: list[dict[str, Any]] = []
    for number in range(NODES):
        above = sorted({number - 1 - number % 3, number - 7} & set(range(number)))
        nodes.append(
            {
                "id": f"n{number}",
                "task": "step",
                "depends_on": [f"n{other}" for other in above],
                "payload": {"number": number, "above": [f"${{nodes.n{other}.output.value}}" for other in above]},
            }
        )
    return WorkflowSpec.from_mapping(KEY, {"nodes": nodes})


SPEC: Final = _spec()


class Work:
    """Tasks that leave a line when they begin, in a file that outlives them.

    Args:
        lines: Where.
        seconds: What each takes.
    """

    def __init__(self, lines: Path, seconds: float) -> None:
        self._lines = os.open(lines, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
        self._seconds = seconds

    async def run(self, task: str, payload: Any, call: NodeCall) -> Any:
        """Begin, and return what follows from the payload."""
        del task
        os.write(self._lines, f"{os.getpid()} {call.node} {call.idempotency_key}\n".encode())
        await asyncio.sleep(self._seconds)
        return value_of(payload)


def value_of(payload: Any) -> dict[str, str]:
    """Return the result of a node."""
    return {"value": hashlib.sha256(json.dumps(payload, sort_keys=True).encode()).hexdigest()}


def expected() -> dict[str, Any]:
    """Return the results of a run that nothing disturbed."""
    results: dict[str, Any] = {}
    for node in SPEC.nodes:
        above = [results[other]["value"] for other in sorted(node.depends_on, key=lambda each: int(each[1:]))]
        results[node.id] = value_of({"number": int(node.id[1:]), "above": above})
    return results


async def work(directory: Path, options: dict[str, Any]) -> dict[str, Any]:
    """Begin the run or go on with it, until its end; say how it ended.

    Args:
        directory: Of the store and the lines.
        options: ``seconds`` of a node, and those of the store.
    """
    seconds = options.get("seconds", 0.0)
    about = {name: value for name, value in options.items() if name != "seconds"}
    async with WorkflowCheckpointStore(directory / "checkpoints.sqlite", **about) as store:
        runner = Work(directory / "lines", seconds)
        async with LocalWorkflowEngine(runner, {KEY: SPEC}, checkpoints=store, max_parallel=PARALLEL) as engine:
            try:
                await engine.start(KEY, {"tenant": "acme"}, run_id=RUN)
                result = await engine.wait(RUN)
            except CheckpointError as error:
                return {"ended": error.kind, "error": str(error)}
            return {"ended": "completed", "is_right": dict(result.results) == expected(), "check": await store.check()}


async def committed(directory: Path) -> list[str]:
    """Return the nodes that the store says are done."""
    if not (directory / "checkpoints.sqlite").exists():
        return []
    async with WorkflowCheckpointStore(directory / "checkpoints.sqlite") as store:
        found = await store.list()
        if not found:
            return []
        return [node.node for node in (await store.inspect(RUN)).nodes if node.status == "completed"]


def main(command: str, directory: str, options: str = "{}") -> None:
    """``work DIRECTORY OPTIONS`` or ``committed DIRECTORY``: the answer is one line of JSON."""
    if command == "committed":
        answer: Any = asyncio.run(committed(Path(directory)))
    else:
        answer = asyncio.run(work(Path(directory), json.loads(options)))
    print(json.dumps(answer), flush=True)


if __name__ == "__main__":
    main(*sys.argv[1:])
