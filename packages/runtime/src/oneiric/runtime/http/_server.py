"""HttpServer: serves an application on TCP and on the control socket, inside the running event loop."""

import asyncio
import errno
import ipaddress
import socket
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from oneiric.core.errors import ConfigurationError, LifecycleError, MissingExtraError
from oneiric.runtime.control._socket import listen_on_control_socket, unlink_if_same
from oneiric.runtime.http._asgi import ASGIApp, Receive, Scope, Send

if TYPE_CHECKING:
    from oneiric.runtime.http._protocol import Listener
    from oneiric.runtime.settings import HttpSettings

__all__ = ["HttpServer"]

_BACKLOG: Final = 512
_KEEP_ALIVE_SECONDS: Final = 5
_ABORT_SECONDS: Final = 1.0

type Report = Callable[[int, str, str], None]


class HttpServer:
    """Serve an application: a part of the orchestrator. It touches no signal handler and starts no loop.

    Args:
        app: The application, such as `build_app` makes.
        settings: Address, limits, authentication.
        socket_path: The control socket, or None for none.
        stop_seconds: How long requests that are being answered are waited for.
        report: Told of each request that the application never saw: status, reason, address. By default the
            application's own ``report``, or nobody.
    """

    name = "http"

    def __init__(
        self,
        app: ASGIApp,
        settings: "HttpSettings",
        *,
        socket_path: Path | None = None,
        stop_seconds: float = 5.0,
        report: Report | None = None,
    ) -> None:
        self._app, self._settings = app, settings
        self._socket_path, self._stop_seconds = socket_path, stop_seconds
        own: Report = getattr(app, "report", _nobody)
        self._report = report or own
        self._servers: list[asyncio.Server] = []
        self._listeners: list[Listener] = []
        self._control: tuple[Path, socket.socket, int] | None = None
        self._stopping = asyncio.Event()
        self._port: int | None = None

    @property
    def port(self) -> int:
        """The port it listens on; with ``port: 0`` the one that was free.

        Raises:
            LifecycleError: It listens on none.
        """
        if self._port is None:
            raise LifecycleError("the HTTP server listens on no port", "start() with http.enabled")
        return self._port

    @property
    def connections(self) -> int:
        """How many clients are connected, over TCP and the control socket."""
        return sum(len(listener.state.connections) for listener in self._listeners)

    async def start(self) -> None:
        """Listen; when this returns, requests are answered.

        Raises:
            ConfigurationError: The address is no loopback one and ``http.auth`` says none, it cannot be bound, or
                the control socket cannot be made.
            LifecycleError: It is started already, or another process listens on the control socket.
            MissingExtraError: uvicorn is not installed.
        """
        if self._listeners:
            raise LifecycleError("the HTTP server is started already", "stop() it first")
        _import_uvicorn()
        self._stopping = asyncio.Event()
        try:
            if self._settings.enabled:
                listening = await self._bound()
                await self._serve(listening, is_local=False)
                self._port = listening.getsockname()[1]
            await self._listen_locally()
        except BaseException:
            await self.stop()
            raise

    async def listen_again(self) -> None:
        """Make the control socket anew where somebody removed it; connections that are open stay.

        Raises:
            ConfigurationError: It cannot be made.
            LifecycleError: Another process listens on it.
        """
        if self._listeners and (self._control is None or not _is_there(*self._control)):
            await self._listen_locally()

    async def _listen_locally(self) -> None:
        if self._socket_path is not None:
            control = listen_on_control_socket(self._socket_path)
            self._control = (self._socket_path, control, self._socket_path.lstat().st_ino)
            await self._serve(control, is_local=True)

    async def _bound(self) -> socket.socket:
        host, port = self._settings.host, self._settings.port
        where = f"{host}:{port}"
        try:
            found = await asyncio.get_running_loop().getaddrinfo(
                host or None, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
            )
        except (OSError, UnicodeError) as error:
            raise ConfigurationError(f"{host!r} is no address", "127.0.0.1", key="http.host") from error
        if self._settings.auth.kind == "none" and not all(_is_loopback(address[4][0]) for address in found):
            raise ConfigurationError(
                f"{host!r} can be reached from outside, and http.auth.kind is none: whoever reaches it could change "
                "the running system",
                "http.auth.kind: hmac or oidc; or http.host: 127.0.0.1",
                key="http.auth",
            )
        family, kind, protocol, _, address = found[0]
        listening = socket.socket(family, kind, protocol)
        try:
            listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            listening.bind(address)
            listening.listen(_BACKLOG)
            listening.setblocking(False)
        except OSError as error:
            listening.close()
            taken = "is taken by another process" if error.errno == errno.EADDRINUSE else "cannot be bound"
            what = f"{where} {taken} ({error.strerror or error})"
            raise ConfigurationError(what, "another http.port (0 takes a free one)", key="http.port") from error
        return listening

    async def _serve(self, listening: socket.socket, *, is_local: bool) -> None:
        from uvicorn.config import Config  # noqa: PLC0415 - the extra is loaded by whoever serves

        from oneiric.runtime.http._protocol import GuardedProtocol, Listener  # noqa: PLC0415 - as above

        listener = Listener(limits=self._settings, is_local=is_local, stopping=self._stopping, report=self._report)
        config: Any = Config(
            self._until_stopped,
            http=GuardedProtocol,
            ws="none",
            lifespan="off",
            interface="asgi3",
            log_config=None,
            access_log=False,
            proxy_headers=False,
            timeout_keep_alive=_KEEP_ALIVE_SECONDS,
        )
        config.load()
        self._listeners.append(listener)
        loop = asyncio.get_running_loop()
        # Known to stop() before anything is awaited: a start that is cancelled there leaves nobody listening.
        server = await loop.create_server(
            lambda: GuardedProtocol(config, listener), sock=listening, backlog=_BACKLOG, start_serving=False
        )
        self._servers.append(server)
        await server.start_serving()

    async def _until_stopped(self, scope: Scope, receive: Receive, send: Send) -> None:
        try:
            await self._app(scope, receive, send)
        except asyncio.CancelledError:
            if not self._stopping.is_set():
                raise
            # stop() did it, after closing the connection: to the server that would look like a failure to log

    async def stop(self) -> None:
        """Stop listening, let the requests that are being answered finish, and close every connection.

        Safe after a failed or cancelled `start`, and twice.
        """
        self._stopping.set()
        servers, self._servers = self._servers, []
        listeners, self._listeners = self._listeners, []
        control, self._control = self._control, None
        self._port = None
        try:
            try:
                await _all_let_in(servers)
            finally:
                for server in servers:
                    server.close()
                if control is not None:
                    unlink_if_same(*control)
                for listener in listeners:
                    for connection in listener.connections():
                        connection.shutdown()
            await _finished(listeners, self._stop_seconds)
        finally:
            for listener in listeners:
                for connection in listener.connections():
                    connection.cut()
                for task in listener.state.tasks:
                    task.cancel()
        await _finished(listeners, _ABORT_SECONDS)

    def __repr__(self) -> str:
        places = [f"{self._settings.host}:{self._port}"] if self._port is not None else []
        places += [str(self._control[0])] if self._control is not None else []
        return f"<HttpServer on {' and '.join(places) or 'nothing'}>"


