"""Scheduler: one run in memory. A node starts the moment all it depends on is done; there are no generations.

Every node is a task in a context of its own, which is begun eagerly: one that never suspends costs no turn of the
event loop, and a chain of such runs in one go. What was promised to be kept is handed to a journal, and counts as done
when that acknowledges it.
"""

import asyncio
from asyncio import Task
from collections import deque
from collections.abc import Mapping
from contextvars import Context
from functools import partial
from time import perf_counter
from typing import Any, Final

from oneiric.core.errors import WorkflowError
from oneiric.runtime.events._filters import ABSENT
from oneiric.runtime.workflows._calling import Caller, failure_of, reason_of
from oneiric.runtime.workflows._calls import NodeCall
from oneiric.runtime.workflows._keeping import Ended, Journal
from oneiric.runtime.workflows._steps import Step, Steps, Unit
from oneiric.runtime.workflows._template import SKIPPED, Scope, fresh

__all__ = ["Scheduler"]

#: Nodes that never suspend give the others a turn after so long.
_TURN_SECONDS: Final = 0.001
_MOST_ITEMS: Final = 100_000


class _Fan:
    """A fan-out that is under way."""

    __slots__ = ("left", "values")

    def __init__(self, size: int) -> None:
        self.left, self.values = size, [None] * size


