"""``oneiric activity``: the keys that are paused or draining."""

from collections.abc import Iterator
from typing import Annotated, Any, Final

import typer

from oneiric.cli._activity import state_words, store_path, stored
from oneiric.cli._output import Result, Style, printable, table
from oneiric.cli._parameters import OnlyDomain
from oneiric.cli._questions import keys_asked, named
from oneiric.cli._running import Place, place_of
from oneiric.cli._times import clock_time
from oneiric.cli._view import options_of, view_of
from oneiric.core.errors import ConfigurationError

__all__ = ["command"]

_STATES: Final = ("paused", "draining")


def command(
    context: typer.Context,
    key: Annotated[str | None, typer.Argument(metavar="KEY", help="Only this key; DOMAIN:KEY is taken too.")] = None,
    domain: OnlyDomain = None,
    same: Annotated[str | None, typer.Option("--key", metavar="KEY", help="The same as KEY.")] = None,
    state: Annotated[str | None, typer.Option(metavar="STATE", help="Only paused, or only draining.")] = None,
) -> Result:
    """List the keys that are paused or draining."""
    if state not in {None, *_STATES}:
        raise ConfigurationError(f"--state must be paused or draining, not {state!r}", "oneiric activity --help")
    if key is not None and same not in {None, key}:
        raise ConfigurationError(f"the key is {key!r} or {same!r}, not both", f"oneiric activity {key}")
    key = same if key is None else key
    if key is not None:
        domain, key = named(key, domain)
    place = place_of(options_of(context), only_looks=True)
    answer = place.ask_if_running("activity")
    everything, problem = stored(place) if answer is None else (answer["activity"], answer["problem"])
    named_rows = [row for row in everything if domain in {None, row["domain"]} and key in {None, row["key"]}]
    if not named_rows and (domain is not None or key is not None):
        _check_existence(context, place, domain, key, runs=answer is not None)
    rows = [row for row in named_rows if state is None or row[state]]
    is_narrowed = not (domain is None and key is None and state is None)
    sought = state or "paused or draining" if is_narrowed else None
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
    return Result(document=document, text=lambda style: _text(document, sought, style), notes=place.notes)


def _check_existence(context: typer.Context, place: Place, domain: str | None, key: str | None, *, runs: bool) -> None:
    """Refuse a domain or key that nothing stands for: that it takes work would be misleading.

    Raises:
        ResolutionError: It does not exist; what is near is named.
    """
    if runs:
        place.ask_if_running("components", domain=domain, key=key, shadowed=False)
    else:
        keys_asked(view_of(context, needs_settings=True, with_stored=True).resolver, domain, key)


def _text(document: dict[str, Any], sought: str | None, style: Style) -> Iterator[str]:
    running = "yes" if document["running"] else f"no: this is what {document['store']} says"
    yield f"running   {printable(running)}"
    if document["problem"]:
        yield f"{style('yellow', 'problem')}   {printable(document['problem'])}"
    yield ""
    if not document["activity"]:
        yield "Every key takes work." if sought is None else f"Nothing that was asked for is {sought}."
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
