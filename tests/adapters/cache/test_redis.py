"""What is the Redis cache's own: its settings, its prefix, its connections, on a real server."""

import asyncio
import os
import subprocess
import sys
import time
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest
from pydantic import ValidationError

from oneiric.adapters.cache.redis import RedisCacheAdapter, RedisCacheSettings
from oneiric.core import Secret
from oneiric.core.errors import InactiveError, RejectedError

pytestmark = pytest.mark.xdist_group("redis")
CANARY = "canary-5f3a"


async def opened(**settings: Any) -> RedisCacheAdapter:
    cache = RedisCacheAdapter(RedisCacheSettings(**settings))
    await cache.init()
    return cache


@pytest.mark.parametrize("suffix", ["", "a*", "[ab]?", "\\", "é^-", "*"])
def test_clear_removes_what_is_under_the_prefix_and_nothing_else(place: Any, suffix: str) -> None:
    async def go() -> None:
        prefix = f"{place.prefix}{suffix}:"
        neighbours = [place.prefix.replace("oneiric", "other"), f"{place.prefix}ax:", f"{place.prefix}a:"]
        for neighbour in neighbours:
            place.raw.set(f"{neighbour}key", "theirs", ex=60)
        cache = await opened(**{**place.settings, "key_prefix": prefix})
        await cache.set_many({f"k{number}": number for number in range(1500)})
        await cache.clear()
        assert not any(name.startswith(prefix.encode()) for name in place.raw.scan_iter(match=f"{place.prefix}*k*"))
        assert await cache.get_many([f"k{number}" for number in range(1500)]) == {}
        theirs = [place.raw.get(f"{neighbour}key") for neighbour in neighbours]
        assert theirs == [b"theirs"] * 3
        place.raw.unlink(*(f"{neighbour}key" for neighbour in neighbours))
        await cache.cleanup()

    asyncio.run(go())


def test_clear_without_a_prefix_is_refused(place: Any) -> None:
    async def go() -> None:
        cache = await opened(**{**place.settings, "key_prefix": ""})
        key = f"{place.prefix}key"
        await cache.set(key, 1, ttl=60)
        with pytest.raises(RejectedError, match="key_prefix"):
            await cache.clear()
        assert await cache.get(key) == 1
        await cache.cleanup()

    asyncio.run(go())


def test_a_fraction_of_a_second_is_a_lifetime_to_the_server_too(place: Any) -> None:
    async def go() -> None:
        cache = await opened(**place.settings)
        await cache.set("key", 1, ttl=0.02)
        assert 0 < place.raw.pttl(f"{place.prefix}key") <= 20
        async with asyncio.timeout(60):
            while await cache.exists("key"):
                pass
        await cache.cleanup()

    asyncio.run(go())


def test_integers_are_what_other_programs_count_on(place: Any) -> None:
    async def go() -> None:
        cache = await opened(**place.settings)
        await cache.set("n", 41)
        place.raw.incr(f"{place.prefix}n")
        assert await cache.increment("n", 0) == await cache.get("n") == 42
        await cache.cleanup()

    asyncio.run(go())


def test_a_second_init_keeps_the_connections_of_the_first(place: Any) -> None:
    async def go() -> None:
        name = f"oneiric-{uuid4().hex}"
        cache = await opened(**place.settings, client_name=name)
        await cache.init()
        await cache.get("key")
        assert [client["name"] for client in place.raw.client_list()].count(name) == 1
        await cache.cleanup()

    asyncio.run(go())


def test_more_callers_than_connections_wait_their_turn(place: Any) -> None:
    async def go() -> None:
        name = f"oneiric-{uuid4().hex}"
        cache = await opened(**place.settings, max_connections=3, client_name=name)
        assert sorted(await asyncio.gather(*(cache.increment("n") for _ in range(300)))) == list(range(1, 301))
        connections = [client for client in place.raw.client_list() if client["name"] == name]
        assert 1 <= len(connections) <= 3
        await cache.cleanup()
        deadline = time.monotonic() + 60  # the server learns of it in its own time
        while any(client["name"] == name for client in place.raw.client_list()):
            assert time.monotonic() < deadline

    asyncio.run(go())


