"""``oneiric schedule list``: the schedules there are, when each fires next, and what became of the last; only reads."""

from collections.abc import Iterator
from typing import Any

import typer

from oneiric.cli._output import Result, Style
from oneiric.cli._running import place_of
from oneiric.cli._schedules import Schedules, schedules_table
from oneiric.cli._view import options_of

__all__ = ["command"]


def command(context: typer.Context) -> Result:
    """List the schedules, when each fires next, and what became of the last slot."""
    schedules = Schedules.of(place_of(options_of(context)))

    async def read(store: Any) -> list[dict[str, Any]]:
        return [await schedules.document(store, status) for status in await store.schedules()]

    document = {"store": str(schedules.path), "schedules": schedules.read(read) or []}
    return Result(document=document, text=lambda style: _text(document, style))


def _text(document: dict[str, Any], style: Style) -> Iterator[str]:
    rows = document["schedules"]
    yield from schedules_table(rows, style) if rows else ["There are no schedules."]
