"""Server-sent events: a stream of what happens, with heartbeats, for as long as both sides are there."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import suppress
from typing import Any, Final

from oneiric.runtime.control import ControlEvent
from oneiric.runtime.control._stream import written_event
from oneiric.runtime.http._asgi import Receive, Scope, Send
from oneiric.runtime.http._scope import STOPPING

__all__ = ["EventStream"]

_HEADERS: Final = [
    (b"content-type", b"text/event-stream; charset=utf-8"),
    (b"x-accel-buffering", b"no"),
    # A stream is the last thing on its connection.
    (b"connection", b"close"),
]


class EventStream:
    """An ASGI application that sends the events of one iterator.

    It ends when the client goes, the events end (this client was too slow), or the server stops.

    Args:
        events: The events; closed at the end.
        heartbeat_seconds: How often a comment is sent when nothing happens.
    """

    def __init__(self, events: AsyncIterator[ControlEvent], *, heartbeat_seconds: float) -> None:
        self._events, self._heartbeat_seconds = events, heartbeat_seconds

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Send the stream."""
        await send({"type": "http.response.start", "status": 200, "headers": list(_HEADERS)})
        stopping: asyncio.Event = scope["state"].get(STOPPING) or asyncio.Event()
        ends: set[asyncio.Future[Any]] = {
            asyncio.ensure_future(_gone(receive)),
            asyncio.ensure_future(stopping.wait()),
        }
        upcoming: asyncio.Future[Any] | None = None
        try:
            await _send(send, b": open\n\n")
            while not any(end.done() for end in ends):
                upcoming = upcoming or asyncio.ensure_future(anext(self._events, None))
                await asyncio.wait(
                    {upcoming, *ends}, timeout=self._heartbeat_seconds, return_when=asyncio.FIRST_COMPLETED
                )
                if not upcoming.done():
                    await _send(send, b": alive\n\n")
                    continue
                event, upcoming = upcoming.result(), None
                if event is None:
                    break
                await _send(send, written_event(event))
            await send({"type": "http.response.body", "body": b"", "more_body": False})
        finally:
            await _cancelled([*ends, *([upcoming] if upcoming is not None else [])])
            close = getattr(self._events, "aclose", None)
            if close is not None:
                await close()


async def _send(send: Send, body: bytes) -> None:
    await send({"type": "http.response.body", "body": body, "more_body": True})


async def _gone(receive: Receive) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass


async def _cancelled(futures: list["asyncio.Future[Any]"]) -> None:
    for future in futures:
        future.cancel()
        with suppress(asyncio.CancelledError, Exception):
            await future
