"""RuntimeOrchestrator: starts the parts of an application in order, watches over them, stops them in reverse.

It knows no part by type: watchers, servers, supervisors and loops are handed to it, each with the names of those
it needs running first. What it promises is order: a part is started after all it needs and stopped before any of
them, whatever fails, hangs or is cancelled on the way.
"""

import asyncio
from collections.abc import Callable, Iterable
from contextlib import suppress
from dataclasses import dataclass
from typing import Any, Final, Literal

from oneiric.core.errors import DeadlineError, LifecycleError, OneiricError
from oneiric.runtime._ports import Part
from oneiric.runtime._secret_redaction import REDACTOR

__all__ = ["PartStatus", "RuntimeOrchestrator"]

type _State = Literal["waiting", "starting", "running", "stopping", "stopped", "failed"]

_BECAUSE: Final = "stopped because of what went wrong in a part: "
#: How long a part that ignored its deadline is given to react to its cancellation.
_CANCEL_SECONDS: Final = 0.2
_DEFAULT_GRACE_SECONDS: Final = 30.0


@dataclass(frozen=True, slots=True, kw_only=True)
class PartStatus:
    """One part at one moment.

    Attributes:
        name: Its name.
        state: ``waiting``, ``starting``, ``running``, ``stopping``, ``stopped`` or ``failed``.
        after: The parts it needs running.
        start_seconds: How long it took to start, or None while it has not.
        error: What went wrong with it, or None.
    """

    name: str
    state: _State
    after: tuple[str, ...]
    start_seconds: float | None
    error: str | None

    def as_dict(self) -> dict[str, Any]:
        """Return plain data."""
        return {
            "name": self.name,
            "state": self.state,
            "after": list(self.after),
            "start_seconds": self.start_seconds,
            "error": self.error,
        }


class _Member:
    """A part among the others."""

    __slots__ = ("after", "error", "part", "seconds", "state", "watch")

    def __init__(self, part: Part, after: tuple[str, ...]) -> None:
        self.part = part
        self.after = after
        self.state: _State = "waiting"
        self.error: str | None = None
        self.seconds: float | None = None
        self.watch: asyncio.Task[None] | None = None

    def failed(self, error: BaseException) -> None:
        self.state = "failed"
        self.error = _reason_of(error)


def _reason_of(error: BaseException) -> str:
    """Render an error as the clause that follows a colon."""
    if isinstance(error, asyncio.CancelledError):
        return "it was cancelled"
    return REDACTOR.mask(error.message if isinstance(error, OneiricError) else f"{type(error).__name__}: {error}")


