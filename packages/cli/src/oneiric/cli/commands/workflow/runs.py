"""``oneiric workflow runs``: the runs that are kept, the newest first; only reads."""

from collections.abc import Iterator
from typing import Annotated, Any, Final

import typer

from oneiric.cli._numbers import number_from
from oneiric.cli._output import Result, Style, table
from oneiric.cli._parameters import RunCheckpoints, WorkflowOption
from oneiric.cli._running import place_of
from oneiric.cli._runs import checkpoints_path, read_runs, workflow_of
from oneiric.cli._times import clock_time
from oneiric.cli._view import options_of
from oneiric.core.errors import ConfigurationError

__all__ = ["command"]

_STATES: Final = ("queued", "running", "interrupted", "completed", "failed", "cancelled")
_WIDEST: Final = 60


def command(  # noqa: PLR0917 - typer's way to declare options
    context: typer.Context,
    key: Annotated[str | None, typer.Argument(metavar="KEY", help="Only of this workflow.")] = None,
    workflow: WorkflowOption = None,
    status: Annotated[str | None, typer.Option(metavar="STATE", help=f"Only: {', '.join(_STATES)}.")] = None,
    limit: Annotated[str, typer.Option(metavar="N", help="The newest so many.")] = "20",
    checkpoints: RunCheckpoints = None,
) -> Result:
    """List the runs that are kept, the newest first."""
    if status is not None and status not in _STATES:
        raise ConfigurationError(f"--status must be one of {', '.join(_STATES)}, not {status[:40]!r}", None)
    most = number_from("--limit", limit)
    only = workflow_of(key, workflow) if key is not None or workflow is not None else None
    path = checkpoints_path(place_of(options_of(context)), checkpoints)
    found = read_runs(path, lambda store: store.list(workflow=only, status=status, limit=most)) or ()
    document = {"store": str(path), "runs": [each.as_dict() for each in found]}
    return Result(document=document, text=lambda style: _text(document, style))


def _text(document: dict[str, Any], style: Style) -> Iterator[str]:
    rows = [
        (
            each["run_id"],
            each["workflow"],
            each["status"],
            clock_time(each["started_at"] if each["queued_at"] is None else each["queued_at"]),
            clock_time(each["ended_at"]),
            each["error"] and each["error"][:_WIDEST],
        )
        for each in document["runs"]
    ]
    headings = ("RUN", "WORKFLOW", "STATE", "BEGAN", "ENDED", "ERROR")
    yield from table(headings, rows, style) if rows else ["There are no runs."]
