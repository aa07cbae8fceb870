"""A running system in memory behind a real server on real sockets, and ways to talk to it."""

import asyncio
import ssl
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx
import pytest

from oneiric.core.lifecycle import LifecycleManager
from oneiric.core.resolution import Candidate, Policy, Resolver
from oneiric.core.testing import FakeComponent, fake_environment
from oneiric.runtime.control import control_socket_path
from oneiric.runtime.control.testing import MemoryPlane
from oneiric.runtime.http import HttpServer, build_app
from oneiric.runtime.settings import HttpSettings

#: Trusts nobody: reading the certificates of everybody takes longer than all the rest, and nothing here speaks TLS.
NO_TLS = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)


@dataclass
class System:
    plane: MemoryPlane
    server: HttpServer
    path: Path
    lines: list[dict[str, Any]] = field(default_factory=list)
    connected: list[asyncio.StreamWriter] = field(default_factory=list)

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server.port}"

    async def ask(self, method: str, target: str, *, over: str = "tcp", **sent: Any) -> httpx.Response:
        transport = httpx.AsyncHTTPTransport(uds=str(self.path), verify=NO_TLS) if over == "socket" else None
        base = self.url if over == "tcp" else "http://localhost"
        async with httpx.AsyncClient(
            base_url=base, transport=transport, trust_env=False, verify=NO_TLS, timeout=60
        ) as client:
            return await client.request(method, target, **sent)

    async def raw(self, data: bytes) -> bytes:
        """Send bytes, and return all that comes until the server closes the connection."""
        reader, writer = await self.connect()
        try:
            writer.write(data)
            return await asyncio.wait_for(reader.read(), 60)
        finally:
            writer.close()

    async def connect(self) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        reader, writer = await asyncio.open_connection("127.0.0.1", self.server.port)
        self.connected.append(writer)
        return reader, writer

    async def until(self, condition: Callable[[], bool]) -> None:
        """Wait until what the server does by itself has been done."""
        async with asyncio.timeout(60):
            while not condition():  # noqa: ASYNC110 - nobody tells a test that a connection was let go of
                await asyncio.sleep(0.001)

    def logged(self, message: str = "request") -> list[dict[str, Any]]:
        return [line for line in self.lines if line["message"] == message]


type Serve = Callable[..., AbstractAsyncContextManager[System]]


@pytest.fixture
def serve(tmp_path: Path) -> Serve:
    @asynccontextmanager
    async def serving(
        settings: Mapping[str, Any] | None = None, *, plane_class: type[MemoryPlane] = MemoryPlane, **built: Any
    ) -> AsyncIterator[System]:
        chosen = HttpSettings.model_validate({"port": 0, **(settings or {})})
        resolver = Resolver(Policy(environment=fake_environment()))
        offered = (
            Candidate(domain="adapter", key="cache", provider=p, factory=FakeComponent) for p in ("memory", "redis")
        )
        resolver.apply(add=offered)
        lines: list[dict[str, Any]] = []

        def log(level: str, message: str, **fields: Any) -> None:
            lines.append({"level": level, "message": message, **fields})

        async with LifecycleManager(resolver) as lifecycle:
            plane = plane_class(resolver, lifecycle)
            app = build_app(plane, settings=chosen, readiness=lambda: plane.not_ready, log=log, **built)
            path = control_socket_path(tmp_path / "state")
            server = HttpServer(app, chosen, socket_path=path, stop_seconds=1)
            await server.start()
            system = System(plane, server, path, lines)
            try:
                yield system
            finally:
                for writer in system.connected:
                    writer.transport.abort()
                await server.stop()
                plane.close()

    return serving
