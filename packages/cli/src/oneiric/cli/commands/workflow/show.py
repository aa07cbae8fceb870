"""``oneiric workflow show``: a run with its nodes; only reads."""

import typer

from oneiric.cli._output import Result
from oneiric.cli._parameters import Run, RunCheckpoints
from oneiric.cli._running import place_of
from oneiric.cli._runs import checkpoints_path, read_runs, run_text
from oneiric.cli._view import options_of

__all__ = ["command"]


def command(
    context: typer.Context,
    run: Run,
    checkpoints: RunCheckpoints = None,
) -> Result:
    """Show a run with its nodes: states, times, results."""
    path = checkpoints_path(place_of(options_of(context)), checkpoints)
    found = read_runs(path, lambda store: store.inspect(run), run_id=run)
    document = {"store": str(path), **(found.as_dict() if found is not None else {})}
    return Result(document=document, text=lambda style: run_text(document, style))
