"""``oneiric pause``: refuse new work for a key, and take it again."""

import time
from typing import Annotated

import typer

from oneiric.cli._activity import Change, activity_text, apply_change
from oneiric.cli._output import Result
from oneiric.cli._times import moment_after
from oneiric.core.errors import ConfigurationError

__all__ = ["command"]


def command(  # noqa: PLR0917 - typer's way to declare options
    context: typer.Context,
    key: Annotated[str, typer.Argument(metavar="KEY", help="DOMAIN:KEY, or a key that only one domain has.")],
    domain: Annotated[str | None, typer.Option(help="Its domain.")] = None,
    note: Annotated[str | None, typer.Option(help="Why; an empty text clears what was noted.")] = None,
    owner: Annotated[str | None, typer.Option(help="Who answers for it; by default the user.")] = None,
    until: Annotated[
        str | None, typer.Option(metavar="TIME", help="When it ends by itself: 15m, or 2030-01-31T18:00.")
    ] = None,
    resume: Annotated[bool, typer.Option("--resume", help="Take work again.")] = False,  # noqa: FBT002 - an option
) -> Result:
    """Refuse new work for a key, at once."""
    if resume and until is not None:
        raise ConfigurationError("--resume ends a pause, and --until is for one that begins", "oneiric pause --help")
    change = Change(
        operation="resume" if resume else "pause",
        key=key,
        domain=domain,
        note=note,
        owner=owner,
        until=None if until is None else moment_after("--until", until, time.time()),
    )
    document, notes = apply_change(context, change)
    return Result(document=document, text=lambda style: activity_text(document, style), notes=notes)
