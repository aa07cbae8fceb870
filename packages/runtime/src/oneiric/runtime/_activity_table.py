"""Domain activity in SQL: the published table, what was added to it, and the work that reads and changes it.

Each function runs inside a transaction of the store's thread, and sees one moment of the file.
"""

import os
from dataclasses import asdict, dataclass, field
from typing import Any, Final

from oneiric.runtime._store_database import Database
from oneiric.runtime._store_open import Migration

__all__ = ["APPLICATION_ID", "MIGRATIONS", "TABLE", "DomainActivity", "Loaded", "Name", "change", "load", "restore"]

APPLICATION_ID: Final = 0x4F4E4143  # "ONAC"
TABLE: Final = "activity"
_DAY_SECONDS: Final = 86_400.0
_ADDED: Final = {"owner": "TEXT", "since": "REAL", "until": "REAL"}

type Name = tuple[str, str]


@dataclass(frozen=True, slots=True, kw_only=True)
class DomainActivity:
    """Whether a key takes new work, and who said so.

    Attributes:
        paused: It takes no new work.
        draining: It takes no new work, and finishes what it has.
        note: Why, in the words of who did it.
        owner: Who did it.
        since: When, in seconds since the epoch.
        until: When it ends by itself, in seconds since the epoch; None for never.
    """

    paused: bool = False
    draining: bool = False
    note: str | None = None
    owner: str | None = None
    since: float | None = None
    until: float | None = None

    @property
    def is_default(self) -> bool:
        """Whether there is nothing to remember: it takes work, and nobody left a note."""
        return not (self.paused or self.draining or self.note)

    @property
    def takes_work(self) -> bool:
        """Whether it is neither paused nor draining; an end by itself is not looked at."""
        return not (self.paused or self.draining)

    def has_ended(self, now: float) -> bool:
        """Say whether it has ended by itself at *now*."""
        return self.until is not None and now >= self.until

    def as_dict(self) -> dict[str, Any]:
        """Return plain data."""
        return asdict(self)


@dataclass(frozen=True, slots=True, kw_only=True)
class Loaded:
    """What a store, or its copy, holds at one moment.

    Attributes:
        store_id: Which store it is; empty for one that nobody marked yet.
        revision: Grows with every change of a row.
        rows: All that is not in its default state.
    """

    store_id: str = ""
    revision: int = 0
    rows: dict[Name, DomainActivity] = field(default_factory=dict)

    def is_lost(self, remembered: "Loaded") -> bool:
        """Say whether what was *remembered* is not this store's past: another file, an older state, or damaged rows."""
        return bool(remembered.store_id) and (
            self.store_id != remembered.store_id
            or self.revision < remembered.revision
            or (self.revision == remembered.revision and self.rows != remembered.rows)
        )

    def restricted(self, now: float) -> dict[Name, DomainActivity]:
        """Return the rows that keep work away at *now*."""
        return {name: row for name, row in self.rows.items() if not row.takes_work and not row.has_ended(now)}


def _create(database: Database) -> None:
    """Make the tables; one that an earlier release made keeps its rows and gains the columns it lacks."""
    database.execute(
        """CREATE TABLE IF NOT EXISTS activity (
               domain TEXT NOT NULL, key TEXT NOT NULL,
               paused INTEGER NOT NULL DEFAULT 0, draining INTEGER NOT NULL DEFAULT 0, note TEXT,
               PRIMARY KEY (domain, key))"""
    )
    have = _columns(database)
    for name, kind in _ADDED.items():
        if name not in have:
            database.execute(f"ALTER TABLE activity ADD COLUMN {name} {kind}")
    database.execute("CREATE TABLE about (name TEXT PRIMARY KEY, value NOT NULL) WITHOUT ROWID")
    database.execute("INSERT INTO about VALUES ('store_id', ?), ('revision', 0)", (os.urandom(16).hex(),))
    # Triggers, so that also what an earlier release writes into this file is counted.
    for event in ("INSERT", "UPDATE", "DELETE"):
        database.execute(
            f"CREATE TRIGGER activity_{event.lower()} AFTER {event} ON activity BEGIN "  # noqa: S608 - our own words
            "UPDATE about SET value = value + 1 WHERE name = 'revision'; END"
        )


