"""What a connection tells the application beside the request: entries of the ASGI scope's ``state``."""

from typing import Final

__all__ = ["IDENTITY", "PEER_UID", "REPORTED", "STOPPING"]

#: The `Identity` of whoever asks, once it is known.
IDENTITY: Final = "oneiric.identity"
#: The user id at the other end of the control socket; None over TCP.
PEER_UID: Final = "oneiric.peer_uid"
#: True once the connection has reported the request as refused: its line is written.
REPORTED: Final = "oneiric.reported"
#: An `asyncio.Event` that is set when streams are to end.
STOPPING: Final = "oneiric.stopping"
