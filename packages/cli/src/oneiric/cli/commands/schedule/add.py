"""``oneiric schedule add``: have something done at certain times; the running system fires it."""

import time
from typing import Annotated, Any, Final

import typer

from oneiric.cli._output import Result
from oneiric.cli._parameters import ScheduleName
from oneiric.cli._plain import object_from
from oneiric.cli._running import place_of
from oneiric.cli._schedules import Schedules, schedule_text
from oneiric.cli._times import moment_after, seconds_of
from oneiric.cli._view import options_of, view_of
from oneiric.core.errors import ConfigurationError

__all__ = ["command"]

_KINDS: Final = ("task", "workflow", "event")


def command(  # noqa: PLR0913, PLR0917 - typer's way to declare options
    context: typer.Context,
    name: ScheduleName,
    target: Annotated[str, typer.Argument(metavar="TARGET", help="workflow:KEY, task:KEY or event:TOPIC.")],
    cron: Annotated[
        str | None, typer.Option(metavar="EXPRESSION", help="Five fields, or six with seconds first.")
    ] = None,
    every: Annotated[str | None, typer.Option(metavar="TIME", help="An interval, such as 15m.")] = None,
    at: Annotated[str | None, typer.Option(metavar="TIME", help="Once: 15m from now, or 2030-01-31T18:00.")] = None,
    time_zone: Annotated[
        str, typer.Option("--time-zone", metavar="ZONE", help="Whose clock --cron speaks of.")
    ] = "UTC",
    payload: Annotated[
        str | None, typer.Option(metavar="JSON", help="What the target is given: JSON, @FILE, or -.")
    ] = None,
    overlap: Annotated[
        str, typer.Option(metavar="WHAT", help="While an earlier one is being done: skip, buffer_one, allow.")
    ] = "skip",
    catch_up: Annotated[
        str | None, typer.Option("--catch-up", metavar="TIME", help="How late one may fire that nobody was there for.")
    ] = None,
    jitter: Annotated[str, typer.Option(metavar="TIME", help="Fire up to so much later.")] = "0",
    replace: Annotated[bool, typer.Option("--replace", help="Take the place of another one of its name.")] = False,  # noqa: FBT002
) -> Result:
    """Have something done at certain times: by --cron, --every or --at."""
    from oneiric.runtime.scheduler import Schedule  # noqa: PLC0415 - loads the runtime

    stated: dict[str, Any] = {
        "name": name,
        "target": target,
        "payload": object_from("--payload", payload) or {},
        "cron": cron,
        "every_seconds": None if every is None else seconds_of("--every", every),
        "at": None if at is None else moment_after("--at", at, time.time()),
        "time_zone": time_zone,
        "overlap": overlap,
        "catch_up_seconds": None if catch_up is None else seconds_of("--catch-up", catch_up),
        "jitter_seconds": seconds_of("--jitter", jitter),
    }
    if sum(each is not None for each in (cron, every, at)) != 1:
        raise ConfigurationError("a schedule has one of --cron, --every and --at", "oneiric schedule add --help")
    schedule = Schedule.from_mapping(stated)
    _check_target(context, target)
    schedules = Schedules.of(place_of(options_of(context)))

    async def add(store: Any) -> dict[str, Any]:
        return await schedules.document(store, await store.add(schedule, replace=replace))

    document = {"store": str(schedules.path), **schedules.change(add)}
    return Result(document=document, text=lambda style: schedule_text(document, style))


def _check_target(context: typer.Context, target: str) -> None:
    """Refuse what could never be done.

    Raises:
        ConfigurationError: It names no kind of thing that can be done.
        ResolutionError: There is no such task or workflow.
    """
    kind, _, key = target.partition(":")
    if kind not in _KINDS or not key:
        what = f"{target[:100]!r} is nothing that can be done"
        raise ConfigurationError(what, "workflow:KEY, task:KEY or event:TOPIC")
    if kind == "event":
        return
    view_of(context, needs_settings=True, with_stored=True).resolver.resolve(kind, key)
