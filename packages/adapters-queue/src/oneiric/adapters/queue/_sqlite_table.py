"""What the SQLite queue does inside one transaction. It runs on the thread that owns the connection.

Waits (delays and visibilities) end by the machine's monotonic clock, which all its processes share, so setting
the wall clock makes no message early, late, or doubly held. A lease carries a token from one counter, which only
grows: what a consumer does with an old token changes nothing.
"""

import sqlite3
from dataclasses import dataclass
from typing import Any, Final, NamedTuple

__all__ = [
    "NewMessage",
    "Now",
    "Row",
    "add",
    "adopt_boot",
    "bury",
    "count",
    "dead_body",
    "dead_rows",
    "extend",
    "forget",
    "put_back",
    "ready_in_ms",
    "remove",
    "revive",
    "take",
]

_READY: Final = 0
_DELAYED: Final = 1
_LEASED: Final = 2
#: Messages whose wait has ended that become ready in one transaction, so that none takes long.
_STEP: Final = 1000


class Now(NamedTuple):
    """The time, by both clocks."""

    monotonic_ms: int
    wall: float


@dataclass(frozen=True, slots=True, kw_only=True)
class NewMessage:
    """A message to be stored."""

    id: str
    body: bytes
    headers: str
    delay_ms: int
    dedup_id: str | None
    dedup_seconds: float


class Row(NamedTuple):
    """A message that was taken."""

    seq: int
    token: int
    id: str
    body: bytes
    headers: str
    enqueued_at: float
    attempt: int


def adopt_boot(store: sqlite3.Connection, boot: str, now: Now) -> None:
    """After a restart of the machine, restate every wait by the new monotonic clock; leases ended with it."""
    if store.execute("SELECT boot FROM counter").fetchone()[0] == boot:
        return
    store.execute(
        "UPDATE messages SET until = ? + max(0, CAST((due_at - ?) * 1000 AS INTEGER)) WHERE state = 1",
        (now.monotonic_ms, now.wall),
    )
    store.execute("UPDATE messages SET until = ? WHERE state = 2", (now.monotonic_ms,))
    store.execute("UPDATE counter SET boot = ?", (boot,))


def add(store: sqlite3.Connection, queue: str, message: NewMessage, now: Now) -> str:
    """Store a message; return its id, or that of the one it repeats."""
    if message.dedup_id is not None:
        store.execute("DELETE FROM seen WHERE expires_at <= ?", (now.wall,))
        seen = (queue, message.dedup_id, message.id, now.wall + message.dedup_seconds)
        if not store.execute("INSERT INTO seen VALUES (?, ?, ?, ?) ON CONFLICT DO NOTHING", seen).rowcount:
            found = "SELECT id FROM seen WHERE queue = ? AND dedup_id = ?"
            return str(store.execute(found, (queue, message.dedup_id)).fetchone()[0])
    waits = message.delay_ms > 0
    _insert(
        store,
        (queue, message.id, message.body, message.headers, now.wall, 0),
        (_DELAYED if waits else _READY, _next(store), now.monotonic_ms + message.delay_ms if waits else 0),
        now.wall + message.delay_ms / 1000 if waits else 0.0,
    )
    return message.id


def ready_in_ms(store: sqlite3.Connection, queue: str, now: Now) -> int | None:
    """Return in how many milliseconds a message is ready; None while there is none at all."""
    if store.execute("SELECT 1 FROM messages WHERE queue = ? AND state = 0 LIMIT 1", (queue,)).fetchone():
        return 0
    first = store.execute("SELECT min(until) FROM messages WHERE queue = ? AND state > 0", (queue,)).fetchone()[0]
    return None if first is None else max(0, first - now.monotonic_ms)


def take(store: sqlite3.Connection, queue: str, most: int, visibility_ms: int, now: Now) -> list[Row]:
    """Lease up to *most* ready messages, in order."""
    _ripen(store, queue, now)
    found = store.execute(
        "SELECT seq, id, body, headers, enqueued_at, attempts + 1 FROM messages"
        " WHERE queue = ? AND state = 0 ORDER BY place LIMIT ?",
        (queue, most),
    ).fetchall()
    last = _next(store, len(found)) if found else 0
    rows = [Row(seq, last - number, *rest) for number, (seq, *rest) in enumerate(found)]
    store.executemany(
        "UPDATE messages SET state = 2, until = ?, token = ?, attempts = attempts + 1 WHERE seq = ?",
        [(now.monotonic_ms + visibility_ms, row.token, row.seq) for row in rows],
    )
    return rows


def _ripen(store: sqlite3.Connection, queue: str, now: Now) -> None:
    """Put those whose delay or visibility has ended behind the ready ones, in the order in which it ended."""
    ended = store.execute(
        "SELECT seq FROM messages WHERE queue = ? AND state > 0 AND until <= ? ORDER BY until, place LIMIT ?",
        (queue, now.monotonic_ms, _STEP),
    ).fetchall()
    if ended:
        first = _next(store, len(ended)) - len(ended) + 1
        # The token stays: until somebody takes it again, its last consumer may still settle it.
        store.executemany(
            "UPDATE messages SET state = 0, place = ? WHERE seq = ?",
            [(first + number, seq) for number, (seq,) in enumerate(ended)],
        )


