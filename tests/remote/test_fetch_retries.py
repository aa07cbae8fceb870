"""Asking again, asking others, and leaving alone: load stays bounded, and recovery is quick."""

from __future__ import annotations

import asyncio
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.remote.fetching import PATIENT, fetcher

from oneiric.core.errors import ConfigurationError, DigestError, FetchError, FetchStatusError
from oneiric.core.testing import DrivenClock
from oneiric.remote._fetch_answer import retry_after
from oneiric.remote._fetch_retry import Host, Hosts, RetryBudget, pause_before
from oneiric.remote.fetch import FetchLimits, FetchPolicy
from oneiric.remote.testing_http import MisbehavingServer

THRICE = replace(PATIENT, attempts=3)
NEVER_OPEN = replace(THRICE, failures_to_open=10**9)


def both(*servers: MisbehavingServer) -> FetchPolicy:
    return FetchPolicy(
        hosts=("127.0.0.1",),
        http_hosts=("127.0.0.1",),
        ports=tuple(server.port for server in servers),
        private_networks=("127.0.0.0/8",),
    )


async def test_a_server_that_recovers_is_asked_again() -> None:
    async with MisbehavingServer() as server:
        server.publish("/m.json", b"{}", failures=2)
        result = await fetcher(server, THRICE).fetch(server.url("/m.json"))
    assert (result.content, result.attempts) == (b"{}", 3)


@pytest.mark.parametrize("path", ["/503", "/reset", "/closed", "/shorter"])
async def test_what_may_pass_is_asked_for_three_times_and_no_more(path: str) -> None:
    async with MisbehavingServer() as server:
        client, url = fetcher(server, THRICE), server.url(path)
        with pytest.raises(FetchError):
            await client.fetch(url)
    assert server.connections == 3


@pytest.mark.parametrize("path", ["/404", "/401", "/html", "/to-http", "/gzipbomb", "/304"])
async def test_what_does_not_pass_is_asked_for_once(path: str) -> None:
    async with MisbehavingServer() as server:
        client, url = fetcher(server, THRICE), server.url(path)
        with pytest.raises(FetchError):
            await client.fetch(url)
    assert server.connections == 1


@pytest.mark.parametrize(
    ("path", "least", "most"), [("/429", 3600, 3600), ("/503-date", 1e9, 1e10)], ids=["seconds", "date"]
)
async def test_a_server_that_asks_for_more_peace_than_we_can_wait_is_not_asked_again(
    path: str, least: float, most: float
) -> None:
    async with MisbehavingServer() as server:
        client, url = fetcher(server, THRICE), server.url(path)
        with pytest.raises(FetchStatusError) as caught:
            await client.fetch(url)
    assert caught.value.retry_after_seconds is not None
    assert least <= caught.value.retry_after_seconds <= most
    assert server.connections == 1


async def test_peace_that_would_pass_the_deadline_is_kept_by_giving_up() -> None:
    limits = replace(THRICE, total_seconds=60.0, retry_after_cap_seconds=1e10)
    async with MisbehavingServer() as server:
        client, url = fetcher(server, limits), server.url("/429")
        with pytest.raises(FetchStatusError):
            await client.fetch(url)
    assert server.connections == 1


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("0", 0.0),
        ("120", 120.0),
        ("Thu, 01 Jan 1970 00:01:00 GMT", 50.0),
        ("Thu, 01 Jan 1970 00:00:01 GMT", 0.0),
        ("-5", None),
        ("1.5", None),
        ("soon", None),
        ("", None),
        (None, None),
        ("9" * 400, None),
        ("Thu, 99 Jan 1970 00:01:00 GMT", None),
    ],
)
def test_retry_after_is_read_as_seconds_or_as_a_date(text: str | None, seconds: float | None) -> None:
    assert retry_after(text, now=10.0) == seconds


@given(st.text(max_size=60))
def test_retry_after_never_fails(text: str) -> None:
    seconds = retry_after(text, now=10.0)
    assert seconds is None or seconds >= 0


