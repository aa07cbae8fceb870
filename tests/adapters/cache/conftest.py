"""What the cache tests run against: driven clocks, and real Redis servers.

On the shared server every test has a prefix of its own. Servers that a test breaks are its own, on a free port.
"""

import contextlib
import shutil
import signal
import socket
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NoReturn
from uuid import uuid4

import pytest
import redis

HOST = "127.0.0.1"


class Clock:
    """Seconds that pass when told to."""

    def __init__(self, now: float = 1_700_000_000.0) -> None:
        self.now = now

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


class Place:
    """A key space of this test's own on the shared server, and a client beside the one that is tested."""

    def __init__(self, url: str) -> None:
        self.prefix = f"oneiric-test:{uuid4().hex}:"
        self.settings: dict[str, Any] = {"url": url, "key_prefix": self.prefix}
        self.raw = redis.Redis.from_url(url)

    def elapse(self, seconds: float) -> None:
        """Let time pass, by shortening what every key has left: the server's own clock cannot be driven."""
        for name in self.raw.scan_iter(match=f"{self.prefix}*"):
            left = self.raw.pttl(name)
            if left >= 0:
                self.raw.pexpire(name, max(0, left - round(seconds * 1000)))

    def close(self) -> None:
        for name in self.raw.scan_iter(match=f"{self.prefix}*"):
            self.raw.unlink(name)
        self.raw.close()


@pytest.fixture
def place(redis_url: str) -> Iterator[Place]:
    found = Place(redis_url)
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


@pytest.fixture
def closed_port() -> int:
    return free_port()
