"""``oneiric manifest diff``: what changed from one manifest to another. Neither is verified."""

from collections.abc import Iterator
from typing import Annotated, Any

import typer

from oneiric.cli._output import Result, Style, compact, printable
from oneiric.cli._publishing import needs_remote, read_file

__all__ = ["command"]

_MARKS = {"added": ("green", "+"), "removed": ("red", "-"), "changed": ("yellow", "~")}


def command(
    before: Annotated[str, typer.Argument(metavar="BEFORE", help="An envelope or a manifest.")],
    after: Annotated[str, typer.Argument(metavar="AFTER", help="Another one.")],
) -> Result:
    """Compare two manifests entry by entry; neither is verified."""
    needs_remote()
    from oneiric.remote.authoring import compared  # noqa: PLC0415 - a distribution of its own

    changes = compared(read_file(before), read_file(after), before, after)
    document = {"before": before, "after": after, "changes": changes}
    return Result(document=document, text=lambda style: _text(document, style))


def _text(document: dict[str, Any], style: Style) -> Iterator[str]:
    if not document["changes"]:
        yield "The entries are the same."
    for each in document["changes"]:
        colour, mark = _MARKS[each["change"]]
        yield style(colour, f"{mark} {printable(each['name'])}")
        for name, (was, now) in each["fields"].items():
            yield f"    {printable(name)}: {printable(compact(was))} → {printable(compact(now))}"
