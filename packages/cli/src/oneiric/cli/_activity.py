"""Pausing, draining and resuming a key: in the running system, or in the store that the next one reads."""

import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, Literal

import typer

from oneiric.cli._output import Style, printable
from oneiric.cli._questions import domain_among, domain_of, named
from oneiric.cli._running import Place, caller, place_of
from oneiric.cli._times import clock_time, moment_after
from oneiric.cli._view import View, options_of, view_of

if TYPE_CHECKING:
    from oneiric.runtime.activity import DomainActivity

__all__ = [
    "Change",
    "activity_text",
    "apply_change",
    "asked_of_running",
    "change_asked",
    "state_words",
    "store_path",
    "stored",
]

_STORE: Final = "domain_activity.sqlite"
_SCOPES: Final = {
    "running": "the running system",
    "store": "the store: nothing runs here, and what starts or polls it finds it there",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Change:
    """What is asked for a key.

    Attributes:
        operation: What to do.
        key: As it was typed.
        domain: As it was typed, or None.
        note: Why; None keeps the note there is.
        owner: Who answers for it; None is the user.
        until: When it ends by itself, in seconds since the epoch.
    """

    operation: Literal["pause", "drain", "resume"]
    key: str
    domain: str | None = None
    note: str | None = None
    owner: str | None = None
    until: float | None = None

    @property
    def fields(self) -> dict[str, Any]:
        """What the control API is told beside the name."""
        told: dict[str, Any] = {"note": self.note, "owner": self.owner, "by": caller()}
        return told if self.operation == "resume" else told | {"until": self.until}


def change_asked(
    operation: Literal["pause", "drain", "resume"],
    key: str,
    domain: str | None,
    *,
    note: str | None,
    owner: str | None,
    until: str | None,
) -> Change:
    """Return a change as it was typed.

    Raises:
        ConfigurationError: *until* is no time, or over.
    """
    end = None if until is None else moment_after("--until", until, time.time())
    return Change(operation=operation, key=key, domain=domain, note=note, owner=owner, until=end)


def apply_change(context: typer.Context, change: Change) -> tuple[dict[str, Any], tuple[str, ...]]:
    """Make a change where it takes effect, and return the document about it and notes.

    Raises:
        ResolutionError: There is no such key.
        StoreError: It could not be stored; nothing changed.
    """
    place = place_of(options_of(context))
    answer = asked_of_running(place, change.operation, change.key, change.domain, **change.fields)
    if answer is not None:
        return {"running": True, "scope": "running", "store": None, **answer}, ()
    import asyncio  # noqa: PLC0415 - where no system runs

    view = view_of(context, needs_settings=True, with_stored=True)
    domain, key = named(change.key, change.domain)
    domain = domain_of(view.resolver, key, domain)
    view.resolver.explain(domain, key)  # raises for a key that is none, with what is near
    path = store_path(place)
    state, notes = asyncio.run(_change_store(view, path, (domain, key), change))
    document = {"running": False, "scope": "store", "store": str(path), "domain": domain, "key": key}
    return {**document, **state.as_dict(), "in_flight": None}, (*view.notes, *notes)


def asked_of_running(
    place: Place, operation: str, key: str, domain: str | None, **fields: Any
) -> dict[str, Any] | None:
    """Ask the running system something about a key, whose domain it may have to find; None when nothing runs.

    Raises:
        ResolutionError: There is no such key.
        OneiricError: What the running system answered, or that it does not.
    """
    said, key = named(key, domain)
    if said is None:
        listed = place.ask_if_running("components", shadowed=False)
        if listed is None:
            return None
        said = domain_among(((each["domain"], each["key"]) for each in listed["keys"]), key)
    return place.ask_if_running(operation, domain=said, key=key, **fields)


async def _change_store(
    view: View, path: Path, name: tuple[str, str], change: Change
) -> tuple["DomainActivity", tuple[str, ...]]:
    from oneiric.core.lifecycle import LifecycleManager  # noqa: PLC0415 - where no system runs
    from oneiric.core.resolution import Resolver  # noqa: PLC0415 - as above
    from oneiric.domains import DomainBridge  # noqa: PLC0415 - as above
    from oneiric.runtime.activity import DomainActivityStore  # noqa: PLC0415 - as above

    domain, key = name
    async with DomainActivityStore(path) as store:
        bridge = DomainBridge(
            domain,
            resolver=view.resolver,
            lifecycle=LifecycleManager(Resolver()),
            settings=view.settings.settings.section(domain),
            activity=store,
        )
        owner = change.owner or caller()
        if change.operation == "resume":
            state = await bridge.resume(key)
        elif change.operation == "pause":
            state = await bridge.set_paused(key, True, note=change.note, owner=owner, until=change.until)
        else:
            state = await bridge.set_draining(key, True, note=change.note, owner=owner, until=change.until)
        return state, tuple(each for each in (store.problem, store.recovered) if each)


def store_path(place: Place) -> Path:
    """Return where the activity of a system with these settings is kept."""
    settings = place.loaded.settings
    return settings.runtime_paths.activity_store or settings.state_dir / _STORE


def stored(place: Place) -> tuple[list[dict[str, Any]], str | None]:
    """Return what the store says, a row each, and what is wrong with it; makes no file."""
    import asyncio  # noqa: PLC0415 - where no system runs

    from oneiric.runtime.activity import DomainActivityStore  # noqa: PLC0415 - as above

    async def read() -> "tuple[dict[str, dict[str, DomainActivity]], str | None]":
        async with DomainActivityStore(store_path(place), readonly=True) as store:
            return store.snapshot(), store.problem

    found, problem = asyncio.run(read())
    rows = [
        {"domain": domain, "key": key, **state.as_dict(), "in_flight": None}
        for domain, keys in found.items()
        for key, state in keys.items()
    ]
    return rows, problem


def state_words(row: dict[str, Any]) -> str:
    """Return whether a key takes work, in words."""
    states = [word for word in ("paused", "draining") if row[word]]
    return " and ".join(states) or "takes work"


def activity_text(document: dict[str, Any], style: Style) -> Iterator[str]:
    """Yield the state of a key after a change."""
    name = f"{document['domain']}:{document['key']}"
    colour = "green" if not (document["paused"] or document["draining"]) else "yellow"
    yield f"{style('bold', printable(name))} {style(colour, state_words(document))}"
    rows = [
        ("note", document["note"]),
        ("owner", document["owner"]),
        ("until", clock_time(document["until"])),
        ("in flight", document["in_flight"]),
        ("scope", _SCOPES[document["scope"]]),
    ]
    for label, value in rows:
        if value is not None:
            yield f"  {label:<10} {printable(value)}"
