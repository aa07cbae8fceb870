"""One connection: uvicorn's protocol with deadlines, bounds and a guest list.

Each connection is given an absolute time to send a request (dripping bytes does not extend it), and one to take an
answer. When there are too many, the one that has kept us waiting longest goes, so that those who dawdle cannot shut
out those who do not.
"""

import asyncio
import logging
import os
import socket
import struct
import sys
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, Final, Protocol

import h11
from uvicorn.config import Config
from uvicorn.protocols.http.h11_impl import H11Protocol
from uvicorn.server import ServerState

from oneiric.runtime.http._asgi import RefusalError, error_body
from oneiric.runtime.http._heads import StrictConnection
from oneiric.runtime.http._scope import PEER_UID, REPORTED, STOPPING

__all__ = ["GuardedProtocol", "Listener", "peer_uid"]

#: How long a refused client may take to stop sending and read why; closing at once could lose the answer.
_LINGER_SECONDS: Final = 1.0


#: uvicorn warns of every request it cannot read, on stderr: ours are reported, one line each, and only errors pass.
_UVICORN_LOG: Final = logging.getLogger("oneiric.http.uvicorn")
_UVICORN_LOG.setLevel(logging.ERROR)


class Limits(Protocol):
    """What `oneiric.runtime.settings.HttpSettings` says of size and time."""

    max_body_bytes: int
    max_header_bytes: int
    max_headers: int
    receive_seconds: float
    max_connections: int


@dataclass(slots=True, kw_only=True)
class Listener:
    """One listening socket, and what its connections share.

    Attributes:
        limits: Sizes and times.
        is_local: Whether it is the control socket, where the kernel says who connects.
        stopping: Set when streams are to end.
        report: Told of each request that was refused before the application saw it: status, reason, address.
        state: uvicorn's record of connections and tasks.
        waiting: Connections no request is being answered on, the longest waiting first.
        leaving: Connections that were refused and may still read why, the first one first. They take nobody's place.
    """

    limits: Limits
    is_local: bool
    stopping: asyncio.Event
    report: Callable[[int, str, str], None]
    state: ServerState = field(default_factory=ServerState)
    waiting: "dict[GuardedProtocol, None]" = field(default_factory=dict)
    leaving: "dict[GuardedProtocol, None]" = field(default_factory=dict)

    @property
    def is_full(self) -> bool:
        """Whether a newcomer has to wait for somebody to go."""
        return len(self.state.connections) - len(self.leaving) >= self.limits.max_connections

    def connections(self) -> "list[GuardedProtocol]":
        """Return the connections there are."""
        return [each for each in self.state.connections if isinstance(each, GuardedProtocol)]


