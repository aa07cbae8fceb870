"""The control API: what can be asked of a running system, by whom and how.

Owned here: the table of operations (`OPERATIONS`) with their requests and answers (`oneiric.runtime.control.requests`,
`oneiric.runtime.control.responses`), the Protocol a running system fulfils (`ControlPlane`), the stream of its events
(`EventFeed`), the control socket, and the client that calls them all (`ControlClient`). Importing this package loads
neither pydantic nor a web server: `oneiric.runtime.http` serves the table, and the client needs the standard library.
"""

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