MIGRATIONS: Final[tuple[Migration, ...]] = (_create,)


def _columns(database: Database) -> set[str]:
    return {str(row[1]) for row in database.execute("PRAGMA table_info(activity)")}


def load(database: Database) -> Loaded:
    """Return all there is; also from a file that an earlier release made, which is read as it is.

    Whatever the bytes are, this gives an answer: no check of SQLite's sees a flipped bit in a value.
    """
    columns = _columns(database)
    if not columns:
        return Loaded()
    # What is neither 0 nor absent keeps work away; text is taken as bytes, since it may be none.
    added = (
        "CAST(owner AS BLOB), CAST(since AS REAL), CASE WHEN typeof(until) IN ('real', 'integer') THEN until END"
        if set(_ADDED) <= columns
        else "NULL, NULL, NULL"
    )
    found = database.execute(
        "SELECT CAST(domain AS BLOB), CAST(key AS BLOB), coalesce(paused, 0) IS NOT 0, "  # noqa: S608 - our own words
        f"coalesce(draining, 0) IS NOT 0, CAST(note AS BLOB), {added} FROM activity"
    )
    rows = {
        (_text(domain) or "", _text(key) or ""): DomainActivity(
            paused=bool(paused),
            draining=bool(draining),
            note=_text(note),
            owner=_text(owner),
            since=since,
            until=until,
        )
        for domain, key, paused, draining, note, owner, since, until in found
    }
    about = _about(database)
    return Loaded(
        store_id=about.get("store_id", ""),
        revision=_whole(about.get("revision", "")),
        rows={name: row for name, row in rows.items() if not row.is_default},
    )


def _about(database: Database) -> dict[str, str]:
    if not database.execute("SELECT 1 FROM sqlite_schema WHERE type = 'table' AND name = 'about'"):
        return {}
    found = database.execute("SELECT CAST(name AS BLOB), CAST(value AS BLOB) FROM about")
    return {_text(name) or "": _text(value) or "" for name, value in found}


def _text(value: bytes | None) -> str | None:
    return None if value is None else value.decode(errors="replace")


def _whole(text: str) -> int:
    try:
        return int(text)
    except ValueError:
        return 0


def change(database: Database, name: Name, activity: DomainActivity, now: float) -> None:
    """Set the state of a key; the default state leaves no row. States that ended a day ago go too."""
    database.execute("DELETE FROM activity WHERE until < ?", (now - _DAY_SECONDS,))
    if activity.is_default:
        database.execute("DELETE FROM activity WHERE domain = ? AND key = ?", name)
        return
    database.execute(
        """INSERT INTO activity (domain, key, paused, draining, note, owner, since, until)
           VALUES (?, ?, ?, ?, ?, ?, ?, ?)
           ON CONFLICT (domain, key) DO UPDATE SET paused = excluded.paused, draining = excluded.draining,
               note = excluded.note, owner = excluded.owner, since = excluded.since, until = excluded.until""",
        (*name, *_values(activity)),
    )


def _values(activity: DomainActivity) -> tuple[Any, ...]:
    return (
        int(activity.paused),
        int(activity.draining),
        activity.note,
        activity.owner,
        activity.since,
        activity.until,
    )


def restore(database: Database, remembered: Loaded, now: float) -> int:
    """Put back what kept work away and is lost, once for all processes; return how many keys."""
    found = load(database)
    if not found.is_lost(remembered):
        return 0
    is_replaced = found.store_id != remembered.store_id
    if is_replaced and _about(database).get("restored_from") == remembered.store_id:
        return 0  # another process did; what was resumed since stays resumed
    restored = 0
    for name, activity in remembered.restricted(now).items():
        if name in found.rows and (is_replaced or found.rows[name] == activity):
            continue  # somebody has said something about the key since
        change(database, name, activity, now)
        restored += 1
    beyond = max(found.revision + restored, remembered.revision) + 1
    database.execute(
        "INSERT OR REPLACE INTO about VALUES ('store_id', ?), ('restored_from', ?), ('revision', ?)",
        (found.store_id or os.urandom(16).hex(), remembered.store_id, beyond),
    )
    return restored
