"""``oneiric remote-status``: how remote delivery stands; of the running system, else as it was last written."""

from collections.abc import Iterator
from datetime import UTC, datetime
from typing import Any

import typer

from oneiric.cli._output import Result, Style, printable
from oneiric.cli._running import Place, place_of
from oneiric.cli._stored import skipped_text
from oneiric.cli._view import options_of
from oneiric.core.errors import StoreError

__all__ = ["command"]

_WRONG = 3
_FILE = "remote_status.json"
_ANEW = "the next sync writes it anew"
_NOT_APPLIED = {"envelope": "stored, in force from the next start on:"}


def command(context: typer.Context) -> Result:
    """Show how remote delivery stands."""
    place = place_of(options_of(context))
    answer = place.ask_if_running("status")
    status = _stored(place) if answer is None else answer["remote"]
    loaded = place.loaded.settings
    settings = loaded.remote
    document = {
        "running": answer is not None,
        "cache_dir": str(place.state_dir),
        "manifest_url": settings.shown_manifest_url,
        "enabled": settings.enabled,
        # A running system goes by the settings that it was started with, whatever the files say by now.
        "why_off": None if answer is not None and status is not None else loaded.why_remote_is_off,
        "status": status,
    }
    is_wrong = status is not None and bool(status.get("stale") or status.get("revoked"))
    return Result(document=document, text=lambda style: _text(document, style), exit_code=_WRONG if is_wrong else 0)


def _stored(place: Place) -> dict[str, Any] | None:
    from oneiric.core.snapshot import read_json  # noqa: PLC0415 - only where nothing runs

    path = place.state_dir / _FILE
    try:
        found = read_json(path)
        status = None if found is None else _as_of_now(found)
        for _ in () if status is None else _status_text(status, Style()):
            pass  # what cannot be shown is not what a sync wrote
    except (OSError, ValueError) as error:
        raise StoreError(f"{path} cannot be read: {error}", _ANEW) from error
    except (AttributeError, KeyError, TypeError) as error:
        raise StoreError(f"{path} is not what a sync writes ({type(error).__name__}: {error})", _ANEW) from error
    return status


def _as_of_now(status: dict[str, Any]) -> dict[str, Any]:
    """Return a stored status with what has expired since it was written, and without what has ended since."""
    trust, about = status.get("trust") or {}, status.get("manifest") or {}
    expiries = {
        "the manifest": about.get("expires"),
        "what says what is current": trust.get("freshness_expires"),
        "the root": trust.get("root_expires"),
    }
    now = datetime.now(UTC)
    reasons = [f"{name} expired at {at}" for name, at in expiries.items() if at and datetime.fromisoformat(at) <= now]
    return {**status, "stale": bool(reasons), "stale_reasons": reasons, "revoked": []}


def _text(document: dict[str, Any], style: Style) -> Iterator[str]:
    status = document["status"]
    yield f"{style('bold', 'manifest')}   {printable(document['manifest_url'] or 'none is configured')}"
    if document["why_off"] is not None and document["manifest_url"] is not None:
        yield f"delivery   {style('yellow', 'off')}: {document['why_off']}"
    yield f"running    {'yes' if document['running'] else 'no'}; state in {printable(document['cache_dir'])}"
    if status is None:
        yield "synced     never"
        return
    yield from _status_text(status, style)


def _status_text(status: dict[str, Any], style: Style) -> Iterator[str]:
    about = status["manifest"]
    if about is not None:
        state = "in force" if about["applied"] else _NOT_APPLIED.get(about["signature"], "seen, and not stored:")
        version = "" if about["version"] is None else f" version {about['version']}"
        yield f"{state:<10} {printable(about['product'] or about['source'])}{version}, {about['signature']}"
        yield f"           sha256 {about['digest']}"
        yield from (f"           signed by {key_id}" for key_id in about["signed_by"])
        if about["signature"] == "unsigned":
            yield style("yellow", "           UNSIGNED: nobody signed it, and nothing of it was verified")
    yield f"succeeded  {status['last_success_at'] or 'never'}"
    yield f"failed     {status['last_failure_at'] or 'never'}, {status['consecutive_failures']} in a row"
    budget, took = status["latency_budget_ms"], status["last_duration_ms"]
    if took is not None:
        yield f"took       {took:.0f} ms" + (f" of {budget:.0f} ms" if budget else "")
    if status["last_refusal"] is not None:
        refusal = status["last_refusal"]
        yield style("red", f"refused    {printable(refusal['error'])} at {refusal['at']}, while: {refusal['step']}")
        yield f"           {printable(refusal['reason'])}"
    for reason in status["stale_reasons"]:
        yield style("red", f"STALE      {printable(reason)}")
    for each in status["revoked"]:
        yield style("red", f"REVOKED    {printable(each['reason'])}")
    for problem in status["problems"]:
        yield style("yellow", f"problem    {printable(problem)}")
    yield from skipped_text(status.get("skipped", ()), style, status["last_skipped"])
