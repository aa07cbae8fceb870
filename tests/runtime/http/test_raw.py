"""Requests that two readers could read differently are refused, and the connection is closed after them."""

import pytest

from oneiric.runtime.control import API_PREFIX

from .conftest import Serve

HOST = "Host: localhost\r\n"
SMUGGLED = "GET /smuggled HTTP/1.1\r\nHost: localhost\r\n\r\n"
POST = f"POST {API_PREFIX}/swap HTTP/1.1\r\n{HOST}Content-Type: application/json\r\n"

REFUSED = {
    "CL and TE": f"{POST}Content-Length: 4\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n{SMUGGLED}",
    "TE and CL": f"{POST}Transfer-Encoding: chunked\r\nContent-Length: 4\r\n\r\n0\r\n\r\n{SMUGGLED}",
    "two CL": f"{POST}Content-Length: 2\r\nContent-Length: 3\r\n\r\n{{}}{SMUGGLED}",
    "two equal CL": f"{POST}Content-Length: 2\r\nContent-Length: 2\r\n\r\n{{}}{SMUGGLED}",
    "CL list": f"{POST}Content-Length: 2, 2\r\n\r\n{{}}{SMUGGLED}",
    "CL sign": f"{POST}Content-Length: +2\r\n\r\n{{}}{SMUGGLED}",
    "CL hex": f"{POST}Content-Length: 0x2\r\n\r\n{{}}{SMUGGLED}",
    "CL negative": f"{POST}Content-Length: -1\r\n\r\n{SMUGGLED}",
    "two TE": f"{POST}Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n{SMUGGLED}",
    "TE identity": f"{POST}Transfer-Encoding: identity\r\n\r\n{SMUGGLED}",
    "TE gzip, chunked": f"{POST}Transfer-Encoding: gzip, chunked\r\n\r\n0\r\n\r\n{SMUGGLED}",
    "TE obscured": f"{POST}Transfer-Encoding: xchunked\r\n\r\n0\r\n\r\n{SMUGGLED}",
    "TE space before colon": f"{POST}Transfer-Encoding : chunked\r\n\r\n0\r\n\r\n{SMUGGLED}",
    "TE in HTTP/1.0": f"POST /a HTTP/1.0\r\n{HOST}Transfer-Encoding: chunked\r\n\r\n0\r\n\r\n{SMUGGLED}",
    "bare LF": f"GET /healthz HTTP/1.1\n{HOST}\r\n",
    "bare LF at the end": "GET /healthz HTTP/1.1\r\nHost: localhost\r\n\n",
    "LF LF": "GET /healthz HTTP/1.1\nHost: localhost\n\n",
    "bare CR in a value": f"GET /healthz HTTP/1.1\r\n{HOST}X: a\rb\r\n\r\n",
    "bare CR smuggles a header": f"GET /healthz HTTP/1.1\r\n{HOST}X: a\rContent-Length: 5\r\n\r\n",
    "obs-fold": f"GET /healthz HTTP/1.1\r\n{HOST}X: a\r\n b\r\n\r\n",
    "obs-fold by a tab": f"GET /healthz HTTP/1.1\r\n{HOST}X: a\r\n\tb\r\n\r\n",
    "fold before the first header": f"GET /healthz HTTP/1.1\r\n {HOST}\r\n",
    "NUL": f"GET /healthz HTTP/1.1\r\n{HOST}X: a\0b\r\n\r\n",
    "NUL in the path": f"GET /health\0z HTTP/1.1\r\n{HOST}\r\n",
    "escape": f"GET /healthz HTTP/1.1\r\n{HOST}X: \x1b[31m\r\n\r\n",
    "no colon": f"GET /healthz HTTP/1.1\r\n{HOST}X\r\n\r\n",
    "no name": f"GET /healthz HTTP/1.1\r\n{HOST}: a\r\n\r\n",
    "space in a name": f"GET /healthz HTTP/1.1\r\n{HOST}X Y: a\r\n\r\n",
    "no host": "GET /healthz HTTP/1.1\r\n\r\n",
    "two hosts": f"GET /healthz HTTP/1.1\r\n{HOST}{HOST}\r\n",
    "a blank line first": f"\r\nGET /healthz HTTP/1.1\r\n{HOST}\r\n",
    "absolute path": f"GET http://evil.test/healthz HTTP/1.1\r\n{HOST}\r\n",
    "another authority": f"CONNECT evil.test:80 HTTP/1.1\r\n{HOST}\r\n",
    "asterisk": f"OPTIONS * HTTP/1.1\r\n{HOST}\r\n",
    "two spaces": f"GET  /healthz HTTP/1.1\r\n{HOST}\r\n",
    "lower-case method": f"get /healthz HTTP/1.1\r\n{HOST}\r\n",
    "HTTP/0.9": "GET /healthz\r\n\r\n",
    "HTTP/2.0": f"GET /healthz HTTP/2.0\r\n{HOST}\r\n",
    "HTTP/2 preface": "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
    "no HTTP": "\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + "a" * 100,
    "chunk size": f"{POST}Transfer-Encoding: chunked\r\n\r\nzz\r\n{SMUGGLED}",
    "chunk size with a sign": f"{POST}Transfer-Encoding: chunked\r\n\r\n+2\r\n{{}}\r\n0\r\n\r\n{SMUGGLED}",
    "chunk without its end": f"{POST}Transfer-Encoding: chunked\r\n\r\n2\r\n{{}}X\r\n0\r\n\r\n{SMUGGLED}",
}


