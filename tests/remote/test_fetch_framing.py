"""Answers that two readers of HTTP would take apart in two ways, and URLs in every spelling: refused, or read once."""

from __future__ import annotations

import asyncio
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING

import pytest
from tests.remote.fetching import PATIENT, fetcher

from oneiric.core.errors import FetchError, FetchRefusedError
from oneiric.remote.fetch import Fetched, FetchPolicy, SafeFetcher
from oneiric.remote.testing_http import MisbehavingServer

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

_OK = b"HTTP/1.1 200 OK\r\n"
_CHUNKS = b"2\r\n{}\r\n0\r\n\r\n"

REFUSED: dict[str, bytes] = {
    "a length with a sign": _OK + b"Content-Length: +2\r\n\r\n{}",
    "a length in hexadecimal": _OK + b"Content-Length: 0x2\r\n\r\n{}",
    "a length below nothing": _OK + b"Content-Length: -1\r\n\r\n{}",
    "a length in other digits": _OK + "Content-Length: \u0662\r\n\r\n{}".encode(),
    "a length of five thousand digits": _OK + b"Content-Length: " + b"9" * 5000 + b"\r\n\r\n{}",
    "two lengths in one": _OK + b"Content-Length: 2, 3\r\n\r\n{} ",
    "a space before the colon": _OK + b"Content-Length : 2\r\n\r\n{}",
    "an encoding nobody asked for": _OK + b"Content-Encoding:\tGZIP \r\nContent-Length: 2\r\n\r\n{}",
    "an encoding in a second line": _OK + b"Content-Encoding: identity\r\nContent-Encoding: br\r\n\r\n{}",
    "a transfer that is no chunks": _OK + b"Transfer-Encoding: identity\r\n\r\n{}",
    "a transfer of two kinds": _OK + b"Transfer-Encoding: gzip, chunked\r\n\r\n" + _CHUNKS,
    "a transfer stated twice": _OK + b"Transfer-Encoding: chunked\r\n" * 2 + b"\r\n" + _CHUNKS,
    "a transfer that resembles chunks": _OK + b"Transfer-Encoding: xchunked\r\n\r\n" + _CHUNKS,
    "a transfer behind a control character": _OK + b"Transfer-Encoding: \x0bchunked\r\n\r\n" + _CHUNKS,
    "chunks and a length": _OK + b"Transfer-Encoding: chunked\r\nContent-Length: 2\r\n\r\n" + _CHUNKS,
    "a NUL in a header": _OK + b"X: a\x00b\r\nContent-Length: 2\r\n\r\n{}",
    "lines that end in a bare return": _OK.replace(b"\r\n", b"\r") + b"Content-Length: 2\r\r{}",
    "no status line": b"{}",
    "a status of four digits": b"HTTP/1.1 0200 OK\r\nContent-Length: 2\r\n\r\n{}",
    "a switch of protocols": b"HTTP/1.1 101 Switching\r\nUpgrade: h2c\r\n\r\n{}",
    "a chunk beyond all memory": _OK + b"Transfer-Encoding: chunked\r\n\r\nFFFFFFFFFFFFFFFF0\r\n{}",
    "a chunk below nothing": _OK + b"Transfer-Encoding: chunked\r\n\r\n-2\r\n{}\r\n0\r\n\r\n",
    "a chunk with a prefix": _OK + b"Transfer-Encoding: chunked\r\n\r\n0x2\r\n{}\r\n0\r\n\r\n",
    "chunks without an end": _OK + b"Transfer-Encoding: chunked\r\n\r\n2\r\n{}\r\n",
    "trailers without number": _OK
    + b"Transfer-Encoding: chunked\r\n\r\n2\r\n{}\r\n0\r\n"
    + b"X: y\r\n" * 20_000
    + b"\r\n",
}

READ: dict[str, bytes] = {
    "the same length twice": _OK + b"Content-Length: 2\r\nContent-Length: 2\r\n\r\n{}",
    "more than the length": _OK + b"Content-Length: 2\r\n\r\n{}HTTP/1.1 200 OK\r\nContent-Length: 6\r\n\r\nsecond",
    "more than the chunks": _OK + b"Transfer-Encoding: chunked\r\n\r\n" + _CHUNKS + b"6\r\nsecond\r\n0\r\n\r\n",
    "a trailer that names an encoding": _OK
    + b"Transfer-Encoding: chunked\r\n\r\n2\r\n{}\r\n0\r\nContent-Encoding: gzip\r\n\r\n",
    "headers for browsers": _OK
    + b"Set-Cookie: a=b\r\nRefresh: 0;url=http://127.0.0.1:1/\r\nAlt-Svc: h3=':1'\r\nContent-Length: 2\r\n\r\n{}",
    "a tag with an escape": _OK + b'ETag: "\x1b[31m"\r\nContent-Length: 2\r\n\r\n{}',
    "an interim answer": b"HTTP/1.1 103 Early Hints\r\nLink: </evil>\r\n\r\n" + _OK + b"Content-Length: 2\r\n\r\n{}",
}


