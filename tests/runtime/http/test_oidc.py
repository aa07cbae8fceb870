"""Tokens of a provider: only what it signed, for us, now, with a key of the right kind, is let in anywhere."""

import asyncio
import base64
import hashlib
import hmac
import json
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

import jwt
import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec, rsa

from oneiric.core import Secret
from oneiric.core.errors import ConfigurationError
from oneiric.core.testing import DrivenClock
from oneiric.runtime.control import API_PREFIX, OPERATIONS, BearerToken, ControlClient
from oneiric.runtime.http import authenticator_for
from oneiric.runtime.http._asgi import RefusalError
from oneiric.runtime.http._oidc import ProviderKeys
from oneiric.runtime.settings import HttpAuthSettings

from .conftest import Serve

RSA_KEY = rsa.generate_private_key(public_exponent=65537, key_size=2048)
OTHER_KEY = rsa.generate_private_key(public_exponent=65537, key_size=2048)
EC_KEY = ec.generate_private_key(ec.SECP256R1())
AUDIENCE = "https://oneiric.test"
ROUTES = [(operation.method, f"{API_PREFIX}{operation.path}") for operation in OPERATIONS]
STATUS = f"{API_PREFIX}/status"


def public(key: Any, key_id: str, **stated: Any) -> dict[str, Any]:
    algorithm = jwt.algorithms.RSAAlgorithm if isinstance(key, rsa.RSAPrivateKey) else jwt.algorithms.ECAlgorithm
    found: dict[str, Any] = json.loads(algorithm.to_jwk(key.public_key()))
    return found | {"kid": key_id, "use": "sig"} | stated


class Provider:
    """An OpenID provider as far as its keys go, on a real socket."""

    def __init__(self) -> None:
        self.keys = [public(RSA_KEY, "one"), public(EC_KEY, "two")]
        self.asked: list[str] = []
        self.issuer = ""
        self.answer: Callable[[str], bytes] | None = None

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        head = await reader.readuntil(b"\r\n\r\n")
        path = head.split(b" ")[1].decode()
        self.asked.append(path)
        if self.answer is not None:
            writer.write(self.answer(path))
        else:
            discovered = {"issuer": self.issuer, "jwks_uri": f"{self.issuer}/keys"}
            body = json.dumps(discovered if "openid" in path else {"keys": self.keys}).encode()
            writer.write(b"HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: %d\r\n\r\n" % len(body) + body)
        await writer.drain()
        writer.close()

    def token(self, key: Any = RSA_KEY, key_id: str | None = "one", algorithm: str = "RS256", **claims: Any) -> str:
        now = int(time.time())
        stated = {"iss": self.issuer, "aud": AUDIENCE, "sub": "ann", "iat": now, "exp": now + 60} | claims
        headers = {} if key_id is None else {"kid": key_id}
        return jwt.encode(
            {name: value for name, value in stated.items() if value is not None}, key, algorithm, headers=headers
        )

    def settings(self, **fields: Any) -> dict[str, Any]:
        stated = {"kind": "oidc", "oidc_issuer": self.issuer, "oidc_audience": AUDIENCE, "clock_skew_seconds": 5}
        return {"auth": stated | fields}


@asynccontextmanager
async def provider() -> AsyncIterator[Provider]:
    found = Provider()
    server = await asyncio.start_server(found.serve, "127.0.0.1", 0)
    found.issuer = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
    async with server:
        yield found


def b64(data: bytes) -> str:
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()


def forged(token: str, head: dict[str, Any], sign: Callable[[bytes], bytes]) -> str:
    claims = token.split(".")[1]
    signed = f"{b64(json.dumps(head).encode())}.{claims}"
    return f"{signed}.{b64(sign(signed.encode()))}"


def confused(at: Provider) -> str:
    """The provider's public key, which everybody has, as the secret of an HMAC."""
    pem = RSA_KEY.public_key().public_bytes(serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo)
    head = {"alg": "HS256", "typ": "JWT", "kid": "one"}
    return forged(at.token(), head, lambda text: hmac.new(pem, text, hashlib.sha256).digest())


def own_key(at: Provider) -> str:
    """A key that the token itself brings along."""
    head = {"alg": "RS256", "kid": "one", "jwk": public(OTHER_KEY, "one"), "jku": "http://evil.test/keys"}
    now = int(time.time())
    claims = {"iss": at.issuer, "aud": AUDIENCE, "sub": "x", "iat": now, "exp": now + 60}
    return jwt.encode(claims, OTHER_KEY, "RS256", headers=head)