@pytest.mark.parametrize("request_", REFUSED.values(), ids=REFUSED)
async def test_what_can_be_read_two_ways_is_400_and_closes(
    serve: Serve, request_: str, caplog: pytest.LogCaptureFixture
) -> None:
    async with serve() as system:
        answer = await system.raw(request_.encode("latin-1"))
        paths = [line["path"] for line in system.logged()]
        lines = system.logged() + system.logged("request-refused")

    assert answer.startswith(b"HTTP/1.1 400 "), answer
    assert len(lines) == 1
    assert answer.count(b"HTTP/1.1 ") == 1
    assert not set(paths) & {"/smuggled", "/healthz"}
    assert not caplog.records, "somebody writes lines beside the log"


async def test_bytes_one_at_a_time_are_read_like_all_at_once(serve: Serve) -> None:
    async with serve() as system:
        reader, writer = await system.connect()
        for byte in f"GET /healthz HTTP/1.1\r\n{HOST}Connection: close\r\n\r\n".encode():
            writer.write(bytes([byte]))
            await writer.drain()
        answer = await reader.read()
        writer.close()

    assert answer.startswith(b"HTTP/1.1 200 ")


async def test_requests_on_one_connection_are_answered_in_turn(serve: Serve) -> None:
    one = f"GET /healthz HTTP/1.1\r\n{HOST}\r\n"
    post = f"{POST}Content-Length: 34\r\n\r\n" + '{"domain":"adapter","key":"cache"} '[:34]
    last = f"GET /readyz HTTP/1.1\r\n{HOST}Connection: close\r\n\r\n"
    async with serve() as system:
        answer = await system.raw((one + post + one + last).encode())

    assert [line["path"] for line in system.logged()] == ["/healthz", f"{API_PREFIX}/swap", "/healthz", "/readyz"]
    assert answer.count(b"HTTP/1.1 200 ") == 4


async def test_a_bad_request_behind_a_good_one_is_refused_too(serve: Serve) -> None:
    good = f"GET /healthz HTTP/1.1\r\n{HOST}\r\n"
    async with serve() as system:
        answer = await system.raw((good + REFUSED["CL and TE"]).encode())

    assert answer.count(b"HTTP/1.1 ") == 2
    assert b"HTTP/1.1 400 " in answer
    assert "/smuggled" not in [line["path"] for line in system.logged()]


async def test_a_client_that_has_said_all_it_wants_to_say_gets_its_answer(serve: Serve) -> None:
    async with serve() as system:
        reader, writer = await system.connect()
        writer.write(f"GET {API_PREFIX}/status HTTP/1.1\r\n{HOST}\r\n".encode())
        writer.write_eof()
        answer = await reader.read()

    assert answer.startswith(b"HTTP/1.1 200 ")


async def test_one_that_stops_in_the_middle_is_gone(serve: Serve) -> None:
    async with serve() as system:
        for sent in ("GET /health", f"{POST}Content-Length: 100\r\n\r\n{{"):
            reader, writer = await system.connect()
            writer.write(sent.encode())
            writer.write_eof()
            assert await reader.read() == b""
        await system.until(lambda: not system.server.connections)
        assert system.plane.asked == []
