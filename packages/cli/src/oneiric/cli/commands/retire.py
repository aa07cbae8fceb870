"""``oneiric retire``: stop serving for a key in the running system."""

from collections.abc import Iterator
from typing import Annotated, Any

import typer

from oneiric.cli._activity import asked_of_running
from oneiric.cli._output import Result, Style, printable
from oneiric.cli._parameters import Domain, Key, OfTenant
from oneiric.cli._questions import checked
from oneiric.cli._running import place_of
from oneiric.cli._view import options_of

__all__ = ["command"]


def command(  # noqa: PLR0917 - typer's way to declare options
    context: typer.Context,
    key: Key,
    domain: Domain = None,
    provider: Annotated[
        str | None,
        typer.Option(metavar="NAME", help="Only the instance of this provider that is open beside the active one."),
    ] = None,
    tenant: OfTenant = None,
    forget: Annotated[bool, typer.Option("--forget", help="Leave the key as if it was never used.")] = False,  # noqa: FBT002
) -> Result:
    """Stop serving for a key: drain and clean up what serves."""
    place = place_of(options_of(context))
    fields = {**checked(provider=provider, tenant=tenant), "forget": forget or None}
    answer = asked_of_running(place, "retire", key, domain, **fields)
    if answer is None:
        raise place.nothing()
    status = answer["status"]
    document = {
        "domain": status["domain"],
        "key": status["key"],
        "tenant": status["tenant"],
        "retired": provider,
        "provider": status["current_provider"],
        "status": status,
    }
    return Result(document=document, text=lambda style: _text(document, style))


def _text(document: dict[str, Any], style: Style) -> Iterator[str]:
    whose = f" (tenant {document['tenant']})" if document["tenant"] else ""
    name = style("bold", printable(f"{document['domain']}:{document['key']}{whose}"))
    if document["retired"] and document["provider"]:
        yield f"{name} {printable(document['retired'])} is retired; {printable(document['provider'])} serves on"
    else:
        yield f"{name} serves nothing"
    draining = document["status"]["draining_in_flight"]
    if draining:
        yield f"  {draining} leases are still in flight"
