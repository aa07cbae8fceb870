"""Steps: run one call into foreign code with a deadline, so that whatever it does stays its own affair.

A step may raise, exit, hang, be cancelled, ignore its cancellation or never return. Each runs in a copy of the
manager's context: a request's variables do not leak into long-lived instances, and eager tasks never share a context.
An awaitable that does not suspend costs no timer; one that does runs in a task of its own, which a cancelled caller
leaves behind in ``pending`` for whoever tears down.
"""

import asyncio
import threading
from collections.abc import Awaitable, Callable
from contextvars import Context, ContextVar
from typing import TYPE_CHECKING, Any, Final

from oneiric.core.errors import DeadlineError, LifecycleError

if TYPE_CHECKING:
    from oneiric.core._slot import Slot

__all__ = ["BUDGET", "Scope", "StepRunner", "current_scope"]


#: As a deadline: whatever is left of the runner's budget.
BUDGET: Final = -1.0


class Scope:
    """Marks the code that runs inside a step of a slot, for as long as the step runs.

    A task that a step leaves behind inherits the context, not the mark: ``active`` is False by then.
    """

    __slots__ = ("active", "parent", "slot")

    def __init__(self, slot: "Slot", parent: "Scope | None") -> None:
        self.slot = slot
        self.parent = parent
        self.active = 0


_scope: ContextVar[Scope | None] = ContextVar("oneiric_scope", default=None)


def current_scope() -> Scope | None:
    """Return the innermost scope whose step is still running, or None."""
    scope = _scope.get()
    while scope is not None and not scope.active:
        scope = scope.parent
    return scope


def is_awaitable(value: object) -> bool:
    """Tell whether *value* can be awaited."""
    return hasattr(type(value), "__await__")


class StepRunner:
    """Runs the steps of one attempt, or of one cleanup, one after the other.

    Attributes:
        pending: Steps that outlived their deadline or their caller; they are cancelled but may not have ended.
    """

    __slots__ = ("_aborted", "_base", "_context", "_deadline", "_scope", "_waiter", "pending")

    def __init__(self, context: Context, slot: "Slot", deadline: float | None = None) -> None:
        self._scope = Scope(slot, _scope.get())
        self._base = context
        self._context: Context | None = None
        #: Loop time at which a budget shared by several steps is used up.
        self._deadline = deadline
        self._waiter: asyncio.Future[bool] | None = None
        self._aborted: Exception | None = None
        self.pending: list[asyncio.Future[Any]] = []

    async def run(self, step: str, seconds: float | None, function: Callable[..., Any], *args: Any) -> Any:
        """Call *function* and await what it returns if that can be awaited.

        Raises:
            DeadlineError: It had not ended after *seconds*; None is no deadline, `BUDGET` what is left of the
                runner's. A synchronous call cannot be interrupted: it is only found out afterwards.
            LifecycleError: It called ``sys.exit``, or cancelled itself.
            Exception: Whatever it raised.
        """
        result = self.begin(step, function, *args)
        if type(result) is asyncio.Task:
            return await self._wait(step, seconds, result, result.cancel)
        return result

    async def end(self, step: str, seconds: float | None, task: "asyncio.Task[Any]") -> Any:
        """Wait for a step that `begin` returned unfinished; raises as `run` does."""
        return await self._wait(step, seconds, task, task.cancel)

    def begin(self, step: str, function: Callable[..., Any], *args: Any) -> Any:
        """Call *function* and run what it returns up to where it first suspends.

        Returns:
            The result; or, when it suspended, the task that goes on with it, to be handed to `end`.

        Raises:
            LifecycleError: It called ``sys.exit``, or cancelled itself.
            Exception: Whatever it raised.
        """
        context = self._enter()
        self._scope.active += 1
        try:
            result = context.run(function, *args)
        except (Exception, KeyboardInterrupt):
            raise
        except BaseException as error:  # sys.exit in a provider must not end the process
            raise _disarmed(step, error) from error
        finally:
            self._scope.active -= 1
        if not is_awaitable(result):
            return result
        self._scope.active += 1
        loop = asyncio.get_running_loop()
        # A copy for each task: two eager tasks that share one context hang.
        task = asyncio.Task(_guarded(step, result), loop=loop, context=context.copy(), eager_start=True)
        if task.done():
            self._scope.active -= 1
            return task.result()
        task.add_done_callback(self._left)
        return task

    async def run_in_thread(self, step: str, seconds: float | None, function: Callable[..., Any], *args: Any) -> Any:
        """Call a blocking *function* in a daemon thread; at the deadline the thread is left to itself.

        Raises:
            DeadlineError: It had not returned after *seconds*.
            LifecycleError: It called ``sys.exit``.
            Exception: Whatever it raised.
        """
        context = self._enter()
        self._scope.active += 1
        future = _in_thread(step, context.copy(), function, args)
        future.add_done_callback(self._left)
        return await self._wait(step, seconds, future, lambda: False)

    def abort(self, error: Exception) -> None:
        """Make the step that is being waited for, and every later one, fail with *error*."""
        self._aborted = error
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_exception(error)

    def _enter(self) -> Context:
        if self._aborted is not None:
            raise self._aborted
        context = self._context
        if context is None:
            context = self._context = self._base.copy()
            context.run(_scope.set, self._scope)
        return context

    def _left(self, _: object) -> None:
        self._scope.active -= 1

    async def _wait(
        self, step: str, seconds: float | None, future: "asyncio.Future[Any]", cancel: Callable[[], bool]
    ) -> Any:
        loop = asyncio.get_running_loop()
        waiter: asyncio.Future[bool] = loop.create_future()
        self._waiter = waiter

        def settle(*, ended: bool) -> None:
            if not waiter.done():
                waiter.set_result(ended)

        future.add_done_callback(lambda _: settle(ended=True))
        if seconds is BUDGET:
            seconds = None if self._deadline is None else self._deadline - loop.time()
        timer = None if seconds is None else loop.call_later(max(seconds, 0.0), lambda: settle(ended=False))
        ended = False
        try:
            ended = await waiter
        finally:
            self._waiter = None
            if timer is not None:
                timer.cancel()
            if not ended:
                cancel()
                self.pending.append(future)
        if not ended:
            raise DeadlineError(step, seconds or 0.0)
        return future.result()