@given(st.integers(1, 2000), st.floats(0, 1))
def test_pauses_are_drawn_below_a_bound_that_doubles_up_to_the_cap(attempt: int, drawn: float) -> None:
    limits = FetchLimits()
    pause = pause_before(attempt, limits, lambda: drawn)
    assert pause == pytest.approx(drawn * min(5.0, 0.2 * 2 ** min(attempt - 1, 10)))


@given(st.integers(1, 2000), st.floats(0, 1), st.floats(0, 1))
def test_so_much_of_a_pause_is_left_to_chance_as_is_said(attempt: int, drawn: float, jitter: float) -> None:
    longest = pause_before(attempt, FetchLimits(jitter=0), lambda: drawn)
    pause = pause_before(attempt, FetchLimits(jitter=jitter), lambda: drawn)
    assert longest == pytest.approx(min(5.0, 0.2 * 2 ** min(attempt - 1, 10)))
    assert pause == pytest.approx(longest * (1 - jitter * (1 - drawn)))


@pytest.mark.parametrize("jitter", [-0.1, 1.1, float("nan")])
def test_a_jitter_that_is_no_share_is_an_error(jitter: float) -> None:
    with pytest.raises(ConfigurationError, match="jitter must be a share from 0 to 1"):
        FetchLimits(jitter=jitter)


async def test_retries_add_a_tenth_to_the_load_of_a_server_that_fails() -> None:
    fetches = 300
    async with MisbehavingServer() as server:
        clock = DrivenClock()
        client = fetcher(server, NEVER_OPEN, clock=clock, chance=lambda: 0.0)
        for _ in range(fetches):
            with pytest.raises(FetchError):
                await client.fetch(server.url("/503"))
    assert fetches <= server.connections <= fetches * 1.1 + 3


def test_who_fetches_rarely_may_still_retry() -> None:
    clock = DrivenClock()
    budget = RetryBudget(clock)
    assert [budget.spend() for _ in range(5)] == [True, True, True, False, False]
    clock.advance(30.0)
    assert [budget.spend() for _ in range(2)] == [True, False]


def test_ten_fetches_pay_for_one_retry() -> None:
    budget = RetryBudget(DrivenClock())
    while budget.spend():
        pass
    for _ in range(10):
        budget.fetch_started()
    assert [budget.spend(), budget.spend()] == [True, False]


async def test_a_host_that_keeps_failing_is_left_alone_and_one_request_tries_it() -> None:
    clock = DrivenClock()
    async with MisbehavingServer() as server:
        server.publish("/m.json", b"{}", failures=6)
        client, url = fetcher(server, clock=clock), server.url("/m.json")
        for _ in range(5):
            with pytest.raises(FetchStatusError):
                await client.fetch(url)
        assert server.connections == 5

        results = await asyncio.gather(*(client.fetch(url) for _ in range(20)), return_exceptions=True)
        assert {str(each).split(" is not asked: ")[1].partition(".")[0] for each in results} == {
            "its host failed 5 times in a row"
        }
        assert server.connections == 5

        clock.advance(2.0)  # half open: one of twenty asks, is answered by a failure, and it is left alone again
        results = await asyncio.gather(*(client.fetch(url) for _ in range(20)), return_exceptions=True)
        assert server.connections == 6
        assert sum(isinstance(each, FetchStatusError) for each in results) == 1

        clock.advance(2.0)
        assert (await client.fetch(url)).content == b"{}"
        await asyncio.gather(*(client.fetch(url) for _ in range(20)))
        assert server.connections == 27


def test_recovery_takes_less_than_two_seconds() -> None:
    assert FetchLimits().open_seconds < 2.0


