"""``oneiric workflow resume``: go on with a run in this process; what is committed is never run again."""

from typing import TYPE_CHECKING, cast

import typer

from oneiric.cli._output import Result
from oneiric.cli._parameters import Run, RunCheckpoints, WhenChanged
from oneiric.cli._runs import checkpoint_settings, on_change_from
from oneiric.cli._view import options_of

if TYPE_CHECKING:
    from oneiric.app import App
    from oneiric.runtime.workflows import OnChange, RunInfo

__all__ = ["command"]


def command(
    context: typer.Context,
    run: Run,
    on_change: WhenChanged = "refuse",
    checkpoints: RunCheckpoints = None,
) -> Result:
    """Go on with a run that was interrupted, failed or was cancelled, in this process."""
    from oneiric.cli._following import follow  # noqa: PLC0415 - loads the runtime

    choice = cast("OnChange", on_change_from(on_change))

    async def begin(app: "App") -> "RunInfo":
        return await app.workflows.engine.resume(run, on_change=choice)

    return follow(options_of(context), checkpoint_settings(checkpoints, off=False), begin)
