"""``oneiric status``: what is configured and what it resolves to; and what a lifecycle left in its snapshot."""

from collections.abc import Iterator
from typing import Annotated, Any

import typer

from oneiric.cli._output import Result, Style, printable, table
from oneiric.cli._questions import keys_asked, why_of
from oneiric.cli._view import View, view_of
from oneiric.core.resolution import Explanation

__all__ = ["command"]

_SNAPSHOT = "lifecycle_status.json"


def command(
    context: typer.Context,
    domain: Annotated[str | None, typer.Option(help="Only this domain; by default all.")] = None,
    key: Annotated[str | None, typer.Option(help="Only this key.")] = None,
) -> Result:
    """Show what is configured and what it resolves to."""
    view = view_of(context)
    snapshot = _snapshot(view)
    asked = keys_asked(view.resolver, domain, key)
    recorded = {
        (each.get("domain"), each.get("key")): each for each in snapshot["statuses"] if each.get("tenant") is None
    }
    keys = [_entry(view, view.resolver.explain(*name), recorded.get(name)) for name in asked]
    document = {
        "running": False,
        "settings": None if view.loaded is None else view.loaded.path,
        "profile": "default" if view.loaded is None else view.loaded.settings.profile.name,
        "keys": keys,
        "snapshot": {"path": snapshot["path"], "error": snapshot["error"]},
        "problems": view.problems,
    }
    return Result(document=document, text=lambda style: _text(document, style), notes=view.notes)


def _entry(view: View, explanation: Explanation, lifecycle: dict[str, Any] | None) -> dict[str, Any]:
    selection = view.resolver.policy.selection_for(explanation.domain, explanation.key)
    return {
        "domain": explanation.domain,
        "key": explanation.key,
        "configured_provider": None if selection is None else selection.provider,
        "configured_by": None if selection is None else str(selection),
        "provider": explanation.selected,
        "state": "unresolved" if explanation.winner is None else "resolved",
        "why": why_of(explanation),
        "shadowed": len(explanation.shadowed),
        "set_aside": len(explanation.filtered),
        "lifecycle": lifecycle,
    }


def _snapshot(view: View) -> dict[str, Any]:
    """Return the statuses that a lifecycle wrote last; empty when none is configured or it cannot be read."""
    directory = None if view.loaded is None else view.loaded.settings.runtime_paths.cache_dir
    if directory is None:
        return {"path": None, "statuses": [], "error": None}
    from oneiric.core.snapshot import read_snapshot  # noqa: PLC0415 - only where one is configured

    path = directory / _SNAPSHOT
    try:
        return {"path": str(path), "statuses": read_snapshot(path), "error": None}
    except (OSError, ValueError) as error:
        return {"path": str(path), "statuses": [], "error": str(error)}


def _text(document: dict[str, Any], style: Style) -> Iterator[str]:
    yield "running   no: this is what the configuration says, not what a process holds"
    yield f"settings  {printable(document['settings'] or 'none')}"
    yield f"profile   {document['profile']}"
    snapshot = document["snapshot"]
    if snapshot["path"]:
        trouble = f" (cannot be read: {snapshot['error']})" if snapshot["error"] else ""
        yield f"snapshot  {printable(snapshot['path'] + trouble)}"
    yield ""
    headings = ["DOMAIN", "KEY", "STATE", "PROVIDER", "CONFIGURED", "SHADOWED", "SET ASIDE", "LAST SERVED"]
    rows = [
        (
            each["domain"],
            each["key"],
            each["state"],
            each["provider"],
            each["configured_provider"],
            each["shadowed"],
            each["set_aside"],
            (each["lifecycle"] or {}).get("current_provider"),
        )
        for each in document["keys"]
    ]
    width = len(headings) if snapshot["path"] else -1
    yield from table(headings[:width], [row[:width] for row in rows], style)
    for each in document["keys"]:
        if each["state"] == "unresolved":
            yield f"{printable(each['domain'])}:{printable(each['key'])}: {printable(each['why'])}"
