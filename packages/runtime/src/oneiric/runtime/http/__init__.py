"""The HTTP server of a running system: probes, metrics and the control API, on TCP and on the control socket.

Owned here: who may ask (`Authenticator`), what a request may look like (sizes, times, syntax), and the ASGI
application over a `oneiric.runtime.control.ControlPlane`. It decides nothing about the system itself. The extra
``http`` brings uvicorn and starlette, the extra ``oidc`` what reads tokens; both are imported when they are used.
"""

from oneiric.runtime.http._app import ControlApp, build_app
from oneiric.runtime.http._auth import Authenticator, HmacAuthenticator, Identity, authenticator_for
from oneiric.runtime.http._server import HttpServer

__all__ = [
    "Authenticator",
    "ControlApp",
    "HmacAuthenticator",
    "HttpServer",
    "Identity",
    "authenticator_for",
    "build_app",
]
