"""The little of ASGI that probes and refusals need, without a framework."""

import json
from collections.abc import Awaitable, Callable, Mapping, MutableMapping
from http import HTTPStatus
from typing import Any, Final

from oneiric.core.errors import OneiricError

__all__ = [
    "ASGIApp",
    "ClientGoneError",
    "Receive",
    "RefusalError",
    "Reply",
    "Scope",
    "Send",
    "error_body",
    "header",
    "read_body",
    "skip_body",
]

type Scope = MutableMapping[str, Any]
type Message = MutableMapping[str, Any]
type Receive = Callable[[], Awaitable[Message]]
type Send = Callable[[Message], Awaitable[None]]
type ASGIApp = Callable[[Scope, Receive, Send], Awaitable[None]]

#: Type in the error's body for what the server itself refuses.
_KINDS: Final = {
    400: "InvalidRequest",
    401: "Unauthorized",
    403: "Forbidden",
    404: "NotFound",
    405: "MethodNotAllowed",
    408: "RequestTimeout",
    413: "PayloadTooLarge",
    415: "UnsupportedMediaType",
    422: "InvalidRequest",
    431: "HeadersTooLarge",
    500: "InternalError",
    503: "Busy",
}


class RefusalError(OneiricError):
    """The server does not do what was asked: ``RefusalError(status, message, hint, headers)``."""

    _hint_at = 2

    def __init__(
        self, status: int, message: str, hint: str | None = None, headers: Mapping[str, str] | None = None
    ) -> None:
        Exception.__init__(self, status, message, hint, headers)
        self.status, self.headers = status, dict(headers or {})

    @property
    def message(self) -> str:
        """What is refused."""
        return str(self.args[1])

    @property
    def kind(self) -> str:
        """The type that the answer's body names."""
        return _KINDS.get(self.status, HTTPStatus(self.status).phrase.replace(" ", ""))


class ClientGoneError(OneiricError):
    """Whoever asked has gone; there is nobody to answer."""


def error_body(kind: str, message: str, hint: str | None) -> bytes:
    """Return the body of an answer that is an error."""
    return json.dumps({"error": {"type": kind, "message": message, "hint": hint}}).encode()


class Reply:
    """The answer to one request, as far as it has been sent.

    Attributes:
        status: Its HTTP status, or None before it has begun.
    """

    __slots__ = ("_send", "status")

    def __init__(self, send: Send) -> None:
        self._send = send
        self.status: int | None = None

    async def send(self, message: Message) -> None:
        """Pass an ASGI message on; an ASGI ``send``."""
        if message["type"] == "http.response.start":
            self.status = int(message["status"])
            # No answer is for a cache, a frame, or a guess at what it may be.
            fixed = [(b"cache-control", b"no-store"), (b"x-content-type-options", b"nosniff")]
            given = {name for name, _ in message.get("headers", ())}
            message["headers"] = [*message.get("headers", ()), *(each for each in fixed if each[0] not in given)]
        await self._send(message)

    async def bytes(
        self, status: int, body: bytes, kind: str = "application/json", headers: Mapping[str, str] | None = None
    ) -> None:
        """Send a whole answer."""
        sent = {"content-type": kind, "content-length": str(len(body)), **(headers or {})}
        raw = [(name.lower().encode("latin-1"), value.encode("latin-1")) for name, value in sent.items()]
        await self.send({"type": "http.response.start", "status": status, "headers": raw})
        await self.send({"type": "http.response.body", "body": body})

    async def json(self, status: int, document: object) -> None:
        """Send a JSON document."""
        await self.bytes(status, json.dumps(document, allow_nan=False).encode())

    async def error(
        self, status: int, kind: str, message: str, hint: str | None, headers: Mapping[str, str] | None = None
    ) -> None:
        """Send an error."""
        await self.bytes(status, error_body(kind, message, hint), headers=headers)


def header(scope: Scope, name: bytes) -> str | None:
    """Return a header that may stand once, or None.

    Raises:
        RefusalError: It stands more than once (400).
    """
    found = [value for each, value in scope["headers"] if each == name]
    if len(found) > 1:
        raise RefusalError(400, f"the header {name.decode()!r} is given {len(found)} times", "send it once")
    return found[0].decode("latin-1") if found else None


async def skip_body(receive: Receive) -> None:
    """Read the body to its end and keep none of it: an answer before that end could be lost on its way.

    Raises:
        ClientGoneError: The client has gone.
    """
    more = True
    while more:
        message = await receive()
        if message["type"] == "http.disconnect":
            raise ClientGoneError("the client has gone")
        more = message.get("more_body", False)


async def read_body(receive: Receive, most_bytes: int, take: Callable[[int], None]) -> bytes:
    """Return the body.

    Args:
        receive: The request's.
        most_bytes: The longest that is read.
        take: Told how many bytes are held from now on, before they are; may refuse.

    Raises:
        RefusalError: It is too long (413), or *take* refused.
        ClientGoneError: The client has gone.
    """
    parts: list[bytes] = []
    size, more, refusal = 0, True, None
    while more:
        message = await receive()
        if message["type"] == "http.disconnect":
            raise ClientGoneError("the client has gone")
        part, more = message.get("body", b""), message.get("more_body", False)
        size += len(part)
        if refusal is None:
            try:
                if size > most_bytes:
                    raise RefusalError(413, f"the body is longer than {most_bytes} bytes", "http.max_body_bytes")
                take(len(part))
                parts.append(part)
            except RefusalError as error:
                parts.clear()
                refusal = error
    if refusal is not None:
        raise refusal
    return b"".join(parts)
