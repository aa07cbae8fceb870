"""Schedules in SQL: what is stated, and what became of each slot. Every function runs inside one transaction."""

import json
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, Final, Literal

from oneiric.runtime._store_database import Database
from oneiric.runtime.scheduler._schedule import Schedule, Slot

__all__ = [
    "APPLICATION_ID",
    "MIGRATIONS",
    "Claim",
    "Fired",
    "Lease",
    "Loaded",
    "ScheduleStatus",
    "State",
    "abandon",
    "decide",
    "finish",
    "load",
    "miss",
    "release",
    "renew",
    "rewind",
    "status_of",
    "take_over",
]

APPLICATION_ID: Final = 0x4F4E5343  # "ONSC"
#: Slots are remembered for so long: a clock that is set back by less fires none of them again.
_KEPT_SECONDS: Final = 86_400.0
#: Processes that may die while they fire one slot; what kills that many is not tried again.
_MOST_ATTEMPTS: Final = 5

type State = Literal["running", "buffered", "done", "failed", "skipped", "missed"]


def _create(database: Database) -> None:
    database.execute(
        """CREATE TABLE schedules (
               name TEXT PRIMARY KEY, spec TEXT NOT NULL, paused INTEGER NOT NULL DEFAULT 0, note TEXT,
               floor REAL NOT NULL, added_at REAL NOT NULL)"""
    )
    database.execute(
        """CREATE TABLE slots (
               schedule TEXT NOT NULL, at REAL NOT NULL, due REAL NOT NULL, state TEXT NOT NULL, detail TEXT,
               attempt INTEGER NOT NULL DEFAULT 0, owner TEXT, boot TEXT, lease_until REAL,
               claimed_at REAL, ended_at REAL, PRIMARY KEY (schedule, at)) WITHOUT ROWID"""
    )
    database.execute("CREATE INDEX slots_open ON slots (state) WHERE state IN ('running', 'buffered')")


MIGRATIONS: Final = (_create,)


@dataclass(frozen=True, slots=True, kw_only=True)
class Lease:
    """Who fires a slot, and until when nobody else may.

    Attributes:
        owner: The scheduler.
        boot: The machine's run that *now* and *until* are readings of.
        now: The monotonic clock.
        until: The end, by the same clock.
    """

    owner: str
    boot: str
    now: float
    until: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Claim:
    """A slot that is this scheduler's to fire; *attempt* is its fencing token."""

    schedule: Schedule
    slot: Slot
    attempt: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Fired:
    """What became of a slot.

    Attributes:
        schedule: The schedule's name.
        at: The slot's time, in seconds since the epoch.
        state: ``running``; ``buffered``, to be done after the one that runs; ``done``; ``failed``; ``skipped``, for an
            earlier one was still being done or it was paused; ``missed``, nobody was there in time.
        detail: Why.
        attempt: How many processes began it.
    """

    schedule: str
    at: float
    state: str
    detail: str | None
    attempt: int

    def as_dict(self) -> dict[str, Any]:
        """Return plain data."""
        return {name: getattr(self, name) for name in self.__slots__}


@dataclass(frozen=True, slots=True, kw_only=True)
class ScheduleStatus:
    """A schedule as it stands in the store.

    Attributes:
        schedule: The schedule.
        paused: Whether its slots pass without firing.
        note: Why.
        floor: Up to when it is settled what becomes of its slots, in seconds since the epoch.
        last: What became of the latest slot, or None.
    """

    schedule: Schedule
    paused: bool
    note: str | None
    floor: float
    last: Fired | None = None

    def as_dict(self) -> dict[str, Any]:
        """Return plain data."""
        last = None if self.last is None else self.last.as_dict()
        return {**self.schedule.as_dict(), "paused": self.paused, "note": self.note, "last": last}


