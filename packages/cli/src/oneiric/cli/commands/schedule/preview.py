"""``oneiric schedule preview``: when a schedule fires next; only reads."""

from collections.abc import Iterator
from typing import Annotated, Any

import typer

from oneiric.cli._numbers import number_from
from oneiric.cli._output import Result, Style, table
from oneiric.cli._parameters import ScheduleName
from oneiric.cli._running import place_of
from oneiric.cli._schedules import Schedules
from oneiric.cli._view import options_of

__all__ = ["command"]


def command(
    context: typer.Context,
    name: ScheduleName,
    count: Annotated[str, typer.Option(metavar="N", help="How many.")] = "10",
) -> Result:
    """Show when a schedule fires next: what is listed is what then fires."""
    most = number_from("--count", count, most=10_000)
    schedules = Schedules.of(place_of(options_of(context)))
    schedules.check(name)

    async def read(store: Any) -> dict[str, Any]:
        status = await store.get(name)
        return {"paused": status.paused, "slots": [slot.as_dict() for slot in await store.preview(name, most)]}

    document = {"store": str(schedules.path), "name": name, **(schedules.read(read) or {})}
    return Result(document=document, text=lambda style: _text(document, style))


def _text(document: dict[str, Any], style: Style) -> Iterator[str]:
    rows = [(slot["at"], slot["due"], slot["idempotency_key"]) for slot in document["slots"]]
    if rows:
        yield from table(("AT", "FIRES", "IDEMPOTENCY KEY"), rows, style)
    else:
        yield "It is paused." if document["paused"] else "It fires no more."
