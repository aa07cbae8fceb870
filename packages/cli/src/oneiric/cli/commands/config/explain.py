"""``oneiric config explain``: one setting, where its value comes from, and what else it could be."""

from collections.abc import Iterator
from typing import Annotated, Any

import typer

from oneiric.cli._output import Result, Style, compact, printable
from oneiric.cli._view import view_of
from oneiric.runtime.settings import explain_setting

__all__ = ["command"]


def command(
    context: typer.Context,
    key: Annotated[str, typer.Argument(metavar="KEY", help="The dotted key, such as http.port.")],
) -> Result:
    """Explain one setting: its value, where that comes from, and what else it could be."""
    view = view_of(context, needs_settings=True)
    document = explain_setting(view.settings, key, candidates=view.resolver.candidates()).as_dict()
    notes = view.notes
    if document["meant"] is not None:
        notes = (*notes, f"nobody sets or offers {document['key']!r}; did you mean {document['meant']!r}?")
    return Result(document=document, text=lambda style: _text(document, style), notes=notes)


def _text(document: dict[str, Any], style: Style) -> Iterator[str]:
    yield f"{style('bold', printable(document['key']))} = {printable(compact(document['value']))}"
    if document["description"]:
        yield f"  {printable(document['description'])}"
    yield ""
    rows = [("from", document["origin"])]
    rows += [("overrides", each) for each in document["overridden"]]
    rows += [("default", compact(document["default"])), ("takes", document["type"])]
    if document["allowed"]:
        rows.append(("one of", ", ".join(document["allowed"])))
    rows.append(("variable", ", ".join(document["variables"])))
    for name, value in rows:
        yield f"  {name:<10} {printable(value)}"
