"""``oneiric workflow show``: a run with its nodes; only reads."""

from typing import Annotated

import typer

from oneiric.cli._output import Result
from oneiric.cli._running import place_of
from oneiric.cli._runs import checkpoints_path, read_runs, run_text
from oneiric.cli._view import options_of

__all__ = ["command"]


def command(
    context: typer.Context,
    run: Annotated[str, typer.Argument(metavar="RUN", help="The id of the run.")],
    checkpoints: Annotated[
        str | None, typer.Option("--workflow-checkpoints", metavar="FILE", help="Where the runs are kept.")
    ] = None,
) -> Result:
    """Show a run with its nodes: states, times, results."""
    path = checkpoints_path(place_of(options_of(context)), checkpoints)
    found = read_runs(path, lambda store: store.inspect(run), run_id=run)
    document = {"store": str(path), **(found.as_dict() if found is not None else {})}
    return Result(document=document, text=lambda style: run_text(document, style))
