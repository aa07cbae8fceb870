"""The tasks a supervisor owns: whatever it began, a shutdown can end."""

import asyncio
from collections.abc import Coroutine
from typing import Any

from oneiric.core.errors import LifecycleError

__all__ = ["OwnedTasks", "report"]


class OwnedTasks:
    """Tasks that end before their owner does.

    Args:
        owner: Who owns them, for reports.
    """

    def __init__(self, owner: str) -> None:
        self._owner = owner
        self._tasks: set[asyncio.Task[None]] = set()

    def spawn(self, work: Coroutine[Any, Any, None]) -> None:
        """Begin work nobody waits for; an error of it is reported."""
        task = asyncio.ensure_future(work)
        self._tasks.add(task)
        task.add_done_callback(self._reap)

    def _reap(self, task: "asyncio.Task[None]") -> None:
        self._tasks.discard(task)
        if not task.cancelled() and (error := task.exception()) is not None:
            report(f"{self._owner} met an error of its own", error)

    async def run(self, work: Coroutine[Any, Any, None]) -> None:
        """Do a caller's work so that a shutdown can end it; the caller's cancellation ends it too.

        Raises:
            LifecycleError: A shutdown ended it.
            Exception: What the work raised.
        """
        task = asyncio.ensure_future(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        try:
            await asyncio.wait({task})
        except asyncio.CancelledError:
            task.cancel()
            await asyncio.wait({task})
            raise
        if task.cancelled():
            raise LifecycleError(f"{self._owner} was stopped meanwhile")
        task.result()

    async def cancel(self) -> None:
        """End all of them, also those that begin meanwhile."""
        while tasks := tuple(self._tasks):
            for task in tasks:
                task.cancel()
            await asyncio.wait(tasks)


def report(message: str, error: BaseException) -> None:
    """Hand an error that nobody waits for to the loop's exception handler."""
    asyncio.get_running_loop().call_exception_handler({"message": message, "exception": error})
