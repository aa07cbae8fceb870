"""``oneiric workflow cancel``: cancel a run, wherever it runs."""

from typing import TYPE_CHECKING

import typer

from oneiric.cli._output import Result
from oneiric.cli._parameters import Run, RunCheckpoints
from oneiric.cli._running import place_of
from oneiric.cli._runs import checkpoints_path, read_runs, run_text
from oneiric.cli._view import options_of

if TYPE_CHECKING:
    from pathlib import Path

    from oneiric.runtime.workflows import RunInfo

__all__ = ["command"]


def command(
    context: typer.Context,
    run: Run,
    checkpoints: RunCheckpoints = None,
) -> Result:
    """Cancel a run: at once where nobody runs it, else when the process that does next writes."""
    path = checkpoints_path(place_of(options_of(context)), checkpoints)
    before = read_runs(path, lambda store: store.inspect(run), run_id=run)
    had_ended = before is not None and before.has_ended
    found = before if had_ended and before is not None else _cancelled(path, run)
    document = {"store": str(path), "requested": found.status == "running", **found.as_dict()}
    notes = []
    if had_ended:
        notes.append(f"the run was {found.status} before")
    elif document["requested"]:
        notes.append(f"{found.owner} runs it, and ends it when it next commits a node or renews its lease")
    return Result(document=document, text=lambda style: run_text(document, style), notes=notes)


def _cancelled(path: "Path", run: str) -> "RunInfo":
    import asyncio  # noqa: PLC0415 - as below

    from oneiric.runtime.workflows import WorkflowCheckpointStore  # noqa: PLC0415 - loads the runtime

    async def cancel() -> "RunInfo":
        async with WorkflowCheckpointStore(path) as store:
            return await store.cancel(run)

    return asyncio.run(cancel())
