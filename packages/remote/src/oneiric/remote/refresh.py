"""RemoteRefresh: the last good manifest at once, then what is current, again and again."""

import asyncio
import itertools
import random
from collections.abc import Awaitable, Callable
from contextlib import suppress
from typing import Final, Protocol

from oneiric.core.errors import OneiricError

__all__ = ["RemoteRefresh", "Syncing"]

_JITTER: Final = 0.1
#: The part of the interval that first syncs are spread over: with three retries of each, a tenth of all a second.
_FIRST: Final = 1 / 3
#: The least part of the interval between the first sync and the second.
_SOONEST: Final = 0.1


class Syncing(Protocol):
    """What is refreshed: a `RemoteLoader`."""

    async def restore(self) -> object | None:
        """Put in force what is stored; None when nothing is."""

    async def sync(self, manifest_url: str, *, verify_signature: bool = True, again: bool = True) -> object:
        """Put in force what is current."""


class RemoteRefresh:
    """Keep what is in force current, as a part of a running system.

    `start` puts the last good manifest in force without touching the network. Where there is none it waits for the
    first sync, but not for ever: a system starts without its publisher. A sync that fails is told to the loader's
    observers, and tried again after the interval.

    Clients that are started together, as after a power cut, do not ask together: who has a manifest asks for the first
    time within a third of the interval, and everyone for the second time somewhere within the interval.

    Args:
        loader: Does the work.
        url: Of the manifest.
        verify_signature: False takes an unsigned local file.
        interval_seconds: Between two syncs, give or take a tenth; None syncs only at the start, and at once.
        first_seconds: How long a start without a stored manifest waits for the first sync.
        sleep: Waits.
        chance: Returns numbers from 0 to 1.
    """

    name = "remote"

    def __init__(
        self,
        loader: Syncing,
        url: str,
        *,
        verify_signature: bool = True,
        interval_seconds: float | None = None,
        first_seconds: float = 30.0,
        sleep: Callable[[float], Awaitable[object]] = asyncio.sleep,
        chance: Callable[[], float] = random.random,
    ) -> None:
        self._loader = loader
        self._url = url
        self._verify = verify_signature
        self._interval = interval_seconds
        self._first_seconds = first_seconds
        self._sleep = sleep
        self._chance = chance
        self._task: asyncio.Task[None] | None = None

    async def start(self) -> None:
        """Put the last good manifest in force, then begin to refresh."""
        restored = None
        with suppress(OneiricError):  # the loader has told its observers; the network may have a better one
            restored = await self._loader.restore()
        first = asyncio.Event()
        self._task = asyncio.create_task(self._refresh(first, has_one=restored is not None), name="remote refresh")
        if restored is None:
            with suppress(TimeoutError):
                async with asyncio.timeout(self._first_seconds):
                    await first.wait()

    async def stop(self) -> None:
        """End it; a sync under way puts everything back first, or finishes its commit. Safe twice."""
        task, self._task = self._task, None
        if task is not None:
            task.cancel()
            await asyncio.wait({task})

    async def _refresh(self, first: asyncio.Event, *, has_one: bool) -> None:
        if has_one and self._interval is not None:
            await self._sleep(self._interval * _FIRST * self._chance())
        for number in itertools.count():
            try:
                await self._loader.sync(self._url, verify_signature=self._verify, again=False)
            except OneiricError:
                pass  # the loader has told its observers
            except Exception as error:  # noqa: BLE001 - what breaks one sync must not end those that follow
                loop = asyncio.get_running_loop()
                loop.call_exception_handler({"message": "a remote sync broke", "exception": error})
            finally:
                first.set()
            if self._interval is None:
                return
            await self._sleep(self._interval * self._part(number))

    def _part(self, number: int) -> float:
        """Return how much of the interval follows on a sync: the first ones are spread, later ones keep their place."""
        if number == 0:
            return _SOONEST + (1 - _SOONEST) * self._chance()
        return 1 + _JITTER * (2 * self._chance() - 1)
