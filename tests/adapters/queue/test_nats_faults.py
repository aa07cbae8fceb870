"""Servers that are gone, silent, unknown or in the clear: each failure has its name, and no secret is in it."""

import asyncio
import json
import socket
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import urlparse

import nats
import pytest
from nats.aio.client import Server
from pydantic import ValidationError

from oneiric.adapters.queue._nats_settings import _pause_of  # inside on purpose: chance cannot be waited for
from oneiric.adapters.queue.nats import NATSQueueAdapter, NATSQueueSettings
from oneiric.core.errors import (
    AdapterTimeoutError,
    AuthenticationError,
    OneiricError,
    RejectedError,
    UnavailableError,
)

pytestmark = pytest.mark.xdist_group("nats")
CANARY = "S3CR3T-canary"


def chain(error: BaseException | None) -> Iterator[BaseException]:
    while error is not None:
        yield error
        error = error.__cause__ or error.__context__


async def opened(port: int | None = None, **settings: Any) -> NATSQueueAdapter:
    if port is not None:
        settings = {"servers": [f"nats://127.0.0.1:{port}"], **settings}
    queue = NATSQueueAdapter(NATSQueueSettings(**settings))
    await queue.init()
    return queue


def failure(kind: type[OneiricError], port: int | None = None, **settings: Any) -> OneiricError:
    """Open a queue; return how that failed, having looked for the secret everywhere."""
    with pytest.raises(kind) as raised:
        asyncio.run(opened(port, **settings))
    assert not any(CANARY in f"{link!s}{link!r}" for link in chain(raised.value))
    return raised.value


def test_an_unreachable_server_is_named(closed_port: int) -> None:
    error = failure(UnavailableError, servers=[f"nats://user:{CANARY}@127.0.0.1:{closed_port}"], connect_timeout=0.3)
    assert f"127.0.0.1:{closed_port}" in error.message


def test_a_server_that_never_answers_is_a_timeout() -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        failure(AdapterTimeoutError, silent.getsockname()[1], connect_timeout=0.2)


def test_a_server_that_falls_silent_is_a_timeout_and_serves_again(start_nats: Any) -> None:
    server = start_nats()

    async def go() -> None:
        queue = await opened(server.port, request_timeout=1.0)
        await queue.enqueue({"n": 1})
        (delivery,) = await queue.receive(wait_seconds=5)
        server.stop()
        for call in (queue.enqueue({}, dedup_id="x"), queue.receive(), queue.extend(delivery), queue.health()):
            with pytest.raises((AdapterTimeoutError, UnavailableError)):
                await call
        server.go_on()
        assert await again(lambda: queue.ack(delivery)) is True
        await queue.enqueue({"n": 2}, dedup_id="x")
        await queue.cleanup()

    asyncio.run(go())


async def again(call: Any) -> Any:
    """Call until the server is back, as the worker does."""
    async with asyncio.timeout(60):
        while True:
            try:
                return await call()
            except (UnavailableError, AdapterTimeoutError):
                await asyncio.sleep(0.02)


def test_what_was_stored_outlives_a_killed_server(start_nats: Any) -> None:
    server = start_nats()

    async def go() -> None:
        queue = await opened(server.port, visibility_seconds=2.0, request_timeout=1.0)
        sent = set(await asyncio.gather(*(queue.enqueue({"n": number}) for number in range(50))))
        assert len(await queue.receive(max_messages=10)) == 10
        late = await queue.enqueue({"late": True}, delay_seconds=0.2)
        (first,) = await queue.receive()
        await queue.dead_letter(first, "why")
        server.kill()
        for call in (queue.enqueue({}), queue.receive(), queue.depth(), queue.health(), queue.dead_letters()):
            with pytest.raises((UnavailableError, AdapterTimeoutError)):
                await call
        server.start()
        await again(queue.health)
        done: set[str] = set()
        while not done >= (sent | {late}) - {first.id}:
            for delivery in await queue.receive(max_messages=20, wait_seconds=20):
                if await queue.ack(delivery):  # else the machine paused: it comes again
                    done.add(delivery.id)
        # What it was told just before its death it may have forgotten: the dead letter comes again.
        assert done <= sent | {late}
        assert [dead.id for dead in await queue.dead_letters()] == [first.id]
        await queue.cleanup()

    asyncio.run(go())