@dataclass(frozen=True, slots=True, kw_only=True)
class Loaded:
    """What a scheduler has to know at one moment.

    Attributes:
        schedules: All of them.
        open: Slots that run or wait to: (schedule, at, state, owner, boot, end of the lease).
    """

    schedules: list[ScheduleStatus]
    open: list[tuple[str, float, str, str | None, str | None, float | None]]


def status_of(row: tuple[Any, ...]) -> ScheduleStatus:
    """Return the schedule of a row: spec, paused, note, floor."""
    spec, paused, note, floor = row
    return ScheduleStatus(schedule=_schedule_of(spec), paused=bool(paused), note=note, floor=float(floor))


@lru_cache(maxsize=4096)  # every look at the store reads the same texts
def _schedule_of(spec: str) -> Schedule:
    return Schedule.from_mapping(json.loads(spec))


def load(database: Database) -> Loaded:
    """Return what is stated and what is open."""
    rows = database.execute("SELECT spec, paused, note, floor FROM schedules ORDER BY name")
    found: list[Any] = database.execute(
        "SELECT schedule, at, state, owner, boot, lease_until FROM slots WHERE state IN ('running', 'buffered')"
        " ORDER BY schedule, at"
    )
    return Loaded(schedules=[status_of(row) for row in rows], open=found)


def decide(
    database: Database, schedule: Schedule, slot: Slot, lease: Lease, *, now: float, refused: str | None, settles: bool
) -> tuple[str, int]:
    """Settle what becomes of a slot, if nobody has yet; return its state and attempt.

    Args:
        database: The transaction.
        schedule: As the scheduler knows it.
        slot: The slot.
        lease: The scheduler's.
        now: Seconds since the epoch.
        refused: Why the target takes no new work, or None.
        settles: Whether everything before the slot is settled.

    Returns:
        ``running`` only where it is *lease*'s to fire; ``taken`` where somebody else settled it; ``changed`` where the
        schedule is paused, gone or another by now.
    """
    stated = database.execute("SELECT spec FROM schedules WHERE name = ? AND NOT paused", (schedule.name,))
    if not stated or _schedule_of(stated[0][0]) != schedule:
        return "changed", 0
    if settles:
        database.execute("UPDATE schedules SET floor = max(floor, ?) WHERE name = ?", (slot.at, schedule.name))
    if database.execute("SELECT 1 FROM slots WHERE schedule = ? AND at = ?", (schedule.name, slot.at)):
        return "taken", 0
    state, detail = _becomes(database, schedule, refused)
    _insert(database, slot, state, detail, now=now, lease=lease if state == "running" else None)
    database.execute(
        "DELETE FROM slots WHERE schedule = ? AND at < ? AND state NOT IN ('running', 'buffered')",
        (schedule.name, min(slot.at, now) - _KEPT_SECONDS),
    )
    return state, int(state == "running")


def _becomes(database: Database, schedule: Schedule, refused: str | None) -> tuple[State, str | None]:
    if refused is not None:
        return "skipped", refused
    if schedule.overlap == "allow":
        return "running", None
    found = {str(row[0]) for row in database.execute(
        "SELECT state FROM slots WHERE schedule = ? AND state IN ('running', 'buffered')", (schedule.name,)
    )}  # fmt: skip
    if not found:
        return "running", None
    if schedule.overlap == "buffer_one" and "buffered" not in found:
        return "buffered", "an earlier slot is still being done"
    return "skipped", "an earlier slot is still being done"


def _insert(
    database: Database, slot: Slot, state: State, detail: str | None, *, now: float, lease: Lease | None = None
) -> None:
    database.execute(
        "INSERT INTO slots (schedule, at, due, state, detail, attempt, owner, boot, lease_until, claimed_at, ended_at)"
        " VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
        (
            *(slot.schedule, slot.at, slot.due, state, detail, int(lease is not None)),
            *((lease.owner, lease.boot, lease.until) if lease else (None, None, None)),
            *(now, None if state in {"running", "buffered"} else now),
        ),
    )