BAD: dict[str, Callable[[Provider], str]] = {
    "nothing": lambda at: "",
    "no token": lambda at: "a.b.c",
    "wrong key": lambda at: at.token(OTHER_KEY),
    "unknown key id": lambda at: at.token(OTHER_KEY, "three"),
    "expired": lambda at: at.token(exp=int(time.time()) - 10),
    "not yet": lambda at: at.token(nbf=int(time.time()) + 60),
    "issued later": lambda at: at.token(iat=int(time.time()) + 600),
    "other audience": lambda at: at.token(aud="https://other.test"),
    "no audience": lambda at: at.token(aud=None),
    "other issuer": lambda at: at.token(iss="https://evil.test"),
    "no issuer": lambda at: at.token(iss=None),
    "no expiry": lambda at: at.token(exp=None),
    "no subject": lambda at: at.token(sub=None),
    "alg none": lambda at: forged(at.token(), {"alg": "none", "typ": "JWT"}, lambda text: b""),
    "alg None": lambda at: forged(at.token(), {"alg": "None", "kid": "one"}, lambda text: b""),
    "no signature": lambda at: at.token().rpartition(".")[0] + ".",
    "HS/RS confusion": confused,
    "an algorithm that is not allowed": lambda at: at.token(algorithm="RS512"),
    "an algorithm of another kind of key": lambda at: at.token(EC_KEY, "one", "ES256"),
    "its own key": own_key,
    "another scheme": lambda at: "basic",
    "much too long": lambda at: "a" * 10_000 + "." + "b" * 5_000 + ".c" * 2_000,
    "critical extension": lambda at: forged(
        at.token(), {"alg": "RS256", "kid": "one", "crit": ["x"], "x": 1}, lambda text: b"0" * 256
    ),
}


@pytest.mark.parametrize("bad", BAD.values(), ids=BAD)
async def test_on_every_route_it_is_401_without_a_detail(serve: Serve, bad: Callable[[Provider], str]) -> None:
    async with provider() as at, serve(at.settings(), metrics=lambda: "detail") as system:
        token = bad(at)
        headers = {"Authorization": f"Bearer {token}" if token != "basic" else "Basic b3BzOm9wcw=="} if token else {}
        answers = [await system.ask(m, target, headers=headers) for m, target in [*ROUTES, ("GET", "/metrics")]]

    assert {answer.status_code for answer in answers} <= {401, 431}
    assert system.plane.asked == []
    assert len(at.asked) <= 4


@pytest.mark.parametrize(
    ("key", "key_id", "algorithm"), [(RSA_KEY, "one", "RS256"), (EC_KEY, "two", "ES256"), (RSA_KEY, None, "RS256")]
)
async def test_a_good_token_is_let_in_under_its_subject(
    serve: Serve, key: Any, key_id: str | None, algorithm: str
) -> None:
    async with provider() as at, serve(at.settings()) as system:
        token = at.token(key, key_id, algorithm)
        client = ControlClient(system.url, auth=BearerToken(Secret(token)))
        await asyncio.to_thread(client.call, "pause", domain="adapter", key="cache")
        (request,) = system.plane.asked

    assert request.by == "oidc:ann"  # type: ignore[attr-defined]
    assert token not in str(system.lines)


@pytest.mark.parametrize(("verified", "name"), [(True, "ann@oneiric.test"), (False, "ann"), ("true", "ann")])
async def test_an_email_counts_when_the_provider_has_verified_it(serve: Serve, verified: Any, name: str) -> None:
    async with provider() as at, serve(at.settings()) as system:
        token = at.token(email="ann@oneiric.test", email_verified=verified)
        await system.ask("GET", STATUS, headers={"Authorization": f"Bearer {token}"})

    assert system.logged()[0]["by"] == f"oidc:{name}"


@pytest.mark.parametrize(
    ("claims", "status"),
    [
        ({"sub": "ann"}, 200),
        ({"sub": "x", "email": "bob@oneiric.test", "email_verified": True}, 200),
        ({"sub": "x", "email": "bob@oneiric.test"}, 403),
        ({"sub": "eve"}, 403),
        ({"sub": ["ann"]}, 401),
    ],
)
async def test_only_those_on_the_list_may_ask(serve: Serve, claims: dict[str, Any], status: int) -> None:
    async with provider() as at, serve(at.settings(oidc_subjects=["ann", "bob@oneiric.test"])) as system:
        now = int(time.time())
        stated = {"iss": at.issuer, "aud": AUDIENCE, "iat": now, "exp": now + 60} | claims
        token = jwt.encode(stated, RSA_KEY, "RS256", headers={"kid": "one"})
        answer = await system.ask("GET", STATUS, headers={"Authorization": f"Bearer {token}"})

    assert answer.status_code == status


