"""Which URLs may be fetched and which addresses connected to: a pure judgement, no connection is opened."""

import re
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv6Address, IPv6Network, ip_address, ip_network
from typing import Final
from urllib.parse import urlsplit

from oneiric.core._errors_choosing import listed
from oneiric.core.errors import ConfigurationError, FetchRefusedError

__all__ = ["UrlParts", "UrlPolicy"]

type Address = IPv4Address | IPv6Address

_MAX_URL_LENGTH: Final = 2048
_DEFAULT_PORTS: Final = {"https": 443, "http": 80, "wss": 443, "ws": 80}
#: Printable ASCII but for the space and the backslash, on whose meaning parsers disagree.
_PLAIN = re.compile(r"[!-\[\]-~]+\Z")
_HOST = re.compile(r"[a-z0-9_](?:[a-z0-9_-]*[a-z0-9_])?(?:\.[a-z0-9_](?:[a-z0-9_-]*[a-z0-9_])?)*\Z")
#: An address in any of the spellings that resolvers accept: ``2130706433``, ``0x7f.1``, ``0177.1``.
_NUMERIC = re.compile(r"(?:.*\.)?(?:[0-9]+|0x[0-9a-f]*)\Z")
#: A cloud's metadata service on an address that looks public.
_METADATA: Final = frozenset({IPv4Address("168.63.129.16")})
_NAT64: Final = IPv6Network("64:ff9b::/96")


@dataclass(frozen=True, slots=True, kw_only=True)
class UrlParts:
    """A URL that a policy let through, in the one way it is to be understood.

    Attributes:
        scheme: Lower case.
        host: Lower case, without brackets or trailing dot: connect to, and verify the certificate of, this.
        port: As given, or the scheme's own.
        target: Path and query, as sent in the request line.
        address: The host, when it is an address and not a name.
    """

    scheme: str
    host: str
    port: int
    target: str
    address: Address | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class UrlPolicy:
    """Judge URLs before they are fetched and addresses before they are connected to.

    Both checks are needed: a name that passes `check_url` may resolve to anything, so the address that is
    connected to goes through `check_address` first, and it is the checked one that is used.

    Attributes:
        schemes: What may be fetched; ``https`` alone by default.
        hosts: Names or addresses that may be asked, ``*.example.org`` for every name below one; None is any.
        ports: Ports besides the scheme's own.
        private_networks: Networks in CIDR notation that may be reached although they are not public, such as
            ``("127.0.0.0/8", "10.1.0.0/16")``; none by default.

    Raises:
        ConfigurationError: A network is malformed, or a collection is a bare string.
    """

    schemes: tuple[str, ...] = ("https",)
    hosts: tuple[str, ...] | None = None
    ports: tuple[int, ...] = ()
    private_networks: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        for name in ("schemes", "hosts", "ports", "private_networks"):
            value = getattr(self, name)
            if isinstance(value, str):
                raise ConfigurationError(f"URL policy: {name} must be a sequence, not {value!r}")
            object.__setattr__(self, name, None if value is None else tuple(value))
        if self.hosts is not None:
            object.__setattr__(self, "hosts", tuple(host.lower().removesuffix(".") for host in self.hosts))
        for network in self.private_networks:
            try:
                ip_network(network)
            except ValueError as error:
                raise ConfigurationError(f"URL policy: {network!r} is not a network: {error}") from error

    def check_url(self, url: object) -> UrlParts:
        """Return the parts of *url* if it may be fetched.

        Raises:
            FetchRefusedError: It is malformed, ambiguous, carries credentials, or is outside the policy.
        """
        shown = _shown(url)
        if not isinstance(url, str) or len(url) > _MAX_URL_LENGTH or not _PLAIN.match(url):
            raise FetchRefusedError(f"{shown} is not a URL of at most {_MAX_URL_LENGTH} plain characters")
        try:
            split = urlsplit(url)
            port = split.port
        except ValueError as error:
            raise FetchRefusedError(f"{shown} is malformed: {error}") from error
        if split.scheme not in self.schemes:
            raise FetchRefusedError(f"{shown} is refused: scheme must be one of {listed(self.schemes)}")
        if "@" in split.netloc:
            raise FetchRefusedError(f"{shown} is refused: it carries credentials", "a secret, not the URL")
        host, address = _host(split.hostname, split.netloc, shown)
        self._check_host(host, shown)
        if address is not None:
            self.check_address(address)
        port = self._port(split.scheme, port, shown)
        target = (split.path or "/") + (f"?{split.query}" if split.query else "")
        return UrlParts(scheme=split.scheme, host=host, port=port, target=target, address=address)

    def _check_host(self, host: str, shown: str) -> None:
        if self.hosts is None or host in self.hosts:
            return
        if any(allowed.startswith("*.") and host.endswith(allowed[1:]) for allowed in self.hosts):
            return
        raise FetchRefusedError(f"{shown} is refused: host {host!r} is not allowed (allowed: {listed(self.hosts)})")

    def _port(self, scheme: str, port: int | None, shown: str) -> int:
        default = _DEFAULT_PORTS.get(scheme)
        chosen = default if port is None else port
        if chosen is None or (chosen != default and chosen not in self.ports):
            allowed = listed(str(number) for number in (default, *self.ports) if number is not None)
            raise FetchRefusedError(f"{shown} is refused: port {chosen} is not allowed (allowed: {allowed})")
        return chosen

    def check_address(self, address: str | Address) -> Address:
        """Return *address* parsed if it may be connected to: it is public, or in one of `private_networks`.

        An IPv4 address inside an IPv6 one (mapped, 6to4, Teredo, NAT64) is judged as what it leads to.

        Raises:
            FetchRefusedError: It is not an address, or it is private, local, multicast or reserved.
        """
        try:
            parsed = ip_address(address)
        except ValueError as error:
            raise FetchRefusedError(f"{_shown(address)} is not an IP address") from error
        for each in (parsed, *_embedded(parsed)):
            if not _is_public(each) and not self._is_permitted(each):
                raise FetchRefusedError(
                    f"address {str(each)!r} is refused: it is not public",
                    "a private_networks entry, if you mean to reach it",
                )
        return parsed

    def _is_permitted(self, address: Address) -> bool:
        networks = (ip_network(network) for network in self.private_networks)
        return any(address.version == network.version and address in network for network in networks)


