"""Events on their way out: one value, and the text form of the server-sent events standard."""

import json
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

__all__ = ["ControlEvent", "read_events", "written_event"]


@dataclass(frozen=True, slots=True, kw_only=True)
class ControlEvent:
    """One thing that happened.

    Attributes:
        id: What to hand back as ``Last-Event-ID`` to go on after it.
        name: Its kind, such as ``"bound"`` or ``"swap-failed"``; ``"gap"`` where events before it are lost.
        data: When (``at``), for which slot, and what its kind adds; plain data.
    """

    id: str
    name: str
    data: Mapping[str, Any]


def written_event(event: ControlEvent) -> bytes:
    """Return the lines of an event. JSON holds no line break, so that one ``data`` line always does."""
    data = json.dumps(event.data, separators=(",", ":"), allow_nan=False)
    return f"id: {event.id}\nevent: {event.name}\ndata: {data}\n\n".encode()


def read_events(lines: Iterable[bytes]) -> Iterator[ControlEvent]:
    """Yield the events of a stream of lines; comments (heartbeats) are skipped.

    Source: WHATWG HTML, section 9.2 (server-sent events), as far as `written_event` uses it.
    """
    fields: dict[str, str] = {}
    for line in lines:
        text = line.decode().rstrip("\r\n")
        if text and not text.startswith(":"):
            name, _, value = text.partition(":")
            fields[name] = value.removeprefix(" ")
        elif not text and fields.keys() >= {"id", "event", "data"}:
            yield ControlEvent(id=fields["id"], name=fields["event"], data=json.loads(fields["data"]))
            fields = {}