async def test_keys_are_fetched_once_and_again_when_the_provider_rotates_them() -> None:
    clock = DrivenClock(100.0)
    async with provider() as at:
        keys = ProviderKeys(at.issuer, f"{at.issuer}/keys", clock=clock)
        for _ in range(5):
            assert [key.key_id for key in await keys.fitting("one", "RSA", "RS256")] == ["one"]
        assert keys.fetches == 1
        at.keys = [public(OTHER_KEY, "new")]
        clock.advance(11)
        found = await asyncio.gather(*(keys.fitting("new", "RSA", "RS256") for _ in range(5)))
        assert [[key.key_id for key in each] for each in found] == [["new"]] * 5
        assert keys.fetches == 2
        assert await keys.fitting("one", "RSA", "RS256") == []


async def test_a_key_is_used_as_the_kind_it_is_and_for_what_it_states() -> None:
    async with provider() as at:
        at.keys += [public(OTHER_KEY, "enc", use="enc"), public(OTHER_KEY, "ps", alg="PS256")]
        keys = ProviderKeys(at.issuer, f"{at.issuer}/keys")

        assert [key.key_id for key in await keys.fitting(None, "RSA", "RS256")] == ["one"]
        for key_id, key_type, algorithm in (("one", "EC", "ES256"), ("two", "RSA", "RS256"), ("enc", "RSA", "RS256")):
            assert await keys.fitting(key_id, key_type, algorithm) == []


async def test_forged_key_ids_do_not_flood_the_provider() -> None:
    clock = DrivenClock(100.0)
    async with provider() as at:
        keys = ProviderKeys(at.issuer, f"{at.issuer}/keys", clock=clock)
        for number in range(100):
            await keys.fitting(f"forged-{number}", "RSA", "RS256")
            clock.advance(0.1)

        assert len(at.asked) <= 2


async def test_keys_that_were_good_stay_so_while_the_provider_is_away() -> None:
    clock = DrivenClock(100.0)
    async with provider() as at:
        keys = ProviderKeys(at.issuer, f"{at.issuer}/keys", clock=clock)
        assert await keys.fitting("one", "RSA", "RS256")
        at.answer = lambda path: b"HTTP/1.1 500 No\r\nConnection: close\r\nContent-Length: 0\r\n\r\n"
        clock.advance(700)
        assert await keys.fitting("one", "RSA", "RS256")
        assert keys.fetches == 2


ODD = {
    "not found": b"HTTP/1.1 404 No\r\nContent-Length: 0\r\n\r\n",
    "a redirect": b"HTTP/1.1 302 No\r\nLocation: http://127.0.0.1:1/\r\nContent-Length: 0\r\n\r\n",
    "no JSON": b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nno",
    "no keys": b'HTTP/1.1 200 OK\r\nContent-Length: 11\r\n\r\n{"keys":[]}',
    "a list": b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n[]",
    "too long": b"HTTP/1.1 200 OK\r\nContent-Length: 999999\r\n\r\n" + b" " * 999_999,
    "a secret for a key": b'HTTP/1.1 200 OK\r\nContent-Length: 33\r\n\r\n{"keys":[{"kty":"oct","k":"c2Vj"}]}'[:-2],
    "nothing": b"",
}


@pytest.mark.parametrize("odd", ODD.values(), ids=ODD)
async def test_without_keys_nobody_is_let_in_and_it_is_said_to_come_back(serve: Serve, odd: bytes) -> None:
    async with provider() as at, serve(at.settings(oidc_jwks_url=f"{at.issuer}/keys")) as system:
        at.answer = lambda path: odd
        token = at.token(key_id="one")
        answer = await system.ask("GET", STATUS, headers={"Authorization": f"Bearer {token}"})

    assert answer.status_code in {401, 503}
    assert system.plane.asked == []


async def test_a_discovery_document_of_somebody_else_is_not_believed() -> None:
    async with provider() as at:
        real, at.issuer = at.issuer, "http://127.0.0.1:1"
        with pytest.raises(RefusalError, match="cannot be checked now"):
            await ProviderKeys(real).fitting("one", "RSA", "RS256")
        assert at.asked == ["/.well-known/openid-configuration"]


@pytest.mark.parametrize("url", ["http://keys.test/jwks", "ftp://keys.test", "keys.test", "http://127.0.0.1.evil.test"])
def test_keys_come_over_https(url: str) -> None:
    auth = HttpAuthSettings(kind="oidc", oidc_issuer="https://issuer.test", oidc_audience=AUDIENCE, oidc_jwks_url=url)
    with pytest.raises(ConfigurationError, match="is not https"):
        authenticator_for(auth)
