"""Tokens of an OpenID provider: checked against the provider's keys, which are fetched and kept for a while."""

import asyncio
import ipaddress
import json
import time
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Final
from urllib.parse import urlsplit

from oneiric.core.errors import ConfigurationError, MissingExtraError
from oneiric.runtime.http._asgi import RefusalError, Scope, header
from oneiric.runtime.http._auth import Identity, unauthorized

try:
    import httpx
    import jwt
except ModuleNotFoundError as error:
    raise MissingExtraError("oidc", "oneiric-runtime[oidc]", error.name) from error

if TYPE_CHECKING:
    from oneiric.runtime.settings import HttpAuthSettings

__all__ = ["OidcAuthenticator", "ProviderKeys"]

_MOST_TOKEN_CHARACTERS: Final = 16_384
_MOST_KEYS_BYTES: Final = 256 * 1024
_MOST_KEYS: Final = 64
_KEPT_SECONDS: Final = 600.0
_COOL_SECONDS: Final = 10.0
_FETCH_SECONDS: Final = 5.0
#: How far a provider's clock may be from ours; `clock_skew_seconds` is meant for requests signed by hand.
_MOST_LEEWAY_SECONDS: Final = 60.0
_KEY_TYPE: Final = {"RS": "RSA", "PS": "RSA", "ES": "EC", "Ed": "OKP"}


class OidcAuthenticator:
    """Check bearer tokens: signature, algorithm, issuer, audience, expiry.

    Args:
        auth: Issuer, audience, algorithms and where the keys are.
        keys: The provider's keys; by default fetched.

    Raises:
        ConfigurationError: An algorithm is not asymmetric, or an address is not https (http is for loopback only).
    """

    needs_body = False

    def __init__(self, auth: "HttpAuthSettings", *, keys: "ProviderKeys | None" = None) -> None:
        if not auth.oidc_issuer or not auth.oidc_audience:
            raise ConfigurationError("needs oidc_issuer and oidc_audience", None, key="http.auth")
        for algorithm in auth.oidc_algorithms:
            if algorithm[:2] not in _KEY_TYPE:
                raise ConfigurationError(
                    f"{algorithm!r} is no asymmetric algorithm", "RS256", key="http.auth.oidc_algorithms"
                )
        self._issuer, self._audience = auth.oidc_issuer, auth.oidc_audience
        self._algorithms = frozenset(auth.oidc_algorithms)
        self._subjects = frozenset(auth.oidc_subjects)
        self._leeway = min(auth.clock_skew_seconds, _MOST_LEEWAY_SECONDS)
        self._keys = keys or ProviderKeys(auth.oidc_issuer, auth.oidc_jwks_url)

    def glance(self, scope: Scope) -> None:
        """Refuse a request that carries no token."""
        self._token(scope)

    def _token(self, scope: Scope) -> str:
        scheme, _, token = (header(scope, b"authorization") or "").partition(" ")
        if scheme.lower() != "bearer" or not token or len(token) > _MOST_TOKEN_CHARACTERS or not token.isascii():
            raise unauthorized("Bearer")
        return token

    async def check(self, scope: Scope, body: bytes) -> Identity:  # noqa: ARG002 - a token says nothing of the body
        """Return the token's verified email, or its subject."""
        token = self._token(scope)
        try:
            head = jwt.get_unverified_header(token)
        except (jwt.PyJWTError, ValueError) as error:
            raise unauthorized("Bearer") from error
        algorithm, key_id = head.get("alg"), head.get("kid")
        if algorithm not in self._algorithms or head.get("crit") is not None:
            raise unauthorized("Bearer")
        for key in await self._keys.fitting(key_id, _KEY_TYPE[algorithm[:2]], algorithm):
            claims = self._claims(token, key, algorithm)
            if claims is not None:
                return self._identity(claims)
        raise unauthorized("Bearer")

    def _identity(self, claims: dict[str, Any]) -> Identity:
        # An address that the provider has not verified is only what somebody typed.
        email = claims.get("email") if claims.get("email_verified") is True else None
        if self._subjects and not self._subjects & {claims["sub"], email}:
            raise RefusalError(403, "this identity may not ask here", "http.auth.oidc_subjects")
        return Identity("oidc", str(email or claims["sub"])[:200])

    def _claims(self, token: str, key: "jwt.PyJWK", algorithm: str) -> dict[str, Any] | None:
        try:
            found: dict[str, Any] = jwt.decode(
                token,
                key.key,
                algorithms=[algorithm],
                audience=self._audience,
                issuer=self._issuer,
                leeway=self._leeway,
                options={"require": ["exp", "iat", "iss", "aud", "sub"]},
            )
        except (jwt.PyJWTError, ValueError, TypeError):
            return None
        return found

    def __repr__(self) -> str:
        return f"<OidcAuthenticator of {self._issuer}>"


