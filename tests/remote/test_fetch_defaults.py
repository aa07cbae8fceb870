"""The promised figures (5 s, 30 s, 1 KiB/s over 10 s), on a clock that is driven: nobody waits for them."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

import pytest

from oneiric.core.errors import FetchError, FetchTimeoutError
from oneiric.core.testing import DrivenClock, run_driven
from oneiric.remote._fetch_rate import MinimumRate
from oneiric.remote.fetch import FetchLimits, FetchPolicy, SafeFetcher
from oneiric.remote.testing_http import MisbehavingServer

if TYPE_CHECKING:
    from collections.abc import Sequence


async def here(_host: str, _port: int) -> Sequence[str]:
    return ["127.0.0.1"]


async def nowhere(_host: str, _port: int) -> Sequence[str]:
    await asyncio.Event().wait()
    return []


def seconds_of(path: str, limits: FetchLimits, lookup: object = here) -> tuple[float, FetchError]:
    """Return how long a fetch took, and what it ended with."""

    async def scenario() -> tuple[float, FetchError]:
        loop = asyncio.get_running_loop()
        async with MisbehavingServer() as server:
            policy = FetchPolicy(http_hosts=("updates.test",), ports=(server.port,), private_networks=("127.0.0.0/8",))
            client = SafeFetcher(policy, limits, lookup=lookup, chance=lambda: 0.0)  # type: ignore[arg-type]  # one of the two above
            url = server.url(path, "updates.test")
            with pytest.raises(FetchError) as caught:
                await client.fetch(url)
            return loop.time(), caught.value

    return run_driven(scenario(), DrivenClock())


@pytest.mark.parametrize("path", ["/stall", "/silent", "/drip", "/slowhead"])
def test_slow_retrieval_is_cut_after_ten_seconds_below_the_rate(path: str) -> None:
    seconds, error = seconds_of(path, FetchLimits(attempts=1))
    assert isinstance(error, FetchTimeoutError)
    assert "less than 1024 bytes/s over 10 s" in str(error)
    assert 9.99 < seconds < 10.2


@pytest.mark.parametrize("path", ["/stall", "/silent", "/drip", "/slowhead"])
def test_retries_do_not_outlast_thirty_seconds(path: str) -> None:
    seconds, error = seconds_of(path, FetchLimits(attempts=100, backoff_seconds=0.001))
    assert isinstance(error, FetchTimeoutError)
    assert "did not arrive within 30 s" in str(error) or "too slow" in str(error)
    assert 19.99 < seconds < 30.2


def test_a_rate_that_passes_is_cut_by_the_deadline() -> None:
    seconds, error = seconds_of("/drip", FetchLimits(minimum_rate_bytes=10, attempts=1))
    assert "did not arrive within 30 s" in str(error)
    assert 29.99 < seconds < 30.2


def test_connecting_is_cut_after_five_seconds() -> None:
    seconds, error = seconds_of("/stall", FetchLimits(attempts=1), nowhere)
    assert "did not connect within 5 s" in str(error)
    assert 4.99 < seconds < 5.2


def test_a_server_is_left_in_peace_when_it_asks_for_more_than_ten_seconds_of_it() -> None:
    seconds, error = seconds_of("/429", FetchLimits(total_seconds=1e6))
    assert "answered 429 and asks for 3600 s of peace" in str(error)
    assert seconds < 1.0


def test_peace_that_may_be_waited_for_is_kept() -> None:
    seconds, error = seconds_of("/429", FetchLimits(total_seconds=1e6, retry_after_cap_seconds=3600.0))
    assert "answered 429" in str(error)
    assert 7199.9 < seconds < 7201.0


def test_the_rate_owes_nothing_before_the_first_window_is_over() -> None:
    rate = MinimumRate(100, 10.0)
    assert rate.allowance_seconds() == 10.0
    rate.received(1, 9.0)
    assert rate.allowance_seconds() == pytest.approx(1.0)


def test_a_stall_after_a_burst_is_cut_when_the_burst_has_left_the_window() -> None:
    rate = MinimumRate(100, 10.0)
    rate.received(1_000_000, 4.0)
    assert rate.allowance_seconds() == pytest.approx(10.0)
    rate.received(1, 9.0)
    assert rate.allowance_seconds() == pytest.approx(1.0)


def test_just_the_rate_passes_for_ever_and_just_less_does_not() -> None:
    enough, too_little = MinimumRate(100, 10.0), MinimumRate(100, 10.0)
    for _ in range(1000):
        enough.received(50, 0.49)
        assert enough.allowance_seconds() > 0
    for _ in range(100):
        too_little.received(50, 0.6)
    assert too_little.allowance_seconds() <= 0


def test_the_rate_keeps_little_however_much_arrives() -> None:
    rate = MinimumRate(100, 10.0)
    for _ in range(100_000):
        rate.received(1000, 0.001)
    assert len(rate._arrived) < 80
    assert rate.allowance_seconds() > 9.0
