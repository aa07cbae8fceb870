"""ControlApp: the ASGI application of a running system. Probes here; the control API is loaded at its first use."""

import asyncio
import os
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING, Any, Final
from urllib.parse import urlsplit

from oneiric.core.errors import MissingExtraError, OneiricError
from oneiric.runtime.control import API_PREFIX, ControlPlane
from oneiric.runtime.http._asgi import (
    ASGIApp,
    ClientGoneError,
    Receive,
    RefusalError,
    Reply,
    Scope,
    Send,
    header,
    read_body,
    skip_body,
)
from oneiric.runtime.http._auth import Authenticator, Identity, authenticator_for
from oneiric.runtime.http._scope import IDENTITY, PEER_UID, REPORTED

if TYPE_CHECKING:
    from oneiric.runtime.settings import HttpSettings

__all__ = ["ControlApp", "build_app"]

_METRICS_TYPE: Final = "text/plain; version=0.0.4; charset=utf-8"
_LOOPBACK_NAMES: Final = frozenset({"localhost", "127.0.0.1", "[::1]"})
#: Bodies that are held at once, all requests together, in bodies of the largest size.
_BODIES_HELD: Final = 16
_PROBES: Final = ("/healthz", "/readyz", "/metrics")

type Log = Callable[..., object]


def build_app(
    plane: ControlPlane | None,
    *,
    settings: "HttpSettings",
    readiness: Callable[[], Iterable[str]] = tuple,
    metrics: Callable[[], str] | None = None,
    mounts: Mapping[str, ASGIApp] | None = None,
    authenticator: Authenticator | None = None,
    heartbeat_seconds: float = 15.0,
    log: Log | None = None,
) -> "ControlApp":
    """Return the application of a running system.

    Args:
        plane: What answers the control API; None where there is none.
        settings: Who may ask, under which host names, and how much.
        readiness: Why no work can be taken, as codes; empty when it can.
        metrics: The metrics in Prometheus' text form; without it ``/metrics`` is not there.
        mounts: Path → an application for just that path, such as ``/tasks/workflow``. It is called for
            authenticated requests only, with their body read and bounded.
        authenticator: Who asks over TCP; by default what ``settings.auth`` says.
        heartbeat_seconds: How often a stream without events says that it is alive.
        log: Writes a line: ``log(level, message, **fields)``; by default the log of `oneiric.runtime.logging`.

    Raises:
        ConfigurationError: ``settings.auth`` cannot be used.
        MissingExtraError: It asks for tokens, and the extra ``oidc`` is not installed.
    """
    return ControlApp(
        plane,
        settings=settings,
        readiness=readiness,
        metrics=metrics,
        mounts=dict(mounts or {}),
        authenticator=authenticator or authenticator_for(settings.auth),
        heartbeat_seconds=heartbeat_seconds,
        log=log or _log,
    )


