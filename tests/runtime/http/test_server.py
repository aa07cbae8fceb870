"""Starting and stopping: where the server listens, where it refuses to, and what it leaves behind."""

import asyncio
import os
import signal
import socket
import stat
import subprocess
import sys
import tempfile
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest

from oneiric.core.errors import ConfigurationError, LifecycleError
from oneiric.runtime.control import API_PREFIX, control_socket_path
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
    assert bound.port > 0
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


def open_to_all(path: Path) -> None:
    path.parent.chmod(0o755)
    path.chmod(0o666)


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can become somebody else")
async def test_another_user_is_turned_away_by_the_kernels_word() -> None:
    """Even where somebody opened up the rights of the socket and its directory."""
    ask = (
        "import os, socket, sys; os.setgid(65534); os.setuid(65534); s = socket.socket(socket.AF_UNIX);"
        "s.connect(sys.argv[1]); s.sendall(b'GET / HTTP/1.1\\r\\nHost: x\\r\\n\\r\\n'); print(s.recv(100))"
    )
    with tempfile.TemporaryDirectory() as directory:
        path = Path(directory, "control.sock")
        bound = server(path, enabled=False)
        await bound.start()
        open_to_all(path)
        asking = await asyncio.create_subprocess_exec(
            sys.executable, "-c", ask, str(path), stdout=asyncio.subprocess.PIPE
        )
        out, _ = await asking.communicate()
        await bound.stop()

    assert b"HTTP/1.1 403 " in out


@pytest.mark.xdist_group("control-socket")
async def test_a_state_directory_of_a_long_name_is_served_under_a_short_one(tmp_path: Path) -> None:
    state_dir = tmp_path / ("long" * 40)
    bound = server(control_socket_path(state_dir), enabled=False)
    await bound.start()
    reader, writer = await asyncio.open_unix_connection(control_socket_path(state_dir))
    writer.write(b"GET / HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
    answer = await reader.read()
    writer.close()
    await bound.stop()

    assert answer.startswith(b"HTTP/1.1 204")
    assert not state_dir.exists()
    assert not control_socket_path(state_dir).exists()


@pytest.mark.parametrize(
    ("missing", "line"),
    [("uvicorn", "pip install 'oneiric-runtime[http]'"), ("jwt", "pip install 'oneiric-runtime[oidc]'")],
)
def test_a_missing_extra_says_what_to_type(missing: str, line: str) -> None:
    code = f"""
import asyncio, sys
sys.modules["{missing}"] = None
from oneiric.core.errors import MissingExtraError
from oneiric.runtime.http import HttpServer, authenticator_for
from oneiric.runtime.settings import HttpAuthSettings, HttpSettings
try:
    authenticator_for(HttpAuthSettings(kind="oidc", oidc_issuer="https://a.test", oidc_audience="b"))
    asyncio.run(HttpServer(None, HttpSettings(port=0)).start())
except MissingExtraError as error:
    print(error.hint)
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)

    assert done.stdout == f"{line}\n"


def test_serving_probes_loads_neither_framework_nor_models() -> None:
    code = """
import asyncio, sys, types
from oneiric.runtime.http import HttpServer, build_app
auth = types.SimpleNamespace(kind="none")
limits = dict(max_body_bytes=1000, max_header_bytes=1000, max_headers=10, receive_seconds=1, max_connections=9)
settings = types.SimpleNamespace(enabled=True, host="127.0.0.1", port=0, auth=auth, allowed_hosts=(), **limits)
async def main():
    server = HttpServer(build_app(None, settings=settings, log=lambda *line, **fields: None), settings)
    await server.start()
    reader, writer = await asyncio.open_connection("127.0.0.1", server.port)
    writer.write(b"GET /healthz HTTP/1.1\\r\\nHost: localhost\\r\\n\\r\\n")
    print((await reader.readline()).decode().strip(), sorted({"pydantic", "starlette", "structlog"} & set(sys.modules)))
    writer.close()
    await server.stop()
asyncio.run(main())
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)

    assert done.stdout == "HTTP/1.1 200 OK []\n"


@pytest.mark.parametrize("turns", range(4))
async def test_a_start_that_is_cancelled_leaves_nobody_listening(tmp_path: Path, turns: int) -> None:
    bound = server(tmp_path / "control.sock")
    bind, places = bound._bound, list[tuple[str, int]]()

    async def noted() -> socket.socket:
        listening = await bind()
        places.append(listening.getsockname())
        return listening

    bound._bound = noted  # type: ignore[method-assign]  # to learn which port it had
    starting = asyncio.create_task(bound.start())
    async with asyncio.timeout(60):
        while not places:  # noqa: ASYNC110 - every turn of the loop counts here
            await asyncio.sleep(0)
    for _ in range(turns):
        await asyncio.sleep(0)
    starting.cancel()
    await asyncio.wait((starting,))
    await bound.stop()

    with pytest.raises(ConnectionRefusedError):
        socket.create_connection(places[0], timeout=60)
    assert not (tmp_path / "control.sock").exists()


@pytest.mark.parametrize("turns", range(6))
async def test_who_is_being_let_in_when_it_stops_is_let_go(turns: int) -> None:
    bound = server()
    await bound.start()
    with socket.create_connection(("127.0.0.1", bound.port)) as client:
        for _ in range(turns):
            await asyncio.sleep(0)
        await bound.stop()
        client.settimeout(60)
        with suppress(ConnectionResetError):
            assert await asyncio.to_thread(client.recv, 1) == b""
