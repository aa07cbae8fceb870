"""Connections that lead where the policy looked: the address that was checked is the one that is connected to."""

import asyncio
import socket
import ssl
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Sequence
from contextlib import asynccontextmanager, suppress
from typing import Any, Final

import httpcore

from oneiric.core.errors import FetchError, FetchRefusedError, FetchTimeoutError
from oneiric.remote._fetch_policy import FetchLimits
from oneiric.remote._fetch_rate import MinimumRate

__all__ = ["CheckedNetwork", "Lookup", "Meter", "look_up"]

#: Takes a host and a port, and returns the addresses it has now.
type Lookup = Callable[[str, int], Awaitable[Sequence[str]]]

_READ_BYTES: Final = 16 * 1024
_AROUND_BYTES: Final = 128 * 1024
_MOST_ADDRESSES: Final = 16


async def look_up(host: str, port: int) -> list[str]:
    """Return the addresses of *host*, as the system's resolver knows them.

    Raises:
        OSError: It has none.
    """
    found = await asyncio.get_running_loop().getaddrinfo(host, port, type=socket.SOCK_STREAM)
    return list(dict.fromkeys(str(entry[4][0]) for entry in found))


class Meter:
    """What one connection may cost: the bytes on the wire, and the time that they take.

    Args:
        shown: Where it leads, for sentences.
        limits: Its bounds.
    """

    def __init__(self, shown: str, limits: FetchLimits) -> None:
        self.shown = shown
        self.is_in_body = False
        self.wire_bytes = 0
        self.body_bytes = 0
        self._limits = limits
        self._rate = MinimumRate(limits.minimum_rate_bytes, limits.rate_window_seconds)

    async def read(self, stream: httpcore.AsyncNetworkStream, max_bytes: int) -> bytes:
        """Return the next bytes of *stream*.

        Raises:
            FetchTimeoutError: Too little has come for too long.
            FetchRefusedError: The headers, or all that is around a body, are larger than they may be.
        """
        time = asyncio.get_running_loop().time
        began = time()
        try:
            async with asyncio.timeout(self._rate.allowance_seconds()):
                data = await stream.read(min(max_bytes, _READ_BYTES))
        except TimeoutError as error:
            raise self._too_slow() from error
        self._rate.received(len(data), time() - began)
        if self._rate.allowance_seconds() <= 0:
            raise self._too_slow()
        self.wire_bytes += len(data)
        # A body may come in small chunks, each of which is work; but what is around it may not outgrow it.
        around = self.wire_bytes - self.body_bytes
        most = self._limits.max_header_bytes + (_AROUND_BYTES + self.body_bytes if self.is_in_body else _READ_BYTES)
        if around > most:
            what = "its body in more overhead than body" if self.is_in_body else "more headers than are read"
            raise FetchRefusedError(f"{self.shown} sent {what}: it was cut at {self.wire_bytes} bytes")
        return data

    def _too_slow(self) -> FetchTimeoutError:
        limits = self._limits
        return FetchTimeoutError(
            f"{self.shown} is too slow: less than {limits.minimum_rate_bytes} bytes/s over "
            f"{limits.rate_window_seconds:g} s, after {self.wire_bytes} bytes"
        )


