"""The HTTP server of a running application: built when it starts, once the secrets of its section are known."""

from collections.abc import Callable
from importlib.util import find_spec
from typing import TYPE_CHECKING

from oneiric.runtime.control import ControlPlane, control_socket_path
from oneiric.runtime.logging import get_logger
from oneiric.runtime.settings import SecretTemplate, resolve_secrets

if TYPE_CHECKING:
    from oneiric.app._app import App
    from oneiric.runtime.http import HttpServer

__all__ = ["ServingPart", "serving"]


class ServingPart:
    """Serve the probes, the metrics and the control API, on TCP and on the control socket.

    Args:
        app: The application.
        plane: What answers.
        readiness: Why no work can be taken, as codes.
    """

    name = "http"

    def __init__(self, app: "App", plane: ControlPlane, readiness: Callable[[], list[str]]) -> None:
        self._app = app
        self._plane = plane
        self._readiness = readiness
        self._server: HttpServer | None = None

    @property
    def port(self) -> int | None:
        """The TCP port it listens on, or None."""
        if self._server is None or not self._app.settings.http.enabled:
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

        app = self._app
        settings = await resolve_secrets(app.loaded, app.settings.http, app.secrets)
        served = build_app(self._plane, settings=settings, readiness=self._readiness, metrics=_metrics)
        self._server = HttpServer(
            served, settings, socket_path=None if app.state_dir is None else control_socket_path(app.state_dir)
        )
        await self._server.start()

    async def stop(self) -> None:
        """Stop listening; requests that are being answered end first."""
        server, self._server = self._server, None
        if server is not None:
            await server.stop()


def serving(app: "App", plane: ControlPlane, readiness: Callable[[], list[str]]) -> tuple[ServingPart | None, bool]:
    """Return the server of an application, if it has one, and whether it can be there before the instances are."""
    settings = app.settings.http
    if not settings.enabled and app.state_dir is None:
        return None, False
    if find_spec("uvicorn") is None and "enabled" not in settings.model_fields_set:
        get_logger("oneiric.app").warning("http-not-installed", hint="pip install 'oneiric-runtime[http]'")
        return None, False
    # Secrets are fetched by an instance: a key that is one has to wait for those.
    waits = any(isinstance(key, SecretTemplate) for key in settings.auth.hmac_keys.values())
    return ServingPart(app, plane, readiness), not waits


def _metrics() -> str:
    from oneiric.runtime.telemetry import prometheus_text  # noqa: PLC0415 - the SDK is slow to load

    return prometheus_text()[0].decode()
