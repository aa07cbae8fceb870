"""A server on loopback that answers as no server should: what the tests of a client over HTTP need.

Each way to misbehave has a path: ``server.url("/endless")`` never ends, ``/drip`` sends a byte a second. What is
published with `MisbehavingServer.publish` is served as an honest server would. Requests and connections are counted,
so that a test can also say that nobody came.
"""

import asyncio
import gzip
import hashlib
import socket
import ssl
import struct
from collections.abc import Awaitable, Callable
from contextlib import suppress
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import TYPE_CHECKING, Final, Self

if TYPE_CHECKING:
    from collections.abc import Mapping

__all__ = ["MisbehavingServer", "Received"]

_ZEROS: Final = bytes(64 * 1024)
_HEAD: Final = b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\n"
_METADATA: Final = "http://169.254.169.254/latest/meta-data/"


@dataclass(frozen=True, slots=True, kw_only=True)
class Received:
    """A request as it came.

    Attributes:
        path: With its query.
        headers: Lower-case name → value.
        sni: The name that the client asked for in TLS, None without.
    """

    path: str
    headers: "Mapping[str, str]" = field(repr=False)
    sni: str | None = None


type _Behaviour = Callable[[asyncio.StreamWriter, Received], Awaitable[None]]


def _says(raw: bytes) -> _Behaviour:
    async def behave(writer: asyncio.StreamWriter, _request: Received) -> None:
        writer.write(raw)
        await writer.drain()

    return behave


def _status(line: str, *headers: str, body: bytes = b"") -> _Behaviour:
    lines = [f"HTTP/1.1 {line}", *headers, f"Content-Length: {len(body)}", "", ""]
    return _says("\r\n".join(lines).encode() + body)


def _repeats(start: bytes, again: bytes, pause_seconds: float = 0.0) -> _Behaviour:
    async def behave(writer: asyncio.StreamWriter, _request: Received) -> None:
        writer.write(start)
        while not writer.is_closing():
            writer.write(again)
            await writer.drain()
            await asyncio.sleep(pause_seconds)

    return behave


def _stalls(start: bytes) -> _Behaviour:
    async def behave(writer: asyncio.StreamWriter, _request: Received) -> None:
        writer.write(start)
        await writer.drain()
        await asyncio.Event().wait()

    return behave


def _resets(start: bytes) -> _Behaviour:
    async def behave(writer: asyncio.StreamWriter, _request: Received) -> None:
        writer.write(start)
        await writer.drain()
        connection = writer.get_extra_info("socket")
        # With no time to linger, closing is a reset.
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        writer.transport.abort()

    return behave


def _bomb() -> bytes:
    return gzip.compress(bytes(32 * 1024 * 1024))


def _gzip(writer_says: str) -> _Behaviour:
    async def behave(writer: asyncio.StreamWriter, _request: Received) -> None:
        body = await asyncio.to_thread(_bomb)
        writer.write(_HEAD + f"{writer_says}Content-Length: {len(body)}\r\n\r\n".encode() + body)
        await writer.drain()

    return behave


_BEHAVIOURS: Final["Mapping[str, _Behaviour]"] = MappingProxyType(
    {
        "/endless": _repeats(_HEAD + b"\r\n", _ZEROS),
        "/chunkforever": _repeats(_HEAD + b"Transfer-Encoding: chunked\r\n\r\n", b"10000\r\n" + _ZEROS + b"\r\n"),
        "/tinychunks": _repeats(_HEAD + b"Transfer-Encoding: chunked\r\n\r\n", b"1\r\n0\r\n" * 8192),
        "/chunkextensions": _repeats(
            _HEAD + b"Transfer-Encoding: chunked\r\n\r\n", b"1;" + b"x" * 60_000 + b"\r\n0\r\n"
        ),
        "/longer": _says(_HEAD + b"Content-Length: 10\r\n\r\n" + b"0123456789" + b"more than was announced"),
        "/shorter": _says(_HEAD + b"Content-Length: 1000\r\n\r\n" + b"0123456789"),
        "/hugelength": _stalls(_HEAD + b"Content-Length: 99999999999999\r\n\r\n"),
        "/twolengths": _says(_HEAD + b"Content-Length: 2\r\nContent-Length: 3\r\n\r\n{} "),
        "/bothframings": _says(_HEAD + b"Content-Length: 2\r\nTransfer-Encoding: chunked\r\n\r\n2\r\n{}\r\n0\r\n\r\n"),
        "/drip": _repeats(_HEAD + b"Content-Length: 1000000\r\n\r\n", b"0", 0.02),
        "/slowhead": _repeats(b"HTTP/1.1 200 OK\r\nX-Slow: ", b"0", 0.02),
        "/stall": _stalls(_HEAD + b"Content-Length: 1000\r\n\r\n0123456789"),
        "/silent": _stalls(b""),
        "/continueforever": _repeats(b"", b"HTTP/1.1 100 Continue\r\n\r\n" * 100),
        "/gzipbomb": _gzip("Content-Encoding: gzip\r\n"),
        "/headers64k": _says(_HEAD + b"X-Large: " + b"x" * 65536 + b"\r\nContent-Length: 2\r\n\r\n{}"),
        "/manyheaders": _says(
            _HEAD + b"".join(b"X-%d: y\r\n" % each for each in range(10_000)) + b"Content-Length: 2\r\n\r\n{}"
        ),
        "/headers200": _says(
            _HEAD + b"".join(b"X-%d: y\r\n" % each for each in range(200)) + b"Content-Length: 2\r\n\r\n{}"
        ),
        "/headers20k": _says(_HEAD + b"X-Large: " + b"x" * 20_000 + b"\r\nContent-Length: 2\r\n\r\n{}"),
        "/headersforever": _repeats(_HEAD, b"X-More: and more\r\n" * 1000),
        "/to-http": _status("302 Found", "Location: http://example.org/manifest.json?token=t0k3n"),
        "/to-file": _status("302 Found", "Location: file:///etc/passwd"),
        "/to-metadata": _status("307 Temporary Redirect", f"Location: {_METADATA}"),
        "/reset": _resets(b""),
        "/resetinbody": _resets(_HEAD + b"Content-Length: 1000\r\n\r\n0123456789"),
        "/closed": _says(b""),
        "/garbage": _says(b"\x00\x01\x1b[31mthis is not HTTP\r\n\r\n"),
        "/html": _status("200 OK", "Content-Type: text/html; charset=utf-8", body=b"<html>Please log in</html>"),
        "/304": _says(b"HTTP/1.1 304 Not Modified\r\n\r\n"),
        "/206": _status("206 Partial Content", "Content-Range: bytes 0-1/100", body=b"{}"),
        "/204": _says(b"HTTP/1.1 204 No Content\r\n\r\n"),
        "/401": _status("401 Unauthorized", "WWW-Authenticate: Bearer"),
        "/404": _status("404 Not Found"),
        "/429": _status("429 Too Many Requests", "Retry-After: 3600"),
        "/503": _status("503 Service Unavailable", "Retry-After: 0"),
        "/503-date": _status("503 Service Unavailable", "Retry-After: Fri, 31 Dec 2100 23:59:59 GMT"),
    }
)