class ProviderKeys:
    """The public keys of a provider, kept for ten minutes.

    A key that is not known makes them be fetched anew, but not more often than every ten seconds: forged key ids
    cannot be used to flood the provider. When the provider cannot be reached, the keys that were good stay so.

    Args:
        issuer: The provider.
        url: Where its keys are; by default where its discovery document says.
        clock: Monotonic seconds.

    Raises:
        ConfigurationError: An address is not https; http is for loopback only.
    """

    def __init__(self, issuer: str, url: str | None = None, *, clock: Callable[[], float] = time.monotonic) -> None:
        for address in filter(None, (url, None if url else issuer)):
            _require_https(address, "http.auth.oidc_jwks_url" if url else "http.auth.oidc_issuer")
        self._issuer, self._url, self._clock = issuer, url, clock
        self._keys: tuple[jwt.PyJWK, ...] = ()
        self._fetched_at = self._tried_at = -1e9
        self._turn = asyncio.Lock()
        #: How often they were asked for over the network.
        self.fetches = 0

    async def fitting(self, key_id: object, key_type: str, algorithm: str) -> list["jwt.PyJWK"]:
        """Return the keys that may have signed a token with this head, at most a few.

        Raises:
            RefusalError: No keys could be had yet (503).
        """
        if self._clock() - self._fetched_at > _KEPT_SECONDS:
            await self._renew()
        found = self._select(key_id, key_type, algorithm)
        if not found and await self._renew():
            found = self._select(key_id, key_type, algorithm)
        if not self._keys:
            raise RefusalError(503, "tokens cannot be checked now", "try again later", {"Retry-After": "10"})
        return found[:4]

    def _select(self, key_id: object, key_type: str, algorithm: str) -> list["jwt.PyJWK"]:
        def fits(key: "jwt.PyJWK") -> bool:
            # The key's own type decides, never the token: a public key is no HMAC secret.
            stated: dict[str, Any] = key._jwk_data  # noqa: SLF001 - pyjwt has no public way to what a key states
            return (
                stated.get("kty") == key_type
                and stated.get("use", "sig") == "sig"
                and stated.get("alg", algorithm) == algorithm
                and (key_id is None or key.key_id == key_id)
            )

        return [key for key in self._keys if fits(key)]

    async def _renew(self) -> bool:
        asked_at = self._clock()
        async with self._turn:
            if self._tried_at >= asked_at:
                return True  # somebody else did while we waited for our turn
            if asked_at - self._tried_at < _COOL_SECONDS:
                return False
            self._tried_at = self._clock()
            self.fetches += 1
            try:
                async with asyncio.timeout(_FETCH_SECONDS):
                    self._keys = await self._fetched()
            except (httpx.HTTPError, httpx.InvalidURL, ValueError, TimeoutError, ConfigurationError):
                return False  # the old ones stay; without any, fitting() says so
            self._fetched_at = self._clock()
            return True

    async def _fetched(self) -> tuple["jwt.PyJWK", ...]:
        # No redirects, no proxy from the environment: what vouches for everybody comes from the named host.
        async with httpx.AsyncClient(timeout=_FETCH_SECONDS, follow_redirects=False, trust_env=False) as client:
            url = self._url or await self._discovered(client)
            document = await _json(client, url)
        keys = document.get("keys")
        if not isinstance(keys, list) or len(keys) > _MOST_KEYS:
            raise ValueError("not a set of keys")
        found = tuple(key for each in keys if (key := _key(each)) is not None)
        if not found:
            raise ValueError("a set of keys without one that can be used")
        return found

    async def _discovered(self, client: "httpx.AsyncClient") -> str:
        document = await _json(client, f"{self._issuer.rstrip('/')}/.well-known/openid-configuration")
        url = document.get("jwks_uri")
        if document.get("issuer") != self._issuer or not isinstance(url, str):
            raise ValueError("not the discovery document of this issuer")
        _require_https(url, "http.auth.oidc_issuer")
        return url


def _key(stated: object) -> "jwt.PyJWK | None":
    try:
        return jwt.PyJWK(stated)  # type: ignore[arg-type]  # whatever it is, it is checked there
    except (jwt.PyJWTError, ValueError, TypeError, KeyError, AttributeError):
        return None  # a kind of key this version does not know; others may do


async def _json(client: "httpx.AsyncClient", url: str) -> dict[str, Any]:
    async with client.stream("GET", url, headers={"Accept": "application/json"}) as response:
        if response.status_code != 200:
            raise ValueError(f"status {response.status_code}")
        body = b""
        async for part in response.aiter_bytes():
            body += part
            if len(body) > _MOST_KEYS_BYTES:
                raise ValueError("too long")
    document = json.loads(body)
    if not isinstance(document, dict):
        raise ValueError("not an object")  # noqa: TRY004 - content of the wrong kind, not a caller's mistake
    return document


def _require_https(url: str, key: str) -> None:
    parts = urlsplit(url)
    if parts.scheme == "https" and parts.hostname:
        return
    try:
        is_loopback = parts.scheme == "http" and ipaddress.ip_address(parts.hostname or "").is_loopback
    except ValueError:
        is_loopback = parts.scheme == "http" and parts.hostname == "localhost"
    if not is_loopback:
        raise ConfigurationError(f"{url!r} is not https", "an https:// address", key=key)
