"""Who asks: the identity behind a request, by HMAC signature or by a token of an OpenID provider."""

import re
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, Protocol

from oneiric.core import Secret
from oneiric.core.errors import ConfigurationError
from oneiric.runtime.control._signing import HEADERS, signature_of, string_to_sign
from oneiric.runtime.http._asgi import RefusalError, Scope, header

if TYPE_CHECKING:
    from oneiric.runtime.settings import HttpAuthSettings

__all__ = ["Authenticator", "HmacAuthenticator", "Identity", "authenticator_for", "unauthorized"]

_FEWEST_KEY_BYTES: Final = 16
_TIMESTAMP: Final = re.compile(r"[0-9]{1,12}\Z")
_NONCE: Final = re.compile(r"[A-Za-z0-9_-]{16,128}\Z")
_SIGNATURE: Final = re.compile(r"[0-9a-f]{64}\Z")
_HEADERS: Final = tuple(name.lower().encode() for name in HEADERS)
#: Stands in for a key nobody has, so that an id that does not exist takes as long to refuse as one that does.
_NOBODY: Final = Secret("0" * 32)


@dataclass(frozen=True, slots=True)
class Identity:
    """Whoever asks.

    Attributes:
        via: ``"socket"``, ``"hmac"``, ``"oidc"``, or ``"loopback"`` where nobody has to say who they are.
        name: The user id, the key's id, the token's email or subject; empty on loopback.
    """

    via: str
    name: str = ""

    def __str__(self) -> str:
        return f"{self.via}:{self.name}" if self.name else self.via


class Authenticator(Protocol):
    """Tells who a request over TCP is from."""

    #: Whether `check` looks at the body. If not, it is called before the body is read, with an empty one.
    needs_body: bool

    def glance(self, scope: Scope) -> None:
        """Refuse what can be seen to be wrong without the body.

        Raises:
            RefusalError: Nobody can be behind it (401).
        """

    async def check(self, scope: Scope, body: bytes) -> Identity:
        """Return who it is from.

        Raises:
            RefusalError: It cannot be proved (401), or not now (503).
        """


def unauthorized(challenge: str) -> RefusalError:
    """Return the one answer to everybody who is not let in: which rule they broke is theirs to find out."""
    return RefusalError(
        401, "authentication is required", "docs/control-api.md says how", {"WWW-Authenticate": challenge}
    )


def authenticator_for(auth: "HttpAuthSettings", *, clock: Callable[[], float] = time.time) -> Authenticator | None:
    """Return what the settings ask for, or None for ``kind: none``.

    Raises:
        ConfigurationError: A key is too short, or an address is not https.
        MissingExtraError: Tokens are asked for and the extra ``oidc`` is not installed.
    """
    if auth.kind == "hmac":
        return HmacAuthenticator(auth.hmac_keys, clock_skew_seconds=auth.clock_skew_seconds, clock=clock)
    if auth.kind == "oidc":
        from oneiric.runtime.http._oidc import OidcAuthenticator  # noqa: PLC0415 - jwt and httpx, when asked for

        return OidcAuthenticator(auth)
    return None


class HmacAuthenticator:
    """Check signatures of `oneiric.runtime.control.HmacSigner`; no signature is taken twice.

    Args:
        keys: Key id → key, at least 16 bytes long.
        clock_skew_seconds: How far a request's time may be from the clock here, either way.
        most_nonces: How many signatures within that time are remembered; beyond them requests are refused (503).
        clock: Seconds since the epoch.

    Raises:
        ConfigurationError: There is no key, or one is too short.
    """

    needs_body = True

    def __init__(
        self,
        keys: Mapping[str, Secret],
        *,
        clock_skew_seconds: float = 300.0,
        most_nonces: int = 100_000,
        clock: Callable[[], float] = time.time,
    ) -> None:
        if not keys:
            raise ConfigurationError("needs at least one key", None, key="http.auth.hmac_keys")
        for key_id, key in keys.items():
            if len(key.reveal().encode()) < _FEWEST_KEY_BYTES:
                raise ConfigurationError(
                    f"the key is shorter than {_FEWEST_KEY_BYTES} bytes",
                    "python -c 'import secrets; print(secrets.token_urlsafe(32))'",
                    key=f"http.auth.hmac_keys.{key_id}",
                )
        self._keys, self._skew, self._most, self._clock = dict(keys), clock_skew_seconds, most_nonces, clock
        self._seen: dict[tuple[str, str], int] = {}
        # What was signed before this process began may have been used before it: nobody remembers those nonces.
        self._floor = int(clock()) - 1

    def glance(self, scope: Scope) -> None:
        """Refuse a request that is not signed, or not for now."""
        self._claims(scope)

    def _claims(self, scope: Scope) -> tuple[str, str, str, str]:
        found = [header(scope, name) for name in _HEADERS]
        key_id, timestamp, nonce, signature = (value or "" for value in found)
        well_formed = _TIMESTAMP.match(timestamp) and _NONCE.match(nonce) and _SIGNATURE.match(signature)
        # Negated, so that no odd number slips through a comparison.
        if not (well_formed and abs(self._clock() - int(timestamp)) <= self._skew and int(timestamp) > self._floor):
            raise unauthorized("Oneiric-HMAC")
        return key_id, timestamp, nonce, signature

    async def check(self, scope: Scope, body: bytes) -> Identity:
        """Return the key's id; the same signed request is refused the second time."""
        import hmac  # noqa: PLC0415 - hashlib comes with it

        key_id, timestamp, nonce, signature = self._claims(scope)
        query = scope["query_string"].decode("latin-1")
        target = scope["raw_path"].decode("latin-1") + (f"?{query}" if query else "")
        text = string_to_sign(method=scope["method"], target=target, body=body, timestamp=timestamp, nonce=nonce)
        key = self._keys.get(key_id)
        expected = signature_of(text, _NOBODY if key is None else key)
        is_right = hmac.compare_digest(expected.encode(), signature.encode())
        if key is None or not is_right or (key_id, nonce) in self._seen:
            raise unauthorized("Oneiric-HMAC")
        self._remember((key_id, nonce), int(timestamp))
        return Identity("hmac", key_id)

    def _remember(self, used: tuple[str, str], timestamp: int) -> None:
        oldest = self._clock() - self._skew
        while self._seen and (signed := next(iter(self._seen.values()))) < oldest:
            del self._seen[next(iter(self._seen))]
            # Should the clock go back, what is forgotten here stays refused.
            self._floor = max(self._floor, signed)
        if len(self._seen) >= self._most:
            raise RefusalError(503, "too many signed requests", "try again later", {"Retry-After": "10"})
        self._seen[used] = timestamp

    def __repr__(self) -> str:
        return f"<HmacAuthenticator of {len(self._keys)} keys>"