class MisbehavingServer:
    """Listen on a free port of 127.0.0.1, within ``async with``.

    Args:
        tls: Makes it an https server.

    Attributes:
        requests: Those that came, in order.
        connections: How many were opened, TLS handshakes that failed not counted.
        port: Where it listens.
    """

    #: The paths that misbehave.
    behaviours: tuple[str, ...] = tuple(_BEHAVIOURS)

    def __init__(self, tls: ssl.SSLContext | None = None) -> None:
        self.requests: list[Received] = []
        self.connections = 0
        self.port = 0
        self._tls = tls
        self._published: dict[str, tuple[bytes, str]] = {}
        self._failing: dict[str, int] = {}
        self._names: list[str | None] = []
        self._serving: set[asyncio.Task[None]] = set()
        if tls is not None:
            tls.sni_callback = self._named

    def _named(self, _socket: object, name: str | None, _context: object) -> None:
        self._names.append(name)

    async def __aenter__(self) -> Self:
        self._server = await asyncio.start_server(self._connected, "127.0.0.1", 0, ssl=self._tls)
        self.port = self._server.sockets[0].getsockname()[1]
        return self

    async def __aexit__(self, *raised: object) -> None:
        self._server.close()
        for task in self._serving:
            task.cancel()
        await asyncio.gather(*self._serving, return_exceptions=True)
        await self._server.wait_closed()

    def url(self, path: str, host: str = "127.0.0.1") -> str:
        """Return the URL of *path*, under any name that is to lead here."""
        return f"{'http' if self._tls is None else 'https'}://{host}:{self.port}{path}"

    def publish(self, path: str, content: bytes, *, failures: int = 0) -> str:
        """Serve *content* at *path* with an entity tag, and return its digest.

        Args:
            path: Where.
            content: What.
            failures: So many requests are answered with 503 first.
        """
        digest = hashlib.sha256(content).hexdigest()
        self._published[path] = (content, f'"{digest[:16]}"')
        self._failing[path] = failures
        return digest

    def withdraw(self, path: str) -> None:
        """Serve nothing at *path* any more."""
        del self._published[path]

    async def _connected(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connections += 1
        task = asyncio.current_task()
        assert task is not None  # noqa: S101 - for the type checker: this is one
        self._serving.add(task)
        try:
            with suppress(OSError, asyncio.IncompleteReadError, asyncio.CancelledError):
                await self._answer(reader, writer)
        finally:
            self._serving.discard(task)
            writer.close()
            with suppress(OSError):
                await writer.wait_closed()

    async def _answer(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1")
        line, *lines = head.strip().split("\r\n")
        path = line.split(" ")[1]
        headers = {name.lower(): value.strip() for name, _, value in (each.partition(":") for each in lines)}
        sni = self._names[-1] if self._names else None
        request = Received(path=path, headers=MappingProxyType(headers), sni=sni)
        self.requests.append(request)
        await self._behaviour(path.partition("?")[0], request)(writer, request)

    def _behaviour(self, path: str, request: Received) -> _Behaviour:
        if path not in self._published:
            return _BEHAVIOURS.get(path, _BEHAVIOURS["/404"])
        if self._failing[path]:
            self._failing[path] -= 1
            return _status("503 Service Unavailable")
        content, etag = self._published[path]
        if request.headers.get("if-none-match") == etag:
            return _says(f"HTTP/1.1 304 Not Modified\r\nETag: {etag}\r\n\r\n".encode())
        return _status("200 OK", "Content-Type: application/json", f"ETag: {etag}", body=content)
