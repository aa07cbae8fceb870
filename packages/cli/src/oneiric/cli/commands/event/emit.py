"""``oneiric event emit``: give an event to the handlers it concerns, in this process."""

from collections.abc import Iterator
from typing import TYPE_CHECKING, Annotated, Any

import typer

from oneiric.cli._events import payload_of, topic_of
from oneiric.cli._output import Result, Style, compact, printable, table
from oneiric.cli._parameters import Headers, Payload
from oneiric.cli._plain import headers_from, plain
from oneiric.cli._view import options_of

if TYPE_CHECKING:
    from oneiric.app import App
    from oneiric.runtime.events import DispatchReport, EventEnvelope, HandlerResult

__all__ = ["command"]


def command(  # noqa: PLR0917 - typer's way to declare options
    context: typer.Context,
    topic: Annotated[str | None, typer.Argument(metavar="TOPIC", help="Such as orders.created.")] = None,
    topic_named: Annotated[str | None, typer.Option("--topic", metavar="TOPIC", help="The same.")] = None,
    payload: Payload = None,
    header: Annotated[list[str] | None, typer.Option(metavar="NAME=VALUE", help="A header; may be repeated.")] = None,
    headers: Headers = None,
) -> Result:
    """Give an event to the handlers it concerns, in this process."""
    from oneiric.cli._here import app_here, done_here  # noqa: PLC0415 - loads the runtime
    from oneiric.runtime.events import EventEnvelope  # noqa: PLC0415 - as above

    envelope = EventEnvelope(topic_of(topic, topic_named), payload_of(payload), headers_from(headers, header or ()))

    async def emit(app: "App") -> "DispatchReport":
        return await app.events.trace(envelope)

    app = app_here(options_of(context))
    document = _document(envelope, done_here(app, emit))
    notes = [f"handler {name} gets no events: {why}" for name, why in app.events.problems.items()]
    if not document["matched_handlers"]:
        notes.append(f"no handler was concerned; `oneiric event explain {envelope.topic}` says why")
    if document["failures"]:
        notes.append("what a handler did not take is kept: `oneiric event dead-letters`, `oneiric event replay`")
    return Result(
        document=document,
        text=lambda style: _text(document, style),
        notes=notes,
        exit_code=1 if document["failures"] else 0,
    )


def _document(envelope: "EventEnvelope", report: "DispatchReport") -> dict[str, Any]:
    return {
        "scope": "one-off",
        "topic": envelope.topic,
        "id": envelope.id,
        "matched_handlers": report.matched,
        "failures": len(report.failures),
        "total_duration_ms": round(report.duration_seconds * 1000, 3),
        "results": [_result(each) for each in report.results],
    }


def _result(result: "HandlerResult") -> dict[str, Any]:
    told = result.as_dict()
    return {**told, "duration_ms": round(told["duration_ms"], 3), "value": plain(result.value)}


def _text(document: dict[str, Any], style: Style) -> Iterator[str]:
    count = document["matched_handlers"]
    handlers = f"{count} {'handler' if count == 1 else 'handlers'}"
    yield f"{style('bold', printable(document['topic']))}  {handlers}, in this process  {document['id']}"
    rows = [
        (
            each["handler"],
            "done" if each["success"] else "failed",
            each["attempts"],
            each["duration_ms"],
            compact(each["value"]) if each["success"] else each["error"],
        )
        for each in document["results"]
    ]
    if rows:
        yield from table(("HANDLER", "STATE", "ATTEMPTS", "MS", "RESULT"), rows, style, "  ")