@asynccontextmanager
async def answering(raw: bytes) -> AsyncIterator[tuple[SafeFetcher, str]]:
    """Give a fetcher and the URL of a server that answers everything with these bytes."""

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(raw)
        writer.close()

    server = await asyncio.start_server(answer, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    policy = FetchPolicy(http_hosts=("127.0.0.1",), ports=(port,), private_networks=("127.0.0.0/8",))
    async with server:
        yield SafeFetcher(policy, PATIENT), f"http://127.0.0.1:{port}/manifest.json"


@pytest.mark.parametrize("answer", REFUSED)
async def test_an_answer_that_could_be_read_otherwise_is_refused_in_one_printable_sentence(answer: str) -> None:
    async with answering(REFUSED[answer]) as (fetching, url):
        with pytest.raises(FetchError) as caught:
            await fetching.fetch(url)

    assert str(caught.value).isprintable()


@pytest.mark.parametrize("answer", READ)
async def test_an_odd_answer_with_one_meaning_is_read_as_that_and_its_hints_are_not_followed(answer: str) -> None:
    async with answering(READ[answer]) as (fetching, url):
        fetched = await fetching.fetch(url)

    assert isinstance(fetched, Fetched)
    assert (fetched.content, fetched.etag) == (b"{}", None)


SPELLINGS = [
    "http://user:password@127.0.0.1:{port}/",
    "http://updates.test@127.0.0.1:{port}/",
    "http://127.0.0.1:{port}@updates.test/",
    "http://updates.test:80@127.0.0.1:{port}/",
    "http://2130706433:{port}/",
    "http://0x7f000001:{port}/",
    "http://0177.0.0.1:{port}/",
    "http://127.1:{port}/",
    "http://127.0.0.1.:{port}/",
    "http://[::ffff:127.0.0.1]:{port}/",
    "http://[::ffff:7f00:1]:{port}/",
    "http://[64:ff9b::7f00:1]:{port}/",
    "http://[::127.0.0.1]:{port}/",
    "http://[::1%25lo]:{port}/",
    "http://[fe80::1%25lo]:{port}/",
    "http://0.0.0.0:{port}/",
    "http://0:{port}/",
    "http://[::]:{port}/",
    "http://localhost:{port}/",
    "http://localhost.:{port}/",
    "http://\u24db\u24de\u24d2\u24d0\u24db\u24d7\u24de\u24e2\u24e3:{port}/",
    "http://127.0.0.1\u3002:{port}/",
    "http://127%2e0.0.1:{port}/",
    "http://updates.test\\@127.0.0.1:{port}/",
    "http://updates.test#@127.0.0.1:{port}/",
    "http:127.0.0.1:{port}/",
    "http:///127.0.0.1:{port}/",
    "//127.0.0.1:{port}/",
    "http://127.0.0.1:{port}/\r\nHost: updates.test",
    " http://127.0.0.1:{port}/",
    "ht\ntp://127.0.0.1:{port}/",
    "ftp://127.0.0.1:{port}/",
    "gopher://127.0.0.1:{port}/_GET",
    "data:application/json,{{}}",
]


@pytest.mark.parametrize("spelling", SPELLINGS, ids=ascii)
async def test_no_spelling_of_an_address_inside_reaches_anybody(spelling: str) -> None:
    """Every name leads inside, and nothing inside may be reached: the server that listens is never connected to."""
    async with MisbehavingServer() as server:
        for hosts in (("updates.test",), ("*.test", "localhost", "127.0.0.1", "::1")):
            policy = FetchPolicy(hosts=hosts, http_hosts=hosts, ports=(server.port, 80))
            with pytest.raises(FetchError):
                await SafeFetcher(policy, PATIENT, lookup=inside).fetch(spelling.format(port=server.port))

        assert server.connections == 0


async def inside(_host: str, _port: int) -> list[str]:
    return ["127.0.0.1"]


async def test_a_path_is_sent_as_it_stands_and_cannot_leave_its_line() -> None:
    async with MisbehavingServer() as server:
        server.publish("/a/..//b%0d%0aX:%20y", b"{}")
        await fetcher(server).fetch(server.url("/a/..//b%0d%0aX:%20y?token=1"))

        assert server.requests[0].path == "/a/..//b%0d%0aX:%20y?token=1"
        assert "x" not in server.requests[0].headers
        with pytest.raises(FetchRefusedError):
            await fetcher(server).fetch(server.url("/a\r\nX: y"))
