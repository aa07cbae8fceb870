"""Sizes, times and numbers are bounded before anything is parsed, and an honest client beside it notices nothing."""

import asyncio
import json
import socket
from typing import Any

import pytest

from oneiric.runtime.control import API_PREFIX, ControlClient

from .conftest import Serve

SWAP = f"POST {API_PREFIX}/swap HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"


def status_of(answer: bytes) -> int:
    return int(answer.split(b" ", 2)[1]) if answer else 0


def refusal(answer: bytes) -> dict[str, Any]:
    error: dict[str, Any] = json.loads(answer.partition(b"\r\n\r\n")[2])["error"]
    return error


async def test_a_body_that_says_it_is_too_long_is_refused_before_it_is_sent(serve: Serve) -> None:
    async with serve({"max_body_bytes": 1000}) as system:
        answer = await system.raw(f"{SWAP}Content-Length: 1001\r\n\r\n".encode())

    assert status_of(answer) == 413
    assert refusal(answer)["type"] == "PayloadTooLarge"


@pytest.mark.parametrize("expects", ["", "Expect: 100-continue\r\n"])
async def test_a_body_that_grows_too_long_is_refused_while_it_is_sent(serve: Serve, expects: str) -> None:
    chunk = b"400\r\n" + b" " * 0x400 + b"\r\n"
    async with serve({"max_body_bytes": 10_000}) as system:
        answer = await system.raw(f"{SWAP}{expects}Transfer-Encoding: chunked\r\n\r\n".encode() + chunk * 3000)

    assert b" 413 " in answer


async def test_the_longest_body_that_may_be_is_read(serve: Serve) -> None:
    body = json.dumps({"domain": "adapter", "key": "cache"}).ljust(1000)
    async with serve({"max_body_bytes": 1000}) as system:
        answer = await system.ask(
            "POST", f"{API_PREFIX}/swap", content=body, headers={"Content-Type": "application/json"}
        )

    assert answer.status_code == 200


@pytest.mark.parametrize(
    "head",
    [
        "GET /healthz HTTP/1.1\r\nHost: localhost\r\nX: " + "a" * 20_000,
        "GET /" + "a" * 20_000,
        "GET /healthz HTTP/1.1\r\nHost: localhost\r\nX: " + "a" * 17_000 + "\r\n\r\n",
        "GET /healthz HTTP/1.1\r\nHost: localhost\r\n" + "X: y\r\n" * 100 + "\r\n",
        "GET /healthz HTTP/1.1\r\nHost: localhost\r\n" + "X: y\r\n" * 500,
    ],
    ids=["one header, unfinished", "a path", "one header", "many headers", "many headers, unfinished"],
)
async def test_a_head_too_long_or_too_full_is_refused(serve: Serve, head: str) -> None:
    async with serve() as system:
        answer = await system.raw(head.encode())
        (line,) = system.logged("request-refused")

    assert (status_of(answer), line["status"]) == (431, 431)


async def test_as_many_headers_as_may_be_are_read(serve: Serve) -> None:
    async with serve() as system:
        head = "GET /healthz HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n" + "X: y\r\n" * 98 + "\r\n"

        assert status_of(await system.raw(head.encode())) == 200


@pytest.mark.parametrize(
    "sent",
    [
        b"GET /healthz HTT",
        b"GET /healthz HTTP/1.1\r\nHost: localhost\r\n",
        f"{SWAP}Content-Length: 100\r\n\r\n{{".encode(),
        f"{SWAP}Transfer-Encoding: chunked\r\n\r\n5\r\n{{".encode(),
    ],
    ids=["first line", "head", "body", "chunk"],
)
async def test_a_request_that_does_not_arrive_is_cut_with_408(serve: Serve, sent: bytes) -> None:
    async with serve({"receive_seconds": 0.2}) as system:
        answer = await system.raw(sent)
        lines = system.logged() + system.logged("request-refused")

    assert status_of(answer) == 408
    assert [line["status"] for line in lines] == [408]
    assert refusal(answer)["type"] == "RequestTimeout"


async def test_dripping_bytes_buys_no_time(serve: Serve) -> None:
    async with serve({"receive_seconds": 0.2}) as system:
        reader, writer = await system.connect()
        answer = asyncio.ensure_future(reader.read())
        writer.write(b"GET /healthz HTTP/1.1\r\nHost: localhost\r\nX: ")
        while not answer.done():
            writer.write(b"a")
            await asyncio.wait({answer}, timeout=0.02)
        writer.close()

    assert status_of(answer.result()) == 408


async def test_a_connection_without_a_word_is_closed_without_one(serve: Serve) -> None:
    async with serve({"receive_seconds": 0.2}) as system:
        assert await system.raw(b"") == b""
        assert system.server.connections == 0


async def test_a_client_that_goes_in_the_middle_leaves_nothing(serve: Serve) -> None:
    async with serve() as system:
        for sent in (b"", b"GET /heal", f"{SWAP}Content-Length: 100\r\n\r\n{{".encode()):
            _, writer = await system.connect()
            writer.write(sent)
            await writer.drain()
            writer.transport.abort()
        await system.until(lambda: not system.server.connections)
        assert (await system.ask("GET", "/healthz")).status_code == 200


