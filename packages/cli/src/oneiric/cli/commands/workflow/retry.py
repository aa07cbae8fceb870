"""``oneiric workflow retry``: run a node of a run, and all that depends on it, again."""

from typing import TYPE_CHECKING, Annotated, cast

import typer

from oneiric.cli._output import Result
from oneiric.cli._parameters import Run, RunCheckpoints, WhenChanged
from oneiric.cli._runs import checkpoint_settings, on_change_from
from oneiric.cli._view import options_of
from oneiric.core.errors import CheckpointError

if TYPE_CHECKING:
    from oneiric.app import App
    from oneiric.runtime.workflows import OnChange, RunInfo

__all__ = ["command"]


def command(
    context: typer.Context,
    run: Run,
    from_node: Annotated[
        str | None, typer.Option("--from-node", metavar="NODE", help="By default what failed or did not run.")
    ] = None,
    on_change: WhenChanged = "refuse",
    checkpoints: RunCheckpoints = None,
) -> Result:
    """Run a node of a run, and all that depends on it, again, in this process, under new idempotency keys."""
    from oneiric.cli._following import follow  # noqa: PLC0415 - loads the runtime

    choice = cast("OnChange", on_change_from(on_change))

    async def begin(app: "App") -> "RunInfo":
        if from_node is None and (await app.workflows.engine.inspect(run)).status == "completed":
            hint = f"oneiric workflow retry {run} --from-node NODE"
            raise CheckpointError(f"run {run!r} has completed: there is nothing that failed", hint, "state")
        return await app.workflows.engine.resume(run, on_change=choice, from_node=from_node)

    return follow(options_of(context), checkpoint_settings(checkpoints, off=False), begin)
