"""Signed requests: what is not signed, not for now, not for this or not for the first time is let in nowhere."""

import asyncio
import json
import time
from collections.abc import Mapping
from typing import Any

import pytest

from oneiric.core import Secret
from oneiric.core.errors import AuthenticationError, ConfigurationError
from oneiric.core.testing import DrivenClock
from oneiric.runtime.control import API_PREFIX, OPERATIONS, ControlClient, HmacSigner
from oneiric.runtime.http import HmacAuthenticator

from .conftest import Serve

KEY = Secret("canary-S3CR3T-0123456789abcdef")
SETTINGS = {"auth": {"kind": "hmac", "hmac_keys": {"ops": KEY.reveal(), "ci": "another-key-0123456789"}}}
ROUTES = [
    *((operation.method, f"{API_PREFIX}{operation.path}") for operation in OPERATIONS),
    ("GET", f"{API_PREFIX}/openapi.json"),
    ("GET", f"{API_PREFIX}/nothing-here"),
    ("GET", "/metrics"),
    ("GET", "/nothing-here"),
    ("POST", "/tasks/workflow"),
]
NOW = 1_700_000_000.0


def signed(method: str, target: str, body: bytes = b"", *, key_id: str = "ops", key: Secret = KEY) -> dict[str, str]:
    return HmacSigner(key_id, key).headers(method, target, body)


def without(headers: Mapping[str, str], name: str) -> dict[str, str]:
    return {each: value for each, value in headers.items() if each != name}


WRONG: dict[str, Any] = {
    "nothing": lambda m, t: {},
    "a wrong key": lambda m, t: signed(m, t, key=Secret("x" * 32)),
    "another key's id": lambda m, t: signed(m, t) | {"X-Oneiric-Key": "ci"},
    "an unknown id": lambda m, t: signed(m, t, key_id="nobody"),
    "another method": lambda m, t: signed("PUT", t),
    "another path": lambda m, t: signed(m, f"{t}x"),
    "another query": lambda m, t: signed(m, f"{t}?a=b"),
    "another body": lambda m, t: signed(m, t, b"other"),
    "too old": lambda m, t: HmacSigner("ops", KEY, clock=lambda: time.time() - 301).headers(m, t, b""),
    "too new": lambda m, t: HmacSigner("ops", KEY, clock=lambda: time.time() + 302).headers(m, t, b""),
    "no nonce": lambda m, t: without(signed(m, t), "X-Oneiric-Nonce"),
    "no time": lambda m, t: without(signed(m, t), "X-Oneiric-Timestamp"),
    "no signature": lambda m, t: without(signed(m, t), "X-Oneiric-Signature"),
    "an odd time": lambda m, t: signed(m, t) | {"X-Oneiric-Timestamp": "NaN"},
    "a short signature": lambda m, t: signed(m, t) | {"X-Oneiric-Signature": "0"},
    "a bearer token": lambda m, t: {"Authorization": "Bearer e30.e30.e30"},
    "a password": lambda m, t: {"Authorization": "Basic b3BzOm9wcw=="},
}


@pytest.mark.parametrize("wrong", WRONG.values(), ids=WRONG)
async def test_on_every_route_it_is_401_without_a_detail(serve: Serve, wrong: Any) -> None:
    async def never(scope: Any, receive: Any, send: Any) -> None:
        raise AssertionError("let in")

    async with serve(SETTINGS, metrics=lambda: "detail", mounts={"/tasks/workflow": never}) as system:
        answers = [await system.ask(m, target, headers=wrong(m, target)) for m, target in ROUTES]
        asked = system.plane.asked

    assert {answer.status_code for answer in answers} == {401}
    assert len({answer.text for answer in answers}) == 1, "the answer tells routes or reasons apart"
    assert {answer.headers["www-authenticate"] for answer in answers} == {"Oneiric-HMAC"}
    assert asked == []


async def test_the_unauthenticated_learn_of_life_and_readiness_and_nothing_else(serve: Serve) -> None:
    async with serve(SETTINGS) as system:
        system.plane.not_ready.append("store-locked")
        alive, ready = await system.ask("GET", "/healthz"), await system.ask("GET", "/readyz")
        told = await system.ask("GET", "/readyz", headers=signed("GET", "/readyz"))

    assert (alive.status_code, alive.json()) == (200, {"status": "ok"})
    assert (ready.status_code, ready.json()) == (503, {"status": "not ready"})
    assert (told.status_code, told.json()["reasons"]) == (503, ["store-locked"])


