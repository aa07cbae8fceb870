"""Restarting: whom a failure takes along, how many restarts are borne, and what a failed restart leads to."""

import asyncio
from collections import deque
from collections.abc import Callable

from oneiric.core.errors import LifecycleError
from oneiric.runtime._supervised import Supervised
from oneiric.runtime._supervision import ChildInfo, RestartBackoff, Strategy
from oneiric.runtime._supervisor_steps import reason_of

__all__ = ["Intensity", "Restarter"]

#: Temporary children that are down for good and still shown.
ENDED_SHOWN = 20


class Intensity:
    """Counts the restarts of a whole supervisor within a window that ends now.

    Source: Erlang/OTP, module ``supervisor`` (maximum restart intensity): more than *max_restarts* within the window,
    both ends included, are too many, and every attempt counts, also one whose start fails.
    """

    def __init__(self, max_restarts: int, window_seconds: float, clock: Callable[[], float]) -> None:
        if max_restarts < 0 or window_seconds <= 0:
            raise LifecycleError(
                f"{max_restarts} restarts within {window_seconds:g} s cannot be counted",
                "max_restarts >= 0 and window_seconds > 0",
            )
        self.max_restarts = max_restarts
        self.window_seconds = window_seconds
        self._clock = clock
        self._restarts: deque[tuple[float, str]] = deque()

    def bears(self, name: str) -> bool:
        """Count one more restart, because of *name*, and tell whether it is borne."""
        self._restarts.append((self._clock(), name))
        return self.recent() <= self.max_restarts

    def recent(self, name: str | None = None) -> int:
        """Return how many restarts the window holds, of all children or because of one."""
        oldest = self._clock() - self.window_seconds
        while self._restarts and self._restarts[0][0] < oldest:
            self._restarts.popleft()
        return sum(name in {None, other} for _, other in self._restarts)

    def forget(self) -> None:
        """Begin to count anew."""
        self._restarts.clear()


class Restarter:
    """Brings children back, or says that it is to be given up.

    Its methods are called by whoever holds the lane of the child.

    Args:
        strategy: Whom a failure takes along.
        intensity: How many restarts are borne.
        backoff: How long to wait before one.
        accepts: Tells whether a child's key takes new work; while it does not, the child is held.
        give_up: Told the error when a restart is one too many.

    Attributes:
        children: The children in the order they start.
        ended: Temporary children that are down for good.
    """

    def __init__(
        self,
        *,
        strategy: Strategy,
        intensity: Intensity,
        backoff: RestartBackoff,
        accepts: Callable[[Supervised], bool],
        give_up: Callable[[LifecycleError, Exception], None],
    ) -> None:
        self.strategy = strategy
        self.intensity = intensity
        self.children: list[Supervised] = []
        self.ended: deque[ChildInfo] = deque(maxlen=ENDED_SHOWN)
        self._backoff = backoff
        self._accepts = accepts
        self._give_up = give_up

    async def handle(self, child: Supervised, error: Exception | None) -> None:
        """Deal with the end of a child: accept it, hold the child while it is paused, or restart its group.

        Args:
            child: The child that came to its end, or fell ill.
            error: What was wrong with it; None for a normal end.
        """
        if child.spec.restart == "temporary" or (child.spec.restart == "transient" and error is None):
            child.become(child.state, error)
            await child.stop("ended")
            self._forget_temporary(child)
            return
        error = error or LifecycleError(f"the body of permanent child {child.name!r} returned")
        if not self._accepts(child):
            child.become(child.state, error)
            if not child.works:  # an ill one is left to what it has in flight
                await child.stop("held")
                child.owed = error
            return
        await self.restart(child, error)

    async def restart(self, child: Supervised, error: Exception) -> None:
        """Restart a child and whom it takes along, again and again until all are up or it is too often."""
        failed: tuple[Supervised, Exception] | None = (child, error)
        while failed is not None:
            child, error = failed
            child.become("restarting", error)
            if not self.intensity.bears(child.name):
                self._give_up(self._too_often(child, error), error)
                return
            child.owed = None
            failed = await self._restart_group(child)

    async def resume(self, child: Supervised) -> None:
        """Bring back a held child whose key takes work again."""
        if child.owed is not None:
            await self.restart(child, child.owed)
        elif (failed := await self._started(child, renew=False)) is not None:
            await self.restart(*failed)

    async def _restart_group(self, failed: Supervised) -> tuple[Supervised, Exception] | None:
        """Take down whom the failure takes along, wait, and start them; return whose start failed, and why."""
        group = self._group(failed) if failed in self.children else []
        renew = failed.renewable and group == [failed]
        if not renew:
            for member in reversed(group):
                await member.stop("restarting" if member is failed else "stopped")
                if member is not failed:
                    self._forget_temporary(member)
        await asyncio.sleep(self._backoff.delay_seconds(self.intensity.recent(failed.name)))
        for member in group:
            removed = member not in self.children
            if not removed and (again := await self._started(member, renew=renew)) is not None:
                return again
        return None

    async def _started(self, member: Supervised, *, renew: bool) -> tuple[Supervised, Exception] | None:
        if not self._accepts(member):
            if renew:
                member.become("running")  # it still works, as ill as it is; its next bad answer comes after the pause
            else:
                member.become("held")
            return None
        try:
            await (member.renew() if renew else member.start())
        except Exception as error:  # noqa: BLE001 - a start that fails is a failure of the child
            return member, error
        member.restarts += 1
        return None

    def _group(self, failed: Supervised) -> list[Supervised]:
        if self.strategy == "one_for_one":
            return [failed]
        first = 0 if self.strategy == "one_for_all" else self.children.index(failed)
        return [child for child in self.children[first:] if child.state != "retired"]

    def _forget_temporary(self, child: Supervised) -> None:
        if child.spec.restart == "temporary" and child in self.children:
            self.children.remove(child)
            self.ended.append(child.info())

    def _too_often(self, child: Supervised, error: Exception) -> LifecycleError:
        intensity = self.intensity
        return LifecycleError(
            f"supervision gave up: {intensity.recent()} failures within {intensity.window_seconds:g} s, "
            f"{intensity.max_restarts} are borne; the last was child {child.name!r}: {reason_of(error)}",
            "what the child logged before; raise max_restarts only if such failures are expected",
        )
