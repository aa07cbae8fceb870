"""The embedded cache: a bounded dictionary of this process, least recently used out first.

A read is one dictionary lookup. Nothing ever scans: expired entries go when they are met, and a few at a time
on each write, soonest first. One event loop uses an instance; it is not for threads.
"""

from collections import OrderedDict
from collections.abc import Callable, Iterable, Mapping
from heapq import heapify, heappop, heappush
from itertools import count
from math import inf
from time import monotonic
from typing import Any, Final

from pydantic import BaseModel, ConfigDict, Field

from oneiric.adapters.cache._protocol import Value
from oneiric.adapters.cache._values import (
    MAX_TTL,
    add,
    check_delta,
    check_key,
    check_keys,
    closed,
    decode,
    encode,
    is_immutable,
    lifetime_ms,
)

__all__ = ["MemoryCacheAdapter", "MemoryCacheSettings"]

_MISSING: Final = object()
#: Expired entries dropped per write: enough to keep up with any writer, few enough not to be felt.
_SWEEP: Final = 16


class MemoryCacheSettings(BaseModel):
    """Settings of the memory cache.

    Attributes:
        default_ttl: Seconds an entry lives when ``set`` does not say; None for as long as there is room.
        max_entries: Entries kept; the least recently used goes first. None lifts the bound.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    default_ttl: float | None = Field(default=None, gt=0, le=MAX_TTL)
    max_entries: int | None = Field(default=10_000, ge=1)


class _Entry:
    """A value that needs more than its reference: a lifetime, or a decoding at every read."""

    __slots__ = ("expires_at", "is_encoded", "value")

    def __init__(self, value: Any, expires_at: float, is_encoded: bool) -> None:  # noqa: FBT001 - private, hot
        self.value, self.expires_at, self.is_encoded = value, expires_at, is_encoded


class MemoryCacheAdapter:
    """Keep values in this process's memory.

    Scalars are kept as they are. Lists and dictionaries are kept encoded, so that neither the writer nor any
    reader can change what the next reader gets.

    Args:
        settings: By default, the default settings.
        clock: Seconds that only go forward; tests drive their own.
    """

    def __init__(self, settings: MemoryCacheSettings | None = None, *, clock: Callable[[], float] = monotonic) -> None:
        settings = settings or MemoryCacheSettings()
        self._default_ttl = settings.default_ttl
        self._max_entries = inf if settings.max_entries is None else settings.max_entries
        self._clock = clock
        # A plain value stands for itself; an `_Entry` for a value with a lifetime or an encoding.
        self._entries: OrderedDict[str, Any] = OrderedDict()
        self._use = self._entries.move_to_end
        self._deadlines: list[tuple[float, int, str, _Entry]] = []
        self._order = count()
        self._is_open = self._was_open = False

    async def init(self) -> None:
        """Open the cache; a closed one stays closed."""
        self._is_open = not self._was_open or self._is_open
        self._was_open = True
        self._check_open()

    async def health(self) -> bool:
        """Say that the cache is open.

        Raises:
            InactiveError: It is not.
        """
        self._check_open()
        return True

    async def cleanup(self) -> None:
        """Forget everything; every later call raises `InactiveError`."""
        self._is_open = False
        self._entries.clear()
        self._deadlines.clear()

    async def get(self, key: str, default: Any = None) -> Any:
        """Return the value of *key*, or *default*."""
        try:
            value = self._entries[key]
            self._use(key)
        except (KeyError, TypeError):
            # Only here must it be asked whether the call is right: a key that was found is, and the cache is
            # open.
            self._check_open()
            check_key(key)
            return default
        if value.__class__ is _Entry:  # in this one place, because it is measurably quicker than type()
            if value.expires_at <= self._clock():
                del self._entries[key]
                return default
            return decode(value.value) if value.is_encoded else value.value
        return value

    async def set(self, key: str, value: Value, *, ttl: float | None = None, only_if_absent: bool = False) -> bool:
        """Store *value*; say whether it was stored."""
        self._check_open()
        check_key(key)
        milliseconds = lifetime_ms(ttl, self._default_ttl)
        stored = self._freeze(value, milliseconds)
        if only_if_absent and self._peek(key) is not _MISSING:
            return False
        self._put(key, stored)
        self._make_room()
        return True

    async def delete(self, key: str) -> bool:
        """Remove *key*; say whether it was there."""
        self._check_open()
        return self._remove(check_key(key))

    async def exists(self, key: str) -> bool:
        """Say whether *key* is there; this does not count as a use."""
        self._check_open()
        return self._peek(check_key(key)) is not _MISSING

    async def touch(self, key: str, *, ttl: float | None = None) -> bool:
        """Give *key* a new lifetime; say whether it was there."""
        self._check_open()
        check_key(key)
        milliseconds = lifetime_ms(ttl, self._default_ttl)
        if self._peek(key) is _MISSING:
            return False
        kept = self._entries[key]
        value, is_encoded = (kept.value, kept.is_encoded) if type(kept) is _Entry else (kept, False)
        self._put(key, self._wrap(value, milliseconds, is_encoded=is_encoded))
        self._make_room()
        return True

    async def ttl(self, key: str) -> float | None:
        """Return the seconds *key* has left, ``math.inf`` for forever, None when it is not there."""
        self._check_open()
        if self._peek(check_key(key)) is _MISSING:
            return None
        kept = self._entries[key]
        return kept.expires_at - self._clock() if type(kept) is _Entry else inf

    async def increment(self, key: str, delta: int = 1, *, ttl: float | None = None) -> int:
        """Add *delta* to an integer; return the sum."""
        self._check_open()
        check_key(key)
        check_delta(delta)
        milliseconds = lifetime_ms(ttl, self._default_ttl)
        current = self._peek(key)
        if current is _MISSING:
            self._put(key, self._wrap(delta, milliseconds))
            self._make_room()
            return delta
        total = add(current, delta)
        kept = self._entries[key]
        if type(kept) is _Entry:
            kept.value, kept.is_encoded = total, False
        else:
            self._entries[key] = total
        self._use(key)
        return total

    async def get_many(self, keys: Iterable[str]) -> dict[str, Any]:
        """Return the keys that are there, with their values."""
        self._check_open()
        found = {}
        for key in check_keys(keys):
            value = self._peek(key)
            if value is not _MISSING:
                self._use(key)
                found[key] = value
        return found

    async def set_many(self, items: Mapping[str, Value], *, ttl: float | None = None) -> None:
        """Store all of *items*, or none."""
        self._check_open()
        milliseconds = lifetime_ms(ttl, self._default_ttl)
        frozen = {check_key(key): self._freeze(value, milliseconds) for key, value in items.items()}
        for key, stored in frozen.items():
            self._put(key, stored)
            self._make_room()

    async def delete_many(self, keys: Iterable[str]) -> int:
        """Remove *keys*; return how many were there."""
        self._check_open()
        return sum(self._remove(key) for key in check_keys(keys))

    async def clear(self) -> None:
        """Remove everything."""
        self._check_open()
        self._entries.clear()
        self._deadlines.clear()

    def _check_open(self) -> None:
        if not self._is_open:
            raise closed("memory", was_open=self._was_open)

    def _read(self, key: str, entry: _Entry, missing: Any) -> Any:
        """Return what *entry* holds now; drop it and return *missing* when its time is over."""
        if entry.expires_at <= self._clock():
            del self._entries[key]
            return missing
        return decode(entry.value) if entry.is_encoded else entry.value

    def _peek(self, key: str) -> Any:
        """Return the value of *key* or `_MISSING`, without counting it as a use."""
        value = self._entries.get(key, _MISSING)
        return self._read(key, value, _MISSING) if type(value) is _Entry else value

    def _remove(self, key: str) -> bool:
        if self._peek(key) is _MISSING:
            return False
        del self._entries[key]
        return True

    def _freeze(self, value: Value, milliseconds: int | None) -> Any:
        """Turn *value* into what is kept."""
        if is_immutable(value):
            return self._wrap(value, milliseconds)
        return self._wrap(encode(value), milliseconds, is_encoded=True)

    def _wrap(self, value: Any, milliseconds: int | None, *, is_encoded: bool = False) -> Any:
        if milliseconds is None:
            return _Entry(value, inf, is_encoded) if is_encoded else value
        return _Entry(value, self._clock() + milliseconds / 1000, is_encoded)

    def _put(self, key: str, stored: Any) -> None:
        self._entries[key] = stored
        self._use(key)
        if type(stored) is _Entry and stored.expires_at < inf:
            heappush(self._deadlines, (stored.expires_at, next(self._order), key, stored))

    def _make_room(self) -> None:
        """Drop a few expired entries, soonest first; then, if need be, the least recently used one."""
        entries, deadlines = self._entries, self._deadlines
        if deadlines:
            now = self._clock()
            for _ in range(_SWEEP):
                if not deadlines or deadlines[0][0] > now:
                    break
                _, _, key, entry = heappop(deadlines)
                if entries.get(key) is entry:
                    del entries[key]
            # Deadlines of entries that were replaced or removed: rebuilt rarely enough to cost a constant per
            # write.
            if len(deadlines) > 2 * len(entries) + 64:
                deadlines[:] = [row for row in deadlines if entries.get(row[2]) is row[3]]
                heapify(deadlines)
        if len(entries) > self._max_entries:
            entries.popitem(last=False)
