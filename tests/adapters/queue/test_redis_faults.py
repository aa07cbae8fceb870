"""Servers that are gone, silent, full, foreign or unknown: each failure has its name, and no secret is in it."""

import asyncio
import socket
import ssl
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError

from oneiric.adapters.queue.redis_streams import RedisStreamsQueueAdapter, RedisStreamsQueueSettings
from oneiric.core.errors import (
    AdapterTimeoutError,
    AuthenticationError,
    OneiricError,
    RejectedError,
    UnavailableError,
)

pytestmark = pytest.mark.xdist_group("redis")
CANARY = "S3CR3T-canary"


def chain(error: BaseException | None) -> Iterator[BaseException]:
    while error is not None:
        yield error
        error = error.__cause__ or error.__context__


async def opened(**settings: Any) -> RedisStreamsQueueAdapter:
    queue = RedisStreamsQueueAdapter(RedisStreamsQueueSettings(**{"block_ms": 50, **settings}))
    await queue.init()
    return queue


def failure(kind: type[OneiricError], **settings: Any) -> OneiricError:
    """Open a queue; return how that failed, having looked for the secret everywhere."""
    with pytest.raises(kind) as raised:
        asyncio.run(opened(**settings))
    assert not any(CANARY in f"{link!s}{link!r}" for link in chain(raised.value))
    return raised.value


def test_an_unreachable_server_is_named(closed_port: int) -> None:
    error = failure(UnavailableError, url=f"redis://:{CANARY}@127.0.0.1:{closed_port}")
    assert f"127.0.0.1:{closed_port}" in error.message


def test_a_server_that_never_answers_is_a_timeout() -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        failure(AdapterTimeoutError, url=f"redis://127.0.0.1:{silent.getsockname()[1]}", healthcheck_timeout=0.1)


def test_a_server_that_falls_silent_is_a_timeout_and_serves_again(start_redis: Any) -> None:
    server = start_redis()

    async def go() -> None:
        queue = await opened(url=f"redis://127.0.0.1:{server.port}", socket_timeout=1.0, healthcheck_timeout=1.0)
        await queue.enqueue({"n": 1})
        (delivery,) = await queue.receive()
        server.stop()
        for call in (queue.enqueue({}, dedup_id="x"), queue.receive(), queue.extend(delivery), queue.health()):
            with pytest.raises(AdapterTimeoutError):
                await call
        server.go_on()
        assert await queue.ack(delivery) is True
        # Whether the first was stored was not known; with its dedup_id it may be enqueued again.
        await queue.enqueue({"n": 2}, dedup_id="x")
        assert len(await queue.receive(max_messages=5)) <= 1
        await queue.cleanup()

    asyncio.run(go())


def test_what_was_stored_outlives_a_killed_server_that_writes_each_command(start_redis: Any) -> None:
    server = start_redis("--appendonly", "yes", "--appendfsync", "always")

    async def go() -> None:
        queue = await opened(url=f"redis://127.0.0.1:{server.port}", visibility_seconds=2.0)
        sent = set(await asyncio.gather(*(queue.enqueue({"n": number}) for number in range(50))))
        held = await queue.receive(max_messages=10)
        late = await queue.enqueue({"late": True}, delay_seconds=0.2)
        waiting = asyncio.ensure_future(queue.receive(max_messages=1, wait_seconds=20))
        (first,) = await waiting
        await queue.dead_letter(first, "why")
        server.kill()
        for call in (queue.enqueue({}), queue.receive(), queue.ack(held[0]), queue.health(), queue.dead_letters()):
            with pytest.raises(UnavailableError):
                await call
        server.start()
        await loaded(server)
        done: set[str] = set()
        while len(done) < len(sent):  # with the late one, without the dead one
            for delivery in await queue.receive(max_messages=20, wait_seconds=20):
                assert await queue.ack(delivery) is True
                done.add(delivery.id)
        assert done == (sent | {late}) - {first.id}
        assert await queue.receive() == []
        assert [dead.id for dead in await queue.dead_letters()] == [first.id]
        await queue.cleanup()

    asyncio.run(go())


async def loaded(server: Any) -> None:
    """Wait until a server has read its file."""
    raw = server.raw()
    async with asyncio.timeout(60):
        while (await asyncio.to_thread(raw.info, "persistence"))["loading"]:
            pass
    raw.close()


