"""``oneiric secrets rotate``: have the running system read secrets anew."""

from collections.abc import Iterator
from typing import Annotated, Any

import typer

from oneiric.cli._output import Result, Style, printable
from oneiric.cli._running import caller, place_of
from oneiric.cli._view import options_of
from oneiric.core.errors import ConfigurationError

__all__ = ["command"]


def command(
    context: typer.Context,
    keys: Annotated[str | None, typer.Option(metavar="ID,ID", help="Only these secrets.")] = None,
    every: Annotated[bool, typer.Option("--all", help="Every secret that is in use.")] = False,  # noqa: FBT002
) -> Result:
    """Read secrets anew and swap what uses them, all or none."""
    ids = [each.strip() for each in (keys or "").split(",") if each.strip()]
    if bool(ids) == every:
        what = "not both" if every else "and neither was said"
        raise ConfigurationError(f"either --keys or --all says which secrets, {what}", "oneiric secrets rotate --all")
    document = place_of(options_of(context)).ask("secrets_rotate", keys=ids or None, by=caller())
    return Result(document=document, text=lambda style: _text(document, style))


def _text(document: dict[str, Any], style: Style) -> Iterator[str]:
    if not document["rotated"]:
        yield "No secret has changed."
    else:
        yield f"{style('bold', 'rotated')}    {printable(', '.join(document['rotated']))}"
    if document["unchanged"]:
        yield f"unchanged  {printable(', '.join(document['unchanged']))}"
    for slot in document["swapped"]:
        whose = f" (tenant {slot['tenant']})" if slot["tenant"] else ""
        yield f"swapped    {printable(slot['domain'])}:{printable(slot['key'] + whose)}"
