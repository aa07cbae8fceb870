"""``oneiric activity``: the keys that are paused or draining."""

from collections.abc import Iterator
from typing import Any

import typer

from oneiric.cli._activity import state_words, store_path, stored
from oneiric.cli._output import Result, Style, printable, table
from oneiric.cli._running import place_of
from oneiric.cli._times import clock_time
from oneiric.cli._view import options_of

__all__ = ["command"]


def command(context: typer.Context) -> Result:
    """List the keys that are paused or draining."""
    place = place_of(options_of(context), only_looks=True)
    answer = place.ask_if_running("activity")
    rows, problem = stored(place) if answer is None else (answer["activity"], answer["problem"])
    document = {
        "running": answer is not None,
        "store": str(store_path(place)),
        "problem": problem,
        "counts": {
            "paused": sum(row["paused"] for row in rows),
            "draining": sum(row["draining"] for row in rows),
        },
        "activity": rows,
    }
    return Result(document=document, text=lambda style: _text(document, style), notes=place.notes)


def _text(document: dict[str, Any], style: Style) -> Iterator[str]:
    running = "yes" if document["running"] else f"no: this is what {document['store']} says"
    yield f"running   {printable(running)}"
    if document["problem"]:
        yield f"{style('yellow', 'problem')}   {printable(document['problem'])}"
    yield ""
    if not document["activity"]:
        yield "Every key takes work."
        return
    rows = [
        (
            f"{row['domain']}:{row['key']}",
            state_words(row),
            row["in_flight"],
            row["owner"],
            clock_time(row["since"]),
            clock_time(row["until"]),
            row["note"],
        )
        for row in document["activity"]
    ]
    yield from table(("KEY", "STATE", "IN FLIGHT", "OWNER", "SINCE", "UNTIL", "NOTE"), rows, style)
