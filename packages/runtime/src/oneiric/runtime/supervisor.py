"""Supervision: start services in order, restart those that fail, give up when that does not help, stop in reverse.

The semantics are those of Erlang/OTP: three strategies, restart policies, a restart intensity counted over the whole
supervisor, escalation. Added to them: health checks, a pause between restarts, and restarts that wait while a key is
paused. Source: Erlang/OTP, module ``supervisor``.

Owned here: who is restarted when. Not owned: what a child does, and where pauses are kept (`ActivitySource`).
"""

import asyncio
import time
from collections.abc import Awaitable, Callable, Iterable

from oneiric.core.errors import LifecycleError
from oneiric.runtime._supervised import Supervised
from oneiric.runtime._supervision import (
    Child,
    ChildEvent,
    ChildInfo,
    ChildSpec,
    ChildState,
    RestartBackoff,
    RestartPolicy,
    Strategy,
    SupervisorInfo,
    SupervisorState,
    spec_of,
)
from oneiric.runtime._supervisor_activity import (
    ActivityListener,
    ActivityReading,
    ActivitySource,
    ActivitySurface,
    ActivityWatch,
)
from oneiric.runtime._supervisor_lifecycle import LifecycleChild
from oneiric.runtime._supervisor_restarting import Intensity, Restarter
from oneiric.runtime._supervisor_steps import reason_of
from oneiric.runtime._supervisor_tasks import OwnedTasks, report

__all__ = [
    "ActivityListener",
    "ActivityReading",
    "ActivitySource",
    "Child",
    "ChildEvent",
    "ChildInfo",
    "ChildSpec",
    "ChildState",
    "LifecycleChild",
    "RestartBackoff",
    "RestartPolicy",
    "ServiceSupervisor",
    "Strategy",
    "SupervisorInfo",
    "SupervisorState",
]

_STRATEGIES = ("one_for_one", "one_for_all", "rest_for_one")


