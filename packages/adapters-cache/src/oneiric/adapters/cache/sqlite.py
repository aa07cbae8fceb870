"""The cache in a SQLite file: it outlives the process, and processes of one machine share it.

Every call is a request to the thread that owns the connection; calls made together share a transaction. The
file holds at most ``max_entries``: expired entries go first, then those written longest ago.
"""

import sqlite3
import time
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict, Field

from oneiric.adapters.cache import _sqlite_table as table
from oneiric.adapters.cache._protocol import Value
from oneiric.adapters.cache._sqlite_file import open_file
from oneiric.adapters.cache._sqlite_owner import Owner
from oneiric.adapters.cache._values import (
    MAX_TTL,
    check_delta,
    check_items,
    check_key,
    check_keys,
    closed,
    decode,
    encode,
    lifetime_ms,
)
from oneiric.core.errors import StoreError

__all__ = ["SQLiteCacheAdapter", "SQLiteCacheSettings"]


class SQLiteCacheSettings(BaseModel):
    """Settings of the SQLite cache.

    Attributes:
        path: The file; its directory is made (mode 0700) when missing. Must be on a local file system.
        default_ttl: Seconds an entry lives when ``set`` does not say; None for as long as there is room.
        max_entries: Entries the file holds, of all prefixes together; None lifts the bound.
        key_prefix: Put before every key; instances with different prefixes share a file without meeting.
        busy_timeout_seconds: How long a call waits for another process's transaction; then it is a
            `StoreError`.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    path: Path = Path(".oneiric_cache/cache.sqlite")
    default_ttl: float | None = Field(default=None, gt=0, le=MAX_TTL)
    max_entries: int | None = Field(default=100_000, ge=1)
    key_prefix: str = Field(default="", max_length=256)
    busy_timeout_seconds: float = Field(default=5.0, gt=0, le=3600)


class SQLiteCacheAdapter:
    """Keep values in a file.

    Args:
        settings: By default, the default settings.
        clock: Seconds since the epoch, the same for all who share the file; tests drive their own.
    """

    def __init__(self, settings: SQLiteCacheSettings | None = None, *, clock: Callable[[], float] = time.time) -> None:
        self._settings = settings or SQLiteCacheSettings()
        self._prefix = self._settings.key_prefix.encode()
        self._clock = clock
        self._owner: Owner | None = None
        self._ending: Owner | None = None
        self._was_open = False
        self._inode: tuple[int, int] | None = None

    async def init(self) -> None:
        """Open the file; a closed cache stays closed.

        Raises:
            StoreError: The file cannot be opened, is not ours, or is locked.
        """
        if self._was_open:
            self._serving()
            return
        owner = Owner(self._settings.path, self._open, self._tidy)
        await owner.start()
        self._owner, self._was_open = owner, True

    async def health(self) -> bool:
        """Say that the file is where it was and can be written.

        Raises:
            StoreError: It is not.
            InactiveError: The cache is not open.
        """
        await self._serving().ask(self._check_file, writes=True)
        return True

    async def cleanup(self) -> None:
        """Finish what was asked and close the file; every later call raises `InactiveError`."""
        self._was_open = True
        if self._owner is not None:
            self._owner, self._ending = None, self._owner
        if self._ending is not None:
            await self._ending.stop()

    async def get(self, key: str, default: Any = None) -> Any:
        """Return the value of *key*, or *default*."""
        owner, name = self._serving(), self._name(key)
        data = await owner.ask(lambda store: table.read(store, name, self._now()), writes=False)
        return default if data is None else decode(data)

    async def set(self, key: str, value: Value, *, ttl: float | None = None, only_if_absent: bool = False) -> bool:
        """Store *value*; say whether it was stored."""
        owner, name, data = self._serving(), self._name(key), encode(value)
        lifetime = lifetime_ms(ttl, self._settings.default_ttl)

        def work(store: sqlite3.Connection) -> bool:
            now = self._now()
            if only_if_absent and table.read(store, name, now) is not None:
                return False
            table.write(store, {name: data}, _end(now, lifetime))
            return True

        return await owner.ask(work, writes=True)

    async def delete(self, key: str) -> bool:
        """Remove *key*; say whether it was there."""
        return await self.delete_many([key]) == 1

    async def exists(self, key: str) -> bool:
        """Say whether *key* is there."""
        return await self.ttl(key) is not None

    async def touch(self, key: str, *, ttl: float | None = None) -> bool:
        """Give *key* a new lifetime; say whether it was there."""
        owner, name = self._serving(), self._name(key)
        lifetime = lifetime_ms(ttl, self._settings.default_ttl)

        def work(store: sqlite3.Connection) -> bool:
            now = self._now()
            return table.touch(store, name, now, _end(now, lifetime))

        return await owner.ask(work, writes=True)

    async def ttl(self, key: str) -> float | None:
        """Return the seconds *key* has left, ``math.inf`` for forever, None when it is not there."""
        owner, name = self._serving(), self._name(key)
        return await owner.ask(lambda store: table.time_left(store, name, self._now()), writes=False)

    async def increment(self, key: str, delta: int = 1, *, ttl: float | None = None) -> int:
        """Add *delta* to an integer; return the sum."""
        owner, name = self._serving(), self._name(key)
        check_delta(delta)
        lifetime = lifetime_ms(ttl, self._settings.default_ttl)

        def work(store: sqlite3.Connection) -> int:
            now = self._now()
            return table.increment(store, name, delta, now, _end(now, lifetime))

        return await owner.ask(work, writes=True)

    async def get_many(self, keys: Iterable[str]) -> dict[str, Any]:
        """Return the keys that are there, with their values."""
        owner, names = self._serving(), [self._prefix + key.encode() for key in check_keys(keys)]
        if not names:
            return {}
        found = await owner.ask(lambda store: table.read_many(store, names, self._now()), writes=False)
        return {name.removeprefix(self._prefix).decode(): decode(data) for name, data in found.items()}

    async def set_many(self, items: Mapping[str, Value], *, ttl: float | None = None) -> None:
        """Store all of *items*, or none."""
        owner = self._serving()
        written = {self._prefix + key.encode(): data for key, data in check_items(items).items()}
        lifetime = lifetime_ms(ttl, self._settings.default_ttl)
        if written:
            await owner.ask(lambda store: table.write(store, written, _end(self._now(), lifetime)), writes=True)

    async def delete_many(self, keys: Iterable[str]) -> int:
        """Remove *keys*; return how many were there."""
        owner, names = self._serving(), [self._prefix + key.encode() for key in check_keys(keys)]
        if not names:
            return 0
        return await owner.ask(lambda store: table.remove(store, names, self._now()), writes=True)

    async def clear(self) -> None:
        """Remove every key under the prefix; with none, all there are."""
        await self._serving().ask(lambda store: table.remove_prefix(store, self._prefix), writes=True)

    def _serving(self) -> Owner:
        if self._owner is None:
            raise closed("sqlite", was_open=self._was_open)
        return self._owner

    def _name(self, key: str) -> bytes:
        return self._prefix + check_key(key).encode()

    def _now(self) -> int:
        return round(self._clock() * 1000)

    def _open(self) -> sqlite3.Connection:
        store = open_file(self._settings.path, self._settings.busy_timeout_seconds)
        found = self._settings.path.stat()
        self._inode = (found.st_dev, found.st_ino)
        return store

    def _tidy(self, store: sqlite3.Connection) -> None:
        table.tidy(store, self._now(), self._settings.max_entries)

    def _check_file(self, _store: sqlite3.Connection) -> None:
        """Notice that the file was removed or replaced: SQLite goes on with the old one, alone."""
        path = self._settings.path
        try:
            found = path.stat()
        except OSError as error:
            raise StoreError(f"cache file {str(path)!r} is gone", "a restart, which begins a new one") from error
        if (found.st_dev, found.st_ino) != self._inode:
            raise StoreError(f"cache file {str(path)!r} was replaced", "a restart, which opens the new one")


def _end(now: int, lifetime: int | None) -> int | None:
    return None if lifetime is None else now + lifetime
