"""Servers that misbehave, each in its own way: cut in time, refused in our words, and never believed."""

from __future__ import annotations

import asyncio
import gc
from dataclasses import replace
from typing import Any

import pytest
from tests.remote.fetching import PATIENT, QUICK, fetcher

from oneiric.core.errors import DigestError, FetchError, FetchRefusedError, FetchStatusError, FetchTimeoutError
from oneiric.remote.fetch import FetchLimits
from oneiric.remote.testing_http import MisbehavingServer

CAP = 1 << 20
#: Only the rate can cut, however busy the machine is.
SLOW = replace(PATIENT, minimum_rate_bytes=10_000, rate_window_seconds=0.15)

#: Path → the error, and what its sentence says. Whatever is not about time gets all the time there is.
EXPECTED: dict[str, tuple[type[Exception], str, FetchLimits]] = {
    "/endless": (FetchRefusedError, "larger than the limit of 1048576 bytes", PATIENT),
    "/chunkforever": (FetchRefusedError, "larger than the limit", PATIENT),
    "/tinychunks": (FetchRefusedError, "more overhead than body", PATIENT),
    "/chunkextensions": (FetchRefusedError, "more overhead than body", PATIENT),
    "/shorter": (FetchError, "after [0-9]+ bytes", PATIENT),
    "/hugelength": (FetchRefusedError, "larger than the limit", PATIENT),
    "/twolengths": (FetchError, "not HTTP", PATIENT),
    "/bothframings": (FetchRefusedError, "both a length and a transfer encoding", PATIENT),
    "/drip": (FetchTimeoutError, "too slow: less than 10000 bytes/s over 0.15 s", SLOW),
    "/slowhead": (FetchTimeoutError, "too slow", SLOW),
    "/stall": (FetchTimeoutError, "too slow", SLOW),
    "/silent": (FetchTimeoutError, "too slow.*after 0 bytes", SLOW),
    "/continueforever": (FetchRefusedError, "more headers than are read", PATIENT),
    "/gzipbomb": (FetchRefusedError, "content encoding 'gzip'", PATIENT),
    "/headers64k": (FetchRefusedError, "more headers than are read", PATIENT),
    "/manyheaders": (FetchRefusedError, "more headers than are read", PATIENT),
    "/headers200": (FetchRefusedError, "answered with 202 headers .*: at most 100", PATIENT),
    "/headers20k": (FetchRefusedError, "answered with 3 headers of 20[0-9]+ bytes: .* of 16384 bytes", PATIENT),
    "/headersforever": (FetchRefusedError, "more headers than are read", PATIENT),
    "/to-http": (FetchStatusError, "302 to 'http://example.org/manifest.json': redirects are not followed", PATIENT),
    "/to-file": (FetchStatusError, "302 to 'file:///etc/passwd'", PATIENT),
    "/to-metadata": (FetchStatusError, "307 to 'http://169.254.169.254/latest/meta-data/'", PATIENT),
    "/reset": (FetchError, "the connection broke", PATIENT),
    "/resetinbody": (FetchError, "the connection broke", PATIENT),
    "/closed": (FetchError, "disconnected", PATIENT),
    "/garbage": (FetchError, "not HTTP", PATIENT),
    "/html": (FetchRefusedError, "a web page", PATIENT),
    "/304": (FetchStatusError, "304 .*although nobody asked", PATIENT),
    "/206": (FetchStatusError, "answered 206", PATIENT),
    "/204": (FetchStatusError, "answered 204", PATIENT),
    "/401": (FetchStatusError, "answered 401", PATIENT),
    "/404": (FetchStatusError, "answered 404", PATIENT),
    "/429": (FetchStatusError, "answered 429 and asks for 3600 s", PATIENT),
    "/503": (FetchStatusError, "answered 503 and asks for 0 s", PATIENT),
    "/503-date": (FetchStatusError, "answered 503 and asks for", PATIENT),
}


def test_every_way_to_misbehave_has_its_row() -> None:
    assert set(EXPECTED) | {"/longer"} == set(MisbehavingServer.behaviours)


