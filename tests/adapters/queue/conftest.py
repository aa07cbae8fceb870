"""What the queue tests run against: real servers, shared ones and their own.

On a shared server every test has a stream of its own. Servers that a test breaks are its own, on a free port.
"""

import asyncio
import contextlib
import os
import shutil
import signal
import socket
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NoReturn
from uuid import uuid4

import nats
import nats.js.errors
import pytest
import redis

HOST = "127.0.0.1"


class Place:
    """A stream of this test's own on the shared Redis, and a client beside the one that is tested."""

    def __init__(self, url: str) -> None:
        self.stream = f"oneiric-test:{uuid4().hex}"
        self.settings: dict[str, Any] = {"url": url, "stream": self.stream, "block_ms": 50}
        self.raw = redis.Redis.from_url(url)

    def close(self) -> None:
        for pattern in (self.stream, f"{{{self.stream}}}:*"):
            for name in self.raw.scan_iter(match=pattern, count=1000):
                self.raw.unlink(name)
        self.raw.close()


@pytest.fixture
def place(redis_url: str) -> Iterator[Place]:
    found = Place(redis_url)
    yield found
    found.close()


class Corner:
    """Streams of this test's own on the shared NATS server."""

    def __init__(self, url: str) -> None:
        self.url, self.queue = url, f"test-{uuid4().hex}"
        self.settings: dict[str, Any] = {"servers": [url], "queue": self.queue}

    def close(self) -> None:
        async def delete() -> None:
            client = await nats.connect(self.url)
            for stream in (f"oneiric-queue-{self.queue}", f"oneiric-queue-{self.queue}-dead"):
                with contextlib.suppress(nats.js.errors.NotFoundError):
                    await client.jetstream().delete_stream(stream)
            await client.close()

        asyncio.run(delete())


@pytest.fixture
def corner(nats_url: str) -> Iterator[Corner]:
    found = Corner(nats_url)
    yield found
    found.close()


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind((HOST, 0))
        port: int = probe.getsockname()[1]
        return port


class OwnServer:
    """A redis-server of one test."""

    def __init__(self, directory: Path, *options: str, port: int | None = None, tls: bool = False) -> None:
        self.port, self._directory, self._options, self._tls = port or free_port(), directory, options, tls
        self.start()

    def start(self) -> None:
        listen = ("--port", "0", "--tls-port") if self._tls else ("--port",)
        self._process = subprocess.Popen(
            [str(shutil.which("redis-server")), *listen, str(self.port), "--bind", HOST, "--save", "", *self._options],
            cwd=self._directory,
            stdout=subprocess.DEVNULL,
        )
        deadline = time.monotonic() + 60
        while True:
            try:
                socket.create_connection((HOST, self.port), timeout=1).close()
                return
            except OSError:
                if time.monotonic() > deadline or self._process.poll() is not None:
                    raise

    def stop(self) -> None:
        """Make it silent: it keeps its connections and answers nothing."""
        self._process.send_signal(signal.SIGSTOP)
        os.waitpid(self._process.pid, os.WUNTRACED)  # it may have gone on answering for a moment

    def go_on(self) -> None:
        self._process.send_signal(signal.SIGCONT)

    def kill(self) -> None:
        self._process.send_signal(signal.SIGKILL)
        self._process.wait()

    def raw(self, **options: Any) -> redis.Redis:
        return redis.Redis(host=HOST, port=self.port, **options)


@pytest.fixture
def start_redis(tmp_path: Path, service_missing: Callable[[str], NoReturn]) -> Iterator[Callable[..., OwnServer]]:
    """Start redis-servers with options; they end with the test."""
    if shutil.which("redis-server") is None:
        service_missing("no redis-server to start")
    servers = contextlib.ExitStack()

    def start(*options: str, tls: bool = False) -> OwnServer:
        server = OwnServer(tmp_path, *options, tls=tls)
        servers.callback(server.kill)
        return server

    with servers:
        yield start


class OwnNats:
    """A nats-server of one test; it keeps its streams when it is killed and started again."""

    def __init__(self, directory: Path, *options: str, jetstream: bool = True) -> None:
        self.port, self._options = free_port(), options
        self._store = ["-js", "-sd", str(directory / "nats")] if jetstream else []
        self.start()

    def start(self) -> None:
        self._process = subprocess.Popen(
            [str(shutil.which("nats-server")), "-a", HOST, "-p", str(self.port), *self._store, *self._options],
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        deadline = time.monotonic() + 60
        while True:
            try:
                with socket.create_connection((HOST, self.port), timeout=1) as connection:
                    if connection.recv(4096).startswith(b"INFO"):
                        return
            except OSError:
                if time.monotonic() > deadline or self._process.poll() is not None:
                    raise

    def stop(self) -> None:
        """Make it silent: it keeps its connections and answers nothing."""
        self._process.send_signal(signal.SIGSTOP)
        os.waitpid(self._process.pid, os.WUNTRACED)  # it may have gone on answering for a moment

    def go_on(self) -> None:
        self._process.send_signal(signal.SIGCONT)

    def kill(self) -> None:
        self._process.send_signal(signal.SIGKILL)
        self._process.wait()


@pytest.fixture
def start_nats(tmp_path: Path, service_missing: Callable[[str], NoReturn]) -> Iterator[Callable[..., OwnNats]]:
    """Start nats-servers with options; they end with the test."""
    if shutil.which("nats-server") is None:
        service_missing("no nats-server to start")
    servers = contextlib.ExitStack()

    def start(*options: str, jetstream: bool = True) -> OwnNats:
        server = OwnNats(tmp_path, *options, jetstream=jetstream)
        servers.callback(server.kill)
        return server

    with servers:
        yield start


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


@pytest.fixture
def closed_port() -> int:
    return free_port()
