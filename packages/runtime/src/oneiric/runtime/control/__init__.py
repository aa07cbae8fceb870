"""The control API: what can be asked of a running system, by whom and how.

Owned here: the table of operations (`OPERATIONS`) with their requests and answers (`oneiric.runtime.control.requests`,
`oneiric.runtime.control.responses`), the Protocol a running system fulfils (`ControlPlane`), the stream of its events
(`EventFeed`), the control socket, and the client that calls them all (`ControlClient`). Names are loaded when they are
first touched: importing this package loads neither pydantic nor a web server. `oneiric.runtime.http` serves the table,
and the client needs the standard library.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from oneiric.runtime.control._client import ControlClient
    from oneiric.runtime.control._feed import EventFeed, Subscription
    from oneiric.runtime.control._operations import API_PREFIX, OPERATIONS, Operation
    from oneiric.runtime.control._plane import ControlPlane
    from oneiric.runtime.control._signing import BearerToken, HmacSigner, RequestAuth, string_to_sign
    from oneiric.runtime.control._socket import control_socket_path, listen_on_control_socket
    from oneiric.runtime.control._stream import ControlEvent

__all__ = [
    "API_PREFIX",
    "OPERATIONS",
    "BearerToken",
    "ControlClient",
    "ControlEvent",
    "ControlPlane",
    "EventFeed",
    "HmacSigner",
    "Operation",
    "RequestAuth",
    "Subscription",
    "control_socket_path",
    "listen_on_control_socket",
    "string_to_sign",
]

_HOMES: Final = {
    "API_PREFIX": "_operations",
    "BearerToken": "_signing",
    "ControlClient": "_client",
    "ControlEvent": "_stream",
    "ControlPlane": "_plane",
    "EventFeed": "_feed",
    "HmacSigner": "_signing",
    "OPERATIONS": "_operations",
    "Operation": "_operations",
    "RequestAuth": "_signing",
    "Subscription": "_feed",
    "control_socket_path": "_socket",
    "listen_on_control_socket": "_socket",
    "string_to_sign": "_signing",
}


def __getattr__(name: str) -> Any:
    home = _HOMES.get(name)
    if home is None:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = getattr(import_module(f"{__name__}.{home}"), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
