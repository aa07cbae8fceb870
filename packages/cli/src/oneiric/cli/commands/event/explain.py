"""``oneiric event explain``: which handlers an event would run, and what keeps it from the others. Runs nothing."""

from collections.abc import Iterator
from typing import Annotated, Any

import typer

from oneiric.cli._activity import store_path
from oneiric.cli._events import payload_of, topic_of
from oneiric.cli._output import Result, Style, printable, table
from oneiric.cli._parameters import Headers, Payload
from oneiric.cli._plain import headers_from
from oneiric.cli._running import place_of
from oneiric.cli._view import View, options_of, view_of

__all__ = ["command"]


def command(  # noqa: PLR0917 - typer's way to declare options
    context: typer.Context,
    topic: Annotated[str | None, typer.Argument(metavar="TOPIC", help="Such as orders.created.")] = None,
    topic_named: Annotated[str | None, typer.Option("--topic", metavar="TOPIC", help="The same.")] = None,
    payload: Payload = None,
    header: Annotated[list[str] | None, typer.Option(metavar="NAME=VALUE", help="A header; may be repeated.")] = None,
    headers: Headers = None,
) -> Result:
    """Say which handlers an event would run, and what keeps it from the others; runs nothing."""
    asked = (topic_of(topic, topic_named), payload_of(payload), headers_from(headers, header or ()))
    place = place_of(options_of(context))
    view = view_of(context, needs_settings=True, with_stored=True)
    document = _explained(view, str(store_path(place)), asked)
    return Result(document=document, text=lambda style: _text(document, style), notes=view.notes)


def _explained(view: View, activity: str, asked: tuple[str, Any, dict[str, str]]) -> dict[str, Any]:
    """Ask a bridge that is never entered: it imports no handler, and reads who is paused without making a file."""
    import asyncio  # noqa: PLC0415 - loads slowly

    from oneiric.core.lifecycle import LifecycleManager  # noqa: PLC0415 - as above
    from oneiric.domains import EventBridge  # noqa: PLC0415 - as above
    from oneiric.runtime.activity import DomainActivityStore  # noqa: PLC0415 - as above

    async def explain() -> dict[str, Any]:
        async with DomainActivityStore(activity, readonly=True) as store:
            bridge = EventBridge(
                resolver=view.resolver,
                lifecycle=LifecycleManager(view.resolver),
                settings=view.settings.settings.events,
                activity=store,
            )
            explained = bridge.explain_event(*asked).as_dict()
            problems = [{"handler": name, "reason": why} for name, why in bridge.problems.items()]
            return {**explained, "problems": problems}

    return asyncio.run(explain())


def _text(document: dict[str, Any], style: Style) -> Iterator[str]:
    yield style("bold", printable(document["topic"]))
    rows = [
        (each["handler"], "runs" if each["runs"] else "does not", each["reason"], each["detail"])
        for each in document["handlers"]
    ]
    if rows:
        yield from table(("HANDLER", "", "BECAUSE", "DETAIL"), rows, style, "  ")
    else:
        yield "  No event handler is active."
    for each in document["problems"]:
        yield f"{style('red', 'wrong:')} {printable(each['handler'])}: {printable(each['reason'])}"