async def test_a_client_that_reads_nothing_is_cut(serve: Serve) -> None:
    async with serve({"receive_seconds": 0.2}, metrics=lambda: "x" * 40_000_000) as system:
        _, writer = await system.connect()
        writer.write(b"GET /metrics HTTP/1.1\r\nHost: localhost\r\n\r\n")
        await system.until(lambda: system.server.connections == 1)
        await system.until(lambda: system.server.connections == 0)
        writer.close()


async def test_dawdlers_give_way_when_there_is_no_room(serve: Serve) -> None:
    async with serve({"max_connections": 10}) as system:
        dawdlers = [await system.connect() for _ in range(10)]
        for _, writer in dawdlers:
            writer.write(b"GET /healthz HT")
        for _ in range(30):
            assert (await system.ask("GET", "/healthz")).status_code == 200
        assert system.server.connections <= 10
        for _, writer in dawdlers:
            writer.close()


async def test_clients_that_were_told_that_they_are_too_slow_take_nobodys_place(serve: Serve) -> None:
    async with serve({"max_connections": 10, "receive_seconds": 0.2}) as system:
        dawdlers = [await system.connect() for _ in range(10)]
        for _, writer in dawdlers:
            writer.write(b"GET /healthz HTT")
        for reader, _ in dawdlers:
            assert status_of(await reader.readuntil(b"\r\n")) == 408
        assert [(await system.ask("GET", "/healthz")).status_code for _ in range(10)] == [200] * 10
        for _, writer in dawdlers:
            writer.close()


async def test_clients_that_are_refused_and_stay_are_no_more_than_those_that_may_be(serve: Serve) -> None:
    async with serve({"max_connections": 2}) as system:
        streams = [await system.connect() for _ in range(2)]
        for reader, writer in streams:
            writer.write(f"GET {API_PREFIX}/events HTTP/1.1\r\nHost: localhost\r\n\r\n".encode())
            await reader.readuntil(b": open")
        newcomers = []
        for _ in range(20):
            newcomers.append(await system.connect())
            assert status_of(await newcomers[-1][0].readuntil(b"\r\n")) == 503
        assert system.server.connections <= 5
        for _, writer in (*streams, *newcomers):
            writer.close()


async def test_when_everybody_is_being_answered_a_newcomer_is_told_so(serve: Serve) -> None:
    async with serve({"max_connections": 2}) as system:
        streams = [await system.connect() for _ in range(2)]
        for reader, writer in streams:
            writer.write(f"GET {API_PREFIX}/events HTTP/1.1\r\nHost: localhost\r\n\r\n".encode())
            await reader.readuntil(b": open")
        answer = await system.raw(b"")
        over_socket = await system.ask("GET", f"{API_PREFIX}/status", over="socket")
        for _, writer in streams:
            writer.close()

    assert (status_of(answer), refusal(answer)["type"]) == (503, "Busy")
    assert over_socket.status_code == 200


async def test_streams_are_bounded(serve: Serve) -> None:
    async with serve() as system:
        streams = [await system.connect() for _ in range(33)]
        heads = []
        for reader, writer in streams:
            writer.write(f"GET {API_PREFIX}/events HTTP/1.1\r\nHost: localhost\r\n\r\n".encode())
            heads.append(await reader.readuntil(b"\r\n"))
        for _, writer in streams:
            writer.close()

    assert [status_of(head) for head in heads] == [200] * 32 + [503]


async def test_bodies_held_at_once_are_bounded(serve: Serve) -> None:
    """Sixteen of the largest are held while they are worked on; the next is told to come back, and later is let in."""
    released, held = asyncio.Event(), 0

    async def work(scope: Any, receive: Any, send: Any) -> None:
        nonlocal held
        held += 1
        await released.wait()
        await send({"type": "http.response.start", "status": 204, "headers": []})
        await send({"type": "http.response.body", "body": b""})

    async with serve({"max_body_bytes": 1000}, mounts={"/work": work}) as system:
        working = [asyncio.ensure_future(system.ask("POST", "/work", content=b"x" * 1000)) for _ in range(16)]
        await system.until(lambda: held == 16)
        refused = await system.ask("POST", "/work", content=b"x" * 1000)
        without_body = await system.ask("GET", "/healthz")
        released.set()
        done = [(await each).status_code for each in working]
        later = await system.ask("POST", "/work", content=b"x" * 1000)

    assert (refused.status_code, refused.headers["retry-after"]) == (503, "1")
    assert without_body.status_code == 200
    assert done == [204] * 16
    assert later.status_code == 204


async def test_beside_many_slow_clients_the_control_socket_answers(serve: Serve) -> None:
    async with serve({"max_connections": 50, "receive_seconds": 0.5}) as system:
        dawdlers = [socket.create_connection(("127.0.0.1", system.server.port)) for _ in range(200)]
        for dawdler in dawdlers:
            dawdler.sendall(b"GET /healthz HTTP/1.1\r\n")
        client = ControlClient(system.path)
        answered = [await asyncio.to_thread(client.call, "health") for _ in range(10)]
        over_tcp = [(await system.ask("GET", "/healthz")).status_code for _ in range(10)]
        for dawdler in dawdlers:
            dawdler.close()

    assert len(answered) == 10
    assert over_tcp == [200] * 10