def test_a_receiver_that_waits_is_told_when_the_server_dies(start_redis: Any) -> None:
    server = start_redis()

    async def go() -> None:
        queue = await opened(url=f"redis://127.0.0.1:{server.port}", block_ms=10_000)
        waiting = asyncio.ensure_future(queue.receive(wait_seconds=30))
        while not queue._watching:  # noqa: ASYNC110 - inside on purpose: then it asks the server
            await asyncio.sleep(0)
        server.kill()
        with pytest.raises(UnavailableError):
            await waiting
        await queue.cleanup()

    asyncio.run(go())


def test_a_server_that_lost_everything_is_used_on(start_redis: Any) -> None:
    server = start_redis()

    async def go() -> None:
        queue = await opened(url=f"redis://127.0.0.1:{server.port}")
        await queue.enqueue({"n": 1})
        raw = server.raw()
        raw.flushall()
        raw.script_flush()
        raw.close()
        assert await queue.receive() == []
        sent = await queue.enqueue({"n": 2})
        assert [one.id for one in await queue.receive()] == [sent]
        await queue.cleanup()

    asyncio.run(go())


def test_connections_that_the_server_dropped_are_replaced_unnoticed(start_redis: Any) -> None:
    server = start_redis()

    async def go() -> None:
        queue = await opened(url=f"redis://127.0.0.1:{server.port}")
        await asyncio.gather(*(queue.depth() for _ in range(10)))
        raw = server.raw()
        raw.client_kill_filter(_type="normal", skipme=True)
        raw.close()
        await asyncio.gather(*(queue.depth() for _ in range(10)))
        await queue.enqueue({"n": 1})
        assert len(await queue.receive()) == 1
        await queue.cleanup()

    asyncio.run(go())


def test_a_full_server_is_unavailable_for_what_is_new(start_redis: Any) -> None:
    server = start_redis()

    async def go() -> None:
        queue = await opened(url=f"redis://127.0.0.1:{server.port}")
        await queue.enqueue({"n": 1})
        (delivery,) = await queue.receive()
        raw = server.raw()
        raw.config_set("maxmemory", "1")
        for call in (queue.enqueue({}), queue.enqueue({}, delay_seconds=5)):
            with pytest.raises(UnavailableError, match=r"OutOfMemory|OOM"):
                await call
        raw.config_set("maxmemory", "0")
        raw.close()
        assert await queue.ack(delivery) is True
        await queue.cleanup()

    asyncio.run(go())


def test_a_bound_refuses_messages_and_drops_none(place: Any) -> None:
    async def go() -> None:
        queue = await opened(**place.settings, maxlen=2)
        await queue.enqueue({"n": 1})
        await queue.enqueue({"n": 2}, delay_seconds=100)
        with pytest.raises(UnavailableError, match="full"):
            await queue.enqueue({"n": 3}, dedup_id="x")
        (delivery,) = await queue.receive()
        with pytest.raises(UnavailableError, match="full"):
            await queue.enqueue({"n": 3})
        await queue.ack(delivery)
        await queue.enqueue({"n": 3}, dedup_id="x")
        await queue.cleanup()

    asyncio.run(go())


@pytest.mark.parametrize(
    "fields", [{"data": "theirs"}, {"b": "no JSON"}, {"b": "[]"}, {"b": "{}", "a": "x"}, {"b": "{}", "h": "x"},
               {"b": b"\xff"}, {"b": "{}", "i": b"\xff"}],
)  # fmt: skip
def test_what_others_added_becomes_a_dead_letter_and_does_not_block_the_line(place: Any, fields: Any) -> None:
    async def go() -> None:
        queue = await opened(**place.settings)
        place.raw.xadd(place.stream, fields)
        sent = await queue.enqueue({"n": 1})
        assert [one.id for one in await queue.receive(max_messages=5, wait_seconds=5)] == [sent]
        (dead,) = await queue.dead_letters()
        assert dead.payload is None
        assert "no message of Oneiric's" in dead.reason
        if "i" not in fields:
            with pytest.raises(RejectedError):
                await queue.requeue(dead.id)
            assert await queue.discard(dead.id) is True
        await queue.cleanup()

    asyncio.run(go())


