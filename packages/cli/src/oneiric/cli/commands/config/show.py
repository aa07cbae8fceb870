"""``oneiric config show``: the settings in force, and where each value comes from."""

from collections.abc import Iterator
from typing import Annotated, Any

import typer

from oneiric.cli._output import Result, Style, compact, printable, table
from oneiric.cli._view import view_of
from oneiric.runtime.settings import LoadedSettings, SettingRow, describe, explain_setting

__all__ = ["command"]


def command(
    context: typer.Context,
    prefix: Annotated[
        str | None, typer.Argument(metavar="[KEY]", help="Only this setting, or those below it, such as adapters.")
    ] = None,
    show_all: Annotated[bool, typer.Option("--all", help="Also what nobody set.")] = False,  # noqa: FBT002 - an option
) -> Result:
    """Show the settings, and where each of them comes from."""
    view = view_of(context, needs_settings=True)
    rows = describe(view.settings, show_defaults=show_all, candidates=view.resolver.candidates())
    if prefix is not None:
        rows = _below(view.settings, rows, prefix)
    document = {
        "settings": view.settings.path,
        "profile": view.settings.settings.profile.name,
        "digest": view.settings.digest,
        "rows": [row.as_dict() for row in rows],
    }
    return Result(document=document, text=lambda style: _text(document, style, shows_all=show_all), notes=view.notes)


def _below(loaded: LoadedSettings, rows: list[SettingRow], prefix: str) -> list[SettingRow]:
    """Return the rows of a setting or a table of them, by any of its names; one that does not exist is an error."""
    key = explain_setting(loaded, prefix).key
    return [row for row in rows if row.key == key or row.key.startswith(f"{key}.")]


def _text(document: dict[str, Any], style: Style, *, shows_all: bool) -> Iterator[str]:
    yield f"settings  {printable(document['settings'] or 'none')}"
    yield f"profile   {document['profile']}"
    yield ""
    if document["rows"]:
        rows = [(row["key"], compact(row["value"]), row["origin"]) for row in document["rows"]]
        yield from table(("SETTING", "VALUE", "FROM"), rows, style)
    else:
        yield "There is nothing in it." if shows_all else "Everything is as it is by default."
    if not shows_all:
        yield ""
        yield "--all shows the defaults too"