@pytest.mark.parametrize("path", EXPECTED)
async def test_what_misbehaves_is_refused_in_our_words_and_asked_once(path: str) -> None:
    error, said, limits = EXPECTED[path]
    async with MisbehavingServer() as server:
        client, url = fetcher(server, limits), server.url(f"{path}?token=t0k3n")
        with pytest.raises(error, match=said) as caught:
            await client.fetch(url, max_bytes=CAP)
        assert type(caught.value) is error
        assert server.connections == 1
    text = str(caught.value)
    assert "t0k3n" not in text
    assert text.isprintable()
    assert f"127.0.0.1:{server.port}{path}" in text
    assert len(text) < 500
    gc.collect()  # a connection that was left open would warn here, and warnings are errors


async def test_what_comes_after_the_announced_length_is_not_read() -> None:
    async with MisbehavingServer() as server:
        result = await fetcher(server).fetch(server.url("/longer"))
    assert result.content == b"0123456789"


@pytest.mark.parametrize("path", ["/endless", "/hugelength", "/longer"])
async def test_where_the_length_is_signed_no_other_is_taken(path: str) -> None:
    async with MisbehavingServer() as server:
        client, url = fetcher(server), server.url(path)
        with pytest.raises(DigestError, match="expected"):
            await client.fetch(url, expected_bytes=9)


@pytest.mark.parametrize("path", ["/drip", "/slowhead", "/stall", "/silent"])
async def test_where_the_rate_would_pass_the_deadline_cuts(path: str) -> None:
    limits = replace(PATIENT, minimum_rate_bytes=1, rate_window_seconds=60.0, attempts=3, total_seconds=0.3)
    loop = asyncio.get_running_loop()
    async with MisbehavingServer() as server:
        client, url = fetcher(server, limits), server.url(path)
        began = loop.time()
        with pytest.raises(FetchTimeoutError, match=r"did not arrive within 0\.3 s"):
            await client.fetch(url)
    assert loop.time() - began < 5.0


async def test_slow_retrieval_is_cut_by_the_rate_before_the_deadline() -> None:
    loop = asyncio.get_running_loop()
    async with MisbehavingServer() as server:
        client, url = fetcher(server, SLOW), server.url("/drip")
        began = loop.time()
        with pytest.raises(FetchTimeoutError, match="too slow"):
            await client.fetch(url)
        seconds = loop.time() - began
    assert 0.14 < seconds < 10.0


@pytest.mark.parametrize(("path", "status"), [("/to-metadata", 307), ("/404", 404), ("/206", 206), ("/304", 304)])
async def test_a_status_error_carries_its_status(path: str, status: int) -> None:
    async with MisbehavingServer() as server:
        client, url = fetcher(server), server.url(path)
        with pytest.raises(FetchStatusError) as caught:
            await client.fetch(url)
    assert caught.value.status == status


async def test_what_a_redirect_leads_to_is_never_asked() -> None:
    async with MisbehavingServer() as server, MisbehavingServer() as other:
        client = fetcher(server)
        for path in ("/to-http", "/to-file", "/to-metadata"):
            with pytest.raises(FetchStatusError):
                await client.fetch(server.url(path))
    assert [request.path for request in server.requests] == ["/to-http", "/to-file", "/to-metadata"]
    assert other.connections == 0


async def test_honest_work_goes_on_beside_every_hostile_server() -> None:
    async with MisbehavingServer() as server:
        server.publish("/m.json", b"{}")
        limits: dict[str, Any] = {"failures_to_open": 1000}
        client = fetcher(server, replace(QUICK, **limits))
        patient = fetcher(server)
        hostile = [client.fetch(server.url(path), max_bytes=CAP) for path in EXPECTED]
        honest = [patient.fetch(server.url("/m.json")) for _ in range(20)]
        results = await asyncio.gather(*hostile, *honest, return_exceptions=True)
    assert all(isinstance(each, FetchError) for each in results[: len(hostile)])
    assert [getattr(each, "content", each) for each in results[len(hostile) :]] == [b"{}"] * 20
