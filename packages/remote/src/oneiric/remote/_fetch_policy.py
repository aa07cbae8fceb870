"""What may be fetched, how much of it, and for how long; and a credential that knows where it belongs."""

import re
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Final
from urllib.parse import urlsplit

from oneiric.core import Secret
from oneiric.core.errors import ConfigurationError, FetchRefusedError
from oneiric.core.security import UrlParts, UrlPolicy

__all__ = ["Credential", "FetchLimits", "FetchPolicy", "place"]

_ANYWHERE: Final = ("0.0.0.0/0", "::/0")
_HEADER_NAME = re.compile(r"[A-Za-z0-9!#$%&'*+.^_`|~-]+\Z")
_HEADER_VALUE = re.compile(r"[!-~](?:[ -~]*[!-~])?\Z")
#: Headers that the fetcher writes itself, or that would change what an answer means.
_NOT_FOR_CREDENTIALS: Final = frozenset(
    {"accept", "accept-encoding", "connection", "content-length", "expect", "host", "if-none-match", "range"}
    | {"te", "trailer", "transfer-encoding", "upgrade", "user-agent"}
)


@dataclass(frozen=True, slots=True, kw_only=True)
class FetchLimits:
    """How much a fetch may take of anything. All must be above zero, but for `jitter`.

    Attributes:
        connect_seconds: For looking a name up, connecting and the TLS handshake together.
        total_seconds: For the whole fetch, its retries, pauses and mirrors included.
        minimum_rate_bytes: Per second, over `rate_window_seconds`; what is slower is cut.
        rate_window_seconds: The span the rate is taken over; a stall is cut after this long.
        max_bytes: Of a body, where the caller expects no length or a larger one.
        max_header_bytes: Of an answer's header section.
        max_headers: Lines of it.
        attempts: Requests to one source, the first included.
        backoff_seconds: The longest first pause; it is doubled with each attempt.
        backoff_cap_seconds: The most it grows to.
        jitter: Share of a pause that is left to chance, from 0 to 1: with 1 it is anything from zero to the longest.
        retry_after_cap_seconds: A server that asks for a longer pause is not asked again by this fetch.
        failures_to_open: So many failures of a host in a row, and it is left alone.
        open_seconds: For at most this long (and half of it at least); then one request tries it.
        cool_down_seconds: For so long a source that failed is asked after all others.

    Raises:
        ConfigurationError: A limit is not above zero, or the jitter is no share.
    """

    connect_seconds: float = 5.0
    total_seconds: float = 30.0
    minimum_rate_bytes: int = 1024
    rate_window_seconds: float = 10.0
    max_bytes: int = 64 * 1024 * 1024
    max_header_bytes: int = 16 * 1024
    max_headers: int = 100
    attempts: int = 3
    backoff_seconds: float = 0.2
    backoff_cap_seconds: float = 5.0
    jitter: float = 1.0
    retry_after_cap_seconds: float = 10.0
    failures_to_open: int = 5
    open_seconds: float = 1.5
    cool_down_seconds: float = 30.0

    def __post_init__(self) -> None:
        if not 0 <= self.jitter <= 1:
            raise ConfigurationError(f"fetch limit jitter must be a share from 0 to 1, not {self.jitter!r}")
        for each in fields(self):
            value = getattr(self, each.name)
            if each.name != "jitter" and not value > 0:
                raise ConfigurationError(f"fetch limit {each.name} must be above zero, not {value!r}")