class GuardedProtocol(H11Protocol):
    """One connection.

    Args:
        config: uvicorn's configuration; holds the application.
        listener: Where it came in.
    """

    conn: StrictConnection

    def __init__(self, config: Config, listener: Listener) -> None:
        super().__init__(config, listener.state, {})
        limits = listener.limits
        self.conn = StrictConnection(
            max_header_bytes=limits.max_header_bytes,
            max_headers=limits.max_headers,
            max_body_bytes=limits.max_body_bytes,
            on_complete=self._request_arrived,
        )
        self.logger = _UVICORN_LOG
        self._listener = listener
        self._timer: asyncio.TimerHandle | None = None
        self._send_timer: asyncio.TimerHandle | None = None
        self._is_refused = False

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]  # as uvicorn's
        """Let the client in, or not."""
        listener = self._listener
        uid = peer_uid(transport.get_extra_info("socket")) if listener.is_local else None
        self.app_state = {STOPPING: listener.stopping, PEER_UID: uid}
        is_full = listener.is_full
        super().connection_made(transport)
        if listener.stopping.is_set():
            self.cut()  # it was accepted before, and nobody is left to serve or to close it
            return
        if listener.is_local and uid not in {os.geteuid(), 0}:
            self._refuse(403, "this socket is for its owner")
            return
        if is_full and not self._make_room():
            self._refuse(503, "there are too many connections")
            return
        self._await_request()

    def _make_room(self) -> bool:
        oldest = next(iter(self._listener.waiting), None)
        if oldest is None:
            return False
        oldest.cut()
        return True

    def cut(self) -> None:
        """Close at once, whatever is on its way in either direction."""
        self._listener.waiting.pop(self, None)  # no two newcomers of one turn of the loop take the same place
        self._stop_timer()
        self._abandon_cycle()
        self.transport.abort()

    def _abandon_cycle(self, *, is_reported: bool = False) -> None:
        cycle: Any = self.cycle  # None before the first request, which uvicorn's types leave out
        if cycle is not None and not cycle.response_complete:
            cycle.scope["state"][REPORTED] = is_reported
            cycle.disconnected = True
            cycle.message_event.set()

    def connection_lost(self, exc: Exception | None) -> None:
        """Forget the client."""
        self._stop_timer()
        self._listener.waiting.pop(self, None)
        self._listener.leaving.pop(self, None)
        if self._send_timer is not None:
            self._send_timer.cancel()
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        """Take in bytes; the first of a request start its time."""
        if self._is_refused:
            return
        if self.conn.their_state in {h11.IDLE, h11.SEND_BODY}:
            self._await_request()
        super().data_received(data)

    def eof_received(self) -> bool | None:  # type: ignore[override]  # uvicorn's never keeps the connection
        """The client sends no more. One that waits for its answer gets it; any other is gone."""
        cycle: Any = self.cycle
        if self._is_refused or cycle is None or cycle.response_started or cycle.more_body:
            return None
        cycle.keep_alive = False
        return True

    def _await_request(self) -> None:
        if self._timer is None:
            self._timer = self.loop.call_later(self._listener.limits.receive_seconds, self._too_slow)
            self._listener.waiting[self] = None

    def _request_arrived(self) -> None:
        self._stop_timer()
        self._listener.waiting.pop(self, None)

    def _stop_timer(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _too_slow(self) -> None:
        self._timer = None
        if self.conn.their_state is h11.IDLE and not self.conn.trailing_data[0]:
            self.transport.close()  # it never said a word: there is nothing to answer
        else:
            self._refuse(408, f"the request did not arrive within {self._listener.limits.receive_seconds:g} s")

    def on_response_complete(self) -> None:
        """Wait for the next request; an idle connection is the first to give way."""
        if not self.transport.is_closing():
            self._listener.waiting[self] = None
        super().on_response_complete()

    def send_400_response(self, msg: str) -> None:
        """Answer what is no request; uvicorn calls this when reading it failed."""
        status, reason = self.conn.refusal or (400, msg)
        self._refuse(status, reason)

    def _refuse(self, status: int, reason: str) -> None:
        """Answer with an error, then let go of the client without losing the answer."""
        self._is_refused = True
        self._request_arrived()
        address = f"{self.client[0]}:{self.client[1]}" if self.client else ""
        self._listener.report(status, reason, address)
        self._abandon_cycle(is_reported=True)
        if self.transport.is_closing():
            return
        if self.conn.our_state not in {h11.IDLE, h11.SEND_RESPONSE}:
            self.transport.abort()  # an answer is on its way already, and what follows it cannot be framed
            return
        self.transport.write(_answer(status, reason))
        self.flow.resume_reading()
        self._timer = self.loop.call_later(_LINGER_SECONDS, self.transport.abort)
        if self.transport.can_write_eof():
            self.transport.write_eof()
        self._leave()

    def _leave(self) -> None:
        """Stay to be read and nothing else; of too many who do, the first goes."""
        leaving = self._listener.leaving
        leaving[self] = None
        if len(leaving) > self._listener.limits.max_connections:
            first = next(iter(leaving))
            del leaving[first]
            first.cut()

    def pause_writing(self) -> None:
        """The client reads slower than we write: it has its time for that, too."""
        super().pause_writing()
        if self._send_timer is None:
            seconds = self._listener.limits.receive_seconds
            self._send_timer = self.loop.call_later(seconds, self.transport.abort)

    def resume_writing(self) -> None:
        """The client has caught up."""
        super().resume_writing()
        if self._send_timer is not None:
            self._send_timer.cancel()
            self._send_timer = None

    def shutdown(self) -> None:
        """Close, at once or after the answer that is on its way."""
        if self._is_refused:
            self.transport.abort()
        else:
            super().shutdown()

    def _should_upgrade(self) -> bool:
        return False  # there is nothing to upgrade to; the request is answered as it is

    def __hash__(self) -> int:
        return id(self)


def _answer(status: int, reason: str) -> bytes:
    refusal = RefusalError(status, reason)
    body = error_body(refusal.kind, refusal.message, None)
    head = (
        f"HTTP/1.1 {status} {refusal.kind}\r\ncontent-type: application/json\r\ncontent-length: {len(body)}\r\n"
        "cache-control: no-store\r\nconnection: close\r\n\r\n"
    )
    return head.encode() + body


def peer_uid(connection: Any) -> int | None:
    """Return the user at the other end of a Unix socket, as the kernel knows it, or None where it does not say."""
    try:
        if sys.platform == "darwin":
            # struct xucred: version, uid, …; SOL_LOCAL and LOCAL_PEERCRED have no names in the socket module.
            _, uid = struct.unpack_from("=II", connection.getsockopt(0, 1, 76))
        else:
            _, uid, _ = struct.unpack("3i", connection.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, 12))
    except OSError:
        return None
    return int(uid)
