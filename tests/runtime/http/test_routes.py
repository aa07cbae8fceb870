"""What the routes answer to those who may ask, over TCP on loopback and over the control socket."""

import asyncio
from typing import Any

import pytest

from oneiric.core.errors import ConfigurationError, SecretNotFoundError, SelectionNotFoundError
from oneiric.runtime.control import API_PREFIX, OPERATIONS, ControlClient, Operation
from oneiric.runtime.control.testing import MemoryPlane

from .conftest import Serve

#: Fields with which each operation succeeds.
FIELDS: dict[str, dict[str, Any]] = {
    "explain": {"domain": "adapter", "key": "cache"},
    **{name: {"domain": "adapter", "key": "cache"} for name in ("swap", "retire", "pause", "drain", "resume")},
}
CALLED = [operation for operation in OPERATIONS if not operation.streams]


@pytest.mark.parametrize("over", ["tcp", "socket"])
@pytest.mark.parametrize("operation", CALLED, ids=lambda each: each.name)
async def test_every_operation_answers_its_model(serve: Serve, operation: Operation, over: str) -> None:
    fields = FIELDS.get(operation.name, {})
    sent = {"json": fields} if operation.method == "POST" else {"params": fields}
    async with serve() as system:
        answer = await system.ask(operation.method, f"{API_PREFIX}{operation.path}", over=over, **sent)

    assert answer.status_code == 200, answer.text
    assert answer.headers["content-type"] == "application/json"
    assert answer.headers["cache-control"] == "no-store"
    operation.response.model_validate(answer.json())


async def test_the_client_speaks_to_both(serve: Serve) -> None:
    async with serve() as system:
        for client in (ControlClient(system.path), ControlClient(system.url)):
            swapped = await asyncio.to_thread(client.call, "swap", domain="adapter", key="cache", provider="memory")
            assert swapped["status"]["current_provider"] == "memory"
            found = await asyncio.to_thread(
                client.call, "explain", domain="adapter", key="cache", capabilities=[], require_all=True
            )
            assert found["active"] == "memory"
        with pytest.raises(SelectionNotFoundError, match="has no provider 'nope'") as caught:
            await asyncio.to_thread(client.call, "swap", domain="adapter", key="cache", provider="nope")
        assert caught.value.hint == "oneiric list --domain adapter"
        with pytest.raises(SecretNotFoundError, match="there is no secret 'x'"):
            await asyncio.to_thread(client.call, "secrets_rotate", keys=["x"])
        with pytest.raises(ConfigurationError, match="extra_field: Extra inputs are not permitted"):
            await asyncio.to_thread(client.call, "swap", domain="adapter", key="cache", extra_field=1)
        with pytest.raises(ConfigurationError, match="is no operation that can be called"):
            client.call("reboot")


async def test_probes_tell_the_process_from_its_readiness(serve: Serve) -> None:
    async with serve(metrics=lambda: "oneiric_up 1\n") as system:
        alive, ready = await system.ask("GET", "/healthz"), await system.ask("GET", "/readyz")
        system.plane.not_ready.append("starting")
        waiting = await system.ask("GET", "/readyz")
        metrics = await system.ask("GET", "/metrics")

    assert (alive.status_code, alive.json()) == (200, {"status": "ok"})
    assert (ready.status_code, ready.json()) == (200, {"status": "ready", "reasons": []})
    assert (waiting.status_code, waiting.json()) == (503, {"status": "not ready", "reasons": ["starting"]})
    assert (metrics.text, metrics.headers["content-type"]) == (
        "oneiric_up 1\n",
        "text/plain; version=0.0.4; charset=utf-8",
    )


async def test_an_error_of_the_system_keeps_its_class_status_and_hint(serve: Serve) -> None:
    async with serve() as system:
        system.plane.next_config = ConfigurationError("is wrong", "another", "a.yml", 3, "app.name")
        answer = await system.ask("POST", f"{API_PREFIX}/config/plan", json={})
        missing = await system.ask("GET", f"{API_PREFIX}/explain", params={"domain": "adapter", "key": "nope"})

    assert (answer.status_code, answer.json()) == (
        422,
        {"error": {"type": "ConfigurationError", "message": "a.yml:3: app.name: is wrong", "hint": "another"}},
    )
    assert (missing.status_code, missing.json()["error"]["type"]) == (404, "CandidateNotFoundError")


class Broken(MemoryPlane):
    async def status(self, request: object) -> Any:
        raise ZeroDivisionError("S3CR3T-inside")


async def test_what_fails_inside_is_answered_by_an_id_that_the_log_explains(serve: Serve) -> None:
    async with serve(plane_class=Broken) as system:
        answer = await system.ask("GET", f"{API_PREFIX}/status")
        (failed,) = system.logged("request-failed")

    assert answer.status_code == 500
    assert "S3CR3T" not in answer.text
    assert failed["id"] in answer.json()["error"]["message"]
    assert isinstance(failed["exc_info"], ZeroDivisionError)


