"""What a connection tells the application beside the request: entries of the ASGI scope's ``state``."""

from typing import Final

__all__ = ["IDENTITY", "PEER_UID", "STOPPING"]

#: The `Identity` of whoever asks, once it is known.
IDENTITY: Final = "oneiric.identity"
#: The user id at the other end of the control socket; None over TCP.
PEER_UID: Final = "oneiric.peer_uid"
#: An `asyncio.Event` that is set when streams are to end.
STOPPING: Final = "oneiric.stopping"
