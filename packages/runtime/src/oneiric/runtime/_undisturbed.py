"""What must not be left half known: a cancellation that comes meanwhile is raised when it has ended.

A caller of a store who is cancelled does not know whether its work was done. That will not do for what is claimed
there, which nobody would give back, nor for what is settled there, which would be done again.
"""

import asyncio
from collections.abc import Awaitable, Callable

__all__ = ["claimed", "undisturbed"]


async def undisturbed[T](work: Awaitable[T]) -> T:
    """Await work to its end, whatever becomes of the caller.

    Raises:
        asyncio.CancelledError: The caller was cancelled meanwhile; the work has ended.
        Exception: What the work raised.
    """
    asked = asyncio.ensure_future(work)
    cancelled: asyncio.CancelledError | None = None
    while not asked.done():
        try:
            await asyncio.wait((asked,))
        except asyncio.CancelledError as error:
            cancelled = error
    if cancelled is None:
        return asked.result()
    if not asked.cancelled():
        asked.exception()  # looked at: there is nobody any more to see it
    raise cancelled


async def claimed[T](work: Awaitable[T], give_back: Callable[[T], Awaitable[object]]) -> T:
    """Await a claim; what it brings to a caller who was cancelled meanwhile is given back.

    Raises:
        asyncio.CancelledError: The caller was cancelled; it holds nothing.
        Exception: What the work raised.
    """
    asked = asyncio.ensure_future(work)
    try:
        return await undisturbed(asked)
    except asyncio.CancelledError:
        if not asked.cancelled() and asked.exception() is None:
            await undisturbed(give_back(asked.result()))
        raise
