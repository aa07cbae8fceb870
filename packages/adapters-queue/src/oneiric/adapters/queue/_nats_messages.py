"""Messages of JetStream: what the queue writes into their headers, and how they are read back.

``Oneiric-Id`` is a message's id where it is not its sequence number: of one that was published again.
``Oneiric-Attempts`` counts the deliveries before that. ``Oneiric-Delay-Ms`` is how long after its publication it is
due. ``Oneiric-Headers`` holds the sender's headers, because NATS would not keep all of them unchanged.
"""

import json
import time
from dataclasses import dataclass
from typing import Any, Final

from nats.aio.msg import Msg
from nats.js.api import RawStreamMsg

from oneiric.adapters.queue import _message as message
from oneiric.adapters.queue._protocol import DeadLetter, Delivery

__all__ = ["Held", "dead_headers", "dead_letter_of", "delivery_of", "headers_of", "held_of"]

_ID: Final = "Oneiric-Id"
_ATTEMPTS: Final = "Oneiric-Attempts"
_DELAY: Final = "Oneiric-Delay-Ms"
_HEADERS: Final = "Oneiric-Headers"
_ENQUEUED: Final = "Oneiric-Enqueued-At"
_REASON: Final = "Oneiric-Reason"
_DEAD_AT: Final = "Oneiric-Dead-At"
_READABLE: Final = "Oneiric-Readable"
#: A message whose visibility ends by the server's clock is another's a moment before ours says so.
_MARGIN: Final = 0.05


@dataclass(slots=True)
class Held:
    """A message in a consumer's hands.

    Attributes:
        id: The message's.
        reply: Where the server waits to hear how it went.
        sequence: Its number in the stream.
        delivery: How often the server has delivered it.
        attempt: Which counted delivery this is.
        enqueued_at: When it was first published.
        data: Its body.
        headers: The sender's headers as they were written.
        due_at: When it may be received.
        until: When it is nobody's again, by the monotonic clock.
        is_settled: Whether it was settled.
    """

    id: str
    reply: str
    sequence: int
    delivery: int
    attempt: int
    enqueued_at: float
    data: bytes
    headers: str
    due_at: float
    until: float = 0.0
    is_settled: bool = False

    def keep(self, visibility_seconds: float, since: float | None = None) -> None:
        """Count the visibility from now, or from *since*."""
        started = time.monotonic() if since is None else since
        self.until = started + visibility_seconds - min(1.0, visibility_seconds * _MARGIN)

    @property
    def is_ours(self) -> bool:
        """Whether it still is this consumer's to settle."""
        return not self.is_settled and time.monotonic() < self.until


def headers_of(
    headers: str,
    *,
    dedup_id: str | None = None,
    delay_ms: int = 0,
    held: Held | None = None,
    attempts: int = 0,
) -> dict[str, str]:
    """Write the headers of a message.

    Args:
        headers: The sender's, as `_message.write_headers` wrote them.
        dedup_id: Messages with the same one are stored once.
        delay_ms: How long it is not due.
        held: The message that this one continues.
        attempts: Counted deliveries it had.
    """
    stated = {} if dedup_id is None else {"Nats-Msg-Id": dedup_id}
    if headers:
        stated[_HEADERS] = headers
    if delay_ms:
        stated[_DELAY] = str(delay_ms)
    if held is not None:
        stated |= {_ID: held.id, _ENQUEUED: repr(held.enqueued_at), _ATTEMPTS: str(attempts)}
    return stated


def held_of(found: Msg) -> Held:
    """Read a message that was delivered."""
    stated, known = found.headers or {}, found.metadata
    published_at = known.timestamp.timestamp()
    delay_ms = _number(stated.get(_DELAY), 0)
    # One with a delay is, as a rule, delivered once before it is due, and put back.
    deliveries = max(1, known.num_delivered - (1 if delay_ms else 0))
    return Held(
        id=stated.get(_ID) or str(known.sequence.stream),
        reply=found.reply,
        sequence=known.sequence.stream,
        delivery=known.num_delivered,
        attempt=int(_number(stated.get(_ATTEMPTS), 0)) + deliveries,
        enqueued_at=_number(stated.get(_ENQUEUED), published_at),
        data=found.data,
        headers=stated.get(_HEADERS) or "",
        due_at=published_at + delay_ms / 1000,
    )


def delivery_of(held: Held, visibility_seconds: float) -> Delivery | None:
    """Return a delivery; None when it is none of ours."""
    payload, headers = message.read_payload(held.data), _sender_headers(held.headers)
    if payload is None or headers is None:
        return None
    return Delivery(
        id=held.id,
        payload=payload,
        headers=headers,
        attempt=held.attempt,
        enqueued_at=held.enqueued_at,
        visibility_seconds=visibility_seconds,
        receipt=held,
    )


def dead_headers(held: Held, reason: str, *, is_readable: bool) -> dict[str, str]:
    """Write the headers of a dead letter; the same delivery is buried once."""
    stated = headers_of(
        held.headers if is_readable else "",
        dedup_id=f"dead-{held.sequence}-{held.delivery}",
        held=held,
        attempts=held.attempt,
    )
    return stated | {
        _REASON: json.dumps(reason),
        _DEAD_AT: repr(time.time()),
        _READABLE: "1" if is_readable else "0",
    }


def dead_letter_of(found: RawStreamMsg) -> DeadLetter:
    """Read a dead letter."""
    stated: dict[str, str] = found.headers or {}
    is_readable = stated.get(_READABLE) == "1"
    reason: Any = json.loads(stated.get(_REASON, '""'))
    return DeadLetter(
        id=stated.get(_ID, ""),
        payload=message.read_payload(found.data or b"") if is_readable else None,
        headers=_sender_headers(stated.get(_HEADERS, "")) or {},
        attempts=int(_number(stated.get(_ATTEMPTS), 0)),
        reason=str(reason),
        enqueued_at=_number(stated.get(_ENQUEUED), 0.0),
        dead_at=_number(stated.get(_DEAD_AT), 0.0),
    )


def _sender_headers(text: str) -> dict[str, str] | None:
    try:
        return message.read_headers(text)
    except ValueError:
        return None


def _number(text: str | None, otherwise: float) -> float:
    try:
        return otherwise if text is None else float(text)
    except ValueError:
        return otherwise
