"""``oneiric list``: what is active, and with ``--shadowed`` what it won against."""

from collections.abc import Iterator
from typing import Annotated, Any

import typer

from oneiric.cli._output import Result, Style, table
from oneiric.cli._parameters import OnlyDomain
from oneiric.cli._questions import keys_asked, why_of
from oneiric.cli._stored import manifests_text, skipped_of, skipped_text, telling_skipped
from oneiric.cli._view import view_of
from oneiric.core.resolution import Candidate, Explanation

__all__ = ["command"]

_HEADINGS = ("DOMAIN", "KEY", "PROVIDER", "STATE", "PRIORITY", "STACK", "SOURCE", "ORIGIN", "REASON")


def command(
    context: typer.Context,
    domain: OnlyDomain = None,
    key: Annotated[str | None, typer.Option(metavar="KEY", help="Only this key.")] = None,
    shadowed: Annotated[  # noqa: FBT002 - an option
        bool, typer.Option("--shadowed", help="Also what lost, and what is set aside and why.")
    ] = False,
) -> Result:
    """List what is active."""
    view = view_of(context, with_stored=True)
    skipped = [] if view.stored is None else skipped_of(view.stored.skipped, domain, key)
    with telling_skipped(skipped):
        asked = keys_asked(view.resolver, domain, key)
    explanations = [view.resolver.explain(*each) for each in asked]
    keys = [_entry(each, shadowed=shadowed) for each in explanations]
    return Result(
        document={
            "keys": keys,
            "problems": view.problems,
            "stored": None if view.stored is None else view.stored.as_dict(),
        },
        text=lambda style: (*_text(keys, style), *skipped_text(skipped, style)),
        notes=view.notes,
    )


def _entry(explanation: Explanation, *, shadowed: bool) -> dict[str, Any]:
    winner = explanation.winner
    entry: dict[str, Any] = {
        "domain": explanation.domain,
        "key": explanation.key,
        "provider": explanation.selected,
        "state": "unresolved" if winner is None else "active",
        "why": why_of(explanation),
    }
    # The ranked values, not the stated ones: an operator's order may have replaced a priority.
    entry |= _ranked(explanation.ordered[0] if winner is not None else None)
    if shadowed:
        entry["shadowed"] = [{"provider": row.provider, **_ranked(row)} for row in explanation.shadowed]
        entry["set_aside"] = [
            {
                "provider": row.provider,
                **_ranked(row),
                "obstacles": [{"kind": o.kind, "detail": o.detail, "fix": o.fix} for o in row.obstacles],
            }
            for row in explanation.filtered
        ]
    return entry


def _ranked(row: Any) -> dict[str, Any]:
    if row is None:
        return dict.fromkeys(("priority", "stack_level", "source", "origin", "version"))
    candidate: Candidate = row.candidate
    return {
        "priority": row.score[1],
        "stack_level": row.score[2],
        "source": candidate.source.value,
        "origin": candidate.origin,
        "version": candidate.version,
        **({"manifest": dict(about)} if (about := candidate.metadata.get("manifest")) else {}),
    }


def _text(keys: list[dict[str, Any]], style: Style) -> Iterator[str]:
    if not keys:
        yield "Nothing is registered. Install a family, such as oneiric-adapters-cache."
        return
    rows = [row for entry in keys for row in _rows(entry)]
    if all(row[-1] == "" for row in rows):
        yield from table(_HEADINGS[:-1], [row[:-1] for row in rows], style)
    else:
        yield from table(_HEADINGS, rows, style)
    yield from manifests_text((row["manifest"] for entry in keys for row in _all(entry) if "manifest" in row), style)


def _all(entry: dict[str, Any]) -> Iterator[dict[str, Any]]:
    yield entry
    yield from (*entry.get("shadowed", ()), *entry.get("set_aside", ()))


def _rows(entry: dict[str, Any]) -> Iterator[tuple[object, ...]]:
    def row(of: dict[str, Any], state: str, reason: str) -> tuple[object, ...]:
        is_stored = of.get("manifest", {}).get("stored", False)
        values = (of["priority"], of["stack_level"], f"{of['source']}, stored" if is_stored else of["source"])
        return (entry["domain"], entry["key"], of["provider"], state, *values, of["origin"], reason)

    yield row(entry, entry["state"], entry["why"] if entry["state"] == "unresolved" else "")
    for lost in entry.get("shadowed", ()):
        yield row(lost, "shadowed", "")
    for aside in entry.get("set_aside", ()):
        yield row(aside, "set aside", "; ".join(obstacle["detail"] for obstacle in aside["obstacles"]))