async def test_a_signed_request_is_let_in_under_its_keys_name(serve: Serve) -> None:
    body = json.dumps({"domain": "adapter", "key": "cache", "by": "ann"}).encode()
    target = f"{API_PREFIX}/pause"
    headers = signed("POST", target, body) | {"Content-Type": "application/json"}
    async with serve(SETTINGS) as system:
        answer = await system.ask("POST", target, content=body, headers=headers)
        (request,) = system.plane.asked
        (line,) = system.logged()

    assert answer.status_code == 200
    assert (request.by, line["by"]) == ("ann (hmac:ops)", "hmac:ops")  # type: ignore[attr-defined]
    assert "S3CR3T" not in str(system.lines)


async def test_the_client_signs_paths_queries_and_bodies(serve: Serve) -> None:
    async with serve(SETTINGS) as system:
        client = ControlClient(system.url, auth=HmacSigner("ops", KEY))
        found = await asyncio.to_thread(
            client.call, "explain", domain="adapter", key="cache", capabilities=["a.b", "c"], require_all=False
        )
        await asyncio.to_thread(client.call, "pause", domain="adapter", key="cache", note="wäit\n💤")
        with pytest.raises(AuthenticationError, match="authentication is required"):
            await asyncio.to_thread(ControlClient(system.url).call, "status")
        over_socket = await asyncio.to_thread(ControlClient(system.path).call, "activity")

    assert found["capabilities"] == ["a.b", "c"]
    assert over_socket["activity"][0]["note"] == "wäit\n💤"


async def test_the_same_signed_request_is_let_in_once(serve: Serve) -> None:
    target = f"{API_PREFIX}/status"
    headers = signed("GET", target)
    async with serve(SETTINGS) as system:
        answers = await asyncio.gather(*(system.ask("GET", target, headers=headers) for _ in range(20)))

    assert sorted(answer.status_code for answer in answers) == [200] + [401] * 19


def request(headers: Mapping[str, str]) -> dict[str, Any]:
    raw = [(name.lower().encode(), value.encode()) for name, value in headers.items()]
    return {"method": "GET", "raw_path": b"/x", "query_string": b"", "headers": raw}


async def let_in(guard: HmacAuthenticator, headers: Mapping[str, str]) -> int:
    try:
        await guard.check(request(headers), b"")
    except Exception as error:  # noqa: BLE001 - the status is what is looked at
        return int(getattr(error, "status", 0))
    return 200


async def test_what_is_forgotten_stays_refused_when_the_clock_goes_back() -> None:
    clock = DrivenClock(NOW)
    guard = HmacAuthenticator({"ops": KEY}, clock_skew_seconds=10, clock=clock)
    old = HmacSigner("ops", KEY, clock=clock).headers("GET", "/x", b"")
    assert await let_in(guard, old) == 200
    clock.advance(11)
    assert await let_in(guard, HmacSigner("ops", KEY, clock=clock).headers("GET", "/x", b"")) == 200
    clock.now = NOW
    assert await let_in(guard, old) == 401


async def test_a_request_from_before_the_start_may_have_been_used_and_is_refused() -> None:
    clock = DrivenClock(NOW)
    captured = HmacSigner("ops", KEY, clock=clock).headers("GET", "/x", b"")
    clock.advance(2)
    guard = HmacAuthenticator({"ops": KEY}, clock=clock)

    assert await let_in(guard, captured) == 401
    assert await let_in(guard, HmacSigner("ops", KEY, clock=clock).headers("GET", "/x", b"")) == 200


async def test_the_memory_of_nonces_is_bounded_and_forgets_none_too_early() -> None:
    clock = DrivenClock(NOW)
    guard = HmacAuthenticator({"ops": KEY}, clock_skew_seconds=10, most_nonces=3, clock=clock)
    requests = [HmacSigner("ops", KEY, clock=clock).headers("GET", "/x", b"") for _ in range(4)]

    assert [await let_in(guard, each) for each in requests] == [200, 200, 200, 503]
    assert await let_in(guard, requests[0]) == 401
    clock.advance(11)
    assert await let_in(guard, HmacSigner("ops", KEY, clock=clock).headers("GET", "/x", b"")) == 200


@pytest.mark.parametrize("name", ["X-Oneiric-Key", "X-Oneiric-Signature"])
async def test_a_header_given_twice_is_refused(serve: Serve, name: str) -> None:
    headers = signed("GET", f"{API_PREFIX}/status")
    async with serve(SETTINGS) as system:
        answer = await system.ask("GET", f"{API_PREFIX}/status", headers=[*headers.items(), (name, headers[name])])

    assert answer.status_code == 400


@pytest.mark.parametrize("keys", [{}, {"ops": Secret("short")}])
def test_keys_that_protect_nothing_are_refused(keys: dict[str, Secret]) -> None:
    with pytest.raises(ConfigurationError, match=r"http\.auth\.hmac_keys"):
        HmacAuthenticator(keys)
