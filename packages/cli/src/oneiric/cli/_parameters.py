"""Parameters that commands share: what is said of keys, pauses, events, schedules, workflows and their runs."""

from typing import Annotated

import typer

__all__ = [
    "Domain",
    "Headers",
    "Key",
    "Note",
    "OfTenant",
    "OnlyDomain",
    "OnlyKey",
    "Owner",
    "Payload",
    "Run",
    "RunCheckpoints",
    "RunContext",
    "ScheduleName",
    "Until",
    "WhenChanged",
    "Workflow",
    "WorkflowOption",
]

Key = Annotated[str, typer.Argument(metavar="KEY", help="DOMAIN:KEY, or a key that only one domain has.")]
Domain = Annotated[str | None, typer.Option(metavar="NAME", help="Its domain.")]
OnlyDomain = Annotated[str | None, typer.Option(metavar="NAME", help="Only this domain.")]
OnlyKey = Annotated[str | None, typer.Option(metavar="KEY", help="Only this key; DOMAIN:KEY is taken too.")]
OfTenant = Annotated[str | None, typer.Option(metavar="NAME", help="Whose instance; by default the base one.")]
Note = Annotated[str | None, typer.Option(metavar="TEXT", help="Why; an empty text clears what was noted.")]
Owner = Annotated[str | None, typer.Option(metavar="NAME", help="Who answers for it; by default the user.")]
Until = Annotated[str | None, typer.Option(metavar="TIME", help="When it ends by itself: 15m, or 2030-01-31T18:00.")]

Payload = Annotated[str | None, typer.Option(metavar="JSON", help="What happened: JSON, @FILE, or - for stdin.")]
Headers = Annotated[str | None, typer.Option(metavar="JSON", help="Headers as a JSON object.")]

ScheduleName = Annotated[str, typer.Argument(metavar="NAME", help="Its name.")]

Workflow = Annotated[str | None, typer.Argument(metavar="KEY", help="The workflow.")]
WorkflowOption = Annotated[str | None, typer.Option("--workflow", metavar="KEY", help="The same.")]
Run = Annotated[str, typer.Argument(metavar="RUN", help="The id of the run.")]
RunContext = Annotated[
    str | None, typer.Option("--context", metavar="JSON", help="What its templates see: JSON, @FILE, or -.")
]
RunCheckpoints = Annotated[
    str | None, typer.Option("--workflow-checkpoints", metavar="FILE", help="Where the progress of runs is kept.")
]
WhenChanged = Annotated[
    str,
    typer.Option("--on-change", metavar="WHAT", help="Its definition is another one now: refuse, stored, current."),
]
