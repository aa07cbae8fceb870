"""How a request says who sends it: HMAC over the request, or a bearer token. Standard library only."""

import hashlib
import hmac
import os
import time
from collections.abc import Callable, Mapping
from typing import Final, Protocol

from oneiric.core import Secret

__all__ = ["HEADERS", "BearerToken", "HmacSigner", "RequestAuth", "signature_of", "string_to_sign"]

_VERSION: Final = "ONEIRIC-HMAC-SHA256-V1"
#: Header of the key's id, the time, the nonce and the signature.
HEADERS: Final = ("X-Oneiric-Key", "X-Oneiric-Timestamp", "X-Oneiric-Nonce", "X-Oneiric-Signature")


class RequestAuth(Protocol):
    """Puts what proves the sender on a request."""

    def headers(self, method: str, target: str, body: bytes) -> Mapping[str, str]:
        """Return the headers to add.

        Args:
            method: The method, in capitals.
            target: The path with the query, as it is sent.
            body: The body, empty for none.
        """


def string_to_sign(*, method: str, target: str, body: bytes, timestamp: str, nonce: str) -> str:
    """Return the text an HMAC signature is made over: six lines, each ended by the next, the last by nothing.

    The version, the method in capitals, the path with the query as sent, the SHA-256 of the body in hex, the time
    in whole seconds since the epoch, and the nonce.
    """
    return "\n".join((_VERSION, method, target, hashlib.sha256(body).hexdigest(), timestamp, nonce))


def signature_of(text: str, key: Secret) -> str:
    """Return the HMAC-SHA256 of a text under a key, in hex."""
    return hmac.new(key.reveal().encode(), text.encode("utf-8", "surrogateescape"), hashlib.sha256).hexdigest()


class HmacSigner:
    """Sign each request with a key that the server knows by its id (``http.auth.hmac_keys``).

    Args:
        key_id: The key's id.
        key: The key.
        clock: Seconds since the epoch; the server refuses what is further off than ``http.auth.clock_skew_seconds``.
    """

    __slots__ = ("_clock", "_key", "_key_id")

    def __init__(self, key_id: str, key: Secret, *, clock: Callable[[], float] = time.time) -> None:
        self._key_id, self._key, self._clock = key_id, key, clock

    def headers(self, method: str, target: str, body: bytes) -> dict[str, str]:
        """Return the four headers; each call makes a nonce of its own."""
        timestamp, nonce = str(int(self._clock())), os.urandom(16).hex()
        text = string_to_sign(method=method, target=target, body=body, timestamp=timestamp, nonce=nonce)
        return dict(zip(HEADERS, (self._key_id, timestamp, nonce, signature_of(text, self._key)), strict=True))

    def __repr__(self) -> str:
        return f"<HmacSigner {self._key_id!r}>"


class BearerToken:
    """Send a token of an OpenID provider.

    Args:
        token: The token, or a call that returns a fresh one.
    """

    __slots__ = ("_token",)

    def __init__(self, token: Secret | Callable[[], Secret]) -> None:
        self._token = token

    def headers(self, method: str, target: str, body: bytes) -> dict[str, str]:  # noqa: ARG002 - a token signs nothing
        """Return the header ``Authorization``."""
        token = self._token() if callable(self._token) else self._token
        return {"Authorization": f"Bearer {token.reveal()}"}

    def __repr__(self) -> str:
        return "<BearerToken>"