async def _guarded(step: str, awaitable: Awaitable[Any]) -> Any:
    try:
        return await awaitable
    except (Exception, KeyboardInterrupt):
        raise
    except asyncio.CancelledError as error:
        task = asyncio.current_task()
        if task is not None and task.cancelling():
            raise
        raise _disarmed(step, error) from error
    except BaseException as error:  # sys.exit in a provider must not end the loop
        raise _disarmed(step, error) from error


def _disarmed(step: str, error: BaseException) -> LifecycleError:
    if isinstance(error, asyncio.CancelledError):
        return LifecycleError(f"{step} cancelled itself")
    if isinstance(error, SystemExit):
        return LifecycleError(f"{step} called sys.exit({error.code!r})", "raise an exception instead")
    return LifecycleError(f"{step} raised {type(error).__name__}")


def _in_thread(
    step: str, context: Context, function: Callable[..., Any], args: tuple[Any, ...]
) -> "asyncio.Future[Any]":
    loop = asyncio.get_running_loop()
    future: asyncio.Future[Any] = loop.create_future()

    def deliver(value: Any, error: Exception | None) -> None:
        if error is not None:
            future.set_exception(error)
        else:
            future.set_result(value)

    def work() -> None:
        value: Any = None
        failure: Exception | None = None
        try:
            value = context.run(function, *args)
        except StopIteration as error:  # a future refuses to carry it
            failure = LifecycleError(f"{step} raised StopIteration")
            failure.__cause__ = error
        except Exception as error:  # noqa: BLE001 - carried to the waiter
            failure = error
        except BaseException as error:  # noqa: BLE001 - sys.exit in a provider must not pass for a result
            failure = _disarmed(step, error)
            failure.__cause__ = error
        try:
            loop.call_soon_threadsafe(deliver, value, failure)
        except RuntimeError:
            return  # the loop is closed: nobody is left to be told

    threading.Thread(target=work, daemon=True, name=f"oneiric-{step}").start()
    return future
