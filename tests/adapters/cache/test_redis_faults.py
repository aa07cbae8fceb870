"""A server that is gone, silent, full, closed to us or somebody else's is an error of Oneiric's, never a miss."""

import asyncio
import shutil
import socket
import ssl
import subprocess
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from oneiric.adapters.cache.redis import RedisCacheAdapter, RedisCacheSettings
from oneiric.core.errors import (
    AdapterError,
    AdapterTimeoutError,
    AuthenticationError,
    OneiricError,
    RejectedError,
    UnavailableError,
)

pytestmark = pytest.mark.xdist_group("redis")
CANARY = "canary-5f3a"


async def opened(**settings: Any) -> RedisCacheAdapter:
    cache = RedisCacheAdapter(RedisCacheSettings(**settings))
    await cache.init()
    return cache


def chain(error: BaseException | None) -> Iterator[BaseException]:
    while error is not None:
        yield error
        error = error.__cause__ or error.__context__


def failure(kind: type[OneiricError], **settings: Any) -> OneiricError:
    """Return the error that opening a cache ends in."""
    with pytest.raises(kind) as raised:
        asyncio.run(opened(**settings))
    assert type(raised.value) is kind
    assert raised.value.__cause__ is not None
    assert all(CANARY not in f"{link!s}{link!r}" for link in chain(raised.value))
    return raised.value


def test_an_unreachable_server_is_named(closed_port: int) -> None:
    error = failure(UnavailableError, host="127.0.0.1", port=closed_port, password=CANARY)
    assert f"127.0.0.1:{closed_port}" in error.message
    failure(UnavailableError, host="name.invalid")
    failure(UnavailableError, url="unix:///nowhere/redis.sock")


def test_a_server_that_never_answers_is_a_timeout() -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        port = silent.getsockname()[1]
        error = failure(AdapterTimeoutError, host="127.0.0.1", port=port, healthcheck_timeout=0.1)
        assert "0.1 s" in error.message


def test_a_server_that_falls_silent_is_a_timeout_and_serves_again(start_redis: Any) -> None:
    server = start_redis()

    async def go() -> None:
        cache = await opened(host="127.0.0.1", port=server.port, socket_timeout=1.0, healthcheck_timeout=1.0)
        await cache.set("n", 1)
        server.stop()
        for call in (cache.get("n", "missing"), cache.exists("n"), cache.get_many(["n"]), cache.health()):
            with pytest.raises(AdapterTimeoutError):
                await call
        server.go_on()
        assert await cache.get("n") == 1
        await cache.cleanup()

    asyncio.run(go())


@pytest.mark.parametrize("wrong", [{"password": CANARY}, {"username": "nobody", "password": CANARY}, {}])
def test_wrong_credentials_are_an_authentication_error(start_redis: Any, wrong: dict[str, str]) -> None:
    server = start_redis("--requirepass", "right")
    failure(AuthenticationError, host="127.0.0.1", port=server.port, **wrong)
    failure(AuthenticationError, url=f"redis://:{CANARY}@127.0.0.1:{server.port}")


def test_a_killed_server_is_unavailable_until_it_is_back(start_redis: Any) -> None:
    server = start_redis()

    async def go() -> None:
        cache = await opened(host="127.0.0.1", port=server.port)
        await asyncio.gather(*(cache.set(f"k{number}", 1) for number in range(10)))
        server.kill()
        missing = object()
        for call in (cache.get("k1", missing), cache.set("k1", 2), cache.increment("n", ttl=5), cache.health()):
            with pytest.raises(UnavailableError):
                await call
        server.start()
        assert await asyncio.gather(*(cache.get(f"k{number}", missing) for number in range(20))) == [missing] * 20
        assert await cache.health()
        await cache.cleanup()

    asyncio.run(go())


def test_connections_that_the_server_dropped_are_replaced_unnoticed(start_redis: Any) -> None:
    server = start_redis()

    async def go() -> None:
        cache = await opened(host="127.0.0.1", port=server.port)
        await asyncio.gather(*(cache.set(f"k{number}", number) for number in range(10)))
        raw = server.raw()
        raw.client_kill_filter(_type="normal", skipme=True)
        raw.close()
        assert await asyncio.gather(*(cache.get(f"k{number}") for number in range(10))) == list(range(10))
        await cache.cleanup()

    asyncio.run(go())