class ServiceSupervisor(ActivitySurface):
    """Keep children running. It is a child itself (`name`, `start`, `stop`, `run`), so supervisors form trees.

    Args:
        children: In the order they start; a bare child is treated as its ``spec`` asks for, else by the defaults.
        strategy: A failure restarts the failed child (``one_for_one``), all of them (``one_for_all``), or it and those
            that start after it (``rest_for_one``).
        max_restarts: So many restarts within the window are borne; at one more it gives up.
        window_seconds: The window.
        backoff: How long to wait before a restart.
        store: Where pauses are kept; None knows of no pause.
        poll_interval: Seconds between two looks at health and activity.
        clock: Monotonic seconds, for the window.
        wall_clock: Seconds since the epoch, for time stamps.
        on_escalate: Called with the error once it gave up and every child is down; may be async.
        name: What it is called.

    Raises:
        LifecycleError: Two children share a name, or an argument makes no sense.
    """

    def __init__(  # noqa: PLR0913 - all but the children are keywords with defaults
        self,
        children: Iterable[Child | ChildSpec] = (),
        *,
        strategy: Strategy = "one_for_one",
        max_restarts: int = 3,
        window_seconds: float = 30.0,
        backoff: RestartBackoff | None = None,
        store: ActivitySource | None = None,
        poll_interval: float = 2.0,
        clock: Callable[[], float] = time.monotonic,
        wall_clock: Callable[[], float] = time.time,
        on_escalate: Callable[[LifecycleError], object] | None = None,
        name: str = "supervisor",
    ) -> None:
        if strategy not in _STRATEGIES:
            raise LifecycleError(f"supervisor {name!r} has strategy {strategy!r}", " or ".join(_STRATEGIES))
        if poll_interval <= 0:
            raise LifecycleError(f"supervisor {name!r} polls every {poll_interval:g} s", "more than 0 s")
        self.name = name
        self.poll_interval = poll_interval
        self._wall_clock = wall_clock
        self._on_escalate = on_escalate
        self._state: SupervisorState = "stopped"
        self._error: LifecycleError | None = None
        self._activity = ActivityWatch(store, self._release_held)
        self._restarter = Restarter(
            strategy=strategy,
            intensity=Intensity(max_restarts, window_seconds, clock),
            backoff=backoff or RestartBackoff(),
            accepts=self._accepts,
            give_up=self._give_up,
        )
        self._lane = asyncio.Lock()
        self._observers: tuple[Callable[[ChildEvent], object], ...] = ()
        self._tasks = OwnedTasks(f"supervisor {name!r}")
        self._shutdown: asyncio.Task[None] | None = None
        self._up = asyncio.Event()
        self._over = asyncio.Event()
        for child in children:
            self._children.append(self._supervised(spec_of(child)))

    @property
    def state(self) -> SupervisorState:
        """What it does; ``failed`` after it gave up."""
        return self._state

    @property
    def error(self) -> LifecycleError | None:
        """Why it gave up, with what went wrong last as its cause; None while it did not."""
        return self._error

    def info(self) -> SupervisorInfo:
        """Describe it and its children as they are now."""
        intensity = self._restarter.intensity
        return SupervisorInfo(
            name=self.name,
            state=self._state,
            strategy=self._restarter.strategy,
            max_restarts=intensity.max_restarts,
            window_seconds=intensity.window_seconds,
            recent_restarts=intensity.recent(),
            error=None if self._error is None else str(self._error),
            children=tuple(child.info() for child in self._children),
            ended=tuple(self._restarter.ended),
            store_problem=self._activity.problem,
        )

    def observe(self, observer: Callable[[ChildEvent], object]) -> Callable[[], None]:
        """Call *observer* whenever a child goes into another state; return the call that stops it."""
        self._observers = (*self._observers, observer)

        def remove() -> None:
            self._observers = tuple(other for other in self._observers if other is not observer)

        return remove

    async def start(self) -> None:
        """Start the children in order. A failure, or a cancellation, stops those that started, in reverse order.

        Raises:
            LifecycleError: A child did not start (its error is the cause), or the supervisor is starting or stopping.
        """
        if self._state == "running":
            return
        if self._state in {"starting", "stopping"}:
            raise LifecycleError(f"supervisor {self.name!r} is {self._state}", "wait for that to end")
        self._state, self._error, self._shutdown = "starting", None, None
        self._up.clear()
        self._over.clear()
        self._restarter.intensity.forget()
        try:
            await self._tasks.run(self._start_all())
            self._running()
        except BaseException:
            await asyncio.shield(self._shut_down("stopped"))
            raise

    def _running(self) -> None:
        if self._state != "starting":
            raise LifecycleError(f"supervisor {self.name!r} was stopped meanwhile")
        self._state = "running"
        self._up.set()
        self._activity.follow()
        self._tasks.spawn(self._poll())

    async def _start_all(self) -> None:
        await self._activity.refresh()
        for child in tuple(self._children):
            child.restarts = 0
            await self._start_first(child)

    async def _start_first(self, child: Supervised) -> None:
        try:
            await child.start()
        except Exception as error:  # whatever a child raises is why the supervisor does not start
            await child.stop()
            raise LifecycleError(
                f"supervisor {self.name!r} did not start: child {child.name!r}: {reason_of(error)}"
            ) from error

    async def stop(self) -> None:
        """Stop the children in reverse order, each within its deadline. Safe at any time, and twice."""
        if self._state in {"stopped", "failed"}:
            return
        await asyncio.shield(self._shut_down("stopped"))

    async def wait(self) -> None:
        """Return when it was stopped.

        Raises:
            LifecycleError: It gave up.
        """
        await self._over.wait()
        if self._error is not None:
            raise self._error

    async def run(self) -> None:
        """Be the body of a child: as `wait`, so that a supervisor that gives up fails in the eyes of its own."""
        await self.wait()

    def _give_up(self, error: LifecycleError, cause: Exception) -> None:
        error.__cause__ = cause
        self._error = error
        _ = self._shut_down("failed")  # not awaited: it ends the task that calls this

    def _shut_down(self, final: SupervisorState) -> "asyncio.Task[None]":
        """Begin to stop everything, once, in a task of its own: no caller's cancellation ends it half-way."""
        if self._shutdown is None:
            self._state = "stopping"
            self._shutdown = asyncio.ensure_future(self._stop_all(final))
        return self._shutdown

    async def _stop_all(self, final: SupervisorState) -> None:
        self._activity.unfollow()
        await self._tasks.cancel()
        for child in reversed(self._children):
            await child.leave()
        self._state = final
        self._over.set()
        if final == "failed" and self._on_escalate is not None and self._error is not None:
            try:
                answer = self._on_escalate(self._error)
                if isinstance(answer, Awaitable):
                    await answer
            except Exception as error:  # noqa: BLE001 - it gave up already; there is nothing left to undo
                report(f"on_escalate of supervisor {self.name!r} failed", error)

    async def add_child(self, child: Child | ChildSpec) -> None:
        """Add a child behind the others, and start it if the supervisor runs; one that does not start is not added.

        Raises:
            LifecycleError: Its name is taken, it did not start, or the supervisor is starting or stopping.
        """
        self._refuse_between()
        added = self._supervised(spec_of(child))
        self._children.append(added)
        if self._state != "running":
            return
        try:
            await self._tasks.run(self._start_added(added))
        except BaseException:
            if added in self._children:
                self._children.remove(added)
            await asyncio.shield(added.leave())
            raise

    async def _start_added(self, child: Supervised) -> None:
        async with child.lane:
            if child.state == "stopped":  # a group restart did not take it along meanwhile
                await self._start_first(child)

    async def remove_child(self, name: str) -> None:
        """Stop a child and forget it.

        Raises:
            LifecycleError: There is none of that name, or the supervisor is starting or stopping.
        """
        self._refuse_between()
        child = next((child for child in self._children if child.name == name), None)
        if child is None:
            known = ", ".join(repr(child.name) for child in self._children)
            raise LifecycleError(f"supervisor {self.name!r} has no child {name!r}", f"one of {known or 'none'}")
        self._children.remove(child)  # first: a restart of it under way then ends, and its name is free
        await self._tasks.run(self._remove(child))

    async def _remove(self, child: Supervised) -> None:
        async with child.lane:
            await child.leave()

    def _refuse_between(self) -> None:
        if self._state in {"starting", "stopping"}:
            raise LifecycleError(f"supervisor {self.name!r} is {self._state}", "wait for that to end")

    @property
    def _children(self) -> list[Supervised]:
        return self._restarter.children

    def _supervised(self, spec: ChildSpec) -> Supervised:
        if any(other.name == spec.child.name for other in self._children):
            raise LifecycleError(f"supervisor {self.name!r} has a child {spec.child.name!r} already", "another name")
        # Children that fall alone are dealt with side by side: a slow one never blocks another.
        lane = asyncio.Lock() if self._restarter.strategy == "one_for_one" else self._lane
        return Supervised(spec, lane, ended=self._ended, changed=self._tell, wall_clock=self._wall_clock)

    def _ended(self, child: Supervised, incarnation: int, error: Exception | None) -> None:
        if self._state in {"starting", "running"}:
            self._tasks.spawn(self._handle(child, incarnation, error))

    async def _handle(self, child: Supervised, incarnation: int, error: Exception | None) -> None:
        await self._up.wait()  # one that ends while others start is dealt with when all are up
        async with child.lane:
            if child.incarnation == incarnation and child.state != "retired" and child in self._children:
                await self._restarter.handle(child, error)

    def _release_held(self) -> None:
        for child in tuple(self._children):
            if self._state == "running" and child.state == "held" and self._accepts(child):
                self._tasks.spawn(self._resume(child))

    async def _resume(self, child: Supervised) -> None:
        async with child.lane:
            if child.state == "held" and child in self._children and self._accepts(child):
                await self._restarter.resume(child)

    def _accepts(self, child: Supervised) -> bool:
        return child.spec.activity is None or self.should_accept_work(*child.spec.activity)

    async def _poll(self) -> None:
        while True:
            await asyncio.sleep(self.poll_interval)
            for child in self._children:
                if child.can_be_asked:
                    self._tasks.spawn(self._check(child))
            self._tasks.spawn(self._refresh_and_release())

    async def _check(self, child: Supervised) -> None:
        incarnation = child.incarnation
        if (failure := await child.check()) is not None:
            await self._handle(child, incarnation, failure)

    async def _refresh_and_release(self) -> None:
        await self._activity.refresh()
        self._release_held()

    def _tell(self, event: ChildEvent) -> None:
        for observer in self._observers:
            try:
                observer(event)
            except Exception as error:  # noqa: BLE001 - an observer must never undo what it is told of
                report(f"observer {observer!r} failed on {event!r}", error)

    def __repr__(self) -> str:
        return f"<ServiceSupervisor {self.name} {self._state}: {len(self._children)} children>"
