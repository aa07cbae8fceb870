"""Schedules as commands are told of them: what was typed, where they are kept, and how they are shown."""

import asyncio
from collections.abc import Awaitable, Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from oneiric.cli._output import Style, compact, printable, table
from oneiric.cli._running import Place
from oneiric.cli._times import clock_time
from oneiric.core.errors import ConfigurationError, ResolutionError

if TYPE_CHECKING:
    from oneiric.runtime.scheduler import ScheduleStatus, ScheduleStore

__all__ = ["Schedules", "rule_of", "schedule_text", "schedules_table"]

_RULES: Final = ("cron", "every_seconds", "at")


@dataclass(frozen=True, slots=True)
class Schedules:
    """The store of a system with these settings.

    Attributes:
        path: Its file.
    """

    path: Path

    @classmethod
    def of(cls, place: Place) -> "Schedules":
        """Return the store of a system with these settings."""
        from oneiric.runtime.scheduler import SCHEDULES_FILE  # noqa: PLC0415 - loads the runtime

        return cls(place.loaded.settings.scheduler.store_path or place.state_dir / SCHEDULES_FILE)

    def read[T](self, work: Callable[["ScheduleStore"], Awaitable[T]]) -> T | None:
        """Return what *work* reads; None where nothing was ever kept. Makes no file.

        Raises:
            StoreError: The file cannot be read.
        """
        return self._done(work, readonly=True) if self.path.exists() else None

    def change[T](self, work: Callable[["ScheduleStore"], Awaitable[T]]) -> T:
        """Return what *work* does; the file is made if need be.

        Raises:
            ConfigurationError: What *work* refuses.
            StoreError: The file cannot be written.
        """
        return self._done(work, readonly=False)

    def check(self, name: str) -> None:
        """Refuse a name that no schedule has.

        Raises:
            ResolutionError: There is none; the nearest is named.
        """
        statuses = self.read(lambda store: store.schedules()) or []
        known = [each.schedule.name for each in statuses]
        if name in known:
            return
        from difflib import get_close_matches  # noqa: PLC0415 - only for a typo

        near = get_close_matches(name, known, n=1)
        meant = f"; did you mean {near[0]!r}?" if near else ""
        raise ResolutionError(f"there is no schedule {name[:128]!r}{meant}", "oneiric schedule list")

    def _done[T](self, work: Callable[["ScheduleStore"], Awaitable[T]], *, readonly: bool) -> T:
        from oneiric.runtime.scheduler import ScheduleStore  # noqa: PLC0415 - loads the runtime

        async def do() -> T:
            async with ScheduleStore(self.path, readonly=readonly) as store:
                return await work(store)

        return asyncio.run(do())

    async def document(self, store: "ScheduleStore", status: "ScheduleStatus", count: int = 1) -> dict[str, Any]:
        """Return a schedule, how it stands, and when it fires next."""
        slots = await store.preview(status.schedule.name, count)
        return {**status.as_dict(), "next": [slot.as_dict() for slot in slots]}


def rule_of(schedule: dict[str, Any]) -> str:
    """Return when a schedule fires, in a few words."""
    rule = next((name for name in _RULES if schedule.get(name) is not None), None)
    if rule is None:
        raise ConfigurationError("a schedule states no rule", "oneiric schedule list")
    value = schedule[rule]
    if rule == "at":
        return f"at {clock_time(value)}"
    if rule == "cron":
        zone = schedule.get("time_zone", "UTC")
        return value if zone == "UTC" else f"{value} {zone}"
    return f"every {value:g} s"


def schedules_table(rows: list[dict[str, Any]], style: Style) -> list[str]:
    """Return a line for each schedule."""
    cells = [
        (
            each["name"],
            rule_of(each),
            each["target"],
            "paused" if each["paused"] else each["next"][0]["due"] if each["next"] else "never",
            each["last"] and each["last"]["state"],
            each["note"] or (each["last"] and each["last"]["detail"]),
        )
        for each in rows
    ]
    return table(("NAME", "WHEN", "TARGET", "NEXT", "LAST", "DETAIL"), cells, style)


def schedule_text(document: dict[str, Any], style: Style) -> Iterator[str]:
    """Yield a schedule after a change."""
    state = style("yellow", "paused") if document["paused"] else style("green", "fires")
    yield f"{style('bold', printable(document['name']))}  {printable(rule_of(document))}  {state}"
    payload = document.get("payload")
    rows = [
        ("target", document["target"]),
        ("payload", compact(payload) if payload else None),
        ("note", document["note"]),
        ("next", document["next"][0]["due"] if document["next"] else None),
        ("store", document["store"]),
    ]
    for name, value in rows:
        if value is not None:
            yield f"  {name:<8} {printable(value)}"