def test_a_connection_that_was_given_up_is_made_anew(start_nats: Any) -> None:
    server = start_nats()

    async def go() -> None:
        queue = await opened(server.port, max_reconnect_attempts=1, reconnect_time_wait=0.01, connect_timeout=0.2)
        client = await queue._link.client()  # inside on purpose: the client gives up, unseen
        server.kill()
        async with asyncio.timeout(60):
            while not client.is_closed:  # noqa: ASYNC110 - nats-py sets no event
                await asyncio.sleep(0.01)
        with pytest.raises((UnavailableError, AdapterTimeoutError)):
            await queue.enqueue({})
        server.start()
        await again(lambda: queue.enqueue({"n": 1}))
        assert len(await queue.receive(wait_seconds=5)) == 1
        await queue.cleanup()

    asyncio.run(go())


def test_a_server_without_jetstream_is_unavailable(start_nats: Any) -> None:
    server = start_nats(jetstream=False)
    failure(UnavailableError, server.port, request_timeout=0.5)


def test_streams_that_must_not_be_made_are_asked_for(corner: Any) -> None:
    with pytest.raises(RejectedError):
        asyncio.run(opened(**corner.settings, auto_create=False))


def test_streams_that_are_there_are_used_as_they_are(corner: Any) -> None:
    async def go() -> None:
        first = await opened(**corner.settings, visibility_seconds=7)
        second = await opened(**corner.settings, visibility_seconds=9, dedup_window_seconds=5)
        await first.enqueue({"n": 1})
        (delivery,) = await second.receive(wait_seconds=5)
        assert delivery.visibility_seconds == 7
        await first.cleanup()
        await second.cleanup()

    asyncio.run(go())


@pytest.mark.parametrize(
    ("body", "headers"), [(b"no JSON", {}), (b"[]", {}), (b"\xff", {}), (b"{}", {"Oneiric-Headers": "x"})]
)
def test_what_others_published_becomes_a_dead_letter_and_does_not_block_the_line(
    corner: Any, body: bytes, headers: dict[str, str]
) -> None:
    async def go() -> None:
        queue = await opened(**corner.settings)
        raw = await nats.connect(corner.url)
        await raw.jetstream().publish(f"oneiric.queue.{corner.queue}.work", body, headers=headers)
        await raw.close()
        sent = await queue.enqueue({"n": 1})
        assert [one.id for one in await queue.receive(max_messages=5, wait_seconds=5)] == [sent]
        (dead,) = await queue.dead_letters()
        assert dead.payload is None
        assert "no message of Oneiric's" in dead.reason
        with pytest.raises(RejectedError):
            await queue.requeue(dead.id)
        assert await queue.discard(dead.id) is True
        await queue.cleanup()

    asyncio.run(go())


def test_a_plain_message_of_another_producer_is_one(corner: Any) -> None:
    async def go() -> None:
        queue = await opened(**corner.settings)
        raw = await nats.connect(corner.url)
        for odd in ({"Oneiric-Attempts": "x"}, {"Oneiric-Delay-Ms": "soon"}, None):
            await raw.jetstream().publish(f"oneiric.queue.{corner.queue}.work", b'{"n": 1}', headers=odd)
            (delivery,) = await queue.receive(wait_seconds=5)
            assert (delivery.payload, delivery.attempt) == ({"n": 1}, 1)
            assert await queue.ack(delivery) is True
        await raw.close()
        await queue.cleanup()

    asyncio.run(go())


def test_wrong_credentials_are_an_authentication_error(start_nats: Any) -> None:
    server = start_nats("--user", "me", "--pass", "right")
    # Told at once: nobody waits for such a deadline.
    failure(AuthenticationError, server.port, username="me", password=CANARY, connect_timeout=600)
    url = f"nats://me:{CANARY}@127.0.0.1:{server.port}"
    failure(AuthenticationError, servers=[url], connect_timeout=600)
    failure(AuthenticationError, servers=[url, f"nats://me:other@localhost:{server.port}"], connect_timeout=600)

    async def go() -> None:
        queue = await opened(server.port, username="me", password="right")
        await queue.cleanup()

    asyncio.run(go())


