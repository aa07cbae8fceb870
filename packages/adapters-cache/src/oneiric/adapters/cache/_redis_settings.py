"""Where the Redis server is and how to talk to it: the settings, and the client they make."""

from pathlib import Path
from typing import Final, NamedTuple, Self
from urllib.parse import unquote, urlsplit

from pydantic import BaseModel, ConfigDict, Field, field_validator, model_validator
from redis.asyncio import Redis
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff

from oneiric.adapters.cache._values import MAX_TTL
from oneiric.core import Secret

__all__ = ["RedisCacheSettings", "connect"]

_SCHEMES: Final = ("redis", "rediss", "unix")
#: What a URL says already; stating it twice is a contradiction waiting to happen.
_IN_URL: Final = ("host", "port", "db", "ssl")


class RedisCacheSettings(BaseModel):
    """Settings of the Redis cache.

    Attributes:
        url: ``redis://``, ``rediss://`` (TLS) or ``unix://``, instead of host, port, db and ssl. A secret,
            because it may hold the password. It takes no query parameters: they could switch verification
            off.
        host: Name or address of the server.
        port: Its TCP port.
        db: Number of the logical database.
        username: The ACL user; needs a password.
        password: Its password.
        ssl: Speak TLS; certificate and host name are always verified.
        ssl_ca_certs: File with the certificates of your own authority; by default, the system's.
        socket_timeout: Seconds to connect, and seconds to answer, before `AdapterTimeoutError`.
        healthcheck_timeout: Seconds the PING of ``init()`` and ``health()`` may take.
        client_name: What ``CLIENT LIST`` shows.
        max_connections: Connections at most; more callers than that wait their turn.
        key_prefix: Put before every key. ``clear()`` removes what is under it, and refuses to work without
            one.
        default_ttl: Seconds an entry lives when ``set`` does not say; None for ever (the server may still
            evict it).
    """

    model_config = ConfigDict(frozen=True, extra="forbid", hide_input_in_errors=True)

    url: Secret | None = None
    host: str = Field(default="localhost", min_length=1)
    port: int = Field(default=6379, ge=1, le=65535)
    db: int = Field(default=0, ge=0)
    username: str | None = None
    password: Secret | None = None
    ssl: bool = False
    ssl_ca_certs: Path | None = None
    socket_timeout: float = Field(default=5.0, gt=0, le=3600)
    healthcheck_timeout: float = Field(default=2.0, gt=0, le=3600)
    client_name: str = Field(default="oneiric", pattern=r"^[!-~]*$")
    max_connections: int = Field(default=64, ge=1)
    key_prefix: str = Field(default="oneiric:cache:", max_length=256)
    default_ttl: float | None = Field(default=None, gt=0, le=MAX_TTL)

    @field_validator("url")
    @classmethod
    def _check_url(cls, url: Secret | None) -> Secret | None:
        if url is not None:
            _read(url)
        return url

    @model_validator(mode="after")
    def _check_together(self) -> Self:
        twice = [name for name in _IN_URL if self.url is not None and name in self.model_fields_set]
        if twice:
            raise ValueError(f"give either url or {', '.join(twice)}, not both")
        if self.username is not None and self.password is None:
            raise ValueError("a username needs a password")
        return self


class _Address(NamedTuple):
    """What a URL says; its repr is never shown, for it holds the password."""

    host: str
    port: int
    db: int
    ssl: bool
    socket: str | None
    username: str | None
    password: str | None


def _read(url: Secret) -> _Address:
    """Take *url* apart.

    Raises:
        ValueError: It is malformed; the message does not repeat it.
    """
    try:
        parts = urlsplit(url.reveal())
        port = parts.port
    except ValueError:
        raise ValueError("is no valid URL") from None  # the cause would repeat the URL
    if parts.scheme not in _SCHEMES:
        raise ValueError("must begin with redis://, rediss:// or unix://")
    if parts.query or parts.fragment:
        raise ValueError("takes no query parameters: use the settings of the same purpose")
    is_socket = parts.scheme == "unix"
    db = "" if is_socket else parts.path.strip("/")
    if db and not (db.isascii() and db.isdigit()):
        raise ValueError("has a path that is no database number")
    if is_socket and not parts.path.strip("/"):
        raise ValueError("has no path of a socket")
    return _Address(
        host=parts.hostname or "localhost",
        port=port or 6379,
        db=int(db or 0),
        ssl=parts.scheme == "rediss",
        socket=unquote(parts.path) if is_socket else None,
        username=unquote(parts.username) if parts.username else None,
        password=unquote(parts.password) if parts.password else None,
    )


def connect(settings: RedisCacheSettings) -> tuple[Redis, str]:
    """Return a client, not yet connected, and the server's place for messages, without credentials."""
    at = _address(settings)
    client = Redis(
        host=at.host,
        port=at.port,
        db=at.db,
        username=settings.username or at.username,
        password=at.password if settings.password is None else settings.password.reveal(),
        unix_socket_path=at.socket,
        ssl=at.ssl,
        ssl_ca_certs=None if settings.ssl_ca_certs is None else str(settings.ssl_ca_certs),
        ssl_cert_reqs="required",
        ssl_check_hostname=True,
        socket_timeout=settings.socket_timeout,
        socket_connect_timeout=settings.socket_timeout,
        # The adapter decides what may be sent again; here everything would be.
        retry=Retry(NoBackoff(), 0),
        max_connections=settings.max_connections,
        client_name=settings.client_name or None,
        decode_responses=False,
    )
    return client, at.socket or f"{at.host}:{at.port}/{at.db}"


def _address(settings: RedisCacheSettings) -> _Address:
    if settings.url is not None:
        return _read(settings.url)
    return _Address(settings.host, settings.port, settings.db, settings.ssl, None, None, None)
