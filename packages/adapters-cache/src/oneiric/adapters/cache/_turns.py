"""Turns at a limited number of connections.

What `asyncio.Semaphore` does, without a coroutine where there is nothing to wait for: on the way of every call to a
server that is the larger part of what this package adds.
"""

import asyncio
from collections import deque

__all__ = ["Turns"]


class Turns:
    """Hand out *limit* turns; who comes too late waits, first come first served.

    Use: ``if turns.free: turns.free -= 1``, ``else: await turns.wait()``, and `give` in a ``finally``.
    """

    __slots__ = ("_waiting", "free")

    def __init__(self, limit: int) -> None:
        self.free = limit
        self._waiting: deque[asyncio.Future[None]] = deque()

    async def wait(self) -> None:
        """Return once a turn was passed on to this caller; a cancelled one passes it further."""
        turn: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._waiting.append(turn)
        try:
            await turn
        except asyncio.CancelledError:
            if turn.done() and not turn.cancelled():
                self.give()
            raise

    def give(self) -> None:
        """Pass a turn on, or back."""
        while self._waiting:
            turn = self._waiting.popleft()
            if not turn.done():
                turn.set_result(None)
                return
        self.free += 1