class ControlApp:
    """An ASGI application; `build_app` makes it."""

    def __init__(
        self,
        plane: ControlPlane | None,
        *,
        settings: "HttpSettings",
        readiness: Callable[[], Iterable[str]],
        metrics: Callable[[], str] | None,
        mounts: Mapping[str, ASGIApp],
        authenticator: Authenticator | None,
        heartbeat_seconds: float,
        log: Log,
    ) -> None:
        self._plane, self._settings, self._authenticator = plane, settings, authenticator
        self._readiness, self._metrics, self._mounts = readiness, metrics, mounts
        self._heartbeat_seconds, self._log = heartbeat_seconds, log
        self._hosts = _hosts_allowed(settings)
        self._api: ASGIApp | None = None
        self._loading = asyncio.Lock()
        self._held_bytes = 0

    def authenticate(self, authenticator: Authenticator | None) -> None:
        """Ask *authenticator* from the next request on, such as when a key was renewed."""
        self._authenticator = authenticator

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request; whatever it holds, the answer is no traceback."""
        if scope["type"] == "lifespan":
            await _lifespan(receive, send)
            return
        if scope["type"] != "http":
            await send({"type": "websocket.close", "code": 1008})
            return
        scope.setdefault("state", {})
        reply, begun, failure = Reply(send), time.perf_counter(), ""
        try:
            await self._answer(scope, receive, reply)
        except ClientGoneError:
            failure = "the client has gone"
        except OneiricError as error:
            failure = error.message
            if reply.status is not None:
                raise
            status, kind = _status_of(error)
            headers = error.headers if isinstance(error, RefusalError) else None
            await reply.error(status, kind, error.message, error.hint, headers)
        except Exception as error:  # the boundary: nothing of what failed may reach the client
            failure = os.urandom(8).hex()
            self._write("error", "request-failed", id=failure, exc_info=error)
            if reply.status is not None:
                raise  # the answer has begun: the server breaks the connection, so that half of it does not look whole
            await reply.error(500, "InternalError", f"something failed inside (id {failure})", "the log, for this id")
        finally:
            self._log_request(scope, reply.status, time.perf_counter() - begun, failure)

    async def _answer(self, scope: Scope, receive: Receive, reply: Reply) -> None:
        path: str = scope["path"]
        try:
            self._check_address(scope)
            if path in _PROBES and scope["method"] not in {"GET", "HEAD"}:
                raise RefusalError(405, f"{path} is asked with GET", None, {"Allow": "GET, HEAD"})
        except RefusalError:
            await skip_body(receive)
            raise
        if path == "/healthz":
            await skip_body(receive)
            await reply.json(200, {"status": "ok"})
            return
        with self._holding() as take:
            try:
                identity, body = await self._admitted(scope, receive, take)
            except RefusalError as error:
                if path != "/readyz" or error.status != 401:
                    raise
                await self._tell_readiness(reply, in_detail=False)
                return
            scope["state"][IDENTITY] = identity
            if path == "/readyz":
                await self._tell_readiness(reply, in_detail=True)
            elif path == "/metrics" and self._metrics is not None:
                await reply.bytes(200, self._metrics().encode(), _METRICS_TYPE)
            else:
                app = await self._app_at(path)
                await app(scope, _again(body, receive), reply.send)

    def _check_address(self, scope: Scope) -> None:
        """Refuse what a browser was tricked into sending: to a name that is not ours, or from another site's page."""
        if scope["state"].get(PEER_UID) is not None:
            return
        host = (header(scope, b"host") or "").lower()
        if self._hosts is not None and _without_port(host) not in self._hosts:
            raise RefusalError(403, "this host name is not served here", "http.allowed_hosts")
        origin = header(scope, b"origin")
        if origin is not None and urlsplit(origin.lower()).netloc != host:
            raise RefusalError(403, "requests of other sites' pages are not answered")

    @contextmanager
    def _holding(self) -> Iterator[Callable[[int], None]]:
        """Count the bytes of bodies that are held, so that many at once cannot fill the memory."""
        held = 0

        def take(size: int) -> None:
            nonlocal held
            if self._held_bytes + size > _BODIES_HELD * self._settings.max_body_bytes:
                raise RefusalError(503, "too many requests with a body", "try again later", {"Retry-After": "1"})
            held += size
            self._held_bytes += size

        try:
            yield take
        finally:
            self._held_bytes -= held

    async def _admitted(self, scope: Scope, receive: Receive, take: Callable[[int], None]) -> tuple[Identity, bytes]:
        """Return who asks and the body; it is read to its end whatever is wrong, so that the answer arrives."""
        checks = self._authenticator
        uid = scope["state"].get(PEER_UID)
        identity: Identity | None = None
        try:
            if uid is not None:
                identity = Identity("socket", str(uid))
            elif checks is None:
                identity = Identity("loopback")
            else:
                checks.glance(scope)
                identity = None if checks.needs_body else await checks.check(scope, b"")
        except RefusalError:
            await skip_body(receive)
            raise
        body = await read_body(receive, self._settings.max_body_bytes, take)
        if identity is None and checks is not None:
            identity = await checks.check(scope, body)
        return identity or Identity("loopback"), body

    async def _tell_readiness(self, reply: Reply, *, in_detail: bool) -> None:
        reasons = list(self._readiness())
        document: dict[str, Any] = {"status": "not ready" if reasons else "ready"}
        if in_detail:
            document["reasons"] = reasons
        await reply.json(503 if reasons else 200, document)

    async def _app_at(self, path: str) -> ASGIApp:
        mounted = self._mounts.get(path)
        if mounted is not None:
            return mounted
        if self._plane is None or not path.startswith(f"{API_PREFIX}/"):
            hint = None if self._plane is None else f"GET {API_PREFIX}/openapi.json"
            raise RefusalError(404, "there is nothing at this path", hint)
        async with self._loading:
            if self._api is None:
                # In a thread: models and framework take a while to load, and probes are answered meanwhile.
                self._api = await asyncio.to_thread(_load_api, self._plane, self._heartbeat_seconds)
        return self._api

    def report(self, status: int, reason: str, address: str) -> None:
        """Write the line of a request that was refused before it was one."""
        self._write("info", "request-refused", status=status, reason=reason, client=address)

    def _write(self, level: str, message: str, **fields: Any) -> None:
        with suppress(Exception):  # a log that cannot be written to must not take the answer with it
            self._log(level, message, **fields)

    def _log_request(self, scope: Scope, status: int | None, seconds: float, failure: str) -> None:
        if scope["state"].get(REPORTED):
            return
        is_probe = scope["path"] in _PROBES and status is not None and status < 400
        is_fault = status is None or (status >= 500 and status != 503)  # 503 is said on purpose
        level = "debug" if is_probe else "error" if is_fault else "info"
        # As it was sent, percent-encoded: a line break in a path stays %0A.
        path = bytes(scope.get("raw_path") or scope["path"].encode()).decode("latin-1")[:200]
        identity = scope["state"].get(IDENTITY)
        fields = {"method": scope["method"], "path": path, "status": status, "duration_ms": round(seconds * 1000, 3)}
        more = {"by": str(identity)} if identity is not None else {}
        self._write(level, "request", **fields, **more, **({"failure": failure} if failure else {}))

    def __repr__(self) -> str:
        return f"<ControlApp over {self._plane!r}>"


