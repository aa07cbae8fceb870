"""``oneiric drain``: refuse new work for a key and let what it has finish."""

import time
from typing import Annotated, Any, Final

import typer

from oneiric.cli._activity import Change, activity_text, apply_change, asked_of_running, change_asked, stored
from oneiric.cli._output import Result
from oneiric.cli._parameters import Domain, Key, Note, Owner, Until
from oneiric.cli._questions import named
from oneiric.cli._running import Place, place_of
from oneiric.cli._times import seconds_of
from oneiric.cli._view import options_of
from oneiric.core.errors import ConfigurationError, LifecycleError

__all__ = ["command"]

#: How often the running system is asked whether the key is empty.
_LOOK_SECONDS: Final = 0.1


def command(  # noqa: PLR0917 - typer's way to declare options
    context: typer.Context,
    key: Key,
    domain: Domain = None,
    note: Note = None,
    owner: Owner = None,
    until: Until = None,
    clear: Annotated[bool, typer.Option("--clear", help="Take work again.")] = False,  # noqa: FBT002 - an option
    wait: Annotated[bool, typer.Option("--wait", help="Return when nothing is in flight any more.")] = False,  # noqa: FBT002
    timeout: Annotated[str, typer.Option(metavar="TIME", help="How long to wait at most.")] = "5m",
) -> Result:
    """Refuse new work for a key and let what it has finish."""
    if clear and (wait or until is not None):
        raise ConfigurationError("--clear ends a drain; --wait and --until are for one that begins", "oneiric drain -h")
    change = change_asked("resume" if clear else "drain", key, domain, note=note, owner=owner, until=until)
    longest = seconds_of("--timeout", timeout)
    place = place_of(options_of(context))
    if clear:
        _refuse_paused(place, change)
    if wait and place.ask_if_running("health") is None:
        raise place.nothing()  # nothing is in flight that anybody here could wait for
    document, notes = apply_change(context, change)
    if wait:
        document |= _waited(place, document, longest)
    emptied = document["in_flight"] == 0
    return Result(
        document=document,
        text=lambda style: activity_text(document, style),
        notes=notes if emptied or not wait else (*notes, f"it is not empty after {longest:g} s, and drains on"),
        exit_code=1 if wait and not emptied else 0,
    )


def _refuse_paused(place: Place, change: Change) -> None:
    """Refuse to end the drain of a key that is paused too: taking work again would end that as well."""
    answer = place.ask_if_running("activity")
    rows = stored(place)[0] if answer is None else answer["activity"]
    domain, key = named(change.key, change.domain)
    for row in rows:
        if row["key"] == key and domain in {None, row["domain"]} and row["paused"]:
            name = f"{row['domain']}:{key}"
            raise LifecycleError(f"{name} is paused too, and stays as it is", f"oneiric pause {name} --resume")


def _waited(place: Place, document: dict[str, Any], longest: float) -> dict[str, Any]:
    """Return the state when nothing is in flight any more, or when the time is up.

    Raises:
        LifecycleError: Somebody let it take work again meanwhile.
    """
    name = f"{document['domain']}:{document['key']}"
    deadline = time.monotonic() + longest
    while True:
        answer = asked_of_running(place, "activity", name, None)
        if answer is None:
            raise LifecycleError(f"the system ended while {name} was draining", "oneiric status")
        state: dict[str, Any] | None = next(iter(answer["activity"]), None)
        if state is None or not state["draining"]:
            raise LifecycleError(f"{name} takes work again: its drain was ended meanwhile", "oneiric activity")
        if state["in_flight"] == 0 or time.monotonic() >= deadline:
            return state
        time.sleep(_LOOK_SECONDS)
