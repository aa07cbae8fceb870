"""``oneiric plugins``: what discovery found, and what it left out and why."""

from collections.abc import Iterator
from importlib.metadata import entry_points
from typing import Annotated, Any

import typer

from oneiric.cli._output import Result, Style, printable, table
from oneiric.cli._view import view_of

__all__ = ["command"]

_CATALOGS = "oneiric.catalogs"


def command(
    context: typer.Context,
    load: Annotated[  # noqa: FBT002 - an option
        bool, typer.Option("--load", help="Also run plugins written as code; by default as plugins.auto_load says.")
    ] = False,
    strict: Annotated[bool, typer.Option("--strict", help="Exit with 1 if anything was left out.")] = False,  # noqa: FBT002
) -> Result:
    """Show what discovery found, and what it left out and why."""
    view = view_of(context, load_plugins=load)
    loads = load or (view.loaded is not None and view.loaded.settings.plugins.auto_load)
    document = view.report.as_dict() | {
        "loads_code": loads,
        "not_loaded": [] if loads else _code_on_offer(),
    }
    failed = strict and bool(view.report.errors)
    return Result(document=document, text=lambda style: _text(document, style), exit_code=1 if failed else 0)


def _code_on_offer() -> list[dict[str, str]]:
    """Return the plugins written as code that are installed, without running any."""
    found = entry_points()
    groups = sorted(group for group in found.groups if group.startswith("oneiric.") and group != _CATALOGS)
    return [
        {
            "group": group,
            "name": point.name,
            "distribution": point.dist.name if point.dist else "",
            "value": point.value,
        }
        for group in groups
        for point in sorted(found.select(group=group))
    ]


def _text(document: dict[str, Any], style: Style) -> Iterator[str]:
    yield f"{document['registered']} candidates registered"
    if document["catalogs"]:
        yield ""
        rows = [
            (each["name"], each["distribution"], each["package"], each["registered"]) for each in document["catalogs"]
        ]
        yield from table(("CATALOGUE", "DISTRIBUTION", "PACKAGE", "CANDIDATES"), rows, style)
    if document["plugins"]:
        yield ""
        rows = [(each["name"], each["distribution"], each["value"], each["registered"]) for each in document["plugins"]]
        yield from table(("PLUGIN", "DISTRIBUTION", "CALLABLE", "CANDIDATES"), rows, style)
    if document["not_loaded"]:
        yield ""
        rows = [(each["name"], each["distribution"], each["value"]) for each in document["not_loaded"]]
        yield from table(("NOT LOADED", "DISTRIBUTION", "CALLABLE"), rows, style)
        yield "plugins.auto_load is off; `oneiric plugins --load` runs their code"
    if document["errors"]:
        yield ""
        yield style("bold", "LEFT OUT")
        for each in document["errors"]:
            yield f"{each['kind']} {printable(each['name'])} of {printable(each['distribution'])}: {printable(each['reason'])}"
            if each["hint"]:
                yield f"  Try: {printable(each['hint'])}"
