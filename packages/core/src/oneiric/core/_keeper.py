"""Keeper: hold an async context manager open in one task, whoever opens and closes it.

``init`` and ``cleanup`` of a component may run in different tasks, and a task group or cancel scope entered in one
cannot be left in the other.
"""

import asyncio
from contextlib import AbstractAsyncContextManager
from typing import Any

__all__ = ["Keeper"]


class Keeper[T]:
    """Enter a context manager in an owned task and leave it in that same task.

    ``self._group = Keeper(asyncio.TaskGroup())``, ``group = await self._group.open()`` in ``init`` and
    ``await self._group.close()`` in ``cleanup``.
    """

    __slots__ = ("_close", "_context", "_opened", "_task")

    def __init__(self, context: AbstractAsyncContextManager[T, Any]) -> None:
        self._context = context
        self._close: asyncio.Event | None = None
        self._opened: asyncio.Future[T] | None = None
        self._task: asyncio.Task[None] | None = None

    async def open(self) -> T:
        """Enter the context and return what it gives.

        Raises:
            RuntimeError: It was opened before.
            BaseException: What entering raised.
        """
        if self._task is not None:
            raise RuntimeError("a Keeper opens once")
        self._close = asyncio.Event()
        self._opened = asyncio.get_running_loop().create_future()
        self._task = asyncio.create_task(self._keep(self._close, self._opened))
        try:
            return await asyncio.shield(self._opened)
        except asyncio.CancelledError:
            self._task.cancel()
            raise

    async def close(self) -> None:
        """Leave the context; a second call waits for the first.

        Raises:
            BaseException: What leaving raised, or what ended the context by itself.
        """
        if self._task is None or self._close is None:
            return
        self._close.set()
        await asyncio.wait((self._task,))
        if not self._task.cancelled():  # by `open`, which raised that
            self._task.result()

    async def _keep(self, close: asyncio.Event, opened: "asyncio.Future[T]") -> None:
        try:
            async with self._context as value:
                opened.set_result(value)
                await close.wait()
        except BaseException as error:  # whatever entering raises is for whoever waits for it
            if opened.done():
                raise
            opened.set_exception(error)
