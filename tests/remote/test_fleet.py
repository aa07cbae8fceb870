"""Many clients of one server: whatever it does, they do not come all at once."""

from __future__ import annotations

import asyncio
import random
import selectors

import pytest

from oneiric.core.errors import FetchStatusError
from oneiric.remote.fetch import FetchLimits, FetchPolicy, SafeFetcher
from oneiric.remote.refresh import RemoteRefresh
from oneiric.remote.testing_http import MisbehavingServer

CLIENTS = 300
MOST_CONNECTIONS = CLIENTS // 10
INTERVAL_SECONDS = 300.0
#: As the settings have them by default.
LIMITS = FetchLimits(
    attempts=4, backoff_seconds=1, backoff_cap_seconds=30, failures_to_open=5, open_seconds=60, total_seconds=60
)


class Jumping(selectors.DefaultSelector):
    """Has time pass at once where nothing is to be read or written: both ends of all connections are in one loop."""

    def __init__(self) -> None:
        super().__init__()
        self.now = 0.0

    def select(self, timeout: float | None = None) -> list[tuple[selectors.SelectorKey, int]]:
        found = super().select(0)
        if found or timeout is None or timeout <= 0:
            return found
        found = super().select(0.001)
        if not found:
            self.now += timeout
        return found


class DrivenLoop(asyncio.SelectorEventLoop):
    """An event loop with a clock of its own."""

    def __init__(self) -> None:
        self._jumping = Jumping()
        super().__init__(self._jumping)

    def time(self) -> float:
        return self._jumping.now


async def by_itself(host: str, _port: int) -> list[str]:
    """Look an address up without a thread, whose work the clock would not wait for."""
    return [host]


class Client:
    """Asks for what a loader asks for: the next root, and what is current."""

    def __init__(self, server: MisbehavingServer, chance: random.Random) -> None:
        policy = FetchPolicy(http_hosts=("127.0.0.1",), ports=(server.port,), private_networks=("127.0.0.0/8",))
        self._time = asyncio.get_running_loop().time
        self._fetcher = SafeFetcher(policy, LIMITS, lookup=by_itself, clock=self._time, chance=chance.random)
        self._server = server
        self.succeeded_at = -1.0
        self.refresh = RemoteRefresh(self, "", interval_seconds=INTERVAL_SECONDS, chance=chance.random)

    async def restore(self) -> object:
        return self

    async def sync(self, manifest_url: str, *, verify_signature: bool = True, again: bool = True) -> None:
        try:
            await self._fetcher.fetch(self._server.url("/acme/root/2.json"))
        except FetchStatusError as error:
            if error.status != 404:
                raise
        await self._fetcher.fetch(self._server.url("/acme/freshness.json"))
        self.succeeded_at = self._time()


async def connections(server: MisbehavingServer, seconds: int) -> list[int]:
    """Return how many connections are opened in each of the next seconds."""
    found = []
    for _ in range(seconds):
        before = server.connections
        await asyncio.sleep(1)
        found.append(server.connections - before)
    return found


@pytest.mark.parametrize("phase_seconds", [None, 45])
def test_of_a_fleet_that_starts_at_once_at_most_a_tenth_connects_in_any_second(phase_seconds: int | None) -> None:
    """Also where the server flaps: gone half of the time, and each client asks four times before it gives up."""

    async def run() -> None:
        async with MisbehavingServer() as server:
            server.publish("/acme/freshness.json", b"{}")
            clients = [Client(server, random.Random(seed)) for seed in range(CLIENTS)]  # noqa: S311 - reproducible
            for client in clients:
                await client.refresh.start()
            seconds = []
            for _ in range(6 if phase_seconds else 0):
                server.publish("/acme/root/2.json", b"", failures=10**9)
                seconds += await connections(server, phase_seconds or 0)
                server.withdraw("/acme/root/2.json")
                seconds += await connections(server, phase_seconds or 0)
            healed_at = asyncio.get_running_loop().time()
            seconds += await connections(server, int(1.2 * INTERVAL_SECONDS))
            for client in clients:
                await client.refresh.stop()

            assert max(seconds) <= MOST_CONNECTIONS
            assert all(client.succeeded_at >= healed_at for client in clients)

    with asyncio.Runner(loop_factory=DrivenLoop) as runner:
        runner.run(run())
