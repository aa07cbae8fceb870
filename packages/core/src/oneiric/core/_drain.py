"""Drain: let a generation that no longer serves finish its calls, then clean it up, in a task of its own."""

import asyncio
from collections.abc import Callable, Coroutine
from contextvars import Context
from typing import Any

from oneiric.core._attempt import Attempt, Workshop
from oneiric.core._generation import Generation, method_of
from oneiric.core._observers import Emitter
from oneiric.core._slot import Slot
from oneiric.core._steps import StepRunner
from oneiric.core.events import CleanedUp, CleanupFailed, DrainTimedOut, HookFailed, StepHung

__all__ = ["Drainer"]

#: How long a failing attempt waits for a cancelled step to end before it leaves that to the task that tears it down.
_GRACE_SECONDS = 0.05


class Drainer:
    """Owns every task that outlives the call which caused it: drains, cleanups, teardowns of failed attempts."""

    __slots__ = ("_clock", "_draining", "_emit", "_ends_at", "_force", "_late", "_tasks", "_workshop", "broken")

    def __init__(self, workshop: Workshop, emit: Emitter, clock: Callable[[], float], *, force: bool) -> None:
        self._workshop = workshop
        self._emit = emit
        self._clock = clock
        self._force = force
        #: Loop time at which every drain ends, whatever its own deadline; None until the manager closes.
        self._ends_at: float | None = None
        self._tasks: set[asyncio.Task[Any]] = set()
        #: Done when a drain ends, and what it drains.
        self._draining: dict[asyncio.Future[None], Generation] = {}
        #: Generations past their drain deadline, waiting for their last lease.
        self._late: set[Generation] = set()
        #: Leases under which a generation was cleaned up.
        self.broken = 0

    def runner(self, slot: Slot) -> StepRunner:
        """Return a runner for steps that follow the binding."""
        return StepRunner(self._workshop.context, slot)

    def own(self, coroutine: Coroutine[Any, Any, Any]) -> "asyncio.Task[Any]":
        """Run a coroutine in a task that nobody's cancellation reaches."""
        context: Context = self._workshop.context.copy()
        task = asyncio.Task(coroutine, loop=asyncio.get_running_loop(), context=context, eager_start=True)
        if not task.done():
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)
        return task

    async def see_through(self, coroutine: Coroutine[Any, Any, None]) -> None:
        """Run a coroutine to its end whoever is cancelled meanwhile; that cancellation is raised when it has ended."""
        task = self.own(coroutine)
        cancelled: asyncio.CancelledError | None = None
        while not task.done():
            try:
                await asyncio.wait((task,))
            except asyncio.CancelledError as error:
                cancelled = error
        if cancelled is not None:
            if not task.cancelled():
                task.exception()  # looked at: the cancellation is raised in its place
            raise cancelled
        task.result()

    async def retire(self, slot: Slot, old: Generation, *, force: bool = False, until_gone: bool = False) -> None:
        """Drain a generation that was unbound and clean it up; return at the drain deadline at the latest.

        Args:
            slot: Where it was bound.
            old: The generation; ``retiring`` is set already.
            force: Clean it up under its leases at the deadline; the manager may have been told so for all.
            until_gone: Return when it is cleaned up, also after the deadline.
        """
        if not old.in_flight:
            await self.clean_up(slot, old)
            return
        reported = asyncio.get_running_loop().create_future()
        task = self.own(self._retire(slot, old, reported, force=force))
        await asyncio.wait((task,) if until_gone else (task, reported), return_when=asyncio.FIRST_COMPLETED)

    async def _retire(self, slot: Slot, old: Generation, reported: "asyncio.Future[None]", *, force: bool) -> None:
        slot.draining.add(old)
        drained = asyncio.get_running_loop().create_future()
        self._draining[drained] = old
        try:
            await self._drain(slot, old, reported, force=force)
        finally:
            slot.draining.discard(old)
            del self._draining[drained]
            drained.set_result(None)
        await self.clean_up(slot, old)

    async def _drain(self, slot: Slot, old: Generation, reported: "asyncio.Future[None]", *, force: bool) -> None:
        idle = old.idle()
        await asyncio.wait((idle,), timeout=self._deadline_seconds())
        if not old.in_flight:
            return
        force = force or self._force
        self._emit(DrainTimedOut(self._clock(), *slot.name, old.provider, old.number, old.in_flight, force))
        if not reported.done():
            reported.set_result(None)
        if force:
            self.broken += old.in_flight
            return
        self._late.add(old)
        try:
            await idle
        finally:
            self._late.discard(old)

    def end_by(self, seconds: float) -> None:
        """Let all drains that begin from now on end together, *seconds* from now at the latest."""
        self._ends_at = asyncio.get_running_loop().time() + seconds

    def _deadline_seconds(self) -> float | None:
        own = self._workshop.timeouts.drain_seconds
        if self._ends_at is None:
            return own
        left = max(0.0, self._ends_at - asyncio.get_running_loop().time())
        return left if own is None else min(own, left)

    async def clean_up(self, slot: Slot, old: Generation) -> None:
        """Clean up a generation; in an owned task from where it first suspends. Reports what goes wrong."""
        method = method_of(old.instance, "cleanup", "aclose", "close")
        runner = self.runner(slot)
        pending: asyncio.Task[Any] | None = None
        if method is not None:
            try:
                begun = runner.begin("cleanup", method)
            except Exception as error:  # noqa: BLE001 - the swap that replaced it stands
                self._emit(
                    CleanupFailed(self._clock(), *slot.name, old.provider, old.number, self._workshop.reasons.of(error))
                )
                return
            pending = begun if type(begun) is asyncio.Task else None
        if pending is None and not self._workshop.hooks.on_cleanup:
            if self._emit:
                self._emit(CleanedUp(self._clock(), *slot.name, old.provider, old.number))
            return
        task = self.own(self._cleaned_up(slot, old, runner, pending))
        if not task.done():
            await asyncio.wait((task,))

    async def _cleaned_up(
        self, slot: Slot, old: Generation, runner: StepRunner, pending: "asyncio.Task[Any] | None"
    ) -> None:
        """See a cleanup to its end, report it, and tell the hooks."""
        where = (*slot.name, old.provider, old.number)
        if pending is not None:
            try:
                await runner.end("cleanup", self._workshop.timeouts.cleanup_seconds, pending)
            except Exception as error:  # noqa: BLE001 - the swap that replaced it stands
                self._emit(CleanupFailed(self._clock(), *where, self._workshop.reasons.of(error)))
                if runner.pending:
                    _ = self.own(self._outlive(runner, where))  # the swap does not wait for it
                return
        self._emit(CleanedUp(self._clock(), *where))
        for hook in tuple(self._workshop.hooks.on_cleanup):
            try:
                await runner.run("on_cleanup", self._workshop.timeouts.hook_seconds, hook, old.instance)
            except Exception as error:  # noqa: BLE001 - a hook is told; it does not decide
                self._emit(HookFailed(self._clock(), *where, "on_cleanup", self._workshop.reasons.of(error)))

    async def discard(self, attempt: Attempt) -> None:
        """Tear down a failed attempt; wait for that unless a step ignores its cancellation."""
        if not attempt.runner.pending and not attempt.made:
            return
        hanging = bool(attempt.runner.pending)
        task = self.own(self._discard(attempt))
        if not task.done():
            await asyncio.wait((task,), timeout=_GRACE_SECONDS if hanging else None)

    async def _discard(self, attempt: Attempt) -> None:
        slot, candidate = attempt.slot, attempt.candidate
        await self._outlive(attempt.runner, (*slot.name, candidate.provider, attempt.number))
        if attempt.made:
            await self.clean_up(slot, Generation(attempt.instance, candidate, attempt.settings, attempt.number))

    async def _outlive(self, runner: StepRunner, where: tuple[str, str, str | None, str, int]) -> None:
        """Wait for steps that outlived their deadline, and report those that go on after the cleanup deadline too."""
        pending = [future for future in runner.pending if not future.done()]
        if pending:
            seconds = self._workshop.timeouts.cleanup_seconds
            _, hung = await asyncio.wait(pending, timeout=seconds)
            for _ in hung:
                self._emit(StepHung(self._clock(), *where, "step", seconds or 0.0))
            if hung:
                await asyncio.wait(hung)
        for future in runner.pending:
            # Looked at, so that asyncio reports neither a forgotten exception nor a coroutine nobody awaited.
            # What a step returned is closed by nobody else only if it is such a coroutine; an instance has its cleanup.
            if not future.cancelled() and future.exception() is None and asyncio.iscoroutine(result := future.result()):
                result.close()

    def force(self) -> None:
        """Clean up from now on at the drain deadline whatever holds a lease, also what drains already."""
        self._force = True
        for generation in tuple(self._late):
            self.broken += generation.in_flight
            generation.became_idle()

    async def end_drains(self) -> None:
        """See what drains to its deadline, or to the one that all have in common, and let it be cleaned up then."""
        self.force()
        if self._draining:
            loop = asyncio.get_running_loop()
            left = None if self._ends_at is None else max(0.0, self._ends_at - loop.time())
            await asyncio.wait(tuple(self._draining), timeout=left)
            for generation in tuple(self._draining.values()) if left is not None else ():
                generation.became_idle()

    async def settle(self, seconds: float | None) -> None:
        """Wait for every owned task, then cancel those that are left."""
        current = asyncio.current_task()
        tasks = {task for task in self._tasks if task is not current}
        if tasks:
            _, left = await asyncio.wait(tasks, timeout=seconds)
            for task in left:
                task.cancel()
            if left:
                await asyncio.wait(left, timeout=_GRACE_SECONDS)
