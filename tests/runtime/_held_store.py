"""A store that takes its time: what is asked of it is on its way for as long as a test wants."""

import asyncio
import threading
from typing import Any, Self

_PATIENCE = 60.0


class Held:
    """Hold the thread of a store up, within the transaction of what is asked in the same turn of the event loop.

    What is asked then can no longer be called back: it is done, and committed, after the block.

    Args:
        store: The store.
    """

    def __init__(self, store: Any) -> None:
        self._begun, self._gate = asyncio.Event(), threading.Event()
        loop = asyncio.get_running_loop()

        def hold(_: object) -> None:
            loop.call_soon_threadsafe(self._begun.set)
            self._gate.wait(_PATIENCE)

        self._held = store.write(hold)

    async def __aenter__(self) -> Self:
        async with asyncio.timeout(_PATIENCE):
            await self._begun.wait()
        return self

    async def __aexit__(self, *_: object) -> None:
        self._gate.set()
        await self._held


async def cancelled_on_the_way(store: Any, asked: "asyncio.Task[Any]") -> None:
    """Cancel what was begun in this turn of the loop and asks a store for something, when it is too late for that."""
    async with Held(store):
        asked.cancel()
        await turns()
        asked.cancel()  # again: whoever is in a hurry does
        await turns()
    await asyncio.wait([asked])
    assert asked.cancelled()


async def turns() -> None:
    """Let the event loop do what it can without the store."""
    for _ in range(8):
        await asyncio.sleep(0)
