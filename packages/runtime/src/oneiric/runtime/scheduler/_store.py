"""ScheduleStore: the schedules there are, for every process that uses the same file."""

import json
import os
import time
from collections.abc import Callable
from dataclasses import replace
from itertools import islice
from typing import Any, Final

from oneiric.core.errors import ConfigurationError
from oneiric.runtime._store_kept import KeptInStore
from oneiric.runtime._store_memory import Store, store_at
from oneiric.runtime.scheduler._schedule import Schedule, Slot
from oneiric.runtime.scheduler._table import APPLICATION_ID, MIGRATIONS, Fired, ScheduleStatus, status_of
from oneiric.runtime.store import Database

__all__ = ["SCHEDULES_FILE", "ScheduleStore"]

#: Its name in the state directory.
SCHEDULES_FILE: Final = "schedules.sqlite"
_STATUS: Final = "spec, paused, note, floor"
_FIRED: Final = "schedule, at, state, detail, attempt"


class ScheduleStore(KeptInStore):
    """Keep schedules and what became of their slots; a `Scheduler` fires them.

    Changes are seen by the schedulers of other processes within their poll interval. A damaged file is refused, never
    replaced: an empty one would fire slots again.

    Args:
        path: The SQLite file; None keeps everything in memory.
        clock: Seconds since the epoch.
        readonly: For commands that only look: nothing is made or changed.
    """

    def __init__(
        self,
        path: str | os.PathLike[str] | None = None,
        *,
        clock: Callable[[], float] = time.time,
        readonly: bool = False,
    ) -> None:
        super().__init__(store_at(path, application_id=APPLICATION_ID, migrations=MIGRATIONS, readonly=readonly))
        self._clock = clock

    @property
    def store(self) -> Store:
        """The tables, for the scheduler, which fires what is in them."""
        return self._store

    async def add(self, schedule: Schedule, *, replace: bool = False) -> ScheduleStatus:
        """Keep a schedule; its slots from now on fire. One with a single time fires also when that has just passed.

        The same schedule again changes nothing.

        Args:
            schedule: The schedule.
            replace: Whether it may take the place of another one of its name.

        Raises:
            ConfigurationError: There is another one of its name; or its payload is no plain data.
            StoreError: It could not be stored.
        """
        try:
            spec = json.dumps(schedule.as_dict(), allow_nan=False)
        except (TypeError, ValueError) as error:
            what = f"the payload of schedule {schedule.name!r} is no plain data: {error}"
            raise ConfigurationError(what, "texts, numbers, lists and mappings") from error
        now = self._clock()
        floor = now if schedule.at is None else min(now, schedule.at - 1)

        def insert(database: Database) -> None:
            found = database.execute("SELECT spec FROM schedules WHERE name = ?", (schedule.name,))
            if found and json.loads(found[0][0]) == json.loads(spec):
                return
            if found and not replace:
                raise ConfigurationError(f"there is another schedule {schedule.name!r}", "remove it, or replace it")
            database.execute(
                "INSERT INTO schedules (name, spec, floor, added_at) VALUES (?, ?, ?, ?)"
                " ON CONFLICT (name) DO UPDATE SET spec = excluded.spec, floor = excluded.floor",
                (schedule.name, spec, floor, now),
            )

        await self._store.write(insert)
        return await self.get(schedule.name)

    async def remove(self, name: str) -> None:
        """Forget a schedule; what it is doing goes on.

        Raises:
            ConfigurationError: There is none of that name.
            StoreError: The store failed.
        """
        await self._change(name, "DELETE FROM schedules WHERE name = :name")

    async def pause(self, name: str, note: str | None = None) -> ScheduleStatus:
        """Let its slots pass without firing, until `resume`.

        Raises:
            ConfigurationError: There is none of that name.
            StoreError: The store failed.
        """
        await self._change(name, "UPDATE schedules SET paused = 1, note = :note WHERE name = :name", note=note)
        return await self.get(name)

    async def resume(self, name: str) -> ScheduleStatus:
        """Fire its slots again, from now on: those that passed meanwhile are not caught up with.

        Raises:
            ConfigurationError: There is none of that name.
            StoreError: The store failed.
        """
        await self._change(
            name,
            "UPDATE schedules SET floor = CASE paused WHEN 1 THEN max(floor, :now) ELSE floor END, paused = 0,"
            " note = NULL WHERE name = :name",
            now=self._clock(),
        )
        return await self.get(name)

    async def _change(self, name: str, sql: str, **values: Any) -> None:
        def change(database: Database) -> None:
            database.execute(sql, {"name": name, **values})
            if not database.changes:
                raise _unknown(name)

        await self._store.write(change)

    async def get(self, name: str) -> ScheduleStatus:
        """Return a schedule and how it stands.

        Raises:
            ConfigurationError: There is none of that name.
            StoreError: The store failed.
        """
        found = await self._statuses("WHERE name = ?", (name,))
        if not found:
            raise _unknown(name)
        return found[0]

    async def schedules(self) -> list[ScheduleStatus]:
        """Return every schedule and how it stands, by name.

        Raises:
            StoreError: The store failed.
        """
        return await self._statuses("ORDER BY name", ())

    async def _statuses(self, which: str, values: tuple[Any, ...]) -> list[ScheduleStatus]:
        def read(database: Database) -> list[ScheduleStatus]:
            found = [status_of(row) for row in database.execute(f"SELECT {_STATUS} FROM schedules {which}", values)]  # noqa: S608 - our own words
            last = f"SELECT {_FIRED} FROM slots WHERE schedule = ? ORDER BY at DESC LIMIT 1"  # noqa: S608 - our own words
            return [
                replace(each, last=next(map(_fired, database.execute(last, (each.schedule.name,))), None))
                for each in found
            ]

        return await self._store.read(read)

    async def slots(self, name: str, limit: int = 100) -> list[Fired]:
        """Return what became of the slots of a schedule, the latest first; those of the last day are remembered.

        Raises:
            StoreError: The store failed.
        """
        sql = f"SELECT {_FIRED} FROM slots WHERE schedule = ? ORDER BY at DESC LIMIT ?"  # noqa: S608 - our own words
        return [_fired(row) for row in await self._store.read(lambda database: database.execute(sql, (name, limit)))]

    async def preview(self, name: str, count: int = 10) -> list[Slot]:
        """Return the next slots of a schedule; none while it is paused.

        Raises:
            ConfigurationError: There is none of that name.
            StoreError: The store failed.
        """
        found, now = await self.get(name), self._clock()
        schedule = found.schedule
        # What was due while nobody looked is not listed: whether it fires depends on when somebody does.
        begin = max(min(found.floor, now), now - schedule.jitter_seconds - 1)
        return [] if found.paused else list(islice((slot for slot in schedule.slots(begin) if slot.due > now), count))


def _fired(row: tuple[Any, ...]) -> Fired:
    return Fired(**dict(zip(_FIRED.split(", "), row, strict=True)))


def _unknown(name: str) -> ConfigurationError:
    return ConfigurationError(f"there is no schedule {name[:128]!r}", "oneiric schedule list")
