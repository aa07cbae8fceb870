"""Starting and stopping: where the server listens, where it refuses to, and what it leaves behind."""

import asyncio
import signal
import socket
import stat
from pathlib import Path
from typing import Any

import pytest

from oneiric.core.errors import ConfigurationError, LifecycleError
from oneiric.runtime.control import API_PREFIX
from oneiric.runtime.control._socket import listen_on_control_socket
from oneiric.runtime.http import HttpServer
from oneiric.runtime.settings import HttpSettings

from .conftest import Serve

KEYS: dict[str, Any] = {"auth": {"kind": "hmac", "hmac_keys": {"ops": "x" * 32}}}


async def nothing(scope: Any, receive: Any, send: Any) -> None:
    await send({"type": "http.response.start", "status": 204, "headers": []})
    await send({"type": "http.response.body", "body": b""})


def server(path: Path | None = None, **settings: Any) -> HttpServer:
    return HttpServer(nothing, HttpSettings.model_validate({"port": 0, **settings}), socket_path=path)


@pytest.mark.parametrize("host", ["0.0.0.0", "::", ""])  # noqa: S104 - that is what is refused
async def test_an_address_that_others_reach_is_refused_without_authentication(host: str) -> None:
    with pytest.raises(ConfigurationError, match=r"http\.auth") as caught:
        await server(host=host).start()
    assert caught.value.key == "http.auth"


async def test_with_authentication_it_is_bound() -> None:
    bound = server(host="0.0.0.0", **KEYS)  # noqa: S104 - authenticated
    await bound.start()
    assert bound.port > 0
    await bound.stop()


@pytest.mark.parametrize("host", ["127.0.0.1", "localhost", "127.8.8.8"])
async def test_loopback_needs_none(host: str) -> None:
    bound = server(host=host)
    await bound.start()
    await bound.stop()


async def test_a_name_that_is_no_address_is_a_sentence() -> None:
    with pytest.raises(ConfigurationError, match="is no address"):
        await server(host="no..such").start()


async def test_a_port_that_is_taken_is_a_sentence(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as other:
        port = other.getsockname()[1]
        with pytest.raises(ConfigurationError, match=f"127.0.0.1:{port} is taken by another process") as caught:
            await server(tmp_path / "control.sock", port=port).start()
    assert caught.value.key == "http.port"
    assert not (tmp_path / "control.sock").exists()


async def test_a_control_socket_in_use_lets_go_of_the_port(tmp_path: Path) -> None:
    path = tmp_path / "control.sock"
    with listen_on_control_socket(path):
        second = server(path)
        with pytest.raises(LifecycleError, match="another process listens"):
            await second.start()
        with pytest.raises(LifecycleError, match="listens on no port"):
            _ = second.port
        assert path.exists()


async def test_it_can_be_on_the_control_socket_alone(tmp_path: Path) -> None:
    bound = server(tmp_path / "control.sock", enabled=False)
    await bound.start()
    with pytest.raises(LifecycleError, match="listens on no port"):
        _ = bound.port
    reader, writer = await asyncio.open_unix_connection(tmp_path / "control.sock")
    writer.write(b"GET / HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
    assert (await reader.read()).startswith(b"HTTP/1.1 204")
    writer.close()
    await bound.stop()


async def test_the_control_socket_is_its_owners_and_goes_with_the_server(serve: Serve) -> None:
    async with serve() as system:
        assert stat.S_IMODE(system.path.stat().st_mode) == 0o600
        assert stat.S_IMODE(system.path.parent.stat().st_mode) == 0o700
    assert not system.path.exists()


async def test_a_socket_that_another_process_put_there_is_left_to_it(tmp_path: Path) -> None:
    path = tmp_path / "control.sock"
    first = server(path, enabled=False)
    await first.start()
    path.unlink()
    with listen_on_control_socket(path):
        await first.stop()
        assert path.is_socket()


async def test_it_stops_twice_and_before_it_started(tmp_path: Path) -> None:
    bound = server(tmp_path / "control.sock")
    await bound.stop()
    await bound.start()
    with pytest.raises(LifecycleError, match="started already"):
        await bound.start()
    await bound.stop()
    await bound.stop()
    await bound.start()
    await bound.stop()


async def test_it_touches_no_signal_handler() -> None:
    before = [signal.getsignal(each) for each in (signal.SIGINT, signal.SIGTERM)]
    bound = server()
    await bound.start()
    during = [signal.getsignal(each) for each in (signal.SIGINT, signal.SIGTERM)]
    await bound.stop()

    assert during == before


async def slow(released: asyncio.Event, scope: Any, receive: Any, send: Any) -> None:
    await released.wait()
    await nothing(scope, receive, send)


async def begun(app: Any, stop_seconds: float) -> tuple[HttpServer, asyncio.StreamReader, asyncio.StreamWriter]:
    bound = HttpServer(app, HttpSettings(port=0), stop_seconds=stop_seconds)
    await bound.start()
    reader, writer = await asyncio.open_connection("127.0.0.1", bound.port)
    writer.write(b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n")
    while not bound._listeners[0].state.tasks:  # noqa: ASYNC110 - nobody tells a test that it has been read
        await asyncio.sleep(0)
    return bound, reader, writer


async def test_a_request_that_is_being_answered_is_waited_for() -> None:
    released = asyncio.Event()
    bound, reader, writer = await begun(lambda *a: slow(released, *a), 10)
    stopping = asyncio.ensure_future(bound.stop())
    await asyncio.sleep(0)
    released.set()
    await stopping
    answer = await reader.read()
    writer.close()

    assert answer.startswith(b"HTTP/1.1 204")


async def test_one_that_does_not_end_is_cut_at_the_deadline(caplog: pytest.LogCaptureFixture) -> None:
    bound, reader, writer = await begun(lambda *a: slow(asyncio.Event(), *a), 0.05)
    await bound.stop()
    assert await reader.read() == b""
    assert not caplog.records
    writer.close()


async def test_an_idle_connection_is_closed_by_stopping(serve: Serve) -> None:
    async with serve() as system:
        reader, writer = await system.connect()
        writer.write(b"GET /healthz HTTP/1.1\r\nHost: localhost\r\n\r\n")
        await reader.readuntil(b"}")
        await system.server.stop()
        assert await reader.read() == b""
        writer.close()


async def test_models_and_framework_are_loaded_by_the_first_question_only(serve: Serve) -> None:
    async with serve() as system:
        answers = await asyncio.gather(*(system.ask("GET", f"{API_PREFIX}/health") for _ in range(10)))

    assert [answer.status_code for answer in answers] == [200] * 10
