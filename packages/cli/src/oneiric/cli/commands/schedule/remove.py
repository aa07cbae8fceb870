"""``oneiric schedule remove``: forget a schedule; what it is doing goes on."""

import typer

from oneiric.cli._output import Result, printable
from oneiric.cli._parameters import ScheduleName
from oneiric.cli._running import place_of
from oneiric.cli._schedules import Schedules
from oneiric.cli._view import options_of

__all__ = ["command"]


def command(
    context: typer.Context,
    name: ScheduleName,
) -> Result:
    """Forget a schedule; what it is doing goes on."""
    schedules = Schedules.of(place_of(options_of(context)))
    schedules.check(name)
    schedules.change(lambda store: store.remove(name))
    document = {"store": str(schedules.path), "removed": name}
    return Result(document=document, text=lambda style: [f"{style('bold', printable(name))}  removed"])
