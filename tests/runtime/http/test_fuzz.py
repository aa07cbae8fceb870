"""Whatever is sent, the server answers, and never that something failed inside."""

import asyncio
import json
from typing import Any
from urllib.parse import quote, urlencode

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from oneiric.runtime.control import API_PREFIX, OPERATIONS, Operation

from .conftest import Serve, System

ANSWERS = {0, 200, 400, 401, 403, 404, 405, 408, 409, 413, 415, 422, 431}
NAMES = sorted({name for operation in OPERATIONS for name in operation.request.model_fields})
TAME = settings(max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)

values = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats()
    | st.text(max_size=30)
    | st.sampled_from(["adapter", "cache", "memory", "redis"]),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=10), inner, max_size=4),
    max_leaves=12,
)
fields = st.dictionaries(st.sampled_from(NAMES) | st.text(max_size=12), values, max_size=6)
bodies = (
    st.binary(max_size=300)
    | fields.map(lambda found: json.dumps(found).encode())
    | st.text().map(lambda text: text.encode("utf-8", "surrogatepass"))
)
texts = st.text(max_size=20) | st.sampled_from(["adapter", "cache", "1", "-1", "nan", "1e400", "true", ""])
paths = st.text(max_size=20).map(lambda text: quote(text, safe="/.%;:@", errors="surrogatepass")) | st.sampled_from(
    ["api/v1/status", "api/v1/%2e%2e/status", "api/v1/swap", "healthz", "metrics", "%", "%zz", "api/v1/events/"]
)
operations = st.sampled_from([operation for operation in OPERATIONS if not operation.streams])


async def answered(system: System, data: bytes) -> int:
    try:
        answer = await system.raw(data)
    except ConnectionResetError:  # it was closed for having said nothing in time, with something on its way
        return 0
    return int(answer.split(b" ", 2)[1]) if answer else 0


async def all_answered(serve: Serve, requests: list[bytes], settings: dict[str, Any] | None = None) -> None:
    """Send all at once; 0 is a connection that was closed because nothing was said on it."""
    async with serve(settings) as system:
        found = await asyncio.gather(*(answered(system, each) for each in requests))
        assert set(found) <= ANSWERS, [(f, r) for f, r in zip(found, requests, strict=True) if f not in ANSWERS]
        assert not system.logged("request-failed")
        assert (await system.ask("GET", "/healthz")).status_code == 200


heads = st.lists(
    st.sampled_from([b"GET", b"POST", b" ", b"/", b"/healthz", b"/api/v1/status", b"HTTP/1.1", b"\r\n", b"\n", b"\r"])
    | st.sampled_from([b"Host: localhost", b"Content-Length: 5", b"Transfer-Encoding: chunked", b"X-Oneiric-Key: a"])
    | st.sampled_from([b"5\r\nhello\r\n", b"0\r\n\r\n", b"Expect: 100-continue", b"Connection: close", b"\r\n\r\n"])
    | st.binary(max_size=20),
    max_size=20,
).map(b"".join)


@TAME
@given(cases=st.lists(st.tuples(operations, bodies), min_size=5, max_size=20))
def test_no_body_makes_it_fail(serve: Serve, cases: list[tuple[Operation, bytes]]) -> None:
    requests = [
        f"POST {API_PREFIX}{operation.path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n"
        f"Content-Type: application/json\r\nContent-Length: {len(body)}\r\n\r\n".encode()
        + body
        for operation, body in cases
    ]
    asyncio.run(all_answered(serve, requests))


@TAME
@given(cases=st.lists(st.tuples(operations, st.lists(st.tuples(st.sampled_from(NAMES), texts))), min_size=5))
def test_no_query_makes_it_fail(serve: Serve, cases: list[tuple[Operation, list[tuple[str, str]]]]) -> None:
    requests = [
        f"GET {API_PREFIX}{operation.path}?{urlencode(query, errors='surrogatepass')} HTTP/1.1\r\n"
        "Host: localhost\r\nConnection: close\r\n\r\n".encode()
        for operation, query in cases
    ]
    asyncio.run(all_answered(serve, requests))


@TAME
@given(cases=st.lists(st.tuples(st.sampled_from(["GET", "POST", "PUT", "HEAD", "TRACE", "A"]), paths), min_size=5))
def test_no_path_makes_it_fail(serve: Serve, cases: list[tuple[str, str]]) -> None:
    requests = [
        f"{method} /{path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n".encode() for method, path in cases
    ]
    asyncio.run(all_answered(serve, requests))


@TAME
@given(cases=st.lists(heads, min_size=5, max_size=20))
def test_no_head_makes_it_fail(serve: Serve, cases: list[bytes]) -> None:
    asyncio.run(all_answered(serve, cases, {"receive_seconds": 0.05}))
