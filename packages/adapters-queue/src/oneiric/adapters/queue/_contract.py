"""What the parts of the contract suite share: the instance under test, how a test runs, and how one is made."""

import asyncio
from abc import ABC, abstractmethod
from collections.abc import Awaitable, Callable
from contextlib import AsyncExitStack
from typing import Any, Final, Protocol

from oneiric.adapters.queue._protocol import Delivery, ManagedQueue

__all__ = ["LONG", "SHORT", "Contract", "QueueInstance", "cancel_after", "contract", "is_empty", "one"]

#: Far longer than any answer takes: a test that hangs fails instead.
_DEADLINE_SECONDS: Final = 60.0
LONG: Final = 20.0
#: The visibility, or the delay, of tests that let it end: longer than a few calls take on a busy machine.
SHORT: Final = 1.2


class QueueInstance(ManagedQueue, Protocol):
    """A queue with its lifecycle."""

    async def init(self) -> None:
        """Open it."""

    async def health(self) -> bool:
        """Say whether it can serve."""

    async def cleanup(self) -> None:
        """Close it."""


type _Check = Callable[[Any, Any], Awaitable[None]]


def contract(**settings: Any) -> Callable[[_Check], Callable[[Any], None]]:
    """Turn ``async def test_x(self, queue)`` into a test that makes a queue with *settings*, runs, and cleans up."""

    def decorate(check: _Check) -> Callable[[Any], None]:
        def test(self: "Contract") -> None:
            async def run() -> None:
                async with asyncio.timeout(_DEADLINE_SECONDS), AsyncExitStack() as opened:
                    self.opened = opened
                    queue = await self.make(**settings)
                    opened.push_async_callback(queue.cleanup)
                    await check(self, queue)

            with asyncio.Runner() as runner:
                runner.run(run())

        test.__name__, test.__doc__, test.__module__ = check.__name__, check.__doc__, check.__module__
        test.__qualname__ = check.__qualname__
        return test

    return decorate


async def one(queue: ManagedQueue) -> Delivery:
    """Return the next message."""
    (delivery,) = await queue.receive(wait_seconds=LONG)
    return delivery


async def is_empty(queue: ManagedQueue) -> bool:
    """Say whether nothing is ready."""
    return await queue.receive() == []


async def cancel_after(turns: int, call: "asyncio.Future[Any]") -> None:
    """Cancel a call after so many turns of the event loop, and wait for its end."""
    for _ in range(turns):
        await asyncio.sleep(0)
    call.cancel()
    await asyncio.wait([call])


class Contract(ABC):
    """How a test comes by its queues."""

    #: Closes, at the test's end, what it opened.
    opened: AsyncExitStack

    @abstractmethod
    async def make(self, **settings: Any) -> QueueInstance:
        """Return a new queue: initialised, empty, with these settings, sharing nothing with the one made before."""

    @abstractmethod
    async def another(self, queue: QueueInstance) -> QueueInstance:
        """Return a further instance, initialised, with the same settings and the same messages."""

    async def beside(self, queue: QueueInstance) -> QueueInstance:
        """Return what `another` does; it is closed at the end."""
        other = await self.another(queue)
        self.opened.push_async_callback(other.cleanup)
        return other