def extend(store: sqlite3.Connection, seq: int, token: int, until_ms: int) -> bool:
    """Keep a message for its consumer until then; say whether it still was."""
    held = "UPDATE messages SET state = 2, until = ? WHERE seq = ? AND token = ?"
    return store.execute(held, (until_ms, seq, token)).rowcount == 1


def remove(store: sqlite3.Connection, seq: int, token: int) -> bool:
    """Remove a message that its consumer is done with; say whether it still was its."""
    return store.execute("DELETE FROM messages WHERE seq = ? AND token = ?", (seq, token)).rowcount == 1


def put_back(  # noqa: PLR0917 - one row's worth of columns
    store: sqlite3.Connection, seq: int, token: int, delay_ms: int, uncounted: int, now: Now
) -> bool:
    """Let a message be delivered again; say whether it still was its consumer's."""
    waits = delay_ms > 0
    return store.execute(
        "UPDATE messages SET state = ?, place = ?, until = ?, due_at = ?, attempts = attempts - ?, token = 0"
        " WHERE seq = ? AND token = ?",
        (
            _DELAYED if waits else _READY,
            _next(store),
            now.monotonic_ms + delay_ms if waits else 0,
            now.wall + delay_ms / 1000 if waits else 0.0,
            uncounted,
            seq,
            token,
        ),
    ).rowcount == 1  # fmt: skip


def bury(store: sqlite3.Connection, seq: int, token: int, reason: str, now: Now) -> bool:
    """Make a message a dead letter; say whether it still was its consumer's."""
    moved = store.execute(
        "INSERT INTO dead (queue, id, body, headers, enqueued_at, attempts, reason, dead_at)"
        " SELECT queue, id, body, headers, enqueued_at, attempts, ?, ? FROM messages WHERE seq = ? AND token = ?",
        (reason, now.wall, seq, token),
    ).rowcount
    return moved == 1 and remove(store, seq, token)


def dead_rows(store: sqlite3.Connection, queue: str, limit: int) -> list[tuple[Any, ...]]:
    """Return the oldest dead letters: id, body, headers, attempts, reason, enqueued_at, dead_at."""
    return store.execute(
        "SELECT id, body, headers, attempts, reason, enqueued_at, dead_at FROM dead WHERE queue = ?"
        " ORDER BY seq LIMIT ?",
        (queue, limit),
    ).fetchall()


def dead_body(store: sqlite3.Connection, queue: str, message_id: str) -> bytes | None:
    """Return the body of a dead letter; None when there is none of that id."""
    found = store.execute("SELECT body FROM dead WHERE queue = ? AND id = ?", (queue, message_id)).fetchone()
    return None if found is None else found[0]


def revive(store: sqlite3.Connection, queue: str, message_id: str, now: Now) -> None:
    """Make a dead letter that is there a message again, as if enqueued now."""
    body, headers = store.execute(
        "SELECT body, headers FROM dead WHERE queue = ? AND id = ?", (queue, message_id)
    ).fetchone()
    forget(store, queue, message_id)
    _insert(store, (queue, message_id, body, headers, now.wall, 0), (_READY, _next(store), 0), 0.0)


def forget(store: sqlite3.Connection, queue: str, message_id: str) -> bool:
    """Remove a dead letter; say whether it was there."""
    return store.execute("DELETE FROM dead WHERE queue = ? AND id = ?", (queue, message_id)).rowcount == 1


def count(store: sqlite3.Connection, queue: str, now: Now) -> tuple[int, int, int]:
    """Return how many messages are ready, held, and dead."""
    ready, held = store.execute(
        "SELECT count(*) FILTER (WHERE state = 0 OR until <= :now), count(*) FILTER (WHERE state > 0 AND until > :now)"
        " FROM messages WHERE queue = :queue",
        {"now": now.monotonic_ms, "queue": queue},
    ).fetchone()
    dead = store.execute("SELECT count(*) FROM dead WHERE queue = ?", (queue,)).fetchone()[0]
    return ready, held, dead


def _insert(
    store: sqlite3.Connection,
    message: tuple[str, str, bytes, str, float, int],
    position: tuple[int, int, int],
    due_at: float,
) -> None:
    store.execute(
        "INSERT INTO messages (queue, id, body, headers, enqueued_at, attempts, state, place, until, due_at, token)"
        " VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, 0)",
        (*message, *position, due_at),
    )


def _next(store: sqlite3.Connection, steps: int = 1) -> int:
    """Advance the counter that orders messages and tells leases apart; return where it stands."""
    moved = store.execute("UPDATE counter SET value = value + ? RETURNING value", (steps,)).fetchone()
    return int(moved[0])