class CheckedNetwork(httpcore.AsyncNetworkBackend):
    """Open the connections of one request.

    The host is looked up here, once; every address it has must pass the check, and one of those very addresses is
    connected to. TLS still proves the name: it is the name that httpcore hands to `start_tls`.

    Args:
        lookup: Finds addresses.
        check: Returns an address in its plain form, or raises `FetchRefusedError`.
        connect_seconds: For lookup, connection and handshake together.
        meter: Counts what is read.
    """

    def __init__(self, lookup: Lookup, check: Callable[[str], str], connect_seconds: float, meter: Meter) -> None:
        self._lookup = lookup
        self._check = check
        self._seconds = connect_seconds
        self._meter = meter
        self._network = httpcore.AnyIOBackend()
        self._opened: list[httpcore.AsyncNetworkStream] = []
        self._deadline = 0.0

    async def connect_tcp(
        self,
        host: str,
        port: int,
        timeout: float | None = None,  # noqa: ARG002 - ours covers the lookup and the handshake too
        local_address: str | None = None,
        socket_options: Iterable[Any] | None = None,
    ) -> httpcore.AsyncNetworkStream:
        """Connect to a checked address of *host*.

        Raises:
            FetchRefusedError: An address of it is outside the policy; nothing was connected to.
            FetchTimeoutError: It took too long.
            FetchError: It has no address, or none that answers.
        """
        self._deadline = asyncio.get_running_loop().time() + self._seconds
        async with self.in_time():
            addresses = await self._addresses(host, port)
            stream = await self._connect(addresses, port, local_address, socket_options)
        self._opened.append(stream)
        return _MeteredStream(stream, self._meter, self)

    async def _addresses(self, host: str, port: int) -> list[str]:
        shown = self._meter.shown
        try:
            found = [self._check(address) for address in await self._lookup(host, port)]
        except FetchRefusedError as error:
            raise FetchRefusedError(
                f"{shown} is refused by where {host!r} leads: {error.message}", error.hint
            ) from error
        except (OSError, UnicodeError) as error:
            raise FetchError(f"{shown}: host {host!r} was not found: {error}", "the name, and the network") from error
        if not found:
            raise FetchError(f"{shown}: host {host!r} has no address")
        return found[:_MOST_ADDRESSES]

    async def _connect(
        self, addresses: Sequence[str], port: int, local_address: str | None, socket_options: Iterable[Any] | None
    ) -> httpcore.AsyncNetworkStream:
        time = asyncio.get_running_loop().time
        failure: Exception | None = None
        for position, address in enumerate(addresses):
            # An address that swallows everything leaves its share of the time to the others.
            share = max(0.0, self._deadline - time()) / (len(addresses) - position)
            try:
                return await self._network.connect_tcp(address, port, share, local_address, socket_options)
            except (httpcore.ConnectError, httpcore.ConnectTimeout) as error:
                failure = error
        if isinstance(failure, httpcore.ConnectTimeout):
            raise _not_connected(self._meter.shown, self._seconds) from failure
        tried = ", ".join(addresses[:3])
        raise FetchError(f"{self._meter.shown}: nobody answers at {tried} port {port}", "later") from failure

    @asynccontextmanager
    async def in_time(self) -> AsyncIterator[None]:
        """Bound a block by what connecting may take in all, and say so in our words."""
        try:
            async with asyncio.timeout_at(self._deadline):
                yield
        except TimeoutError as error:
            raise _not_connected(self._meter.shown, self._seconds) from error

    async def aclose(self) -> None:
        """Close whatever was opened, a handshake that was given up included."""
        for stream in self._opened:
            with suppress(httpcore.NetworkError, OSError):
                await stream.aclose()


class _MeteredStream(httpcore.AsyncNetworkStream):
    """A connection whose every read is counted."""

    def __init__(self, stream: httpcore.AsyncNetworkStream, meter: Meter, network: CheckedNetwork) -> None:
        self._stream = stream
        self._meter = meter
        self._network = network

    async def read(self, max_bytes: int, timeout: float | None = None) -> bytes:  # noqa: ARG002 - the meter's counts
        return await self._meter.read(self._stream, max_bytes)

    async def write(self, buffer: bytes, timeout: float | None = None) -> None:
        await self._stream.write(buffer, timeout)

    async def aclose(self) -> None:
        await self._stream.aclose()

    async def start_tls(
        self,
        ssl_context: ssl.SSLContext,
        server_hostname: str | None = None,
        timeout: float | None = None,  # noqa: ARG002 - what connecting left of its own
    ) -> httpcore.AsyncNetworkStream:
        network, meter = self._network, self._meter
        try:
            async with network.in_time():
                stream = await self._stream.start_tls(ssl_context, server_hostname)
        except (httpcore.ConnectError, ssl.SSLError) as error:
            raise _no_tls(meter.shown, error) from error
        return _MeteredStream(stream, meter, network)

    def get_extra_info(self, info: str) -> Any:
        return self._stream.get_extra_info(info)


def _not_connected(shown: str, seconds: float) -> FetchTimeoutError:
    return FetchTimeoutError(f"{shown} did not connect within {seconds:g} s", "later")


def _no_tls(shown: str, error: BaseException) -> FetchError:
    cause = error if isinstance(error, ssl.SSLError) else error.__cause__
    if isinstance(cause, ssl.SSLCertVerificationError):
        return FetchRefusedError(
            f"{shown} is refused: its certificate does not prove the name: {cause.verify_message}",
            "the server's certificate, or the certificate authorities trusted here",
        )
    reason = getattr(cause, "reason", None) or "the connection was closed"
    return FetchError(f"{shown}: the TLS handshake failed: {reason}")
