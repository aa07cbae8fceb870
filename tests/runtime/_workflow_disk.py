"""``python _workflow_disk.py DIRECTORY``: a run on a file system that gets full under it, as JSON on stdout.

Run in a mount namespace of its own, where DIRECTORY is mounted with nobody else seeing it.
"""

import asyncio
import json
import sys
from pathlib import Path
from typing import Any

from oneiric.core.errors import CheckpointError
from oneiric.runtime.workflows import LocalWorkflowEngine, NodeCall, WorkflowCheckpointStore, WorkflowSpec

NODES = 60
SPEC = WorkflowSpec.from_mapping(
    "w",
    {
        "nodes": [
            {"id": f"n{number}", "task": "grow", "depends_on": [f"n{number - 1}"] if number else []}
            for number in range(NODES)
        ]
    },
)


class Grow:
    """Return something large, and fill the disk on the way."""

    def __init__(self, directory: Path) -> None:
        self.begun: list[str] = []
        self._directory = directory
        self._is_full = False

    async def run(self, task: str, payload: Any, call: NodeCall) -> Any:
        del task, payload
        self.begun.append(call.node)
        if call.node == "n5" and not self._is_full:
            self._is_full = True
            with (self._directory / "filler").open("ab", buffering=0) as filler:
                try:
                    while True:
                        filler.write(bytes(4096))
                except OSError:
                    pass
        return "x" * 3000


async def main(directory: Path) -> None:
    runner = Grow(directory)
    found: dict[str, Any] = {}
    async with WorkflowCheckpointStore(directory / "checkpoints.sqlite") as store:
        engine = LocalWorkflowEngine(runner, {"w": SPEC}, checkpoints=store)
        try:
            await engine.run("w", run_id="r")
        except CheckpointError as error:
            found["refused"] = [error.kind, getattr(error.__cause__, "kind", None)]
        info = await engine.inspect("r")
        found["status"] = info.status
        committed = [node.node for node in info.nodes if node.status == "completed"]
        # Its dependant never began: nothing was acknowledged that is not there.
        found["only_the_last_is_missing"] = runner.begun[:-1] == committed
        (directory / "filler").unlink()
        last, runner.begun = runner.begun[-1], []
        await engine.resume("r")
        await engine.wait("r")
        found["again"] = runner.begun[0] == last
        found["nodes"] = len(committed) + len(runner.begun)
        found["check"] = await store.check()
    sys.stdout.write(json.dumps(found))


if __name__ == "__main__":
    asyncio.run(main(Path(sys.argv[1])))
