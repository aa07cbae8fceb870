"""``oneiric schedule pause``: let the slots of a schedule pass without firing, until it is resumed."""

from typing import Annotated, Any

import typer

from oneiric.cli._output import Result
from oneiric.cli._parameters import ScheduleName
from oneiric.cli._running import place_of
from oneiric.cli._schedules import Schedules, schedule_text
from oneiric.cli._view import options_of

__all__ = ["command"]


def command(
    context: typer.Context,
    name: ScheduleName,
    note: Annotated[str | None, typer.Option(metavar="TEXT", help="Why.")] = None,
) -> Result:
    """Let the slots of a schedule pass without firing, until it is resumed."""
    schedules = Schedules.of(place_of(options_of(context)))
    schedules.check(name)

    async def change(store: Any) -> dict[str, Any]:
        return await schedules.document(store, await store.pause(name, note))

    document = {"store": str(schedules.path), **schedules.change(change)}
    return Result(document=document, text=lambda style: schedule_text(document, style))
