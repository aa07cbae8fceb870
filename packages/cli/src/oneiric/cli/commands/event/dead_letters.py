"""``oneiric event dead-letters``: what was not taken, why, and by whom; only reads."""

from collections.abc import Iterator
from typing import Annotated, Any, Final

import typer

from oneiric.cli._events import dead_letters_path
from oneiric.cli._numbers import number_from
from oneiric.cli._output import Result, Style, compact, printable, table
from oneiric.cli._running import Place, place_of
from oneiric.cli._times import clock_time
from oneiric.cli._view import options_of
from oneiric.core.errors import DispatchError, ResolutionError

__all__ = ["command"]

_WIDEST: Final = 60


def command(  # noqa: PLR0917 - typer's way to declare options
    context: typer.Context,
    letter: Annotated[str | None, typer.Argument(metavar="ID", help="Show this one whole.")] = None,
    topic: Annotated[str | None, typer.Option(metavar="TOPIC", help="Only of this topic.")] = None,
    handler: Annotated[str | None, typer.Option(metavar="KEY:PROVIDER", help="Only of this handler.")] = None,
    reason: Annotated[str | None, typer.Option(metavar="WORD", help="Only for this reason, such as failed.")] = None,
    limit: Annotated[str, typer.Option(metavar="N", help="The newest so many.")] = "100",
) -> Result:
    """List what was not taken, why, and by whom."""
    most = number_from("--limit", limit)
    place = place_of(options_of(context))
    wanted = {"subject": topic, "handler": handler, "reason": reason, "limit": most}
    letters = _read(place, letter, wanted)
    document = {"store": str(dead_letters_path(place)), "letters": letters}
    text = _letter_text if letter is not None else _text
    return Result(document=document, text=lambda style: text(document, style))


def _read(place: Place, letter: str | None, wanted: dict[str, Any]) -> list[dict[str, Any]]:
    import asyncio  # noqa: PLC0415 - loads slowly

    from oneiric.runtime.dead_letters import DeadLetterStore  # noqa: PLC0415 - loads the runtime

    path = dead_letters_path(place)
    if not path.exists():  # nobody has kept any yet
        if letter is not None:
            raise ResolutionError(f"there is no dead letter {letter!r}", "oneiric event dead-letters")
        return []

    async def read() -> list[dict[str, Any]]:
        async with DeadLetterStore(path, readonly=True) as store:
            if letter is None:
                return [each.as_dict() for each in await store.letters(**wanted)]
            try:
                return [(await store.show(letter)).as_dict()]
            except DispatchError as error:
                raise ResolutionError(error.message, error.hint) from error

    return asyncio.run(read())


def _text(document: dict[str, Any], style: Style) -> Iterator[str]:
    rows = [
        (
            each["id"],
            clock_time(each["at"]),
            each["subject"],
            each["handler"] or None,
            each["reason"],
            each["attempts"],
            each["error"] and each["error"][:_WIDEST],
        )
        for each in document["letters"]
    ]
    headings = ("ID", "AT", "TOPIC", "HANDLER", "REASON", "ATTEMPTS", "ERROR")
    yield from table(headings, rows, style) if rows else ["There are no dead letters."]


def _letter_text(document: dict[str, Any], style: Style) -> Iterator[str]:
    (letter,) = document["letters"]
    yield f"{style('bold', printable(letter['id']))}  {printable(letter['kind'])} {printable(letter['subject'])}"
    rows = [
        ("at", clock_time(letter["at"])),
        ("handler", letter["handler"] or "nobody was asked"),
        ("reason", letter["reason"]),
        ("attempts", letter["attempts"]),
        ("replays", letter["replays"]),
        ("error", letter["error"]),
        ("body", compact(letter["body"])),
    ]
    for name, value in rows:
        if value is not None:
            yield f"  {name:<9} {printable(value)}"