class RuntimeOrchestrator:
    """Start parts in the order of what they need, run until told to stop, and stop them in reverse.

    An orchestrator is a part itself (`start`, `stop`, `wait`), so that they can be nested.

    Args:
        start_seconds: Deadline of the start of each part; by default each has its own, or none.
        grace_seconds: How long all stops together may take; what is left then is cancelled and reported.
        observe: Called with a part's status whenever it changes; must not raise.

    Attributes:
        ready: True from the moment every part runs until stopping begins.
        became_ready: Set when every part runs.
        stopping: True from the moment it was asked to stop.
    """

    def __init__(
        self,
        *,
        start_seconds: float | None = None,
        grace_seconds: float = _DEFAULT_GRACE_SECONDS,
        observe: Callable[[PartStatus], object] | None = None,
    ) -> None:
        self._start_seconds = start_seconds
        self._grace_seconds = grace_seconds
        self._observe = observe
        self._members: dict[str, _Member] = {}
        self._order: list[str] = []
        self._stop_asked = asyncio.Event()
        self._forced = asyncio.Event()
        self._deadline: float | None = None
        self._stop: asyncio.Task[None] | None = None
        self._reasons: list[str] = []
        self.ready = False
        self.became_ready = asyncio.Event()

    @property
    def stopping(self) -> bool:
        """Whether it was asked to stop, or stops because a part failed."""
        return self._stop_asked.is_set() or self._stop is not None

    def add(self, part: Part, *, after: Iterable[str] = ()) -> None:
        """Take a part in; before `start`.

        Args:
            part: The part; its name must be its own.
            after: Names of parts added before that must be running when it starts.

        Raises:
            LifecycleError: The name is taken, or a part in *after* is not known.
        """
        needed = tuple(after)
        missing = [name for name in needed if name not in self._members]
        if part.name in self._members:
            raise LifecycleError(f"there is a part {part.name!r} already")
        if missing:
            raise LifecycleError(
                f"part {part.name!r} comes after {missing[0]!r}, which was not added", "add that first"
            )
        self._members[part.name] = _Member(part, needed)

    def parts(self) -> tuple[PartStatus, ...]:
        """Return the status of every part, in the order they were added."""
        return tuple(self._status(name) for name in self._members)

    def request_stop(self) -> None:
        """Ask `run` to end: not ready from now on."""
        self.ready = False
        self._stop_asked.set()

    def fail(self, reason: str) -> None:
        """Ask `run` to end in order because of something that is no part, and to raise that.

        Args:
            reason: What happened, as the clause that follows "stopped because".
        """
        self._reasons.append(reason)
        self.request_stop()

    def force(self) -> None:
        """Ask `run` to end at once: what is being stopped is cancelled."""
        self.request_stop()
        self._forced.set()

    @property
    def remaining_seconds(self) -> float:
        """What is left of the grace period; all of it before stopping began."""
        if self._deadline is None:
            return self._grace_seconds
        return max(0.0, self._deadline - _now())

    async def run(self) -> None:
        """Start everything, wait until asked to stop or until a part ends by itself, and stop everything.

        Raises:
            LifecycleError: A part failed to start, failed while it ran, or could not be stopped in time, or `fail` was
                called. All others are stopped first.
            CancelledError: It was cancelled; everything is stopped first.
        """
        try:
            if await self._unless_stopped(self.start()):
                await self._stop_asked.wait()
        finally:
            await self.stop()
        self._check()

    async def wait(self) -> None:
        """Return when it was asked to stop, by somebody or by a part that ended.

        Raises:
            LifecycleError: A part failed while it ran.
        """
        await self._stop_asked.wait()
        self._check()

    def _check(self) -> None:
        broken = [status for status in self.parts() if status.error is not None]
        if self._reasons and not self._forced.is_set():
            raise LifecycleError(f"stopped because {'; '.join(self._reasons)}")
        if broken and not self._forced.is_set():
            # A part that is an orchestrator itself has named its part already.
            reasons = "; ".join(
                error.removeprefix(_BECAUSE) if error.startswith(_BECAUSE) else f"{name}: {error}"
                for name, error in ((status.name, status.error or "") for status in broken)
            )
            raise LifecycleError(f"{_BECAUSE}{reasons}")

    async def _unless_stopped(self, starting: Any) -> bool:
        """Await the start unless a stop is asked for meanwhile; tell whether it was completed."""
        start = asyncio.ensure_future(starting)
        asked = asyncio.ensure_future(self._stop_asked.wait())
        try:
            await asyncio.wait((start, asked), return_when=asyncio.FIRST_COMPLETED)
        finally:
            asked.cancel()
            if not start.done():
                start.cancel()
                await asyncio.wait((start,))
        if start.cancelled():
            return False
        start.result()
        return True

    async def start(self) -> None:
        """Start every part as soon as those it needs are running; side by side where nothing forbids it.

        Raises:
            LifecycleError: A part raised or missed its deadline; what had started was stopped again, in reverse.
            CancelledError: It was cancelled; the same.
        """
        tasks: dict[str, asyncio.Task[None]] = {}
        for name, member in self._members.items():
            needed = [tasks[other] for other in member.after]
            tasks[name] = asyncio.create_task(self._start_after(name, needed), name=f"start {name}")
        try:
            await asyncio.gather(*tasks.values())
        except BaseException as error:  # cancelled or failed: what has started is stopped
            for task in tasks.values():
                task.cancel()
            await asyncio.gather(*tasks.values(), return_exceptions=True)
            await self.stop()
            culprit = next((status for status in self.parts() if status.state == "failed"), None)
            if culprit is None or not isinstance(error, Exception):
                raise
            if isinstance(self._members[culprit.name].part, RuntimeOrchestrator):
                raise  # it has said already which of its own parts it was
            hint = error.hint if isinstance(error, OneiricError) else None
            raise LifecycleError(f"{culprit.name} did not start: {culprit.error}", hint) from error
        self.ready = not self.stopping
        self.became_ready.set()

    async def _start_after(self, name: str, needed: list["asyncio.Task[None]"]) -> None:
        # A needed part that fails is reported by its own task; this one is cancelled then.
        await asyncio.gather(*needed)
        member = self._members[name]
        self._order.append(name)
        self._enter(name, "starting")
        began = _now()
        try:
            try:
                async with asyncio.timeout(self._start_seconds):
                    await member.part.start()
            except TimeoutError as error:
                if self._start_seconds is None or _now() - began < self._start_seconds:
                    raise
                raise DeadlineError(f"start of {name}", self._start_seconds) from error
        except asyncio.CancelledError:
            raise
        except BaseException as error:
            member.failed(error)
            self._tell(name)
            raise
        member.seconds = _now() - began
        self._enter(name, "running")
        wait = getattr(member.part, "wait", None)
        if wait is not None:
            member.watch = asyncio.create_task(self._watch(name, wait), name=f"watch {name}")

    async def _watch(self, name: str, wait: Callable[[], Any]) -> None:
        try:
            await wait()
        except asyncio.CancelledError:
            raise
        except Exception as error:  # noqa: BLE001 - whatever ends a part ends the application, in order
            self._members[name].failed(error)
            self._tell(name)
        self.request_stop()

    async def stop(self) -> None:
        """Stop what was started, each before what it needs; side by side where nothing forbids it.

        Returns when all is stopped or the grace period is over; what was left then was cancelled, and its status
        says so. Safe to call twice.
        """
        self.ready = False
        if self._stop is None:
            self._deadline = _now() + self._grace_seconds
            self._stop = asyncio.create_task(self._stop_all(), name="stop all parts")
        try:
            await asyncio.shield(self._stop)
        except asyncio.CancelledError:
            # Whoever cancels wants it over, not half done; the grace period bounds it already.
            await asyncio.wait((self._stop,))
            raise

    async def _stop_all(self) -> None:
        tasks: dict[str, asyncio.Task[None]] = {}
        for name in reversed(self._order):
            dependants = [task for other, task in tasks.items() if name in self._members[other].after]
            tasks[name] = asyncio.create_task(self._stop_after(name, dependants), name=f"stop {name}")
        await asyncio.gather(*tasks.values())

    async def _stop_after(self, name: str, dependants: list["asyncio.Task[None]"]) -> None:
        if dependants:
            await asyncio.wait(dependants)
        member = self._members[name]
        if member.watch is not None:
            member.watch.cancel()
            await asyncio.wait((member.watch,))
            member.watch = None
        if member.state != "failed":
            self._enter(name, "stopping")
        error = await self._stopped(member)
        if error is not None and member.error is None:
            member.failed(error)
        elif member.state != "failed":
            member.state = "stopped"
        self._tell(name)

    async def _stopped(self, member: _Member) -> BaseException | None:
        """Stop one part inside what is left of the grace period; return what went wrong."""
        stop = asyncio.create_task(member.part.stop(), name=f"stop of {member.part.name}")
        forced = asyncio.ensure_future(self._forced.wait())
        try:
            await asyncio.wait((stop, forced), timeout=self.remaining_seconds, return_when=asyncio.FIRST_COMPLETED)
        finally:
            forced.cancel()
        if not stop.done():
            stop.cancel()
            await asyncio.wait((stop,), timeout=_CANCEL_SECONDS)
            stop.add_done_callback(_look)
            if self._forced.is_set():
                return LifecycleError("it was forced to stop before it was done")
            return DeadlineError(f"stop of {member.part.name}", self._grace_seconds)
        with suppress(asyncio.CancelledError):
            return stop.exception()
        return None

    def _enter(self, name: str, state: _State) -> None:
        self._members[name].state = state
        self._tell(name)

    def _tell(self, name: str) -> None:
        if self._observe is not None:
            self._observe(self._status(name))

    def _status(self, name: str) -> PartStatus:
        member = self._members[name]
        return PartStatus(
            name=name, state=member.state, after=member.after, start_seconds=member.seconds, error=member.error
        )


def _look(task: "asyncio.Task[None]") -> None:
    """Read the outcome of a task nobody waits for, so that asyncio does not report it as forgotten."""
    if not task.cancelled():
        task.exception()


def _now() -> float:
    """Seconds of the running loop's clock, which no change of the wall clock moves."""
    return asyncio.get_running_loop().time()
