"""``oneiric decisions``: what ranked first, was bound or retired in the running system, when and why."""

import time
from collections.abc import Iterator
from typing import Annotated, Any, Final

import typer

from oneiric.cli._output import Result, Style, table
from oneiric.cli._parameters import OnlyDomain, OnlyKey
from oneiric.cli._questions import checked, named
from oneiric.cli._running import place_of
from oneiric.cli._times import clock_time, moment_before
from oneiric.cli._view import options_of
from oneiric.core.errors import ConfigurationError

__all__ = ["command"]

_KINDS: Final = ("winner", "bound", "retired")
_MOST: Final = 10_000


def command(  # noqa: PLR0917 - typer's way to declare options
    context: typer.Context,
    since: Annotated[str | None, typer.Option(metavar="TIME", help="Only later ones: 15m ago, or ISO 8601.")] = None,
    until: Annotated[str | None, typer.Option(metavar="TIME", help="Only earlier ones.")] = None,
    domain: OnlyDomain = None,
    key: OnlyKey = None,
    tenant: Annotated[str | None, typer.Option(metavar="NAME", help="Only this tenant.")] = None,
    kind: Annotated[str | None, typer.Option(metavar="KIND", help="Only winner, bound or retired.")] = None,
    limit: Annotated[str, typer.Option(metavar="N", help="The newest so many.")] = "100",
) -> Result:
    """Tell what was decided, when and why."""
    if not (limit.isascii() and limit.isdecimal() and 1 <= int(limit[:9]) <= _MOST):
        raise ConfigurationError(
            f"--limit must be a number from 1 to {_MOST}, not {limit[:40]!r}", "oneiric decisions --limit 20"
        )
    if kind not in {None, *_KINDS}:
        raise ConfigurationError(f"--kind must be winner, bound or retired, not {kind!r}", "oneiric decisions -h")
    if key is not None:
        domain, key = named(key, domain)
    now = time.time()
    document = place_of(options_of(context)).ask(
        "decisions",
        since=None if since is None else moment_before("--since", since, now),
        until=None if until is None else moment_before("--until", until, now),
        domain=domain,
        key=key,
        **checked(tenant=tenant),
        kind=kind,
        limit=int(limit),
    )
    return Result(document=document, text=lambda style: _text(document, style))


def _text(document: dict[str, Any], style: Style) -> Iterator[str]:
    rows = [
        (
            clock_time(each["at"]),
            each["kind"],
            f"{each['domain']}:{each['key']}",
            each["tenant"],
            each["provider"],
            each["revision"],
            each["why"],
        )
        for each in document["decisions"]
    ]
    if rows:
        yield from table(("AT", "KIND", "KEY", "TENANT", "PROVIDER", "REVISION", "WHY"), rows, style)
    else:
        yield "Nothing was decided then."
    if document["dropped"]:
        yield f"{document['dropped']} older decisions are forgotten"