@dataclass(frozen=True, slots=True, kw_only=True)
class FetchPolicy:
    """Where a fetcher may go.

    Attributes:
        hosts: Hosts that may be asked over https, ``*.example.org`` for every name below one; None is any.
        http_hosts: Hosts that may be asked without TLS; none by default.
        ports: Ports besides the scheme's own.
        private_networks: Networks that may be reached although they are not public; none by default.
        roots: Directories below which local files may be read; none by default.
        proxy: ``http://host:port`` of a proxy to go through. It looks the names up, so that the addresses it
            connects to cannot be checked here: it must do that itself.
        proxy_from_environment: Take the proxy from ``HTTPS_PROXY`` and ``NO_PROXY``; otherwise they are ignored.

    Raises:
        ConfigurationError: A network or the proxy is malformed, or a collection is a bare string.
    """

    hosts: tuple[str, ...] | None = None
    http_hosts: tuple[str, ...] = ()
    ports: tuple[int, ...] = ()
    private_networks: tuple[str, ...] = ()
    roots: tuple[Path, ...] = ()
    proxy: str | None = None
    proxy_from_environment: bool = False
    _https: UrlPolicy = field(init=False, repr=False, compare=False)
    _http: UrlPolicy = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        if isinstance(self.roots, str | Path):
            raise ConfigurationError(f"fetch policy: roots must be a sequence, not {self.roots!r}")
        object.__setattr__(self, "roots", tuple(Path(root) for root in self.roots))
        for name, scheme, hosts in (("_https", "https", self.hosts), ("_http", "http", self.http_hosts)):
            policy = UrlPolicy(schemes=(scheme,), hosts=hosts, ports=self.ports, private_networks=self.private_networks)
            object.__setattr__(self, name, policy)
        if self.proxy is not None:
            _origin(self.proxy, "proxy", ("http", "https"))

    def check_url(self, url: str) -> UrlParts:
        """Return the parts of *url* if it may be fetched.

        Raises:
            FetchRefusedError: It is malformed or outside the policy.
        """
        plain = self.http_hosts and url.partition(":")[0].lower() == "http"
        return (self._http if plain else self._https).check_url(url)

    def check_address(self, address: str) -> str:
        """Return *address* in its plain form if it may be connected to.

        Raises:
            FetchRefusedError: It is not an address, or neither public nor in one of `private_networks`.
        """
        return str(self._https.check_address(address))


@dataclass(frozen=True, slots=True, kw_only=True)
class Credential:
    """A header that is sent to one origin and to no other.

    Attributes:
        origin: ``https://host`` or ``https://host:port``; a path behind it is ignored.
        value: The header's value, such as ``Secret("Bearer …")``; printable ASCII.
        header: Its name.

    Raises:
        ConfigurationError: The origin is not https, or the header could not be sent as it is. Never shows the value.
    """

    origin: str
    value: Secret
    header: str = "Authorization"
    _place: tuple[str, str, int] = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        if not _HEADER_NAME.match(self.header) or self.header.lower() in _NOT_FOR_CREDENTIALS:
            raise ConfigurationError(f"credential for {self.origin!r}: {self.header!r} is not a header for it")
        value: object = self.value  # whoever has no type checker passes a text
        if not isinstance(value, Secret) or not _HEADER_VALUE.match(value.reveal()):
            raise ConfigurationError(f"credential for {self.origin!r}: its value must be a Secret of printable ASCII")
        parts = _origin(self.origin, "credential", ("https",))
        object.__setattr__(self, "_place", (parts.scheme, parts.host, parts.port))

    def belongs_to(self, parts: UrlParts) -> bool:
        """Say whether *parts* is at the origin: the same scheme, host and port."""
        return (parts.scheme, parts.host, parts.port) == self._place


def _origin(url: str, what: str, schemes: tuple[str, ...]) -> UrlParts:
    try:
        port = urlsplit(url).port
        policy = UrlPolicy(schemes=schemes, ports=() if port is None else (port,), private_networks=_ANYWHERE)
        return policy.check_url(url)
    except (ValueError, FetchRefusedError) as error:
        raise ConfigurationError(f"fetch policy: {what}: {error}") from error


def place(parts: UrlParts) -> str:
    """Return where something comes from, without query and not too long."""
    host = f"[{parts.host}]" if ":" in parts.host else parts.host
    port = "" if parts.port == {"https": 443, "http": 80}[parts.scheme] else f":{parts.port}"
    text = f"{parts.scheme}://{host}{port}{parts.target.partition('?')[0]}"
    return text if len(text) <= 120 else f"{text[:120]}…"