class Scheduler:
    """Run the steps of one plan, once.

    Args:
        steps: Of the plan.
        caller: Makes the calls.
        scope: What templates see; its outputs are filled in.
        limit: Nodes that run at the same time; one whose result is being kept counts.
        context: Variables that every node starts from.
        journal: Keeps results, or None.
        committed: Unit → result, for what was done before.
        generations: Unit or node → how often it was asked for anew.

    Attributes:
        ended: The units that ran, in the order they ended.
        skipped: The nodes that did not.
        tasks: The units that run and have suspended.
        error: Why the run failed.
    """

    def __init__(
        self,
        steps: Steps,
        caller: Caller,
        scope: Scope,
        *,
        limit: int,
        context: Context,
        journal: Journal | None = None,
        committed: Mapping[str, Any] | None = None,
        generations: Mapping[str, int] | None = None,
    ) -> None:
        self.journal = journal
        self.ended: list[Ended] = []
        self.skipped: dict[str, str] = {}
        self.tasks: dict[str, Task[Any]] = {}
        self.error: WorkflowError | None = None
        self.is_stopping = self.is_cancelled = False
        self._caller, self._scope, self._limit = caller, scope, limit
        self._outputs: dict[str, Any] = {}
        scope.outputs = self._outputs
        self._context = context
        self._committed, self._generations = dict(committed or {}), generations or {}
        self._workflow, self._run_id = scope.run["workflow"], scope.run["id"]
        self._left = list(steps.waits)
        self._ready: deque[Unit] = deque(steps.entries)
        self._fans: dict[str, _Fan] = {}
        self._done_before = {key: place for place, key in enumerate(self._committed)}
        #: What can be undone: when it was done, the unit, and what it returned.
        self._undoable: list[tuple[int, Unit, Any]] = []
        self._running = 0
        self._is_pumping = self._is_held = False
        self._direct, self._fresh_context = caller.direct, context.copy
        #: Whether nothing has to be kept, taken over or traced, so that plain nodes can be run in the plainest way.
        self._is_bare = journal is None and not committed and not generations and not caller.is_traced
        self._loop = asyncio.get_running_loop()
        self._idle: asyncio.Future[None] | None = None

    @property
    def outputs(self) -> Mapping[str, Any]:
        """Node → what it returned, or `SKIPPED`."""
        return self._outputs

    # The run.

    async def run(self) -> None:
        """Run until nothing more can be run.

        Raises:
            WorkflowError: It failed: a `NodeError`, or what the journal stopped it with.
            asyncio.CancelledError: It was cancelled, and every node has heeded that.
        """
        self._pump()
        try:
            await self._until_idle()
        except asyncio.CancelledError:
            self.cancel()
            while not self._is_idle:
                try:
                    await self._until_idle()
                except asyncio.CancelledError:
                    self.cancel()  # asked again: so are those who did not listen
            raise
        if self.error is not None:
            raise self.error
        if self.is_cancelled:
            raise asyncio.CancelledError

    def replay(self) -> None:
        """Take over what was done before, and start nothing."""
        while self._ready:
            unit = self._ready.popleft()
            if unit.key in self._committed:
                self._complete(unit, self._committed.pop(unit.key))
            elif unit.place is None and (not unit.step.is_plain or self.skipped):
                self._admit(unit.step)

    def undoable(self) -> list[tuple[Unit, Any]]:
        """Return the units that are done and can be undone, with what they returned, the last one first."""
        return [(unit, value) for _, unit, value in sorted(self._undoable, key=lambda each: -each[0])]

    def stop(self, error: WorkflowError, *, cancel: bool = False) -> None:
        """Start nothing more; what runs may end, unless it is cancelled too."""
        self.error = self.error or error
        self.is_stopping = True
        if cancel:
            self.cancel()
        self._wake()

    def cancel(self) -> None:
        """Start nothing more, and cancel what runs."""
        self.is_stopping = self.is_cancelled = True
        for task in list(self.tasks.values()):
            task.cancel()

    def cancel_unit(self, key: str) -> bool:
        """Cancel one unit, or a whole fan-out; it fails. Returns whether there was any that runs."""
        found = [task for unit, task in self.tasks.items() if unit == key or unit.partition("[")[0] == key]
        for task in found:
            task.cancel()
        return bool(found)

    def acknowledged(self, kept: list[tuple[Unit, Any]]) -> None:
        """Take note that results are kept, and start what waited for them."""
        self._running -= len(kept)
        for unit, value in kept:
            self._complete(unit, value)
        self._pump()

    def go_on(self) -> None:
        """Start again what may be started."""
        self._is_held = False
        self._pump()

    def forgotten(self, units: int) -> None:
        """Take note that results could not be kept; the run has been stopped."""
        self._running -= units
        self._wake()

    @property
    def _is_idle(self) -> bool:
        return not self._running and (self.is_stopping or not self._ready)

    async def _until_idle(self) -> None:
        while not self._is_idle:
            self._idle = self._loop.create_future()
            await self._idle

    def _wake(self) -> None:
        if self._idle is not None and self._is_idle and not self._idle.done():
            self._idle.set_result(None)

    # What is ready is started.

    def _pump(self) -> None:
        if self._is_pumping:
            return
        self._is_pumping = True
        ready, limit = self._ready, self._limit
        until = perf_counter() + _TURN_SECONDS
        try:
            while ready and self._running < limit and not (self.is_stopping or self._is_held):
                is_bare = self._is_bare and ready[0].step.is_bare
                now = self._run_bare(until) if is_bare else self._begin(ready.popleft())
                if now > until:
                    if ready:
                        self._loop.call_soon(self._pump, context=self._context)
                    break
        finally:
            self._is_pumping = False
        self._wake()

    def _run_bare(self, until: float) -> float:
        """Do what `_begin`, `_settle` and `_complete` do for the plainest of nodes, as long as such are ready.

        Most nodes of large workflows are such, and the calls between those three cost as much as the task.
        """
        ready, left, outputs, ended, limit = self._ready, self._left, self._outputs, self.ended, self._limit
        direct, fresh_context, loop = self._direct, self._fresh_context, self._loop
        context, workflow, run_id = self._scope.context, self._workflow, self._run_id
        now = perf_counter()
        while ready and now <= until and self._running < limit and not self.is_stopping and ready[0].step.is_bare:
            unit, started = ready.popleft(), now
            step = unit.step
            payload = None if context is None else fresh(context)
            call = NodeCall(workflow, run_id, step.id, payload)
            task = Task(direct(step, payload, call), loop=loop, eager_start=True, context=fresh_context())
            if not task.done():
                self._running += 1
                self.tasks[step.id] = task
                task.add_done_callback(partial(self._woken, unit, call, started), context=self._context)
                now = perf_counter()
                continue
            try:
                outputs[step.id] = task.result()
            except BaseException:  # noqa: BLE001 - whatever it is, it is looked at where failures are
                self._running += 1
                now = self._settle(unit, call, started, task)
                continue
            now = perf_counter()
            ended.append((unit, started, now, 1, None))
            for follower in step.followers:
                waits_for = left[follower.place] = left[follower.place] - 1
                if not waits_for:
                    ready.append(follower.unit)
        return now

    def _begin(self, unit: Unit) -> float:
        """Start a unit and return the time."""
        step = unit.step
        if self._committed and unit.key in self._committed:
            self._complete(unit, self._committed.pop(unit.key))
            return perf_counter()
        if unit.place is None and (not step.is_plain or self.skipped) and not self._admit(step):
            return perf_counter()
        if self.journal is not None and not self.journal.may_start(unit):
            self._ready.appendleft(unit)
            self._is_held = True
            return perf_counter()
        self._running += 1
        try:
            payload = self._payload(unit)
        except WorkflowError as error:
            now = perf_counter()
            self._failed(unit, now, now, 1, error)
            return now
        generation = self.generation(unit) if self._generations else 0
        call = NodeCall(self._workflow, self._run_id, unit.key, payload, generation)
        caller = self._caller
        work = caller.direct(step, payload, call) if step.is_direct else caller.attempts(step, payload, call)
        if caller.is_traced:
            work = caller.traced(step, call, work)
        started = perf_counter()
        task = Task(work, loop=self._loop, eager_start=True, context=self._context.copy())
        if task.done():
            return self._settle(unit, call, started, task)
        self.tasks[unit.key] = task
        task.add_done_callback(partial(self._woken, unit, call, started), context=self._context)
        return started

    def _woken(self, unit: Unit, call: NodeCall, started: float, task: Task[Any]) -> None:
        del self.tasks[unit.key]
        self._settle(unit, call, started, task)
        self._pump()

    def _admit(self, step: Step) -> bool:
        """Say whether a node runs as it is; skip it, or spread it out over its items, where it does not."""
        if step.waits_for and all(other in self.skipped for other in step.waits_for):
            self._skip(step, f"{', '.join(step.waits_for)} did not run")
            return False
        for condition in step.conditions:
            if (reason := condition.why_not(self._scope)) is not None:
                self._skip(step, reason)
                return False
        if step.items is None:
            return True
        try:
            items = step.items(self._scope)
            if not isinstance(items, list | tuple):
                raise WorkflowError(f"for_each is a {type(items).__name__} and no list")
            if len(items) > _MOST_ITEMS:
                raise WorkflowError(f"for_each has {len(items)} items, and {_MOST_ITEMS} at most may be")
        except WorkflowError as error:
            now = perf_counter()
            self._running += 1
            self._failed(step.unit, now, now, 1, error)
            return False
        if not items:
            self._follow(step, [])
            return False
        self._fans[step.id] = _Fan(len(items))
        # In front: what was begun is finished before what comes next.
        self._ready.extendleft(
            Unit(step, f"{step.id}[{place}]", place, item) for place, item in reversed([*enumerate(items)])
        )
        return False

    def _skip(self, step: Step, reason: str) -> None:
        self.skipped[step.id] = reason
        self._is_bare = False  # from now on, every node has to be asked whether all it waits for was skipped
        if self.journal is not None:
            self.journal.skipped(step.unit)
        self._follow(step, SKIPPED)

    def generation(self, unit: Unit) -> int:
        """Return how often a unit was asked for anew."""
        known = self._generations
        return known.get(unit.key, 0) + (known.get(unit.step.id, 0) if unit.place is not None else 0)

    def _payload(self, unit: Unit) -> Any:
        render = unit.step.render
        if unit.place is None:
            return fresh(self._scope.context) if render is None else render(self._scope)
        if render is None:
            return fresh(unit.item)
        return render(self.scope_of(unit))

    def scope_of(self, unit: Unit, **outputs: Any) -> Scope:
        """Return what the templates of one unit see."""
        seen = self._scope
        known = {**self._outputs, **outputs} if outputs else self._outputs
        place = ABSENT if unit.place is None else unit.place
        item = ABSENT if unit.place is None else unit.item
        return Scope(context=seen.context, run=seen.run, outputs=known, item=item, index=place)

    # What ended.

    def _settle(self, unit: Unit, call: NodeCall, started: float, task: Task[Any]) -> float:
        ended = perf_counter()
        error = asyncio.CancelledError() if task.cancelled() else task.exception()
        if error is not None:
            self._failed(unit, started, ended, call.attempt, error)
        elif self.journal is None:
            self._running -= 1
            self.ended.append((unit, started, ended, call.attempt, None))
            self._complete(unit, task.result())
        else:
            try:
                self.journal.finished(unit, call, task.result(), started, ended)
            except WorkflowError as refused:
                self._failed(unit, started, ended, call.attempt, refused)
            else:
                self.ended.append((unit, started, ended, call.attempt, None))
        return ended

    def _complete(self, unit: Unit, value: Any) -> None:
        step = unit.step
        if step.spec.compensate is not None:
            place = self._done_before.get(unit.key, len(self._done_before) + len(self._undoable))
            self._undoable.append((place, unit, value))
        if unit.place is not None:
            fan = self._fans[step.id]
            fan.values[unit.place] = value
            fan.left -= 1
            if fan.left:
                return
            value = fan.values
            del self._fans[step.id]
        self._follow(step, value)

    def _follow(self, step: Step, value: Any) -> None:
        self._outputs[step.id] = value
        left, ready = self._left, self._ready
        for follower in step.followers:
            waits_for = left[follower.place] = left[follower.place] - 1
            if not waits_for:
                ready.append(follower.unit)

    def _failed(self, unit: Unit, started: float, ended: float, attempts: int, error: BaseException) -> None:
        self._running -= 1
        if self.is_cancelled and isinstance(error, asyncio.CancelledError):
            self.ended.append((unit, started, ended, attempts, ""))
        else:
            reason = reason_of(error)
            self.ended.append((unit, started, ended, attempts, reason))
            self.error = self.error or failure_of(
                error, NodeCall(self._workflow, self._run_id, unit.key, None), attempts
            )
        self.is_stopping = True
        self._wake()