def _is_public(address: Address) -> bool:
    if isinstance(address, IPv6Address) and (address.ipv4_mapped is not None or address in _NAT64):
        return True  # it leads to the IPv4 address inside and is judged by that
    return (
        address.is_global
        and not address.is_multicast
        and not address.is_reserved
        and not address.is_unspecified
        and address not in _METADATA
    )


def _embedded(address: Address) -> list[IPv4Address]:
    """Return the IPv4 addresses that an IPv6 one leads to."""
    if isinstance(address, IPv4Address):
        return []
    found = [address.ipv4_mapped, address.sixtofour, *(address.teredo or ())[1:]]
    if address in _NAT64:
        found.append(IPv4Address(int(address) & 0xFFFFFFFF))
    return [each for each in found if each is not None]


def _host(host: str | None, netloc: str, shown: str) -> tuple[str, Address | None]:
    """Return the host in its one spelling, and the address it is, if it is one."""
    if not host:
        raise FetchRefusedError(f"{shown} is refused: it names no host")
    host = host.removesuffix(".")
    if netloc.startswith("[") or _NUMERIC.match(host):
        try:
            address = ip_address(host)
        except ValueError as error:
            raise FetchRefusedError(f"{shown} is refused: {host!r} is not an address in its plain form") from error
        return str(address), address
    if len(host) > 253 or not _HOST.match(host):
        raise FetchRefusedError(f"{shown} is refused: {host!r:.80} is not a host name")
    return host, None


def _shown(url: object) -> str:
    """Render *url* for a sentence: without credentials, query or length."""
    text = url if isinstance(url, str) else f"<{type(url).__name__}>"
    head, separator, rest = text.partition("://")
    authority, slash, path = rest.partition("/")
    text = f"{head}{separator}{authority.rpartition('@')[2]}{slash}{path.partition('?')[0]}"
    return repr(text if len(text) <= 120 else f"{text[:120]}…")
