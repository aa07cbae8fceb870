"""``oneiric status``: the running system; or what is configured, and what the last one left, where none runs."""

from collections.abc import Iterator
from typing import Annotated, Any, Final

import typer

from oneiric.cli._activity import state_words
from oneiric.cli._output import Printed, Result, Style, printable, table
from oneiric.cli._parameters import OnlyDomain, OnlyKey
from oneiric.cli._questions import named
from oneiric.cli._running import place_of
from oneiric.cli._status import running_status, stored_status
from oneiric.cli._stored import manifest_words, skipped_words
from oneiric.cli._times import clock_time, seconds_of
from oneiric.cli._view import options_of, view_of

__all__ = ["command"]

_SHORTEST_SECONDS: Final = 0.1
_DAY_SECONDS: Final = 86_400.0


def command(
    context: typer.Context,
    domain: OnlyDomain = None,
    key: OnlyKey = None,
    watch: Annotated[bool, typer.Option("--watch", help="Look again and again, until interrupted.")] = False,  # noqa: FBT002
    interval: Annotated[str, typer.Option(metavar="TIME", help="How often to look.")] = "2s",
) -> Result | Printed:
    """Show what runs; where nothing does, what is configured and what it resolves to."""
    if key is not None:
        domain, key = named(key, domain)
    if not watch:
        return _look(context, domain, key)
    from oneiric.cli._watch import watch as watching  # noqa: PLC0415 - only who watches

    seconds = seconds_of("--interval", interval, least=_SHORTEST_SECONDS, most=_DAY_SECONDS)
    return watching(lambda: _look(context, domain, key), seconds, as_json=options_of(context).json)


def _look(context: typer.Context, domain: str | None, key: str | None) -> Result:
    place = place_of(options_of(context), only_looks=True)
    document = running_status(place, domain, key)
    notes = place.notes
    if document is None:
        view = view_of(context, needs_settings=True)
        document, notes = stored_status(view, place, domain, key), view.notes
    return Result(document=document, text=lambda style: _text(document, style), notes=notes)


def _text(document: dict[str, Any], style: Style) -> Iterator[str]:
    yield from _running(document["system"], style) if document["running"] else _not_running(document, style)
    if document["store"]["problem"]:
        yield f"activity  {style('yellow', printable(document['store']['problem']))}"
    yield ""
    yield from (_table_of_system if document["running"] else _table_of_settings)(document, style)
    for each in document["keys"]:
        if each["state"] == "unresolved":
            yield f"{printable(each['domain'])}:{printable(each['key'])}: {printable(each['why'])}"


def _running(system: dict[str, Any], style: Style) -> Iterator[str]:
    ready = style("green", "ready") if system["ready"] else style("yellow", "not ready")
    who = f"{printable(system['name'])}, pid {system['pid']}"
    yield f"running   yes: {who}, {ready}, since {clock_time(system['started_at'])}"
    applied, refused = system["config"]["applied"], system["config"]["refused"]
    version = "none" if applied is None else f"version {applied['version']}, since {clock_time(applied['at'])}"
    yield f"settings  {version}"
    if refused is not None:
        yield f"refused   {style('red', printable(refused['reason'] or 'for a reason nobody gave'))}"
    states: dict[str, int] = {}
    for part in system["parts"]:
        states[part["state"]] = states.get(part["state"], 0) + 1
    yield f"parts     {', '.join(f'{count} {state}' for state, count in states.items()) or 'none'}"
    for problem in system["problems"]:
        yield f"problem   {style('yellow', printable(problem))}"
    if skipped := (system["remote"] or {}).get("last_skipped"):
        yield f"left out  {style('yellow', skipped_words(skipped, 'remote-status'))}"


def _not_running(document: dict[str, Any], style: Style) -> Iterator[str]:
    yield "running   no: this is what the configuration says, not what a process holds"
    yield f"settings  {printable(document['settings'] or 'none')}"
    yield f"profile   {document['profile']}"
    snapshot = document["snapshot"]
    if snapshot["path"]:
        trouble = f" (cannot be read: {snapshot['error']})" if snapshot["error"] else ""
        yield f"snapshot  {printable(snapshot['path'] + trouble)}"
    stored = document["stored"] or {"manifest": None, "problems": (), "skipped": ()}
    if stored["manifest"] is not None:
        yield f"stored    {manifest_words(stored['manifest'])}, in force from the next start on"
    for problem in stored["problems"]:
        yield f"problem   {style('yellow', printable(problem))}"
    if stored["skipped"]:
        yield f"left out  {style('yellow', skipped_words(len(stored['skipped']), 'list'))}"


def _table_of_system(document: dict[str, Any], style: Style) -> list[str]:
    headings = ("DOMAIN", "KEY", "SERVES", "STATE", "CONFIGURED", "IN FLIGHT", "SWAPS", "FAILED", "ACTIVITY")
    stale = {(each["domain"], each["key"]) for each in document["system"]["stale"] if each["tenant"] is None}
    rows = []
    for each in document["keys"]:
        slot = each["lifecycle"] or {}
        state = "unresolved" if each["state"] == "unresolved" else slot.get("state", "inactive")
        if (each["domain"], each["key"]) in stale:
            state = f"{state}, stale"
        rows.append((
            each["domain"], each["key"], each["active"], state, each["configured_provider"], slot.get("in_flight"),
            slot.get("successful_swaps"), slot.get("failed_swaps"), _activity(each),
        ))  # fmt: skip
    for slot in document["other_slots"]:
        which = f"tenant {slot['tenant']}" if slot["tenant"] else "beside" if slot["beside"] else "withdrawn"
        whose = f"{slot['key']} ({which})"
        rows.append((
            slot["domain"], whose, slot["current_provider"], slot["state"], None, slot["in_flight"],
            slot["successful_swaps"], slot["failed_swaps"], None,
        ))  # fmt: skip
    return table(headings, rows, style)


def _table_of_settings(document: dict[str, Any], style: Style) -> list[str]:
    headings = ["DOMAIN", "KEY", "STATE", "PROVIDER", "CONFIGURED", "SHADOWED", "SET ASIDE"]
    rows: list[list[object]] = [
        [
            each["domain"], each["key"], each["state"], each["provider"], each["configured_provider"],
            each["shadowed"], each["set_aside"],
        ]
        for each in document["keys"]
    ]  # fmt: skip
    if any(each["lifecycle"] for each in document["keys"]):
        headings.append("LAST SERVED")
        for row, each in zip(rows, document["keys"], strict=True):
            row.append((each["lifecycle"] or {}).get("current_provider"))
    if any(each["activity"] for each in document["keys"]):
        headings.append("ACTIVITY")
        for row, each in zip(rows, document["keys"], strict=True):
            row.append(_activity(each))
    return table(headings, rows, style)


def _activity(each: dict[str, Any]) -> str | None:
    return None if each["activity"] is None else state_words(each["activity"])
