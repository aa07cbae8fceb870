"""``oneiric events``: what happens in the running system, as it happens."""

import sys
from typing import Annotated, Any

import typer

from oneiric.cli._output import Printed, Style, compact, json_line, printable, write
from oneiric.cli._parameters import OnlyDomain, OnlyKey
from oneiric.cli._questions import named
from oneiric.cli._running import place_of
from oneiric.cli._times import clock_time
from oneiric.cli._view import options_of
from oneiric.core.errors import ConfigurationError

__all__ = ["command"]

_NAMED = ("at", "domain", "key", "tenant", "provider")


def command(
    context: typer.Context,
    domain: OnlyDomain = None,
    key: OnlyKey = None,
    after: Annotated[str | None, typer.Option(metavar="ID", help="Go on after this event.")] = None,
    limit: Annotated[str | None, typer.Option(metavar="N", help="End after so many.")] = None,
) -> Printed:
    """Follow what happens, until it is interrupted."""
    if limit is not None and not (limit.isdecimal() and int(limit)):
        raise ConfigurationError(f"--limit must be a number from 1, not {limit[:40]!r}", "oneiric events --limit 1")
    if key is not None:
        domain, key = named(key, domain)
    options = options_of(context)
    place, style = place_of(options), Style.of(sys.stdout)
    place.ask("health")  # a system that is not there is an error before the first line
    left = int(limit) if limit is not None else -1
    try:
        for event in place.client().stream_events(after=after, domain=domain, key=key):
            document = {"id": event.id, "event": event.name, "data": dict(event.data)}
            write(sys.stdout, [json_line(document) if options.json else _line(document, style)])
            left -= 1
            if not left:
                break
    except KeyboardInterrupt:
        return Printed(130)
    return Printed(0)


def _line(event: dict[str, Any], style: Style) -> str:
    data = event["data"]
    name = f"{data['domain']}:{data['key']}" if data.get("domain") and data.get("key") else ""
    more = [f"{field}={compact(value)}" for field, value in data.items() if field not in _NAMED and value is not None]
    parts = (clock_time(data.get("at")) or "-", f"{event['event']:<16}", name, data.get("provider") or "", *more)
    return f"{style('dim', parts[0])}  " + "  ".join(printable(part) for part in parts[1:] if part)