def test_a_full_server_is_unavailable_for_writing_and_not_for_reading(start_redis: Any) -> None:
    server = start_redis()

    async def go() -> None:
        cache = await opened(host="127.0.0.1", port=server.port)
        await cache.set("key", 1)
        raw = server.raw()
        raw.config_set("maxmemory", "1")
        for call in (cache.set("other", 1), cache.increment("n", ttl=5), cache.set_many({"a": 1}, ttl=5)):
            with pytest.raises(UnavailableError, match=r"OutOfMemory|OOM"):
                await call
        assert await cache.get("key") == 1
        raw.close()
        await cache.cleanup()

    asyncio.run(go())


def test_what_the_user_may_not_do_is_rejected(start_redis: Any) -> None:
    server = start_redis()
    raw = server.raw()
    raw.acl_setuser("reader", enabled=True, passwords=["+word"], keys=["*"], commands=["+get", "+ping", "+client"])
    raw.close()

    async def go() -> None:
        cache = await opened(host="127.0.0.1", port=server.port, username="reader", password="word", client_name="")
        assert await cache.get("key") is None
        with pytest.raises(RejectedError):
            await cache.set("key", CANARY)
        await cache.cleanup()

    asyncio.run(go())


def test_what_others_wrote_is_an_error_and_not_a_miss(place: Any) -> None:
    place.raw.hset(f"{place.prefix}hash", "field", "value")
    place.raw.set(f"{place.prefix}text", "not JSON")
    place.raw.set(f"{place.prefix}binary", b"\xff\xfe")
    place.raw.set(f"{place.prefix}empty", "")

    async def go() -> None:
        cache = await opened(**place.settings)
        for key in ("hash", "text", "binary", "empty"):
            with pytest.raises(RejectedError):
                await cache.get(key)
            with pytest.raises(RejectedError):
                await cache.increment(key, ttl=5)
        assert await cache.exists("hash")
        assert await cache.set("hash", 1)
        assert await cache.get("hash") == 1
        await cache.cleanup()

    asyncio.run(go())


def test_what_is_no_redis_is_an_error_of_oneirics() -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:

        def answer() -> None:
            connection, _ = listener.accept()
            with connection:
                connection.recv(4096)
                connection.sendall(b"HTTP/1.1 400 Bad Request\r\n\r\n")

        web = threading.Thread(target=answer)
        web.start()
        with pytest.raises(AdapterError):
            asyncio.run(opened(host="127.0.0.1", port=listener.getsockname()[1], healthcheck_timeout=10))
        web.join()


@pytest.fixture
def certificate(tmp_path: Path) -> tuple[Path, Path]:
    """A certificate for localhost that signs itself, and its key."""
    certificate, key = tmp_path / "certificate.pem", tmp_path / "key.pem"
    made = subprocess.run(
        [str(shutil.which("openssl")), "req", "-x509",
         "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes",
         "-keyout", str(key), "-out", str(certificate), "-days", "2", "-subj", "/CN=localhost",
         "-addext", "subjectAltName=DNS:localhost"],
        capture_output=True, check=False,
    )  # fmt: skip
    assert made.returncode == 0, made.stderr
    return certificate, key


def test_certificates_are_verified(start_redis: Any, certificate: tuple[Path, Path]) -> None:
    authority, key = certificate
    server = start_redis(
        "--tls-cert-file", str(authority), "--tls-key-file", str(key), "--tls-auth-clients", "no", tls=True
    )  # fmt: skip

    async def go() -> None:
        cache = await opened(host="localhost", port=server.port, ssl=True, ssl_ca_certs=authority)
        assert await cache.set("key", 1)
        await cache.cleanup()

    asyncio.run(go())
    unknown = failure(UnavailableError, host="localhost", port=server.port, ssl=True)
    assert any(isinstance(link, ssl.SSLCertVerificationError) for link in chain(unknown))
    failure(UnavailableError, url=f"rediss://localhost:{server.port}")
    other_name = failure(UnavailableError, host="127.0.0.1", port=server.port, ssl=True, ssl_ca_certs=authority)
    assert any(isinstance(link, ssl.SSLCertVerificationError) for link in chain(other_name))
    failure(UnavailableError, host="localhost", port=server.port, healthcheck_timeout=20)
