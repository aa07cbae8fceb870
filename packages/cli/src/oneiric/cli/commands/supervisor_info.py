"""``oneiric supervisor-info``: the supervised services of the running system, or what the settings say of them."""

from collections.abc import Iterator
from typing import Any

import typer

from oneiric.cli._output import Result, Style, printable, table
from oneiric.cli._running import Place, place_of
from oneiric.cli._times import clock_time
from oneiric.cli._view import options_of

__all__ = ["command"]


def command(context: typer.Context) -> Result:
    """Describe the supervised services: state, restarts, escalations."""
    place = place_of(options_of(context), only_looks=True)
    answer = place.ask_if_running("supervisor_info")
    configured = None if answer is not None else _configured(place)
    document = {
        "running": answer is not None,
        "enabled": answer["enabled"] if answer is not None else configured is not None and configured["enabled"],
        "supervisor": None,
        "configured": configured,
    }
    if answer is not None and answer["enabled"]:
        document["supervisor"] = {name: value for name, value in answer.items() if name != "enabled"}
    return Result(document=document, text=lambda style: _text(document, style), notes=place.notes)


def _configured(place: Place) -> dict[str, Any]:
    settings = place.loaded.settings
    supervisor = settings.runtime_supervisor
    return {
        "enabled": settings.supervises,
        "profile": settings.profile.name,
        "strategy": supervisor.strategy,
        "intensity": {"max_restarts": supervisor.max_restarts, "window_seconds": supervisor.restart_window_seconds},
        "poll_interval_seconds": supervisor.poll_interval,
        "shutdown_grace_seconds": supervisor.shutdown_grace_seconds,
        "services": [f"{key} of {tenant}" if tenant else key for _, key, tenant in settings.supervised_services],
    }


def _text(document: dict[str, Any], style: Style) -> Iterator[str]:
    if document["configured"] is not None:
        yield from _configured_text(document["configured"])
        return
    yield "running   yes"
    told = document["supervisor"]
    if told is None:
        yield "supervisor is off: runtime_supervisor.enabled or the profile says so"
        return
    bounds = told["intensity"]
    yield f"state     {printable(told['state'])}"
    yield (
        f"strategy  {told['strategy']}, {bounds['max_restarts']} restarts in {bounds['window_seconds']:g} s, "
        f"{bounds['recent_restarts']} of them used"
    )
    for label in ("error", "store_problem"):
        if told[label]:
            yield f"{style('red', label.replace('_', ' '))} {printable(told[label])}"
    yield ""
    rows = [
        (
            child["name"],
            child["state"],
            child["restart"],
            child["restarts"],
            {True: "healthy", False: "unhealthy", None: None}[child["health"]],
            clock_time(child["since"]),
            child["last_error"],
        )
        for child in (*told["children"], *told["ended"])
    ]
    if rows:
        yield from table(("SERVICE", "STATE", "RESTART", "RESTARTS", "HEALTH", "SINCE", "LAST ERROR"), rows, style)
    else:
        yield "It supervises nothing: no service is selected in the settings."


def _configured_text(configured: dict[str, Any]) -> Iterator[str]:
    bounds = configured["intensity"]
    yield "running   no: this is what a start would do"
    yield f"enabled   {'yes' if configured['enabled'] else 'no'}, profile {configured['profile']}"
    yield f"strategy  {configured['strategy']}, {bounds['max_restarts']} restarts in {bounds['window_seconds']:g} s"
    yield f"polls     every {configured['poll_interval_seconds']:g} s"
    yield f"services  {printable(', '.join(configured['services']) or 'none is selected in the settings')}"