def test_a_receive_that_is_cancelled_while_it_gives_up_what_others_added_takes_no_message_with_it(
    place: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def go() -> None:
        queue = await opened(**place.settings)
        sent = await queue.enqueue({"n": 1})
        place.raw.xadd(place.stream, {"data": "theirs"})
        burying, gate, bury = asyncio.Event(), asyncio.Event(), queue._bury

        async def slowly(*given: Any, **stated: Any) -> bool:
            burying.set()
            await gate.wait()
            return await bury(*given, **stated)

        monkeypatch.setattr(queue, "_bury", slowly)
        asked = asyncio.create_task(queue.receive(max_messages=5))
        await burying.wait()
        asked.cancel()
        await asyncio.wait([asked])
        gate.set()
        assert asked.cancelled()
        found = await queue.receive(max_messages=5, wait_seconds=20)
        assert [(one.id, one.attempt) for one in found] == [(sent, 1)]
        await queue.cleanup()

    asyncio.run(go())


def test_a_group_that_must_not_be_made_is_asked_for(place: Any) -> None:
    with pytest.raises(RejectedError):
        asyncio.run(opened(**place.settings, auto_create_group=False))
    place.raw.xgroup_create(place.stream, "other", mkstream=True)
    with pytest.raises(RejectedError, match="no group"):
        asyncio.run(opened(**place.settings, auto_create_group=False))

    async def go() -> None:
        queue = await opened(**place.settings, auto_create_group=False, group="other")
        await queue.cleanup()

    asyncio.run(go())


def test_a_key_that_is_no_stream_is_refused(place: Any) -> None:
    place.raw.set(place.stream, "theirs")
    with pytest.raises(RejectedError, match="WRONGTYPE"):
        asyncio.run(opened(**place.settings))


def test_wrong_credentials_are_an_authentication_error(start_redis: Any) -> None:
    server = start_redis("--requirepass", "right")
    failure(AuthenticationError, url=f"redis://127.0.0.1:{server.port}")
    failure(AuthenticationError, url=f"redis://:{CANARY}@127.0.0.1:{server.port}")
    failure(AuthenticationError, url=f"redis://127.0.0.1:{server.port}", username="nobody", password=CANARY)


def test_certificates_are_verified(start_redis: Any, certificate: tuple[Path, Path]) -> None:
    authority, key = certificate
    server = start_redis(
        "--tls-cert-file", str(authority), "--tls-key-file", str(key), "--tls-auth-clients", "no", tls=True
    )  # fmt: skip

    async def go() -> None:
        queue = await opened(url=f"rediss://localhost:{server.port}", ssl_ca_certs=authority)
        await queue.enqueue({"n": 1})
        await queue.cleanup()

    asyncio.run(go())
    unknown = failure(UnavailableError, url=f"rediss://localhost:{server.port}", healthcheck_timeout=20)
    assert any(isinstance(link, ssl.SSLCertVerificationError) for link in chain(unknown))
    other_name = failure(UnavailableError, url=f"rediss://127.0.0.1:{server.port}", ssl_ca_certs=authority)
    assert any(isinstance(link, ssl.SSLCertVerificationError) for link in chain(other_name))


@pytest.mark.parametrize(
    "wrong",
    [{"url": f"http://:{CANARY}@x"}, {"url": f"redis://:{CANARY}@x/0?ssl_cert_reqs=none"}, {"url": f"redis://{CANARY}:x"},
     {"stream": ""}, {"stream": "a b"}, {"stream": "{a}b"}, {"username": "u"}, {"maxlen": 0}, {"unknown": CANARY}],
)  # fmt: skip
def test_settings_that_make_no_sense_are_refused_without_showing_them(wrong: Any) -> None:
    with pytest.raises(ValidationError) as raised:
        RedisStreamsQueueSettings(**wrong)
    assert CANARY not in str(raised.value)


def test_settings_of_earlier_configurations_are_accepted() -> None:
    stated = {"stream": "s", "group": "g", "consumer": "c", "block_ms": 0, "maxlen": 5, "auto_create_group": False,
              "consumer_buffer_size": 2, "healthcheck_timeout": 3.0}  # fmt: skip
    taken = RedisStreamsQueueSettings.model_validate({"url": "redis://localhost:6380/1", **stated})

    assert taken.url.reveal() == "redis://localhost:6380/1"
    assert {name: getattr(taken, name) for name in stated} == stated