async def test_every_request_is_one_line_that_nothing_sent_can_break(serve: Serve) -> None:
    async with serve() as system:
        await system.ask("GET", f"{API_PREFIX}/status%0Aforged?token=S3CR3T")
        await system.ask("GET", "/healthz")
        await system.ask("POST", f"{API_PREFIX}/pause", json={"domain": "adapter", "key": "cache"}, over="socket")
        first, probe, changed = system.logged()

    assert (first["path"], first["status"], first["by"]) == (f"{API_PREFIX}/status%0Aforged", 404, "loopback")
    assert (probe["level"], changed["level"]) == ("debug", "info")
    assert changed["by"].startswith("socket:")
    assert "S3CR3T" not in str(system.lines)


async def test_who_asked_is_handed_on(serve: Serve) -> None:
    body = {"domain": "adapter", "key": "cache", "by": "ann"}
    async with serve() as system:
        for over in ("tcp", "socket"):
            await system.ask("POST", f"{API_PREFIX}/pause", json=body, over=over)
        asked = [request.by for request in system.plane.asked]  # type: ignore[attr-defined]

    assert asked == ["ann (loopback)", "ann"]


@pytest.mark.parametrize(
    ("method", "path", "status", "allow"),
    [
        ("GET", "/", 404, None),
        ("GET", "/api/v1", 404, None),
        ("GET", "/api/v1/", 404, None),
        ("GET", "/api/v1/nope", 404, None),
        ("GET", "/api/v1/status/", 404, None),
        ("GET", "/api/v1/../v1/status", 404, None),
        ("GET", "//api/v1/status", 404, None),
        ("GET", "/metrics", 404, None),
        ("POST", "/healthz", 405, "GET, HEAD"),
        ("DELETE", "/readyz", 405, "GET, HEAD"),
        ("GET", "/api/v1/swap", 405, "POST"),
        ("HEAD", "/api/v1/events", 405, "GET"),
        ("PUT", "/api/v1/swap", 405, "POST"),
        ("OPTIONS", "/api/v1/swap", 405, "POST"),
    ],
)
async def test_paths_and_methods_are_exact(
    serve: Serve, method: str, path: str, status: int, allow: str | None
) -> None:
    async with serve() as system:
        answer = await system.raw(f"{method} {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n".encode())

    head = answer.decode().partition("\r\n\r\n")[0].lower()
    assert head.startswith(f"http/1.1 {status} ")
    assert (allow is None) or f"allow: {allow.lower()}" in head.replace("head, get", "get, head")


@pytest.mark.parametrize(
    ("headers", "status"),
    [
        ({"Host": "evil.test"}, 403),
        ({"Host": "127.0.0.1.evil.test:80"}, 403),
        ({"Host": "localhost:1"}, 200),
        ({"Host": "[::1]:80"}, 200),
        ({"Origin": "http://evil.test"}, 403),
        ({"Origin": "null"}, 403),
        ({"Origin": "http://localhost:1", "Host": "localhost:1"}, 200),
    ],
)
async def test_other_names_and_other_sites_are_refused(serve: Serve, headers: dict[str, str], status: int) -> None:
    async with serve() as system:
        for path in ("/healthz", f"{API_PREFIX}/status"):
            answer = await system.ask("GET", path, headers=headers)
            assert answer.status_code == status, path
            assert not [name for name in answer.headers if name.startswith("access-control")]


async def test_names_of_the_operators_choice_are_served(serve: Serve) -> None:
    async with serve({"allowed_hosts": ["Ops.Example"]}) as system:
        for host, status in (("ops.example:8080", 200), ("localhost", 200), ("other.example", 403)):
            assert (await system.ask("GET", "/healthz", headers={"Host": host})).status_code == status


async def test_an_application_can_be_mounted_at_a_path(serve: Serve) -> None:
    async def echo(scope: Any, receive: Any, send: Any) -> None:
        message = await receive()
        await send({"type": "http.response.start", "status": 202, "headers": []})
        await send({"type": "http.response.body", "body": message["body"]})

    async with serve(mounts={"/tasks/workflow": echo}) as system:
        answer = await system.ask("POST", "/tasks/workflow", content=b"x" * 1000)
        other = await system.ask("POST", "/tasks/workflow/more")

    assert (answer.status_code, answer.content) == (202, b"x" * 1000)
    assert other.status_code == 404


async def test_an_operation_that_conflicts_leaves_the_old_one_serving(serve: Serve) -> None:
    async with serve() as system:
        await system.plane.lifecycle.activate("adapter", "cache")
        resolver = system.plane.resolver
        resolver.apply(add=[each.replace(factory=_broken) for each in resolver.candidates("adapter")])
        answer = await system.ask("POST", f"{API_PREFIX}/swap", json={"domain": "adapter", "key": "cache"})

    assert (answer.status_code, answer.json()["error"]["type"]) == (409, "SwapError")


def _broken() -> None:
    raise RuntimeError("no")
