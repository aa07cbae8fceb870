"""The stream of events over the wire."""

import asyncio

import pytest

from oneiric.runtime.control import API_PREFIX, ControlClient

from .conftest import Serve, System

EVENTS = f"{API_PREFIX}/events"


async def opened(
    system: System, target: str = EVENTS, **headers: str
) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    reader, writer = await system.connect()
    extra = "".join(f"{name.replace('_', '-')}: {value}\r\n" for name, value in headers.items())
    writer.write(f"GET {target} HTTP/1.1\r\nHost: localhost\r\n{extra}\r\n".encode())
    await reader.readuntil(b": open\n\n\r\n")
    return reader, writer


async def test_events_arrive_as_they_happen_with_id_name_and_data(serve: Serve) -> None:
    async with serve() as system:
        reader, writer = await opened(system)
        await system.plane.lifecycle.swap("adapter", "cache", "memory", by="ann")
        await reader.readuntil(b"event: bound\n")
        data = await reader.readuntil(b"\n\n")
        writer.close()

    assert b'"provider":"memory"' in data
    assert b'"generation":1' in data


async def test_the_client_reads_them_and_goes_on_where_it_was(serve: Serve) -> None:
    async with serve() as system:
        client = ControlClient(system.path)
        for provider in ("memory", "redis", "memory"):
            await system.plane.lifecycle.swap("adapter", "cache", provider)

        def read(after: str, count: int) -> list[tuple[str, str]]:
            stream = client.stream_events(after=after)
            return [(event.id, event.name) for event, _ in zip(stream, range(count), strict=False)]

        every = await asyncio.to_thread(read, "another-1", 4)
        rest = await asyncio.to_thread(read, every[1][0], 2)

    assert every[0][1] == "gap"
    assert rest == every[2:4]


async def test_a_stream_says_that_it_is_alive(serve: Serve) -> None:
    async with serve(heartbeat_seconds=0.02) as system:
        reader, writer = await opened(system)
        for _ in range(3):
            await reader.readuntil(b": alive\n\n")
        writer.close()


async def test_a_client_that_goes_is_forgotten(serve: Serve) -> None:
    async with serve() as system:
        _, writer = await opened(system)
        assert system.plane.feed.followers == 1
        writer.transport.abort()
        await system.until(lambda: system.plane.feed.followers == 0)
        await system.until(lambda: bool(system.logged()))


async def test_only_events_that_were_asked_for_are_sent(serve: Serve) -> None:
    async with serve() as system:
        reader, writer = await opened(system, f"{EVENTS}?domain=service")
        await system.plane.lifecycle.swap("adapter", "cache", "memory")
        system.plane.feed.publish("told", {"domain": "service"})
        line = (await reader.readuntil(b"\n\n")).decode()
        writer.close()

    assert "event: told" in line
    assert "bound" not in line


async def test_one_that_falls_behind_is_dropped_and_can_catch_up(serve: Serve) -> None:
    async with serve() as system:
        reader, writer = await opened(system)
        for number in range(1000):
            system.plane.feed.publish("count", {"n": number})
        rest = await reader.read()
        writer.close()
        assert system.plane.feed.followers == 0
        again, writer = await opened(system, Last_Event_ID=f"{system.plane.feed._boot}-900")
        await again.readuntil(b'{"n":900}')
        await again.readuntil(b'{"n":999}')
        writer.close()

    assert b'"n":999' not in rest


async def test_stopping_the_server_ends_streams_at_once(serve: Serve) -> None:
    async with serve() as system:
        reader, _ = await opened(system)
        await system.server.stop()
        rest = await reader.read()

    assert rest.endswith(b"0\r\n\r\n"), "the stream ended in the middle"


@pytest.mark.parametrize("after", ["", "x" * 101, "a b", "é"])
async def test_an_id_that_cannot_be_one_is_refused(serve: Serve, after: str) -> None:
    async with serve() as system:
        answer = await system.ask("GET", EVENTS, params={"after": after})

    assert answer.status_code == 422
