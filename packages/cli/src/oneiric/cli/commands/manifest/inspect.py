"""``oneiric manifest inspect``: what a file says of itself. Nothing of it is verified."""

from collections.abc import Iterator
from typing import Annotated, Any

import typer

from oneiric.cli._output import Result, Style, printable, table
from oneiric.cli._publishing import needs_remote, read_file, written

__all__ = ["command"]


def command(source: Annotated[str, typer.Argument(metavar="FILE", help="An envelope or a manifest.")]) -> Result:
    """Show what a file says of itself; nothing of it is verified."""
    needs_remote()
    from oneiric.remote.authoring import inspected  # noqa: PLC0415 - a distribution of its own

    data = read_file(source)
    found = inspected(data, source)
    document = {**written(source, data), "verified": False, **found}
    return Result(
        document=document,
        text=lambda style: _text(document, style),
        notes=("nothing of this was verified; `oneiric manifest verify` does that",),
    )


def _text(document: dict[str, Any], style: Style) -> Iterator[str]:
    yield f"{style('bold', printable(document['path']))}  {document['bytes']} bytes, sha256 {document['sha256']}"
    yield f"  type        {printable(document['type'])}"
    for name, value in document["stated"].items():
        yield f"  {name:<11} {printable(value)}"
    for key_id in document["signatures"]:
        yield f"  signature   {printable(key_id)}"
    if document["entries"]:
        yield ""
        rows = [(each["name"], each["version"], each["factory"], each["sha256"]) for each in document["entries"]]
        yield from table(("ENTRY", "VERSION", "FACTORY", "SHA256"), rows, style, "  ")
