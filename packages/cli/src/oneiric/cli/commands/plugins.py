"""``oneiric plugins``: what discovery found, and what it left out and why."""

from collections.abc import Iterator
from importlib.metadata import entry_points
from typing import Annotated, Any, Final

import typer

from oneiric.cli._output import Result, Style, printable, table
from oneiric.cli._view import view_of

__all__ = ["command"]

_CATALOGS = "oneiric.catalogs"
#: Section of the document → headings and fields of its table.
_TABLES: Final = (
    (
        "catalogs",
        ("CATALOGUE", "DISTRIBUTION", "PACKAGE", "CANDIDATES"),
        ("name", "distribution", "package", "registered"),
    ),
    ("plugins", ("PLUGIN", "DISTRIBUTION", "CALLABLE", "CANDIDATES"), ("name", "distribution", "value", "registered")),
    ("not_loaded", ("NOT LOADED", "DISTRIBUTION", "CALLABLE"), ("name", "distribution", "value")),
)


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
    for section, headings, fields in _TABLES:
        if document[section]:
            yield ""
            yield from table(headings, [[each[field] for field in fields] for each in document[section]], style)
    if document["not_loaded"]:
        yield "plugins.auto_load is off; `oneiric plugins --load` runs their code"
    if document["errors"]:
        yield ""
        yield style("bold", "LEFT OUT")
    for each in document["errors"]:
        yield printable(f"{each['kind']} {each['name']} of {each['distribution']}: {each['reason']}")
        if each["hint"]:
            yield f"  Try: {printable(each['hint'])}"