def miss(database: Database, name: str, slots: list[Slot], floor: float, now: float) -> int:
    """Settle that nobody was there for slots in time, where nobody settled them; return how many that were."""
    missed = 0
    for slot in slots:
        if not database.execute("SELECT 1 FROM slots WHERE schedule = ? AND at = ?", (name, slot.at)):
            _insert(database, slot, "missed", "nobody was there in time", now=now)
            missed += 1
    database.execute("UPDATE schedules SET floor = max(floor, ?) WHERE name = ?", (floor, name))
    return missed


def rewind(database: Database, name: str, now: float) -> None:
    """Go back to *now* with what is settled, because the clock did."""
    database.execute("UPDATE schedules SET floor = ? WHERE name = ? AND floor > ?", (now, name, now))


def take_over(database: Database, schedule: Schedule, slot: Slot, lease: Lease, now: float) -> tuple[str, int]:
    """Take a slot that waits its turn, or whose owner is gone; return its state and attempt, as `decide`."""
    rows = database.execute(
        "SELECT state, attempt, boot, lease_until FROM slots WHERE schedule = ? AND at = ?", (schedule.name, slot.at)
    )
    if not rows:
        return "changed", 0
    state, attempt, boot, until = rows[0]
    if state == "running" and boot == lease.boot and until is not None and until > lease.now:
        return "taken", 0
    if state == "buffered" and database.execute(
        "SELECT 1 FROM slots WHERE schedule = ? AND state = 'running'", (schedule.name,)
    ):
        return "taken", 0
    if state not in {"running", "buffered"}:
        return "taken", 0
    if attempt >= _MOST_ATTEMPTS:
        detail = f"{attempt} processes ended while they did it"
        database.execute(
            "UPDATE slots SET state = 'failed', detail = ?, ended_at = ? WHERE schedule = ? AND at = ?",
            (detail, now, schedule.name, slot.at),
        )
        return "failed", attempt
    database.execute(
        "UPDATE slots SET state = 'running', detail = NULL, attempt = ?, owner = ?, boot = ?, lease_until = ?"
        " WHERE schedule = ? AND at = ?",
        (attempt + 1, lease.owner, lease.boot, lease.until, schedule.name, slot.at),
    )
    return "running", attempt + 1


def renew(database: Database, claim: Claim, lease: Lease) -> bool:
    """Make a lease last longer; answer whether it is still held."""
    database.execute(
        "UPDATE slots SET lease_until = ?, boot = ?"
        " WHERE schedule = ? AND at = ? AND attempt = ? AND state = 'running'",
        (lease.until, lease.boot, claim.slot.schedule, claim.slot.at, claim.attempt),
    )
    return bool(database.changes)


def finish(database: Database, claim: Claim, state: State, detail: str | None, now: float) -> bool:
    """Write down what became of a slot; answer False where the lease was lost, and nothing was written."""
    database.execute(
        "UPDATE slots SET state = ?, detail = ?, ended_at = ?, lease_until = NULL"
        " WHERE schedule = ? AND at = ? AND attempt = ? AND state = 'running'",
        (state, detail, now, claim.slot.schedule, claim.slot.at, claim.attempt),
    )
    return bool(database.changes)


def release(database: Database, claim: Claim) -> None:
    """Give a slot back that was not done, so that the next scheduler does it at once."""
    database.execute(
        "UPDATE slots SET lease_until = NULL, boot = NULL WHERE schedule = ? AND at = ? AND attempt = ?"
        " AND state = 'running'",
        (claim.slot.schedule, claim.slot.at, claim.attempt),
    )


def abandon(database: Database, name: str, now: float) -> None:
    """Settle the open slots of a schedule that is gone, and whose processes are too."""
    if not database.execute("SELECT 1 FROM schedules WHERE name = ?", (name,)):
        database.execute(
            "UPDATE slots SET state = 'failed', detail = 'the schedule was removed', ended_at = ?"
            " WHERE schedule = ? AND state IN ('running', 'buffered')",
            (now, name),
        )
