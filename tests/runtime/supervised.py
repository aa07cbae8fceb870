"""Children and stores for tests of supervision: each does as told and writes down what was done to it."""

import asyncio
from collections.abc import Awaitable, Callable, Coroutine
from dataclasses import dataclass
from typing import Any

from oneiric.core.testing import DrivenClock, run_driven
from oneiric.runtime.supervisor import RestartBackoff, ServiceSupervisor

AT_ONCE = RestartBackoff(initial_seconds=0, max_seconds=0)


class Worker:
    """A child with a body that works until told otherwise."""

    def __init__(self, name: str, log: list[str] | None = None) -> None:
        self.name = name
        self.log: list[str] = [] if log is None else log
        #: One entry per coming start: what it does instead of starting.
        self.faults: list[Callable[[], Awaitable[None]]] = []
        self.on_stop: Callable[[], Awaitable[None]] | None = None
        self.end: asyncio.Future[None]
        self.bodies = 0

    async def start(self) -> None:
        if self.faults:
            self.log.append(f"{self.name} fails to start")
            await self.faults.pop(0)()
        self.log.append(f"start {self.name}")

    async def run(self) -> None:
        self.end = asyncio.get_running_loop().create_future()
        self.bodies += 1
        try:
            await self.end
        finally:
            self.bodies -= 1

    async def stop(self) -> None:
        self.log.append(f"stop {self.name}")
        if self.on_stop is not None:
            await self.on_stop()

    def crash(self, text: str = "boom") -> None:
        self.end.set_exception(RuntimeError(text))

    def finish(self) -> None:
        self.end.set_result(None)


class Patient(Worker):
    """A worker with a health check that does as told."""

    def __init__(self, name: str, log: list[str] | None = None) -> None:
        super().__init__(name, log)
        self.answer: Callable[[], Awaitable[bool | None]] = says(True)
        self.asked = 0

    async def health(self) -> bool | None:
        self.asked += 1
        return await self.answer()


def says(answer: Any) -> Callable[[], Awaitable[Any]]:
    async def say() -> Any:
        if isinstance(answer, BaseException):
            raise answer
        return answer

    return say


async def hang() -> Any:
    await asyncio.Event().wait()


async def refuse() -> None:
    raise OSError("no such port")


def deaf(release: asyncio.Event) -> Callable[[], Awaitable[Any]]:
    """What waits for *release* and ignores its cancellation."""

    async def wait() -> Any:
        while not release.is_set():
            try:
                await release.wait()
            except asyncio.CancelledError:
                continue

    return wait


@dataclass(frozen=True)
class State:
    paused: bool = False
    draining: bool = False
    note: str | None = None


class Store:
    """An activity store in memory whose reads fail as told."""

    def __init__(self) -> None:
        self.states: dict[tuple[str, str], State] = {}
        self.error: Exception | None = None
        self.reads: Callable[[], Awaitable[Any]] = says(None)

    def get(self, domain: str, key: str) -> State:
        self.check()
        return self.states.get((domain, key), State())

    async def refresh(self) -> None:
        self.check()
        await self.reads()

    def snapshot(self) -> dict[str, dict[str, State]]:
        self.check()
        plain: dict[str, dict[str, State]] = {}
        for (domain, key), state in self.states.items():
            plain.setdefault(domain, {})[key] = state
        return plain

    def check(self) -> None:
        if self.error is not None:
            raise self.error


async def settle(turns: int = 60) -> None:
    """Let everything happen that needs no timer."""
    for _ in range(turns):
        await asyncio.sleep(0)


def driven(scenario: Coroutine[Any, Any, None], clock: DrivenClock | None = None) -> None:
    run_driven(asyncio.wait_for(scenario, 3600), clock)


def family(*names: str) -> tuple[list[str], list[Worker]]:
    log: list[str] = []
    return log, [Worker(name, log) for name in names]


def state_of(supervisor: ServiceSupervisor) -> str:
    return supervisor.state


async def turn() -> None:
    await asyncio.sleep(0)


def states(supervisor: ServiceSupervisor) -> dict[str, str]:
    return {child.name: child.state for child in supervisor.info().children}