async def test_a_probe_that_is_cancelled_lets_the_next_one_try() -> None:
    clock = DrivenClock()
    async with MisbehavingServer() as server:
        server.publish("/m.json", b"{}")
        client = fetcher(server, replace(PATIENT, failures_to_open=1), clock=clock)
        with pytest.raises(FetchError):
            await client.fetch(server.url("/503"))
        clock.advance(2.0)
        arrived = asyncio.Event()
        probe = asyncio.create_task(client.fetch(server.url("/stall"), progress=lambda *_: arrived.set()))
        await arrived.wait()
        with pytest.raises(FetchError, match="is not asked"):
            await client.fetch(server.url("/m.json"))
        probe.cancel()
        await asyncio.gather(probe, return_exceptions=True)
        assert (await client.fetch(server.url("/m.json"))).content == b"{}"


def test_clients_that_met_the_same_fault_do_not_come_back_together() -> None:
    waits = []
    for drawn in (0.0, 0.25, 1.0):
        host = Host(FetchLimits(failures_to_open=1), DrivenClock(), lambda drawn=drawn: drawn)  # type: ignore[misc]
        host.failed()
        waits.append(host.wait_seconds())
    assert waits == [0.75, 0.9375, 1.5]


def test_what_is_known_of_hosts_is_bounded() -> None:
    hosts = Hosts(FetchLimits(), DrivenClock(), lambda: 0.0)
    kept = hosts.of("kept:443")
    for number in range(1000):
        hosts.of(f"host-{number}:443")
        assert hosts.of("kept:443") is kept
    assert len(hosts._known) <= 256


async def test_a_mirror_serves_where_the_origin_fails_and_is_asked_first_while_it_cools() -> None:
    clock = DrivenClock()
    async with MisbehavingServer() as origin, MisbehavingServer() as mirror:
        digest = mirror.publish("/m.json", b"{}")
        client = fetcher(origin, THRICE, clock=clock, policy=both(origin, mirror))
        url, mirrors = origin.url("/reset"), [mirror.url("/m.json")]
        first = await client.fetch(url, mirrors=mirrors, sha256=digest)
        second = await client.fetch(url, mirrors=mirrors, sha256=digest)
        assert (first.source, first.attempts, second.source, second.attempts) == ("mirror", 2, "mirror", 1)
        assert origin.connections == 1
        clock.advance(31.0)
        await client.fetch(url, mirrors=mirrors, sha256=digest)
    assert origin.connections == 2


@pytest.mark.parametrize("path", ["/html", "/404", "/endless", "/304", "/m.json"])
async def test_a_mirror_that_lies_is_passed_over(path: str) -> None:
    async with MisbehavingServer() as origin, MisbehavingServer() as mirror:
        digest = mirror.publish("/good.json", b'{"version": 2}')
        mirror.publish("/m.json", b'{"version": 1}')
        client = fetcher(origin, THRICE, policy=both(origin, mirror))
        mirrors = [mirror.url(path), mirror.url("/good.json")]
        result = await client.fetch(origin.url("/closed"), mirrors=mirrors, sha256=digest, expected_bytes=14)
    assert (result.content, result.is_verified) == (b'{"version": 2}', True)


async def test_when_all_fail_the_origins_error_is_raised_and_the_mirrors_are_noted() -> None:
    async with MisbehavingServer() as origin, MisbehavingServer() as mirror:
        mirror.publish("/m.json", b"not it")
        client = fetcher(origin, policy=both(origin, mirror))
        mirrors = [mirror.url("/m.json"), "https://elsewhere.test/m.json", "/nowhere", origin.url("/404")]
        with pytest.raises(FetchStatusError, match="503") as caught:
            await client.fetch(origin.url("/503"), mirrors=mirrors, sha256="0" * 64)
    notes = caught.value.__notes__
    assert [note.partition(" ")[0] for note in notes] == ["mirror:"] * 4
    assert "sha256" in notes[0]
    assert "not allowed" in notes[1]


async def test_a_digest_that_is_wrong_everywhere_is_a_digest_error_of_the_origin() -> None:
    async with MisbehavingServer() as server:
        server.publish("/m.json", b"x")
        client, url = fetcher(server, THRICE), server.url("/m.json")
        with pytest.raises(DigestError):
            await client.fetch(url, mirrors=[url, url], sha256="0" * 64)
    assert server.connections == 1
