"""Steps: call into a child with a deadline, so that nothing it does can hold its supervisor up.

A child may raise, exit, hang or ignore its cancellation. What ignores its cancellation is abandoned: remembered, and
reported for as long as it lives, and never waited for again.
"""

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any, Final

from oneiric.core.errors import DeadlineError, LifecycleError, OneiricError
from oneiric.runtime._secret_redaction import REDACTOR

__all__ = ["Steps", "guarded", "reason_of"]

#: What a cancelled step gets to let go of what it holds, before it counts as one that ignores its cancellation.
CANCELLATION_SECONDS: Final = 0.5


def reason_of(error: BaseException) -> str:
    """Return an error as one line: its text, or its type where it has none."""
    text = REDACTOR.mask(" ".join(str(error).split()))
    return text if text and isinstance(error, OneiricError) else f"{type(error).__name__}: {text}".rstrip(": ")


class Steps:
    """Runs calls into one child, each with a deadline.

    Attributes:
        abandoned: Steps that ignore their cancellation and still run.
    """

    __slots__ = ("abandoned",)

    def __init__(self) -> None:
        self.abandoned: set[asyncio.Task[Any]] = set()

    async def run[T](
        self,
        what: str,
        seconds: float | None,
        call: Callable[[], Awaitable[T]],
        *,
        late: Callable[[], None] | None = None,
    ) -> T:
        """Await what *call* returns.

        Args:
            what: The step, for errors.
            seconds: Its deadline; None is none.
            call: The step.
            late: Called when the step succeeds after it was abandoned.

        Raises:
            DeadlineError: It had not ended after *seconds*; it is cancelled.
            LifecycleError: It called ``sys.exit``, or cancelled itself.
            Exception: Whatever it raised.
        """
        task = asyncio.ensure_future(guarded(what, call))
        try:
            ended, _ = await asyncio.wait({task}, timeout=seconds)
        except asyncio.CancelledError:
            await self._give_up(task, late)
            raise
        if not ended:
            await self._give_up(task, late)
            raise DeadlineError(what, seconds or 0)
        return task.result()

    async def _give_up(self, task: "asyncio.Task[Any]", late: Callable[[], None] | None) -> None:
        try:
            await self.cancel(task)
        finally:
            if late is not None and not task.done():
                task.add_done_callback(lambda task: None if task.cancelled() or task.exception() else late())

    async def cancel(self, task: "asyncio.Task[Any]", seconds: float = 0) -> bool:
        """Cancel a step and wait a little for its end.

        Args:
            task: The step.
            seconds: How long to wait for it, if longer than every step gets.

        Returns:
            True when it has ended, False when it was abandoned.
        """
        task.cancel()
        try:
            await asyncio.wait({task}, timeout=max(seconds, CANCELLATION_SECONDS))
        finally:
            if not task.done():
                self.abandoned.add(task)
            task.add_done_callback(self._ended)
        return task.done()

    def _ended(self, task: "asyncio.Task[Any]") -> None:
        self.abandoned.discard(task)
        if not task.cancelled():
            task.exception()  # it was given up: what it still has to say was already reported as a missed deadline


async def guarded[T](what: str, call: Callable[[], Awaitable[T]]) -> T:
    """Await what *call* returns; ``sys.exit`` and a cancellation nobody asked for become errors."""
    try:
        return await call()
    except SystemExit as error:
        raise LifecycleError(f"{what} called sys.exit({error.code!r})") from error
    except asyncio.CancelledError as error:
        task = asyncio.current_task()
        if task is not None and task.cancelling():
            raise
        raise LifecycleError(f"{what} cancelled itself") from error
