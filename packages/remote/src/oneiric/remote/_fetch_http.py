"""One request, one answer, one connection; nothing is kept for the next."""

import asyncio
import ssl
import time
from collections.abc import Sequence
from contextlib import aclosing
from ipaddress import ip_address
from typing import Any, Final, cast
from urllib.parse import unquote, urlsplit

import httpcore

from oneiric.core.errors import ConfigurationError, FetchError
from oneiric.core.security import UrlParts
from oneiric.remote._fetch_answer import judge
from oneiric.remote._fetch_body import Body
from oneiric.remote._fetch_network import CheckedNetwork, Lookup, Meter
from oneiric.remote._fetch_policy import Credential, FetchLimits, FetchPolicy, place
from oneiric.remote._fetch_values import Wanted

__all__ = ["HttpSource"]

_DEFAULT_PORTS: Final = {"https": 443, "http": 80}


class HttpSource:
    """Ask servers, each time over a new connection: what was checked for one request is not used for another.

    Args:
        policy: Where it may go.
        limits: How much an answer may cost.
        lookup: Finds addresses.
        tls: Must verify certificates and names; by default the system's authorities decide.
        credentials: Each is sent to its own origin.

    Raises:
        ConfigurationError: *tls* does not verify.
    """

    def __init__(
        self,
        policy: FetchPolicy,
        limits: FetchLimits,
        *,
        lookup: Lookup,
        tls: ssl.SSLContext | None,
        credentials: Sequence[Credential],
    ) -> None:
        if tls is not None and (tls.verify_mode is not ssl.CERT_REQUIRED or not tls.check_hostname):
            raise ConfigurationError("fetch: the TLS context must verify certificates and host names")
        self._policy = policy
        self._limits = limits
        self._lookup = lookup
        self._tls = tls
        self._credentials = tuple(credentials)

    async def get(self, parts: UrlParts, wanted: Wanted) -> tuple[Body | None, str | None]:
        """Return the body and its entity tag; None for a body that the caller has already.

        Raises:
            FetchError: Or one below it: it could not be had, or its headers are not acceptable.
            DigestError: It has not the length that was expected.
        """
        where = repr(place(parts))
        meter = Meter(where, self._limits)
        connection, network = await self._connection(parts, meter)
        request = httpcore.Request(
            "GET",
            httpcore.URL(scheme=parts.scheme, host=parts.host, port=parts.port, target=parts.target),
            headers=self._headers(parts, wanted),
        )
        try:
            response = await connection.handle_async_request(request)
            meter.is_in_body = True
            answer = judge(
                response.status,
                response.headers,
                wanted=wanted,
                limits=self._limits,
                shown=where,
                now=time.time(),
            )
            if not answer.is_modified:
                return None, wanted.etag
            body = Body(wanted, where, answer.length_bytes)
            async with aclosing(cast("Any", aiter(cast("Any", response.stream)))) as chunks:
                async for chunk in chunks:
                    meter.body_bytes += len(chunk)
                    body.add(chunk)
            return body, answer.etag
        except (httpcore.NetworkError, httpcore.ProtocolError, httpcore.ProxyError) as error:
            raise FetchError(f"{where}: {_broke(error)}, after {meter.wire_bytes} bytes", "later") from error
        finally:
            await connection.aclose()
            await network.aclose()

    def _headers(self, parts: UrlParts, wanted: Wanted) -> list[tuple[str, str]]:
        host = f"[{parts.host}]" if ":" in parts.host else parts.host
        port = "" if parts.port == _DEFAULT_PORTS[parts.scheme] else f":{parts.port}"
        headers = [
            ("Host", f"{host}{port}"),
            ("User-Agent", "oneiric-remote"),
            ("Accept", "*/*"),
            ("Accept-Encoding", "identity"),
            ("Connection", "close"),
        ]
        if wanted.etag is not None:
            headers.append(("If-None-Match", wanted.etag))
        headers += [(each.header, each.value.reveal()) for each in self._credentials if each.belongs_to(parts)]
        return headers

    async def _connection(
        self, parts: UrlParts, meter: Meter
    ) -> tuple[httpcore.AsyncHTTPConnection | httpcore.AsyncHTTPProxy, CheckedNetwork]:
        if self._tls is None and parts.scheme == "https":
            # It reads a file with every authority there is.
            self._tls = await asyncio.to_thread(_system_authorities)
        seconds = self._limits.connect_seconds
        proxy = self._proxy(parts)
        if proxy is None:
            network = CheckedNetwork(self._lookup, self._policy.check_address, seconds, meter)
            origin = httpcore.Origin(parts.scheme.encode(), parts.host.encode(), parts.port)
            connection = httpcore.AsyncHTTPConnection(origin, ssl_context=self._tls, network_backend=network)
            return connection, network
        # The operator named the proxy, and it connects for us: its own address is not held against the policy.
        network = CheckedNetwork(self._lookup, _any_address, seconds, meter)
        split = urlsplit(proxy)
        account = None if split.username is None else (unquote(split.username), unquote(split.password or ""))
        bare = f"{split.scheme}://{split.netloc.rpartition('@')[2]}"
        return httpcore.AsyncHTTPProxy(
            bare, proxy_auth=account, ssl_context=self._tls, network_backend=network
        ), network

    def _proxy(self, parts: UrlParts) -> str | None:
        if self._policy.proxy is not None or not self._policy.proxy_from_environment:
            return self._policy.proxy
        from urllib.request import getproxies_environment, proxy_bypass  # noqa: PLC0415 - only who asks pays

        if proxy_bypass(parts.host):
            return None
        return getproxies_environment().get(parts.scheme)


def _any_address(address: str) -> str:
    return str(ip_address(address))


def _system_authorities() -> ssl.SSLContext:
    paths = ssl.get_default_verify_paths()
    if paths.cafile is not None or paths.capath is not None:
        return ssl.create_default_context()
    import certifi  # noqa: PLC0415 - only where the system has no authorities of its own

    return ssl.create_default_context(cafile=certifi.where())


def _broke(error: Exception) -> str:
    """Say how a connection broke; what the server wrote is shown as text, and not much of it."""
    if isinstance(error, httpcore.NetworkError):
        return "the connection broke"
    said = f"{error!s:.120}".encode("ascii", "backslashreplace").decode()
    return "the answer is not HTTP: " + "".join(letter if letter.isprintable() else "?" for letter in said)
