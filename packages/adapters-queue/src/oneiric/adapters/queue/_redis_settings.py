"""Where the Redis server is and how to talk to it: the settings, and the client they make."""

from pathlib import Path
from typing import Final, NamedTuple, Self
from urllib.parse import unquote, urlsplit

from pydantic import BaseModel, ConfigDict, Field, field_validator, model_validator
from redis.asyncio import Redis
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff

from oneiric.core import Secret

__all__ = ["RedisStreamsQueueSettings", "connect"]

_SCHEMES: Final = ("redis", "rediss", "unix")
_NAME: Final = r"^[!-z|~]+$"  # printable, and no braces: they would say where in a cluster a key lives


class RedisStreamsQueueSettings(BaseModel):
    """Settings of the queue on Redis Streams.

    Attributes:
        stream: The stream's key; further keys begin with it in braces.
        group: The consumer group; each group receives every message, and a queue is one group.
        consumer: What ``XINFO CONSUMERS`` shows; several instances may have the same.
        url: ``redis://``, ``rediss://`` (TLS; certificates and host names are always verified) or ``unix://``. A
            secret, because it may hold the password. It takes no query parameters: they could switch verification off.
        username: The ACL user, unless the URL names it.
        password: Its password, instead of one in the URL.
        ssl_ca_certs: File with the certificates of your own authority; by default, the system's.
        block_ms: How long one request waits for a message at most; a longer wait asks again.
        maxlen: Messages the queue holds at most; then `enqueue` is refused. None is no bound. Nothing is ever dropped.
        auto_create_group: Make stream and group when they are missing.
        consumer_buffer_size: Accepted from earlier configurations, without effect: `receive` says how many it takes.
        healthcheck_timeout: Seconds the PING of ``init()`` and ``health()`` may take.
        socket_timeout: Seconds to connect, and seconds to answer, before `AdapterTimeoutError`.
        max_connections: Connections at most; more callers than that wait their turn.
        visibility_seconds: How long a received message is nobody else's, unless extended.
        dedup_window_seconds: How long a ``dedup_id`` is remembered.
        max_payload_bytes: The largest message, as compact JSON.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", hide_input_in_errors=True)

    stream: str = Field(default="oneiric-queue", pattern=_NAME, max_length=256)
    group: str = Field(default="oneiric", pattern=_NAME, max_length=256)
    consumer: str = Field(default="oneiric-consumer", pattern=_NAME, max_length=256)
    url: Secret = Secret("redis://localhost:6379/0")
    username: str | None = None
    password: Secret | None = None
    ssl_ca_certs: Path | None = None
    block_ms: int = Field(default=1000, ge=0, le=3_600_000)
    maxlen: int | None = Field(default=None, ge=1)
    auto_create_group: bool = True
    consumer_buffer_size: int = Field(default=1, ge=1)
    healthcheck_timeout: float = Field(default=2.0, gt=0, le=3600)
    socket_timeout: float = Field(default=5.0, gt=0, le=3600)
    max_connections: int = Field(default=64, ge=2)
    visibility_seconds: float = Field(default=30.0, ge=0.05, le=43_200)
    dedup_window_seconds: float = Field(default=300.0, gt=0, le=604_800)
    max_payload_bytes: int = Field(default=1_048_576, ge=1, le=67_108_864)

    @field_validator("url")
    @classmethod
    def _check_url(cls, url: Secret) -> Secret:
        _read(url)
        return url

    @model_validator(mode="after")
    def _check_together(self) -> Self:
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


def connect(settings: RedisStreamsQueueSettings) -> tuple[Redis, str]:
    """Return a client, not yet connected, and the server's place for messages, without credentials."""
    at = _read(settings.url)
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
        decode_responses=False,
    )
    return client, at.socket or f"{at.host}:{at.port}/{at.db}"