def _again(body: bytes, receive: Receive) -> Receive:
    """Give out a body that was read, then what comes after it: that the client has gone."""
    waiting = [body]

    async def receive_again() -> dict[str, Any]:
        if waiting:
            return {"type": "http.request", "body": waiting.pop(), "more_body": False}
        return dict(await receive())

    return receive_again


def _status_of(error: OneiricError) -> tuple[int, str]:
    if isinstance(error, RefusalError):
        return error.status, error.kind
    return error.http_status, type(error).__name__


def _hosts_allowed(settings: "HttpSettings") -> frozenset[str] | None:
    """Return the names requests may be addressed to, or None for any.

    On loopback without authentication a page of any site could reach us under its own name (DNS rebinding). Where
    requests must be authenticated, no page can, and probes address us by whatever name we have there.
    """
    if settings.allowed_hosts:
        return None if "*" in settings.allowed_hosts else _LOOPBACK_NAMES | {h.lower() for h in settings.allowed_hosts}
    return _LOOPBACK_NAMES | {settings.host.lower()} if settings.auth.kind == "none" else None


def _without_port(host: str) -> str:
    name, colon, port = host.rpartition(":")
    return name if colon and port.isdecimal() and (not name.count(":") or name.startswith("[")) else host


def _load_api(plane: ControlPlane, heartbeat_seconds: float) -> ASGIApp:
    try:
        from oneiric.runtime.http._api import Api  # noqa: PLC0415 - pydantic's models and starlette, at first use
    except ModuleNotFoundError as error:
        raise MissingExtraError("http", "oneiric-runtime[http]", error.name) from error
    return Api(plane, heartbeat_seconds=heartbeat_seconds)


def _log(level: str, message: str, **fields: Any) -> None:
    from oneiric.runtime.logging import get_logger  # noqa: PLC0415 - structlog is loaded by the first line

    getattr(get_logger("oneiric.http"), level)(message, **fields)


async def _lifespan(receive: Receive, send: Send) -> None:
    """Say yes to a server that asks; there is nothing to start."""
    while True:
        message = await receive()
        await send({"type": f"{message['type']}.complete"})
        if message["type"] == "lifespan.shutdown":
            return
