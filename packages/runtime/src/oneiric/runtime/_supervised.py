"""One supervised child: started, watched and stopped within its deadlines, and what is known of it."""

import asyncio
from collections import deque
from collections.abc import Awaitable, Callable

from oneiric.core.errors import LifecycleError, UnhealthyError
from oneiric.runtime._supervision import ChildEvent, ChildInfo, ChildSpec, ChildState
from oneiric.runtime._supervisor_steps import Steps, guarded, reason_of

__all__ = ["Supervised"]

type Ended = Callable[["Supervised", int, Exception | None], None]


class Supervised:
    """A child and its state; which of its failures matter is not decided here.

    Args:
        spec: The child and how it is treated.
        lane: Held by whoever changes the child; siblings that fall together share one.
        ended: Told when the body came to an end nobody asked for: this, the incarnation, and the error if it was one.
        changed: Told of every change of state.
        wall_clock: Seconds since the epoch.

    Attributes:
        incarnation: Grows with every start and stop; news of an older one is of the past.
        works: True while it is up; an ill child still works, one whose start or body failed does not.
        owed: The error for which a held child has yet to be restarted; None when it was merely taken along.
    """

    def __init__(
        self,
        spec: ChildSpec,
        lane: asyncio.Lock,
        *,
        ended: Ended,
        changed: Callable[[ChildEvent], None],
        wall_clock: Callable[[], float],
    ) -> None:
        self.spec = spec
        self.name = spec.child.name
        self.lane = lane
        self.state: ChildState = "stopped"
        self.incarnation = 0
        self.works = False
        self.owed: Exception | None = None
        self.restarts = 0
        self._ended = ended
        self._changed = changed
        self._wall_clock = wall_clock
        self._since = wall_clock()
        self._last_error: str | None = None
        self._steps = Steps()
        self._body: asyncio.Task[None] | None = None
        self._unwatch: Callable[[], None] | None = None
        self._verdicts: deque[bool] = deque(maxlen=spec.unhealthy_of)
        self._checks = Steps()
        self._stopping = asyncio.Lock()
        #: Held so that it is not collected while it runs.
        self._late: asyncio.Task[None] | None = None
        self._checking = False

    def become(self, state: ChildState, error: BaseException | None = None) -> None:
        """Go into a state."""
        if error is not None:
            self._last_error = reason_of(error)
        if state != self.state:
            self.state = state
            self._since = self._wall_clock()
            reason = None if error is None else reason_of(error)
            self._changed(ChildEvent(at=self._since, name=self.name, state=state, error=reason))

    async def start(self) -> None:
        """Start the child and its body.

        Raises:
            Exception: What its start raised, or the missed deadline; it needs a `stop` all the same.
        """
        await self._begin("start", self.spec.child.start)

    @property
    def renewable(self) -> bool:
        """The child still works and knows how to renew itself without a gap."""
        return self.works and hasattr(self.spec.child, "restart")

    async def renew(self) -> None:
        """Let a child that still works restart itself.

        Raises:
            Exception: What its restart raised, or the missed deadline.
        """
        self.incarnation += 1  # the end of its body is asked for
        body, self._body = self._body, None
        if body is not None:
            self.works = False
            await self._steps.cancel(body, self.spec.shutdown_seconds)
        restart: Callable[[], Awaitable[None]] = self.spec.child.restart  # type: ignore[attr-defined]
        await self._begin("restart", restart)

    async def _begin(self, step: str, call: Callable[[], Awaitable[None]]) -> None:
        self.incarnation += 1
        self.owed = None
        self._verdicts.clear()
        self.become("restarting" if step == "restart" else "starting")
        await self._steps.run(f"{step} of child {self.name!r}", self.spec.start_seconds, call, late=self._came_late)
        self.works = True
        body: Callable[[], Awaitable[None]] | None = getattr(self.spec.child, "run", None)
        if body is not None:
            incarnation = self.incarnation
            self._body = asyncio.ensure_future(guarded(f"run of child {self.name!r}", body))
            self._body.add_done_callback(lambda task: self._body_ended(task, incarnation))
        self.become("running")
        watch: Callable[[Callable[[bool], None]], Callable[[], None]] | None
        watch = getattr(self.spec.child, "watch", None)
        if watch is not None:
            if self._unwatch is not None:
                self._unwatch()
            self._unwatch = watch(self._moved)  # anew: it tells what became of the child while it was waited for

    def _moved(self, serves: bool) -> None:  # noqa: FBT001 - what a child tells
        """Note that somebody else put the child out of service, or back into it."""
        if serves and self.state == "retired":
            self.become("running")
        elif not serves and self.state == "running":
            self._verdicts.clear()
            self.become("retired")

    def _came_late(self) -> None:
        """Take down a child whose start ignored its cancellation and came about after all, unless it is wanted now."""
        if not self.works and self.state != "starting":
            self._late = asyncio.ensure_future(self.stop(self.state))

    def _body_ended(self, task: "asyncio.Task[None]", incarnation: int) -> None:
        if task.cancelled():
            return  # asked to by a stop, or by a loop that is being torn down: nobody else holds the task
        error = task.exception()
        if incarnation != self.incarnation:
            return  # it ended while it was being stopped
        self.works = False
        self._ended(self, incarnation, error if isinstance(error, Exception) or error is None else _wrapped(error))

    async def stop(self, state: ChildState = "stopped") -> None:
        """Stop the child and its body within ``shutdown_seconds``; never fails: what goes wrong is reported.

        Args:
            state: What it is afterwards.
        """
        self.incarnation += 1
        self._verdicts.clear()
        if self._unwatch is not None:
            self._unwatch()  # from here on it is put out of service by us
            self._unwatch = None
        loop = asyncio.get_running_loop()
        deadline = loop.time() + self.spec.shutdown_seconds
        problem: Exception | None = None
        try:
            await self._steps.run(f"stop of child {self.name!r}", self.spec.shutdown_seconds, self.spec.child.stop)
        except Exception as error:  # noqa: BLE001 - a child that cannot stop must not keep its siblings from stopping
            problem = error
        body, self._body = self._body, None
        if body is not None and not body.done() and not await self._steps.cancel(body, deadline - loop.time()):
            problem = LifecycleError(f"the body of child {self.name!r} ignores its cancellation and was abandoned")
        self.works = False
        self.become(state, problem)

    async def leave(self) -> None:
        """Stop the child unless it is down already; whoever asks second waits for the first."""
        async with self._stopping:
            if self.state not in {"stopped", "ended"}:
                await self.stop()

    @property
    def can_be_asked(self) -> bool:
        """It is up, has a health check, and is not being asked already."""
        return self.state == "running" and not self._checking and hasattr(self.spec.child, "health")

    async def check(self) -> UnhealthyError | None:
        """Ask the child for its health once, if it can be asked.

        Returns:
            The failure that its latest answers amount to, or None.
        """
        if not self.can_be_asked:
            return None
        health: Callable[[], Awaitable[bool | None]] = self.spec.child.health  # type: ignore[attr-defined]
        incarnation, self._checking = self.incarnation, True
        verdict: bool | None
        try:
            if self._checks.abandoned:
                raise LifecycleError("an earlier health check still hangs")
            verdict = await self._checks.run(f"health of child {self.name!r}", self.spec.health_seconds, health)
            reason = "it says so"
        except Exception as error:  # noqa: BLE001 - whatever a health check raises is its verdict
            verdict, reason = False, reason_of(error)
        finally:
            self._checking = False
        if verdict is None or incarnation != self.incarnation or self.state != "running":
            return None
        self._verdicts.append(bool(verdict))
        bad = self._verdicts.count(False)
        if verdict or bad < self.spec.unhealthy_after:
            return None
        return UnhealthyError(
            f"child {self.name!r} failed {bad} of its last {len(self._verdicts)} health checks: {reason}"
        )

    def info(self) -> ChildInfo:
        """Describe the child as it is now."""
        return ChildInfo(
            name=self.name,
            state=self.state,
            restart=self.spec.restart,
            restarts=self.restarts,
            last_error=self._last_error,
            since=self._since,
            health=self._verdicts[-1] if self._verdicts else None,
            abandoned=len(self._steps.abandoned) + len(self._checks.abandoned),
        )


def _wrapped(error: BaseException) -> Exception:
    """Return an error that may be handled like any other."""
    wrapped = LifecycleError(f"its body raised {type(error).__name__}")
    wrapped.__cause__ = error
    return wrapped
