"""The HTTP server of a running application: there before the application is, and after it."""

import asyncio
from collections.abc import Callable
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any

from oneiric.app._delivering import late_deliveries
from oneiric.core.errors import InactiveError, OneiricError
from oneiric.runtime.control import ControlPlane, control_socket_path
from oneiric.runtime.settings import SecretTemplate, resolve_secrets

if TYPE_CHECKING:
    from oneiric.app._running import RunningSystem
    from oneiric.runtime.http import ControlApp, HttpServer

__all__ = ["LatePlane", "ServingPart", "serving"]


class LatePlane:
    """Answer from a control plane that is there later; until then, say so.

    Args:
        not_ready: Why the system takes no work, as codes.
    """

    def __init__(self, not_ready: Callable[[], list[str]]) -> None:
        self._not_ready = not_ready
        self._plane: ControlPlane | None = None

    def become(self, plane: ControlPlane) -> None:
        """Answer from *plane* from now on."""
        self._plane = plane

    def __getattr__(self, operation: str) -> Any:
        if operation.startswith("_"):
            raise AttributeError(operation)
        if self._plane is None:
            raise InactiveError(f"the system is {', '.join(self._not_ready())}", "try again in a moment")
        return getattr(self._plane, operation)


class ServingPart:
    """Serve the probes, the metrics and the control API, on TCP and on the control socket.

    Args:
        running: The process.
        plane: What answers.
        keep_state: Whether there is a state directory for a control socket.
    """

    name = "http"

    def __init__(self, running: "RunningSystem", plane: LatePlane, *, keep_state: bool) -> None:
        self._running = running
        self._plane = plane
        self._keep_state = keep_state
        self._server: HttpServer | None = None
        self._served: ControlApp | None = None
        self._stop_observing: Callable[[], None] | None = None
        self._renewing: asyncio.Task[None] | None = None

    @property
    def port(self) -> int | None:
        """The TCP port it listens on, or None."""
        if self._server is None or not self._running.loaded.settings.http.enabled:
            return None
        return self._server.port

    async def start(self) -> None:
        """Listen.

        Raises:
            ConfigurationError: The address cannot be bound, or would be open to everybody.
            SecretNotFoundError: A key of ``http.auth`` does not exist.
            MissingExtraError: uvicorn is not installed.
        """
        from oneiric.runtime.http import HttpServer, build_app  # noqa: PLC0415 - an extra

        running, loaded = self._running, self._running.loaded
        secrets = None if running.system is None else running.system.app.secrets
        settings = await resolve_secrets(loaded, loaded.settings.http, secrets)
        plane: Any = self._plane
        served = build_app(
            plane,
            settings=settings,
            readiness=running.not_ready,
            metrics=_metrics,
            mounts=late_deliveries(running),
            log=self._log,
        )
        socket_path = control_socket_path(loaded.settings.state_dir) if self._keep_state else None
        self._server = HttpServer(served, settings, socket_path=socket_path)
        await self._server.start()
        if settings is not loaded.settings.http and running.system is not None:
            self._served = served
            self._stop_observing = running.system.app.secrets.observe(self._keys_rotated)

    def _keys_rotated(self, _report: object) -> None:
        self._renewing = asyncio.create_task(self._renew_keys(), name="renew http.auth keys")

    async def _renew_keys(self) -> None:
        from oneiric.runtime.http import authenticator_for  # noqa: PLC0415 - an extra

        running, loaded = self._running, self._running.loaded
        if running.system is None or self._served is None:
            return
        try:
            settings = await resolve_secrets(loaded, loaded.settings.http, running.system.app.secrets)
            self._served.authenticate(authenticator_for(settings.auth))
        except OneiricError as error:
            self._log("error", "http-keys-not-renewed", reason=str(error))  # the old ones hold

    def _log(self, level: str, message: str, **fields: Any) -> None:
        settings = self._running.loaded.settings
        if level == "debug" and (settings.logging.level or ("DEBUG" if settings.app.debug else "INFO")) != "DEBUG":
            return  # a probe: it must not wait for the log to be loaded
        from oneiric.runtime.logging import configure_logging, get_logger  # noqa: PLC0415 - slow to load

        configure_logging(settings.logging, app=settings.app)  # the first request may come before the application
        getattr(get_logger("oneiric.http"), level)(message, **fields)

    async def listen_again(self) -> None:
        """Make the control socket anew where it was removed; see `HttpServer.listen_again`."""
        if self._server is not None:
            await self._server.listen_again()

    async def stop(self) -> None:
        """Stop listening; requests that are being answered end first."""
        if self._stop_observing is not None:
            self._stop_observing()
        server, self._server = self._server, None
        if server is not None:
            await server.stop()


def serving(running: "RunningSystem", *, keep_state: bool, plane: LatePlane) -> tuple[ServingPart | None, bool]:
    """Return the server of a process, if it has one, and whether it can be there before the instances are."""
    settings = running.loaded.settings.http
    if not settings.enabled and not keep_state:
        return None, False
    if find_spec("uvicorn") is None and "enabled" not in settings.model_fields_set:
        from oneiric.runtime.logging import get_logger  # noqa: PLC0415 - slow to load, and rarely needed here

        get_logger("oneiric.app").warning("http-not-installed", hint="pip install 'oneiric-runtime[http]'")
        return None, False
    # Secrets are fetched by an instance: a key that is one has to wait for those.
    waits = any(isinstance(key, SecretTemplate) for key in settings.auth.hmac_keys.values())
    return ServingPart(running, plane, keep_state=keep_state), not waits


def _metrics() -> str:
    from oneiric.runtime.telemetry import prometheus_text  # noqa: PLC0415 - slow to load

    return prometheus_text()[0].decode()