async def _all_let_in(servers: list[asyncio.Server]) -> None:
    """Accept nobody else, and wait until those who were accepted are connections that can be closed.

    `asyncio.Server.close` would lose them half-way: they were neither served nor closed.
    """
    loop = asyncio.get_running_loop()
    for server in servers:
        for listening in server.sockets:
            loop.remove_reader(listening.fileno())
    for _ in ("its transport is made", "its protocol is told"):
        await asyncio.sleep(0)


async def _finished(listeners: "list[Listener]", seconds: float) -> None:
    tasks = [task for listener in listeners for task in listener.state.tasks]
    if tasks:
        await asyncio.wait(tasks, timeout=seconds)


def _is_loopback(address: object) -> bool:
    try:
        return ipaddress.ip_address(str(address).partition("%")[0]).is_loopback
    except ValueError:
        return False


def _import_uvicorn() -> None:
    try:
        import uvicorn  # noqa: F401, PLC0415 - the extra is loaded by whoever serves
    except ModuleNotFoundError as error:
        raise MissingExtraError("http", "oneiric-runtime[http]", error.name) from error


def _nobody(_status: int, _reason: str, _address: str) -> None:
    pass


def _is_there(path: Path, _listening: socket.socket, inode: int) -> bool:
    try:
        return path.lstat().st_ino == inode
    except OSError:
        return False
