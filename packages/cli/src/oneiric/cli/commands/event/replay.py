"""``oneiric event replay``: give dead letters again to the handlers that did not take them, in this process."""

from collections.abc import Iterator
from typing import TYPE_CHECKING, Annotated, Any

import typer

from oneiric.cli._output import Result, Style, printable
from oneiric.cli._view import options_of
from oneiric.core.errors import ConfigurationError

if TYPE_CHECKING:
    from oneiric.app import App

__all__ = ["command"]


def command(
    context: typer.Context,
    letters: Annotated[list[str] | None, typer.Argument(metavar="ID", help="Which dead letters.")] = None,
    every: Annotated[bool, typer.Option("--all", help="All events that are kept, the oldest first.")] = False,  # noqa: FBT002
) -> Result:
    """Give dead letters again to the handlers that did not take them; what is taken is one no more."""
    if bool(letters) == every:
        what = "not both" if every else "and neither was said"
        raise ConfigurationError(f"either ids or --all says what is replayed, {what}", "oneiric event dead-letters")
    from oneiric.cli._here import app_here, done_here  # noqa: PLC0415 - loads the runtime

    async def replay(app: "App") -> list[dict[str, Any]]:
        return [await _replayed(app, each) for each in letters or await _all(app)]

    replayed = done_here(app_here(options_of(context)), replay)
    failed = sum(1 for each in replayed if not each["success"])
    document = {"scope": "one-off", "replayed": replayed, "failures": failed}
    return Result(document=document, text=lambda style: _text(document, style), exit_code=1 if failed else 0)


async def _all(app: "App") -> list[str]:
    store = app.execution.dead_letters
    kept = await store.letters(kind="event", limit=await store.count())
    return [letter.id for letter in reversed(kept) if letter.is_whole]


async def _replayed(app: "App", letter: str) -> dict[str, Any]:
    """Replay one; what its handler raises is what came of it, and the others have their turn."""
    try:
        done = await app.events.replay(letter)
    except Exception as error:  # noqa: BLE001 - whatever a handler raises
        return {"id": letter, "topic": None, "handler": None, "success": False, "error": _said(error)}
    return {"id": letter, "topic": done.subject, "handler": done.handler or None, "success": True, "error": None}


def _said(error: Exception) -> str:
    return f"{type(error).__name__}: {error}" if str(error) else type(error).__name__


def _text(document: dict[str, Any], style: Style) -> Iterator[str]:
    if not document["replayed"]:
        yield "There are no events to replay."
    for each in document["replayed"]:
        if each["success"]:
            by = f" by {each['handler']}" if each["handler"] else ""
            yield f"{style('green', 'taken')}   {printable(each['id'])}  {printable(each['topic'] + by)}"
        else:
            yield f"{style('red', 'failed')}  {printable(each['id'])}  {printable(each['error'])}"
