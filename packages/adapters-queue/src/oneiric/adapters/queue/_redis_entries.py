"""Entries of a Redis stream, read into the family's values."""

from collections.abc import Mapping, Sequence
from typing import Any

from oneiric.adapters.queue import _message as message
from oneiric.adapters.queue._protocol import DeadLetter, Delivery

__all__ = ["dead_letter_of", "delivery_of"]

type Fields = Mapping[bytes, bytes]


def delivery_of(entry: Sequence[Any], visibility_seconds: float) -> Delivery | None:
    """Read a delivery; None when it is none of ours."""
    entry_id, fields = entry[0].decode(), _fields(entry[1])
    payload = message.read_payload(fields.get(b"b", b""))
    if payload is None:
        return None
    try:
        return Delivery(
            id=fields.get(b"i", entry[0]).decode(),
            payload=payload,
            headers=message.read_headers(fields.get(b"h", b"").decode()),
            attempt=int(fields.get(b"a", b"0")) + 1,
            enqueued_at=_seconds(fields, entry_id),
            visibility_seconds=visibility_seconds,
            receipt=entry_id,
        )
    except ValueError:
        return None


def dead_letter_of(entry: Sequence[Any]) -> DeadLetter:
    """Read a dead letter."""
    entry_id, fields = entry[0].decode(), _fields(entry[1])
    readable = fields.get(b"x") == b"1"
    return DeadLetter(
        id=fields[b"i"].decode(errors="replace"),
        payload=message.read_payload(fields.get(b"b", b"")) if readable else None,
        headers=message.read_headers(fields.get(b"h", b"").decode()) if readable else {},
        attempts=int(fields.get(b"a", b"0")),
        reason=fields.get(b"r", b"").decode(errors="replace"),
        enqueued_at=_seconds(fields, entry_id),
        dead_at=int(entry_id.partition("-")[0]) / 1000,
    )


def _fields(found: Any) -> Fields:
    """Return the fields of an entry: a dictionary from a command, a flat list from a script."""
    return found if isinstance(found, dict) else dict(zip(found[::2], found[1::2], strict=True))


def _seconds(fields: Fields, entry_id: str) -> float:
    """Return when it was enqueued: as it states, else when it became an entry."""
    stated = fields.get(b"t")
    try:
        return int(stated if stated is not None else entry_id.partition("-")[0]) / 1000
    except ValueError:
        return 0.0
