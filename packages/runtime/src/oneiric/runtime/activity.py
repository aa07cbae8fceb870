"""Which keys are paused or drain: answered from memory, kept in SQLite, shared by processes, safe when it is lost.

Owns the truth about activity and nothing that acts on it: bridges ask `DomainActivityStore.get`, and whoever waits for
a drain to end counts leases.
"""

import asyncio
import logging
import os
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Final, Literal

from oneiric.core.errors import StoreError
from oneiric.runtime._activity_copy import read_copy, write_copy
from oneiric.runtime._activity_table import (
    APPLICATION_ID,
    MIGRATIONS,
    TABLE,
    DomainActivity,
    Loaded,
    Name,
    change,
    load,
    restore,
)
from oneiric.runtime._opened import Opened
from oneiric.runtime.store import Database, SqliteStore

__all__ = ["ActivityListener", "DomainActivity", "DomainActivityStore"]

type ActivityListener = Callable[[str, str, DomainActivity], object]

_IDLE: Final = DomainActivity()
_UNKNOWN: Final = DomainActivity(paused=True, note="the activity store cannot be read")
_log: Final = logging.getLogger("oneiric.runtime.activity")


class DomainActivityStore(Opened):
    """Pause, drain and resume keys, for every process that uses the same file.

    What is set takes effect here when it is committed, and elsewhere at the next `refresh` there. A store that is
    missing, locked or damaged never resumes what was paused: a second copy (``domain_activity.json``) tells what was,
    `problem` says what is wrong, and the next `refresh` that can puts it right. A damaged file is kept beside the new
    one.

    Args:
        path: The SQLite file, the copy beside it with the suffix ``.json``; None keeps everything in memory.
        clock: Seconds since the epoch.
        on_unknown: What holds while the store cannot be read. ``"paused-if-known"``: what is known to be paused, from
            memory or from the copy, stays so. ``"paused"``: that, and until the store was read once everything else
            is paused too. ``"active"``: a lost store is taken for an empty one.
        readonly: For commands that only look: nothing is made or changed, and no file is as good as an empty one.
        busy_seconds: How long to wait for another process's lock.

    Attributes:
        recovered: What the last loss of the store was and what was put back, as a sentence; None if there was none.
    """

    def __init__(
        self,
        path: str | os.PathLike[str] | None = None,
        *,
        clock: Callable[[], float] = time.time,
        on_unknown: Literal["paused-if-known", "paused", "active"] = "paused-if-known",
        readonly: bool = False,
        busy_seconds: float = 5.0,
    ) -> None:
        self._clock = clock
        self._on_unknown = on_unknown
        self._is_readonly = readonly
        self._busy_seconds = busy_seconds
        self._store: SqliteStore | None = None
        if path is not None:
            self._store = SqliteStore(
                path,
                application_id=APPLICATION_ID,
                migrations=MIGRATIONS,
                adopts=TABLE,
                busy_seconds=busy_seconds,
                on_corrupt="set_aside",
                readonly=readonly,
            )
        self._known = Loaded()
        self._rows: dict[Name, DomainActivity] = {}
        self._default = _IDLE
        self._told: dict[Name, DomainActivity] = {}
        self._listeners: list[ActivityListener] = []
        self._version: int | None = None
        self._saved = Loaded()
        self._saving, self._refreshing = asyncio.Lock(), asyncio.Lock()
        self._problems: dict[str, str] = {}
        self.recovered: str | None = None

    @property
    def path(self) -> Path | None:
        """The SQLite file; None where everything is in memory."""
        return self._store.path if self._store else None

    @property
    def copy_path(self) -> Path | None:
        """The second copy; None where everything is in memory."""
        return self._store.path.with_suffix(".json") if self._store else None

    @property
    def problem(self) -> str | None:
        """What keeps the store from being read or its copy from being written, as a sentence; None if all is well."""
        return "; ".join(self._problems.values()) or None

    async def open(self) -> None:
        """Learn what is paused; a store that cannot be read is a `problem`, and not an error."""
        if self._store is not None and self.copy_path is not None and self._on_unknown != "active":
            try:
                self._known = await asyncio.to_thread(read_copy, self.copy_path)
            except (OSError, ValueError) as error:
                self._note("copy", f"the copy of the activity store cannot be read: {error}")
            self._rows = self._known.rows
            self._default = _UNKNOWN if self._on_unknown == "paused" else _IDLE
        await self.refresh()

    async def aclose(self) -> None:
        """Close the file; what is known stays known."""
        if self._store is not None:
            await self._store.aclose()

    def get(self, domain: str, key: str) -> DomainActivity:
        """Return the state of a key at this moment, from memory."""
        found = self._rows.get((domain, key))
        if found is None or (found.until is not None and self._clock() >= found.until):
            return self._default
        return found

    def snapshot(self) -> dict[str, dict[str, DomainActivity]]:
        """Return all keys that are not in their default state: domain → key → state, sorted."""
        found: dict[str, dict[str, DomainActivity]] = {}
        for (domain, key), row in sorted(self._effective().items()):
            found.setdefault(domain, {})[key] = row
        return found

    def all_for_domain(self, domain: str) -> dict[str, DomainActivity]:
        """Return the keys of a domain that are not in their default state, sorted."""
        return self.snapshot().get(domain, {})

    def add_listener(self, listener: ActivityListener) -> Callable[[], None]:
        """Have *listener* called with domain, key and new state whenever a state changes, here or elsewhere.

        An end by itself, and other processes' changes, are noticed at the next `refresh`.

        Returns:
            A function that ends it; safe to call twice.
        """
        self._listeners.append(listener)

        def unsubscribe() -> None:
            with suppress(ValueError):
                self._listeners.remove(listener)

        return unsubscribe

    async def set(self, domain: str, key: str, activity: DomainActivity) -> DomainActivity:
        """Set the state of a key; when this returns, it is on the disk.

        Args:
            domain: Of the key.
            key: May be one that no candidate has yet.
            activity: The new state; the default one leaves nothing behind. Without `since` it is dated by the clock,
                or by the state before if that was as restricted.

        Returns:
            The state as it was stored.

        Raises:
            StoreError: It could not be stored, and nothing changed.
        """
        return await self.update(domain, key, lambda _: activity)

    async def update(self, domain: str, key: str, change: Callable[[DomainActivity], DomainActivity]) -> DomainActivity:
        """Make a new state of a key out of the one it has, with nobody else changing it in between.

        Args:
            domain: Of the key.
            key: As of `set`.
            change: Returns the new state; may be called twice, on another thread.

        Returns:
            The state as it was stored.

        Raises:
            StoreError: It could not be stored, and nothing changed.
        """
        name = (domain, key)
        if self._store is None:
            after = self._changed(self._rows.get(name, _IDLE), change)
            rows = {each: row for each, row in self._rows.items() if each != name}
            self._rows = rows if after.is_default else rows | {name: after}
        else:
            after = await self._write(self._store, name, change)
        self._tell()
        return after

    async def refresh(self) -> None:
        """Take up what other processes changed, what ended by itself, and a store that can be read again.

        Costs one question to SQLite when nothing changed. What goes wrong is told by `problem`.
        """
        if self._store is not None:
            async with self._refreshing:
                try:
                    await self._read(self._store)
                except StoreError as error:
                    kept = len(self._known.restricted(self._clock()))
                    self._note("store", f"{error.message}; {kept} keys known to be paused or draining stay so")
                else:
                    self._clear("store")
        self._tell()

    def _changed(self, before: DomainActivity, change: Callable[[DomainActivity], DomainActivity]) -> DomainActivity:
        """Return the state that follows *before*: storable, dated, and the default one without anything else."""
        now = self._clock()
        before = _IDLE if before.has_ended(now) else before
        after = change(before)
        if after.is_default:
            return _IDLE
        after = replace(after, note=_storable(after.note), owner=_storable(after.owner))
        if after.since is not None:
            return after
        is_as_before = (before.paused, before.draining) == (after.paused, after.draining)
        return replace(after, since=before.since if is_as_before and before.since is not None else now)

    async def _read(self, store: SqliteStore) -> None:
        if self._is_readonly and not store.path.exists():
            if self._known.restricted(self._clock()):
                raise StoreError(f"store {str(store.path)!r} is missing", None, "io")
            self._default = _IDLE
            return
        await store.open()
        version, seen = self._version, None

        def changed(database: Database) -> Loaded | None:
            nonlocal seen
            seen = database.data_version()
            return None if seen == version else load(database)

        loaded = await store.read(changed)
        if loaded is not None and loaded.is_lost(self._remembered):
            loaded = await self._recover(store, loaded)
        if loaded is not None:
            self._take(loaded)
        self._version = seen
        await self._save()

    @property
    def _remembered(self) -> Loaded:
        return self._known if self._on_unknown != "active" else Loaded()

    async def _recover(self, store: SqliteStore, found: Loaded) -> Loaded:
        """Put what kept work away into a store that does not know of it; where it is only read, into memory."""
        known, now = self._remembered, self._clock()
        if self._is_readonly:
            lost = replace(found, rows=known.restricted(now) | found.rows)
            self._recovered(store.path, len(lost.rows) - len(found.rows))
            return lost

        def work(database: Database) -> tuple[int, Loaded]:
            return restore(database, known, now), load(database)

        restored, loaded = await store.write(work)
        self._recovered(store.path, restored)
        return loaded

    def _recovered(self, path: Path, restored: int) -> None:
        self.recovered = (
            f"activity store {str(path)!r} was lost or replaced: {restored} keys known to be paused or draining "
            "were put back"
        )
        _log.warning(self.recovered)

    async def _write(
        self, store: SqliteStore, name: Name, make: Callable[[DomainActivity], DomainActivity]
    ) -> DomainActivity:
        if not self._is_readonly:
            await store.open()
        known, now = self._remembered, self._clock()

        def work(database: Database) -> tuple[int, DomainActivity, Loaded]:
            restored = restore(database, known, now)
            after = self._changed(load(database).rows.get(name, _IDLE), make)
            change(database, name, after, now)
            return restored, after, load(database)

        restored, after, loaded = await store.write(work)
        self._take(loaded)
        self._clear("store")
        if restored:
            self._recovered(store.path, restored)
        self._tell()
        await self._save()
        return after

    def _take(self, loaded: Loaded) -> None:
        self._known, self._rows, self._default = loaded, loaded.rows, _IDLE

    async def _save(self) -> None:
        """Bring the copy up to what is known; those who wait meanwhile are served by one write."""
        if self._is_readonly or self.copy_path is None:
            return
        async with self._saving:
            known = self._known
            if (known.store_id, known.revision) == (self._saved.store_id, self._saved.revision):
                return
            try:
                await asyncio.to_thread(write_copy, self.copy_path, known, self._busy_seconds)
            except (OSError, ValueError, StoreError) as error:
                self._note("copy", f"the copy of the activity store cannot be written: {error}")
            else:
                self._saved = known
                self._clear("copy")

    def _effective(self) -> dict[Name, DomainActivity]:
        now = self._clock()
        return {name: row for name, row in self._rows.items() if not row.has_ended(now)}

    def _tell(self) -> None:
        before, self._told = self._told, self._effective()
        for name in sorted(before.keys() | self._told.keys()):
            state = self._told.get(name, _IDLE)
            if before.get(name, _IDLE) == state:
                continue
            for listener in tuple(self._listeners):
                try:
                    listener(*name, state)
                except Exception:  # noqa: BLE001 - below
                    # One listener's failure is not the operator's, whose change is done, nor the other listeners'.
                    _log.exception("a listener failed at a change of the activity of %s:%s", *name)

    def _note(self, about: str, problem: str) -> None:
        if self._problems.get(about) != problem:
            _log.warning(problem)
        self._problems[about] = problem

    def _clear(self, about: str) -> None:
        if self._problems.pop(about, None) is not None:
            _log.info("the activity store is well again")


def _storable(text: str | None) -> str | None:
    """Write out what is no text, such as the bytes of an argument that were in another encoding."""
    return None if text is None else text.encode(errors="backslashreplace").decode()
