"""Fakes for tests of code that uses Oneiric: a driven clock, a component that fails as told, a replaced instance.

Products, not patches: nothing here reaches into the core.
"""

import asyncio
import selectors
import sys
from collections.abc import AsyncIterator, Coroutine, Iterable, Mapping
from contextlib import asynccontextmanager
from typing import Any, Final, Literal

from oneiric.core._candidate import Candidate, CandidateSource
from oneiric.core._environment import Environment
from oneiric.core._key import Key
from oneiric.core._manager import LifecycleManager

__all__ = ["DrivenClock", "FakeComponent", "Fault", "fake_environment", "override", "run_driven"]

type Fault = Literal["raise", "hang", "unhealthy", "ignore_cancellation", "exit"]

_OVERRIDE: Final = "oneiric.core.testing.override"


class DrivenClock:
    """A clock that moves only when told.

    Args:
        now: Seconds it starts at.
    """

    __slots__ = ("now",)

    def __init__(self, now: float = 0.0) -> None:
        self.now = now

    def __call__(self) -> float:
        """Return the time, so that it can stand for ``time.time``."""
        return self.now

    def advance(self, seconds: float) -> None:
        """Move forward.

        Raises:
            ValueError: *seconds* is negative.
        """
        if seconds < 0:
            raise ValueError(f"a clock does not run backwards by {-seconds} s")
        self.now += seconds


class _DrivenSelector(selectors.DefaultSelector):
    """Instead of waiting for a timer, moves the clock to it."""

    def __init__(self, clock: DrivenClock) -> None:
        super().__init__()
        self._clock = clock

    def select(self, timeout: float | None = None) -> list[tuple[selectors.SelectorKey, int]]:
        # Without a timer only the outside (a thread, a socket) can go on: that is waited for really.
        ready = super().select(None if timeout is None else 0)
        if not ready and timeout:
            self._clock.advance(timeout)
        return ready


class _DrivenLoop(asyncio.SelectorEventLoop):
    def __init__(self, clock: DrivenClock) -> None:
        super().__init__(_DrivenSelector(clock))
        self._driven_clock = clock

    def time(self) -> float:
        return self._driven_clock.now


def run_driven[T](main: Coroutine[Any, Any, T], clock: DrivenClock | None = None) -> T:
    """Run a coroutine in a loop whose time jumps to the next timer when nothing else is to do.

    Deadlines of 30 s pass in microseconds, in their right order. Threads run in real time: do not mix them with timers.

    Args:
        main: What to run.
        clock: The loop's time; give one to look at it afterwards.
    """
    driven = clock or DrivenClock()
    with asyncio.Runner(loop_factory=lambda: _DrivenLoop(driven)) as runner:
        return runner.run(main)


class FakeComponent:
    """A component that records its steps, and fails in them as told.

    Args:
        faults: Step (``init``, ``health``, ``call``, ``cleanup``) → what happens there.

    Attributes:
        steps: The steps it went through.
        closed: True once it was cleaned up; ``call`` raises then.
        release: Set it to let a step end that ignores its cancellation.
    """

    def __init__(self, faults: Mapping[str, Fault] | None = None) -> None:
        self.faults = dict(faults or {})
        self.steps: list[str] = []
        self.closed = False
        self.release = asyncio.Event()

    async def init(self) -> None:
        """Go through ``init``."""
        await self._step("init")

    async def health(self) -> bool:
        """Go through ``health``; False when its fault is ``unhealthy``."""
        await self._step("health")
        return self.faults.get("health") != "unhealthy"

    async def call[T](self, value: T) -> T:
        """Return *value* after one turn of the loop.

        Raises:
            RuntimeError: The component is closed: whoever calls it holds no lease.
        """
        await self._step("call")
        await asyncio.sleep(0)
        if self.closed:
            raise RuntimeError("a call landed on a component that was cleaned up")
        return value

    async def cleanup(self) -> None:
        """Go through ``cleanup``."""
        self.closed = True
        await self._step("cleanup")

    async def _step(self, step: str) -> None:
        self.steps.append(step)
        fault = self.faults.get(step)
        if fault == "raise":
            raise RuntimeError(f"{step} fails as told")
        if fault == "exit":
            sys.exit(f"{step} exits as told")
        if fault == "hang":
            await asyncio.Event().wait()
        while fault == "ignore_cancellation" and not self.release.is_set():
            try:
                await self.release.wait()
            except asyncio.CancelledError:
                continue


def fake_environment(installed: Iterable[str] = (), *, python: str = "3.13.0", os: str = "linux") -> Environment:
    """Return an environment in which just the requirements of *installed* are met, letter by letter."""
    met = frozenset(installed)
    return Environment(python=python, os=os, is_installed=met.__contains__)


@asynccontextmanager
async def override(lifecycle: LifecycleManager, key: Key[Any], instance: object) -> AsyncIterator[None]:
    """Serve *key* with *instance* inside the block, and with what served before after it.

    The instance goes the way of every other: a candidate is registered and swapped to, so that leases, proxies,
    explanations and status agree. Its ``cleanup`` runs at the end of the block.

    Args:
        lifecycle: The lifecycle of the system under test.
        key: What to replace.
        instance: What serves instead; it is not initialised unless it has an ``init``.

    Raises:
        SwapError: The instance reports itself unhealthy, or fails in ``init``.
    """
    resolver = lifecycle.resolver
    served = lifecycle.get_status(key).current_provider
    selection = resolver.selection_for(key.domain, key.name)
    swapped_to = selection.provider if selection is not None and selection.origin == "swap" else None
    fake = Candidate(
        domain=key.domain,
        key=key.name,
        provider="override",
        factory=lambda: instance,
        opt_in=True,
        source=CandidateSource.MANUAL,
        origin=_OVERRIDE,
    )
    resolver.register(fake)
    try:
        await lifecycle.swap(key, provider="override", by=_OVERRIDE)
        try:
            yield
        finally:
            if served is None:
                await lifecycle.retire(key, forget=True)
            else:
                await lifecycle.swap(key, provider=swapped_to)
    finally:
        resolver.apply(withdraw=[fake])