def test_a_cancelled_call_never_leaves_its_answer_to_another(place: Any) -> None:
    async def go() -> None:
        cache = await opened(**place.settings, max_connections=4)
        keys = [f"key{number}" for number in range(40)]
        await cache.set_many({key: key for key in keys})
        for turn in range(40):
            tasks = [asyncio.ensure_future(cache.get(key)) for key in keys]
            for _ in range(turn % 10):
                await asyncio.sleep(0)
            for task in tasks[::3]:
                task.cancel()
            answers = await asyncio.gather(*tasks, return_exceptions=True)
            for key, answer in zip(keys, answers, strict=True):
                assert answer == key or (isinstance(answer, asyncio.CancelledError) and key in keys[::3])
        await cache.cleanup()

    asyncio.run(go())


def test_it_must_be_initialised_and_says_so() -> None:
    async def go() -> None:
        with pytest.raises(InactiveError, match="not initialised"):
            await RedisCacheAdapter(RedisCacheSettings()).get("key")

    asyncio.run(go())


def test_settings_show_no_password() -> None:
    settings = RedisCacheSettings(username="user", password=Secret(CANARY))
    by_url = RedisCacheSettings(url=Secret(f"redis://user:{CANARY}@localhost"))
    for shown in (repr(settings), str(settings), settings.model_dump_json(), repr(by_url), by_url.model_dump_json()):
        assert CANARY not in shown


@pytest.mark.parametrize(
    "wrong",
    [
        {"url": f"http://:{CANARY}@localhost"},
        {"url": f"redis://:{CANARY}@localhost:port"},
        {"url": f"redis://:{CANARY}@localhost:99999"},
        {"url": f"redis://:{CANARY}@localhost/zero"},
        {"url": f"rediss://:{CANARY}@localhost?ssl_cert_reqs=none"},
        {"url": f"unix://:{CANARY}@"},
        {"url": f"redis://[{CANARY}"},
        {"url": "redis://localhost", "host": "elsewhere"},
        {"url": "redis://localhost", "ssl": True},
        {"username": CANARY},
        {"port": 0},
        {"db": -1},
        {"socket_timeout": 0},
        {"default_ttl": 0},
        {"client_name": "two words"},
        {"decode_responses": True},
    ],
    ids=",".join,
)
def test_wrong_settings_are_refused_without_repeating_a_secret(wrong: dict[str, Any]) -> None:
    with pytest.raises(ValidationError) as raised:
        RedisCacheSettings(**wrong)
    assert CANARY not in str(raised.value)
    assert CANARY not in repr(raised.value.__cause__)


def test_a_url_says_what_the_fields_say(place: Any, start_redis: Any, tmp_path: Path) -> None:
    socket = tmp_path / "s"
    server = start_redis("--unixsocket", str(socket), "--requirepass", "p@ss/word")

    async def go() -> None:
        for url in (f"redis://:p%40ss%2Fword@127.0.0.1:{server.port}/3", f"unix://:p%40ss%2Fword@{socket}"):
            cache = await opened(url=url)
            await cache.set("key", url)
            await cache.cleanup()
        raw = server.raw(db=3, password="p@ss/word")
        assert raw.get("oneiric:cache:key").startswith(b'"redis://')
        raw.close()

    asyncio.run(go())


def test_neither_the_package_nor_an_embedded_provider_loads_the_sdk() -> None:
    script = (
        "import sys, oneiric.adapters.cache, oneiric.adapters.cache.memory, oneiric.adapters.cache.sqlite;"
        "sys.exit('redis' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", script], env=dict(os.environ), check=False).returncode == 0
