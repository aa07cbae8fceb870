"""The statements of the SQLite cache: each call in SQL, in a transaction that somebody else commits.

Times are whole milliseconds since the epoch; an ``expires_at`` of NULL is forever. Keys arrive with their
prefix, as UTF-8: bytes compare and range exactly, whatever characters are in them.
"""

import sqlite3
from collections.abc import Iterable, Mapping
from math import inf
from typing import Final

from oneiric.adapters.cache._values import add, decode, encode

__all__ = ["increment", "read", "read_many", "remove", "remove_prefix", "tidy", "time_left", "touch", "write"]

_ALIVE: Final = "key = ? AND (expires_at IS NULL OR expires_at > ?)"
#: Expired entries dropped per writing transaction, beside those that must make room.
_SWEEP: Final = 64


def read(store: sqlite3.Connection, key: bytes, now: int) -> bytes | None:
    """Return what is kept under *key*, or None."""
    row = store.execute(f"SELECT value FROM entries WHERE {_ALIVE}", (key, now)).fetchone()  # noqa: S608 - a constant
    return None if row is None else row[0]


def read_many(store: sqlite3.Connection, keys: Iterable[bytes], now: int) -> dict[bytes, bytes]:
    """Return what is kept under those of *keys* that are there."""
    found = ((key, read(store, key, now)) for key in keys)
    return {key: data for key, data in found if data is not None}


def write(store: sqlite3.Connection, items: Mapping[bytes, bytes], expires_at: int | None) -> None:
    """Store *items* as the newest entries."""
    # Removed first, so that the new row is the last one written: rows are ordered by that.
    store.executemany("DELETE FROM entries WHERE key = ?", ((key,) for key in items))
    store.executemany(
        "INSERT INTO entries (key, value, expires_at) VALUES (?, ?, ?)",
        ((key, data, expires_at) for key, data in items.items()),
    )


def remove(store: sqlite3.Connection, keys: Iterable[bytes], now: int) -> int:
    """Remove *keys*; return how many of them were alive."""
    removed = 0
    for key in keys:
        removed += store.execute(f"DELETE FROM entries WHERE {_ALIVE}", (key, now)).rowcount  # noqa: S608 - a constant
    return removed


def remove_prefix(store: sqlite3.Connection, prefix: bytes) -> None:
    """Remove every key that begins with *prefix*."""
    if not prefix:
        store.execute("DELETE FROM entries")
        return
    # A range, because LIKE ignores case and knows wildcards; no byte of UTF-8 is 0xFF, so the last one can go
    # up.
    beyond = prefix[:-1] + bytes([prefix[-1] + 1])
    store.execute("DELETE FROM entries WHERE key >= ? AND key < ?", (prefix, beyond))


def touch(store: sqlite3.Connection, key: bytes, now: int, expires_at: int | None) -> bool:
    """Give *key* a new end; say whether it was there."""
    statement = f"UPDATE entries SET expires_at = ? WHERE {_ALIVE}"  # noqa: S608 - a constant
    return store.execute(statement, (expires_at, key, now)).rowcount == 1


def time_left(store: sqlite3.Connection, key: bytes, now: int) -> float | None:
    """Return the seconds *key* has left, ``inf`` for forever, None when it is not there."""
    statement = f"SELECT expires_at FROM entries WHERE {_ALIVE}"  # noqa: S608 - a constant
    row = store.execute(statement, (key, now)).fetchone()
    if row is None:
        return None
    return inf if row[0] is None else (row[0] - now) / 1000


def increment(store: sqlite3.Connection, key: bytes, delta: int, now: int, expires_at: int | None) -> int:
    """Add *delta* to the integer under *key*; a missing one begins at 0 and ends at *expires_at*."""
    data = read(store, key, now)
    if data is None:
        write(store, {key: encode(delta)}, expires_at)
        return delta
    total = add(decode(data), delta)
    store.execute("UPDATE entries SET value = ? WHERE key = ?", (encode(total), key))
    return total


def tidy(store: sqlite3.Connection, now: int, max_entries: int | None) -> None:
    """Drop some expired entries, and, if there are still too many, those written longest ago."""
    excess = _excess(store, max_entries)
    store.execute(
        "DELETE FROM entries WHERE id IN (SELECT id FROM entries WHERE expires_at <= ? ORDER BY expires_at LIMIT ?)",
        (now, max(_SWEEP, excess)),
    )
    excess = _excess(store, max_entries)
    if excess > 0:
        store.execute("DELETE FROM entries WHERE id IN (SELECT id FROM entries ORDER BY id LIMIT ?)", (excess,))


def _excess(store: sqlite3.Connection, max_entries: int | None) -> int:
    if max_entries is None:
        return 0
    count: int = store.execute("SELECT entries FROM size").fetchone()[0]
    return count - max_entries
