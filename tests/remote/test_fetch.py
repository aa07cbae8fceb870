"""What an honest server gives, and what a fetch says about it."""

from __future__ import annotations

import asyncio
import hashlib
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import pytest
from tests.remote.fetching import PATIENT, fetcher

from oneiric.core.errors import (
    ConfigurationError,
    DigestError,
    FetchError,
    FetchRefusedError,
    FetchStatusError,
)
from oneiric.remote.fetch import Fetched, FetchFinished, FetchLimits, FetchPolicy, NotModified, SafeFetcher
from oneiric.remote.testing_http import MisbehavingServer

if TYPE_CHECKING:
    from collections.abc import Callable

BODY = b'{"version": 1}' * 20_000


async def test_what_was_published_arrives_with_its_digest() -> None:
    async with MisbehavingServer() as server:
        digest = server.publish("/m.json", BODY)
        result = await fetcher(server).fetch(server.url("/m.json?token=t0k3n"), sha256=digest)
    assert (result.content, result.length_bytes, result.sha256) == (BODY, len(BODY), digest)
    assert (result.is_verified, result.source, result.attempts) == (True, "origin", 1)
    assert result.url.endswith("/m.json")
    assert hashlib.sha256(BODY).hexdigest() == digest


async def test_the_request_asks_for_plain_bytes_once() -> None:
    async with MisbehavingServer() as server:
        server.publish("/m.json", b"{}")
        await fetcher(server).fetch(server.url("/m.json"))
    (request,) = server.requests
    assert request.headers["accept-encoding"] == "identity"
    assert request.headers["connection"] == "close"
    assert request.headers["host"] == f"127.0.0.1:{server.port}"
    assert not {"cookie", "authorization", "if-none-match", "referer"} & set(request.headers)


async def test_what_did_not_change_is_not_sent_again() -> None:
    async with MisbehavingServer() as server:
        server.publish("/m.json", b"one")
        client = fetcher(server)
        first = await client.fetch(server.url("/m.json"))
        again = await client.fetch(server.url("/m.json"), etag=first.etag)
        server.publish("/m.json", b"two")
        third = await client.fetch(server.url("/m.json"), etag=first.etag)
    assert again == NotModified(url=first.url, etag=first.etag or "")
    assert isinstance(third, Fetched)
    assert third.content == b"two"


async def test_an_entity_tag_that_is_none_is_not_sent() -> None:
    async with MisbehavingServer() as server:
        server.publish("/m.json", b"{}")
        await fetcher(server).fetch(server.url("/m.json"), etag='"a"\r\nX-Evil: 1')
    assert not {"if-none-match", "x-evil"} & set(server.requests[0].headers)


async def test_progress_counts_up_to_the_whole() -> None:
    seen: list[tuple[int, int | None]] = []
    async with MisbehavingServer() as server:
        server.publish("/m.json", BODY)
        await fetcher(server).fetch(server.url("/m.json"), progress=lambda done, whole: seen.append((done, whole)))
    assert seen == sorted(seen)
    assert seen[-1] == (len(BODY), len(BODY))
    assert len(seen) > 1


class Kept:
    def __init__(self) -> None:
        self.parts: list[bytes] = [b"left over"]

    def restart(self) -> None:
        self.parts.clear()

    def write(self, data: bytes, /) -> None:
        self.parts.append(data)


async def test_a_receiver_gets_the_body_instead_of_memory_and_is_restarted_with_each_attempt() -> None:
    kept = Kept()
    async with MisbehavingServer() as server:
        digest = server.publish("/m.json", BODY, failures=1)
        result = await fetcher(server, replace(PATIENT, attempts=2)).fetch(
            server.url("/m.json"), sha256=digest, into=kept
        )
    assert (result.content, result.length_bytes, result.attempts) == (b"", len(BODY), 2)
    assert b"".join(kept.parts) == BODY


@pytest.mark.parametrize(
    ("asked", "said"),
    [
        ({"sha256": "0" * 64}, "was expected"),
        ({"expected_bytes": len(BODY) + 1}, "were expected"),
        ({"expected_bytes": len(BODY) - 1}, "more than"),
    ],
)
async def test_bytes_that_are_not_those_expected_are_not_returned(asked: dict[str, Any], said: str) -> None:
    async with MisbehavingServer() as server:
        server.publish("/m.json", BODY)
        client, url = fetcher(server, replace(PATIENT, attempts=3)), server.url("/m.json")
        with pytest.raises(DigestError, match=said):
            await client.fetch(url, **asked)
    assert len(server.requests) == 1


