"""``oneiric health``: what the running system knows of its health; with ``--probe``, what its components say now."""

from collections.abc import Iterator
from typing import Annotated, Any, Final

import typer

from oneiric.cli._output import Result, Style, printable, table
from oneiric.cli._parameters import OnlyDomain, OnlyKey
from oneiric.cli._questions import domain_among, named
from oneiric.cli._running import Place, place_of
from oneiric.cli._view import options_of
from oneiric.core.errors import ConfigurationError

__all__ = ["command"]

_UNHEALTHY: Final = 3
_SCOPES: Final = {
    "running": "yes",
    "stores": "no: this is what the last system wrote",
    "one-off": "{}: started in this process, asked, and cleaned up",
}


def command(  # noqa: PLR0917 - typer's way to declare options
    context: typer.Context,
    domain: OnlyDomain = None,
    key: OnlyKey = None,
    probe: Annotated[bool, typer.Option("--probe", help="Ask each component now; exit 3 if one is unhealthy.")] = False,  # noqa: FBT002
    deep: Annotated[  # noqa: FBT002 - an option
        bool, typer.Option("--deep", help="With --probe: start all that resolves in this process, whatever runs.")
    ] = False,
    manifest: Annotated[str | None, typer.Option(metavar="FILE", help="With --probe: as if it was applied.")] = None,
) -> Result:
    """Report health as it was last seen, or ask for it."""
    if (deep or manifest is not None) and not probe:
        raise ConfigurationError("--deep and --manifest say what --probe asks", "oneiric health --probe --deep")
    if manifest is not None:
        raise ConfigurationError(
            f"--manifest {manifest}: a manifest cannot be probed before it is applied", "oneiric health --probe"
        )
    if key is not None:
        domain, key = named(key, domain)
    place = place_of(options_of(context), only_looks=not deep)
    document = None if deep else _of_running(place, domain, key, probe=probe)
    if document is None and probe:
        from oneiric.cli._one_off import probe_here  # noqa: PLC0415 - loads the runtime

        document = probe_here(options_of(context), domain, key, everything=deep)
    elif document is None:
        document = _of_files(place, domain, key)
    return Result(
        document=document,
        text=lambda style: _text(document, style),
        notes=place.notes,
        exit_code=_UNHEALTHY if document["healthy"] is False else 0,
    )


def _of_running(place: Place, domain: str | None, key: str | None, *, probe: bool) -> dict[str, Any] | None:
    seen = place.ask_if_running("health")
    if seen is None:
        return None
    if key is not None and domain is None:
        listed = place.ask("components", shadowed=False)["keys"]
        domain = domain_among(((each["domain"], each["key"]) for each in listed), key)
    asked = {"domain": domain, "key": key}
    slots = place.ask("probe", **asked)["results"] if probe else place.ask("health", **asked)["slots"]
    if not slots and domain is not None:
        place.ask("components", domain=domain, key=key, shadowed=False)  # raises for what does not exist
    rows = [
        {name: slot.get(name) for name in ("domain", "key", "tenant", "provider", "state", "health", "detail")}
        | {"last_health_at": slot.get("last_health_at"), "duration_ms": slot.get("duration_ms")}
        for slot in slots
    ]
    return {
        "running": True,
        "scope": "running",
        "probed": probe,
        "healthy": all(row["health"] != "unhealthy" for row in rows),
        "ready": seen["ready"],
        "reasons": seen["reasons"],
        "degraded": seen["degraded"],
        "slots": rows,
        "runtime": None,
        "problems": [],
    }


def _of_files(place: Place, domain: str | None, key: str | None) -> dict[str, Any]:
    """Return what the last system wrote of its health; it says nothing of now, and so does the verdict."""
    from oneiric.runtime.state_files import read_health, read_lifecycle  # noqa: PLC0415 - where none runs

    lifecycle = read_lifecycle(place.state_dir)
    runtime = read_health(place.state_dir, path=place.loaded.settings.runtime_paths.health_path)
    rows = [
        {
            "domain": each.get("domain"),
            "key": each.get("key"),
            "tenant": each.get("tenant"),
            "provider": each.get("current_provider"),
            "state": each.get("state"),
            "health": "unknown",
            "detail": each.get("last_error"),
            "last_health_at": each.get("last_health_at"),
            "duration_ms": None,
        }
        for each in lifecycle.document or ()
        if domain in {None, each.get("domain")} and key in {None, each.get("key")}
    ]
    return {
        "running": False,
        "scope": "stores",
        "probed": False,
        "healthy": None,
        "ready": None,
        "reasons": [],
        "degraded": [],
        "slots": rows,
        "runtime": runtime.document,
        "problems": [reading.problem for reading in (lifecycle, runtime) if reading.problem],
    }


def _text(document: dict[str, Any], style: Style) -> Iterator[str]:
    running = _SCOPES[document["scope"]].format("yes, and this is not it" if document["running"] else "no")
    yield f"running  {running}"
    if document["ready"] is not None:
        reasons = f"no: {printable(', '.join(document['reasons']))}"
        yield f"ready    {'yes' if document['ready'] else style('yellow', reasons)}"
    if document["healthy"] is not None:
        yield f"healthy  {style('green', 'yes') if document['healthy'] else style('red', 'no')}"
    for each in document["degraded"]:
        yield f"{style('red', 'degraded')} {printable(each)}"
    for problem in document["problems"]:
        yield f"problem  {style('yellow', printable(problem))}"
    yield ""
    if not document["slots"]:
        yield _nothing(document)
        return
    headings = ("DOMAIN", "KEY", "TENANT", "PROVIDER", "STATE", "HEALTH", "MS", "DETAIL")
    rows = [
        (
            slot["domain"],
            slot["key"],
            slot["tenant"],
            slot["provider"],
            slot["state"],
            slot["health"],
            None if slot["duration_ms"] is None else round(slot["duration_ms"], 1),
            slot["detail"],
        )
        for slot in document["slots"]
    ]
    yield from table(headings, rows, style)


def _nothing(document: dict[str, Any]) -> str:
    if document["scope"] == "one-off":
        return "Nothing is selected in the settings; --deep starts all that resolves."
    if document["scope"] == "stores":
        return "No system has written anything; --probe starts what is selected, and asks it."
    return "Nothing serves."
