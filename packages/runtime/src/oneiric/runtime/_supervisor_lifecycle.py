"""LifecycleChild: a component of a lifecycle as a supervised child, renewed when it falls ill."""

from collections.abc import Callable

from oneiric.core.events import Bound, Retired
from oneiric.core.lifecycle import LifecycleManager
from oneiric.core.resolution import Key
from oneiric.runtime._supervision import ChildSpec, RestartPolicy

__all__ = ["LifecycleChild"]

#: For a lifecycle that waits without a deadline: a stop needs one.
LONGEST_STOP_SECONDS = 60.0


class LifecycleChild:
    """Start, watch, renew and stop what serves for a key.

    A renewal is a swap: the ill instance serves until a healthy one is bound, and no call is dropped. It keeps the
    provider an operator swapped to, else the one the configuration chooses. A key that an operator retired is left
    alone, and reported as retired, until a swap or an activation brings it back.

    A tenant's child stands for the instance that the tenant has of its own. Where the tenant's selection is taken away
    the lifecycle retires that instance; the base one, which serves the tenant from then on, is not touched.

    Args:
        lifecycle: Holds the instance; its own deadlines bound each step.
        domain: A domain, or a `Key` that names both.
        key: The key, when *domain* is a string.
        tenant: Whose instance; by default the base one.
        restart: Whether it is restarted; see `ChildSpec`.
        unhealthy_after: So many bad answers…
        unhealthy_of: …among so many latest ones are a failure.

    Attributes:
        forget: Whether a stop leaves the key as if it was never used, so that a first use starts it again; by default
            it stays retired.
    """

    def __init__(
        self,
        lifecycle: LifecycleManager,
        domain: str | Key[object],
        key: str | None = None,
        *,
        tenant: str | None = None,
        restart: RestartPolicy = "permanent",
        unhealthy_after: int = 3,
        unhealthy_of: int = 3,
    ) -> None:
        target = domain if isinstance(domain, Key) else Key[object](domain, key or "")
        self._lifecycle = lifecycle
        self._target = (target.domain, target.name)
        self._tenant = tenant
        timeouts = lifecycle.timeouts
        stop = (timeouts.drain_seconds, timeouts.cleanup_seconds)
        self.forget = False
        self.name = f"{target}" + (f" of {tenant}" if tenant else "")
        self.spec = ChildSpec(
            child=self,
            restart=restart,
            start_seconds=None,
            shutdown_seconds=sum(LONGEST_STOP_SECONDS if seconds is None else seconds for seconds in stop) + 1,
            health_seconds=LONGEST_STOP_SECONDS if timeouts.health_seconds is None else timeouts.health_seconds + 1,
            unhealthy_after=unhealthy_after,
            unhealthy_of=unhealthy_of,
            activity=self._target,
        )

    async def start(self) -> None:
        """Activate the key, unless it serves already.

        Raises:
            ResolutionError: Nothing can be chosen.
            ActivationError: A step failed.
        """
        await self._lifecycle.activate(*self._target, tenant=self._tenant)

    async def health(self) -> bool | None:
        """Ask what serves for its health; None when nothing serves."""
        if not self._serves:
            return None
        return await self._lifecycle.probe_instance_health(*self._target, tenant=self._tenant)

    async def restart(self) -> None:
        """Swap to a new generation.

        Raises:
            ResolutionError: Nothing can be chosen.
            SwapError: A step failed; the ill instance serves.
        """
        if not self._serves:
            return  # what was ill is gone
        selection = self._lifecycle.resolver.selection_for(*self._target, tenant=self._tenant)
        by_hand = selection.provider if selection is not None and selection.origin == "swap" else None
        await self._lifecycle.swap(*self._target, by_hand, tenant=self._tenant, by="supervisor")

    def watch(self, moved: Callable[[bool], None]) -> Callable[[], None]:
        """Tell *moved* whether the key serves: now, and whenever it is retired or bound; return what ends that."""
        slot = (*self._target, self._tenant)

        def look(event: object) -> None:
            if isinstance(event, Bound | Retired) and (event.domain, event.key, event.tenant) == slot:
                moved(self._serves)

        unwatch = self._lifecycle.observe(look)
        moved(self._serves)
        return unwatch

    async def stop(self) -> None:
        """Retire the key: what serves is drained and cleaned up."""
        if self._serves:
            await self._lifecycle.retire(*self._target, tenant=self._tenant, forget=self.forget)

    @property
    def _serves(self) -> bool:
        # Asked for a tenant that has no selection of its own, a lifecycle answers for the base.
        status = self._lifecycle.get_status(*self._target, tenant=self._tenant)
        return status.tenant == self._tenant and status.current_provider is not None

    def __repr__(self) -> str:
        return f"<LifecycleChild {self.name}>"
