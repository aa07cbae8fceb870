"""Where the NATS servers are and how to talk to them: the settings, and the client they make."""

import random
import ssl
from collections.abc import Awaitable, Callable, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any, Final, Self
from urllib.parse import urlsplit

from nats.aio.client import Client, Server
from nats.errors import Error as NatsError
from nats.errors import SecureConnWantedError
from pydantic import BaseModel, ConfigDict, Field, field_validator, model_validator

from oneiric.core import Secret

__all__ = ["NATSQueueSettings", "connect", "disconnect", "place_of"]

_SCHEMES: Final = ("nats", "tls")
_DEFAULT_SERVER: Final = Secret("nats://127.0.0.1:4222")
#: The longest pause between two attempts, so that work goes on soon after the server is back.
_LONGEST_PAUSE_SECONDS: Final = 2.0


class NATSQueueSettings(BaseModel):
    """Settings of the queue on NATS JetStream.

    Attributes:
        servers: ``nats://`` or ``tls://`` URLs of one cluster; secrets, because they may hold credentials.
        name: What the server's monitoring shows.
        queue: Names the stream, the consumer and the subjects: letters, digits, ``-`` and ``_``.
        connect_timeout: Seconds to connect to one server.
        ping_interval: Seconds between pings; after two that were not answered the connection counts as lost.
        max_reconnect_attempts: Attempts for each server in a row, -1 without end; a later call begins anew.
        reconnect_time_wait: Seconds; attempts are a random time apart, up to this, doubled each time, at most 2 s.
        tls: Speak TLS, as with a ``tls://`` URL: certificates and host names are always verified, and a server that
            does not offer it is refused before anything is said to it.
        tls_ca_certs: File with the certificates of your own authority; by default, the system's.
        username: The user, unless the URL names it.
        password: Its password.
        token: A token, instead of user and password.
        request_timeout: Seconds the server may take to answer, before `AdapterTimeoutError`.
        auto_create: Make streams and consumer when they are missing. Those that are there are used as they are.
        replicas: Servers that keep each message, of streams that are made.
        visibility_seconds: How long a received message is nobody else's, unless extended: the consumer's ``ack_wait``.
        dedup_window_seconds: How long a ``dedup_id`` is remembered, by streams that are made.
        max_payload_bytes: The largest message, as compact JSON; never more than the server takes.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", hide_input_in_errors=True)

    servers: tuple[Secret, ...] = Field(default=(_DEFAULT_SERVER,), min_length=1)
    name: str = "oneiric-nats"
    queue: str = Field(default="oneiric", pattern=r"^[A-Za-z0-9_-]{1,128}$")
    connect_timeout: float = Field(default=2.0, gt=0, le=3600)
    ping_interval: float = Field(default=2.0, gt=0, le=3600)
    max_reconnect_attempts: int = Field(default=60, ge=-1)
    reconnect_time_wait: float = Field(default=1.0, gt=0, le=3600)
    tls: bool = False
    tls_ca_certs: Path | None = None
    username: str | None = None
    password: Secret | None = None
    token: Secret | None = None
    request_timeout: float = Field(default=5.0, gt=0, le=3600)
    auto_create: bool = True
    replicas: int = Field(default=1, ge=1, le=5)
    visibility_seconds: float = Field(default=30.0, ge=0.05, le=43_200)
    dedup_window_seconds: float = Field(default=300.0, ge=0.1, le=604_800)
    max_payload_bytes: int = Field(default=1_048_576, ge=1, le=67_108_864)

    @field_validator("servers")
    @classmethod
    def _check_servers(cls, servers: tuple[Secret, ...]) -> tuple[Secret, ...]:
        for server in servers:
            try:
                parts = urlsplit(server.reveal())
                is_good = parts.scheme in _SCHEMES and bool(parts.hostname) and parts.port != 0
            except ValueError:
                is_good = False
            if not is_good:
                raise ValueError("must be URLs that begin with nats:// or tls://")
        return servers

    @model_validator(mode="after")
    def _check_together(self) -> Self:
        if (self.username is None) != (self.password is None):
            raise ValueError("username and password go together")
        if self.token is not None and self.username is not None:
            raise ValueError("give either a token or a username, not both")
        return self

    @property
    def wants_tls(self) -> bool:
        """Whether nothing may be said in the clear."""
        return self.tls or any(server.reveal().startswith("tls://") for server in self.servers)


class _Client(Client):
    """A client that says nothing in the clear to a server that does not offer TLS.

    nats-py speaks TLS where the server asks for it, and only there: whoever answers could do without.
    """

    wants_tls = False

    async def _process_info(self, info: dict[str, Any], initial_connection: bool = False) -> None:  # noqa: FBT001, FBT002 - nats-py's
        if self.wants_tls and initial_connection and not info.get("tls_required"):
            raise SecureConnWantedError
        await super()._process_info(info, initial_connection)


def place_of(settings: NATSQueueSettings) -> str:
    """Name the servers for messages, without credentials."""
    parts = [urlsplit(server.reveal()) for server in settings.servers]
    return ", ".join(f"{part.hostname}:{part.port or 4222}" for part in parts)


async def connect(settings: NATSQueueSettings, on_error: Callable[[Exception], Awaitable[None]]) -> Client:
    """Return a connected client; it connects again by itself.

    Args:
        settings: Where to.
        on_error: Told what goes wrong in the background.

    Raises:
        Exception: What nats-py, asyncio or the system raised.
    """
    client = _Client()
    client.wants_tls = settings.wants_tls
    context = None
    if settings.wants_tls:
        ca_certs = None if settings.tls_ca_certs is None else str(settings.tls_ca_certs)
        context = ssl.create_default_context(cafile=ca_certs)
    try:
        await client.connect(
            [server.reveal() for server in settings.servers],
            error_cb=on_error,
            name=settings.name,
            connect_timeout=settings.connect_timeout,  # type: ignore[arg-type]  # nats-py says int, and takes both
            ping_interval=settings.ping_interval,  # type: ignore[arg-type]  # likewise
            max_reconnect_attempts=settings.max_reconnect_attempts,
            reconnect_time_wait=min(settings.reconnect_time_wait, _LONGEST_PAUSE_SECONDS),  # type: ignore[arg-type]
            reconnect_to_server_handler=_pause_of(settings.reconnect_time_wait),
            tls=context,
            user=settings.username,
            password=None if settings.password is None else settings.password.reveal(),
            token=None if settings.token is None else settings.token.reveal(),
        )
    except BaseException:
        await disconnect(client)
        raise
    return client


async def disconnect(client: Client) -> None:
    """Close a connection, whatever state it is in."""
    with suppress(NatsError, OSError):  # what a broken connection breaks with is known already
        await client.close()


def _pause_of(base_seconds: float) -> Callable[[list[Server], Mapping[str, Any]], tuple[Server | None, float]]:
    """Say which server is tried next, and after how long: full jitter, so that many clients do not come at once."""

    def choose(servers: list[Server], _info: Mapping[str, Any]) -> tuple[Server | None, float]:
        server = min(servers, key=lambda one: one.reconnects)
        longest = min(_LONGEST_PAUSE_SECONDS, base_seconds * 2.0 ** min(server.reconnects, 30))
        return server, random.random() * longest  # noqa: S311 - spreads load

    return choose