async def test_the_expected_length_is_the_bound_and_the_limit_bounds_that() -> None:
    async with MisbehavingServer() as server:
        server.publish("/m.json", BODY)
        client, url = fetcher(server), server.url("/m.json")
        assert (await client.fetch(url, expected_bytes=len(BODY), max_bytes=len(BODY))).content == BODY
        with pytest.raises(FetchRefusedError, match="larger than the limit of 9 bytes"):
            await client.fetch(url, max_bytes=9)
        with pytest.raises(FetchRefusedError, match="the limit is 9"):
            await client.fetch(url, expected_bytes=10, max_bytes=9)
        with pytest.raises(FetchRefusedError, match="not a sha256"):
            await client.fetch(url, sha256="ABC")
    assert len(server.requests) == 2


async def test_an_observer_is_told_once_and_cannot_disturb() -> None:
    told: list[FetchFinished] = []
    faults: list[dict[str, Any]] = []

    def observe(event: FetchFinished) -> None:
        told.append(event)
        raise RuntimeError("broken observer")

    asyncio.get_running_loop().set_exception_handler(lambda _loop, context: faults.append(context))
    async with MisbehavingServer() as server:
        server.publish("/m.json", b"{}", failures=1)
        client = fetcher(server, replace(PATIENT, attempts=2), observe=observe)
        await client.fetch(server.url("/m.json?token=t0k3n"))
        with pytest.raises(FetchStatusError):
            await client.fetch(server.url("/404?token=t0k3n"))
    assert [(each.outcome, each.attempts, each.length_bytes, each.error) for each in told] == [
        ("fetched", 2, 2, None),
        ("failed", 1, 0, "FetchStatusError"),
    ]
    assert "t0k3n" not in repr(told)
    assert [str(each["exception"]) for each in faults] == ["broken observer"] * 2


async def test_cancelling_closes_the_connection_and_is_told() -> None:
    told: list[FetchFinished] = []
    async with MisbehavingServer() as server:
        client = fetcher(server, observe=told.append)
        arrived = asyncio.Event()
        running = asyncio.create_task(client.fetch(server.url("/stall"), progress=lambda *_: arrived.set()))
        await arrived.wait()
        running.cancel()
        with pytest.raises(asyncio.CancelledError):
            await running
        server.publish("/m.json", b"{}")
        assert (await client.fetch(server.url("/m.json"))).content == b"{}"
    assert [each.outcome for each in told] == ["cancelled", "fetched"]


async def test_concurrent_fetches_do_not_meet() -> None:
    async with MisbehavingServer() as server:
        bodies = {f"/{each}": bytes([each]) * 100_000 for each in range(20)}
        for path, content in bodies.items():
            server.publish(path, content)
        client = fetcher(server)
        results = await asyncio.gather(*(client.fetch(server.url(path)) for path in bodies))
    assert [each.content for each in results] == list(bodies.values())


async def test_an_error_of_the_caller_passes_through() -> None:
    def complain(_done: int, _whole: int | None) -> None:
        raise KeyError("mine")

    async with MisbehavingServer() as server:
        server.publish("/m.json", b"{}")
        client, url = fetcher(server), server.url("/m.json")
        with pytest.raises(KeyError, match="mine"):
            await client.fetch(url, progress=complain)


def test_the_limits_are_those_that_are_promised() -> None:
    limits = FetchLimits()
    assert (limits.connect_seconds, limits.total_seconds) == (5.0, 30.0)
    assert (limits.minimum_rate_bytes, limits.rate_window_seconds) == (1024, 10.0)


@pytest.mark.parametrize(
    "make",
    [
        lambda: FetchLimits(total_seconds=0),
        lambda: FetchLimits(attempts=-1),
        lambda: FetchLimits(connect_seconds=float("nan")),
        lambda: FetchPolicy(hosts="example.org"),  # type: ignore[arg-type]  # the mistake under test
        lambda: FetchPolicy(roots="/srv"),  # type: ignore[arg-type]  # the mistake under test
        lambda: FetchPolicy(private_networks=("10.0.0.0/x",)),
        lambda: FetchPolicy(proxy="proxy.test:3128"),
        lambda: FetchPolicy(proxy="http://user:hunter2@proxy.test:3128"),
    ],
)
def test_a_malformed_policy_or_limit_is_a_configuration_error(make: Callable[[], object]) -> None:
    with pytest.raises(ConfigurationError) as caught:
        make()
    assert "hunter2" not in str(caught.value)


async def test_nothing_local_and_no_plain_http_is_fetched_by_default() -> None:
    async with MisbehavingServer() as server:
        for url in (
            server.url("/m.json"),
            "/etc/hostname",
            "file:///etc/hostname",
            "ftp://example.org/",
            "",
            "data:,x",
        ):
            with pytest.raises(FetchError):
                await SafeFetcher().fetch(url)
    assert server.connections == 0