def test_a_server_that_refuses_does_not_speak_for_one_that_is_late(start_nats: Any) -> None:
    refusing = start_nats("--user", "me", "--pass", "other", jetstream=False)
    late = start_nats("--user", "me", "--pass", "right")
    late.kill()

    async def go() -> None:
        asked = asyncio.Queue[None]()

        async def turn_away(_reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            writer.close()
            asked.put_nowait(None)

        urls = [f"nats://me:right@127.0.0.1:{server.port}" for server in (refusing, late)]
        async with await asyncio.start_server(turn_away, "127.0.0.1", late.port):
            opening = asyncio.create_task(opened(servers=urls, connect_timeout=600, reconnect_time_wait=0.01))
            for _ in range(2):  # in between, the other one has refused
                await asked.get()
        await asyncio.to_thread(late.start)
        queue = await opening
        await queue.cleanup()

    asyncio.run(asyncio.wait_for(go(), 60))


def test_certificates_are_verified(start_nats: Any, certificate: tuple[Path, Path]) -> None:
    authority, key = certificate
    server = start_nats("--tls", "--tlscert", str(authority), "--tlskey", str(key))

    async def go() -> None:
        queue = await opened(servers=[f"tls://localhost:{server.port}"], tls_ca_certs=authority)
        await queue.enqueue({"n": 1})
        await queue.cleanup()

    asyncio.run(go())
    for wrong in (
        {"servers": [f"tls://localhost:{server.port}"]},
        {"servers": [f"nats://localhost:{server.port}"], "tls": True},
        {"servers": [f"tls://127.0.0.1:{server.port}"], "tls_ca_certs": authority},
    ):
        error = failure(UnavailableError, connect_timeout=1.5, **wrong)
        assert "TLS" in error.message


@pytest.mark.parametrize("scheme", ["tls", "nats"])
def test_nothing_is_said_in_the_clear_where_tls_is_wanted(scheme: str) -> None:
    heard: list[bytes] = []
    told = json.dumps({"server_id": "x", "version": "2.9.0", "max_payload": 1000, "jetstream": True, "headers": True})
    with socket.create_server(("127.0.0.1", 0)) as listener:

        def answer() -> None:
            with listener.accept()[0] as connection:
                connection.sendall(b"INFO " + told.encode() + b"\r\n")
                connection.settimeout(60)
                heard.append(connection.recv(4096))

        impostor = threading.Thread(target=answer)
        impostor.start()
        servers = [f"{scheme}://me:{CANARY}@127.0.0.1:{listener.getsockname()[1]}"]
        error = failure(UnavailableError, servers=servers, tls=True, connect_timeout=1.5)
        impostor.join()
    assert "TLS" in error.message
    assert heard == [b""]


def test_clients_that_lost_their_server_do_not_come_back_together() -> None:
    choose = _pause_of(1.0)
    once, often = (Server(uri=urlparse("nats://x:4222"), reconnects=count) for count in (0, 50))
    pauses = [choose([often, once], {}) for _ in range(400)]
    assert all(server is once and 0 <= pause <= 1.0 for server, pause in pauses)
    # No tenth of the time sees more than a tenth of them, give or take what chance does.
    assert max(sum(int(pause * 10) == tenth for _, pause in pauses) for tenth in range(10)) < 80
    assert all(choose([often], {})[1] <= 2.0 for _ in range(400))


@pytest.mark.parametrize(
    "wrong",
    [{"servers": []}, {"servers": [f"http://:{CANARY}@x"]}, {"servers": [f"nats://{CANARY}:x"]}, {"queue": "a.b"},
     {"queue": ""}, {"username": "u"}, {"username": "u", "password": "p", "token": "t"}, {"unknown": CANARY}],
)  # fmt: skip
def test_settings_that_make_no_sense_are_refused_without_showing_them(wrong: Any) -> None:
    with pytest.raises(ValidationError) as raised:
        NATSQueueSettings(**wrong)
    assert CANARY not in str(raised.value)


def test_settings_of_earlier_configurations_are_accepted() -> None:
    stated = {"name": "n", "queue": "q", "connect_timeout": 3.0, "ping_interval": 4.0, "max_reconnect_attempts": 61,
              "reconnect_time_wait": 1.5, "tls": True}  # fmt: skip
    taken = NATSQueueSettings.model_validate({"servers": ["nats://127.0.0.1:4223"], **stated})

    assert [server.reveal() for server in taken.servers] == ["nats://127.0.0.1:4223"]
    assert {name: getattr(taken, name) for name in stated} == stated
