"""``oneiric swap``: replace what serves for a key in the running system."""

from collections.abc import Iterator
from typing import Annotated, Any

import typer

from oneiric.cli._activity import asked_of_running
from oneiric.cli._output import Result, Style, printable
from oneiric.cli._parameters import Domain, Key, OfTenant
from oneiric.cli._questions import checked
from oneiric.cli._running import caller, place_of
from oneiric.cli._view import options_of

__all__ = ["command"]


def command(  # noqa: PLR0917 - typer's way to declare options
    context: typer.Context,
    key: Key,
    domain: Domain = None,
    provider: Annotated[
        str | None,
        typer.Option(
            metavar="NAME", help="The provider to select; without it what an earlier swap selected is forgotten."
        ),
    ] = None,
    tenant: OfTenant = None,
    force: Annotated[  # noqa: FBT002 - an option
        bool, typer.Option("--force", help="Bind even if the new instance reports itself unhealthy.")
    ] = False,
) -> Result:
    """Replace what serves for a key, without dropping a call."""
    place = place_of(options_of(context))
    fields = {**checked(provider=provider, tenant=tenant), "force": force or None, "by": caller()}
    answer = asked_of_running(place, "swap", key, domain, **fields)
    if answer is None:
        raise place.nothing()
    status = answer["status"]
    document = {
        "domain": status["domain"],
        "key": status["key"],
        "tenant": status["tenant"],
        "previous": answer["previous"],
        "provider": status["current_provider"],
        "status": status,
    }
    return Result(document=document, text=lambda style: _text(document, style))


def _text(document: dict[str, Any], style: Style) -> Iterator[str]:
    whose = f" (tenant {document['tenant']})" if document["tenant"] else ""
    name = printable(f"{document['domain']}:{document['key']}{whose}")
    before, after = printable(document["previous"] or "nothing"), printable(document["provider"])
    yield f"{style('bold', name)} {before} → {style('green', after)}"
    status = document["status"]
    took = status["last_swap_duration_ms"]
    yield f"  generation {status['generation']}" + ("" if took is None else f", in {took:.1f} ms")
    if status["draining"]:
        yield f"  {status['draining']} of its generations drain, with {status['draining_in_flight']} leases in flight"
