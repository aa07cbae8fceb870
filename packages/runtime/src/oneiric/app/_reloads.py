"""Who follows reloads, and what is told of them: the metrics and the log."""

from collections.abc import Awaitable, Callable
from typing import Protocol

from oneiric.runtime.logging import get_logger
from oneiric.runtime.reload import Consequences, ReloadResult
from oneiric.runtime.settings import LoadedSettings
from oneiric.runtime.telemetry import Telemetry

__all__ = ["Follower", "Followers", "log_reload"]


class Follower(Protocol):
    """Puts in force what a reload does not itself."""

    def adopt(self, loaded: LoadedSettings) -> Awaitable[None]:
        """Put a configuration in force, once its instances serve; what it raises refuses the reload.

        It is told the former configuration again when the reload is refused.
        """

    def foresee(self, loaded: LoadedSettings) -> Consequences:
        """Tell what `adopt` would start, and what would be stopped after it; called in any thread."""


class Followers:
    """Those who follow the reloads of an application, in the order they came."""

    def __init__(self) -> None:
        self._followers: tuple[Follower, ...] = ()

    def add(self, follower: Follower) -> Callable[[], None]:
        """Add a follower and return the call that takes it away."""
        self._followers = (*self._followers, follower)

        def remove() -> None:
            self._followers = tuple(other for other in self._followers if other is not follower)

        return remove

    async def adopt(self, loaded: LoadedSettings) -> None:
        """Have each put a configuration in force."""
        for follower in self._followers:
            await follower.adopt(loaded)

    def foresee(self, loaded: LoadedSettings) -> Consequences:
        """Return what all of them would do."""
        told = [follower.foresee(loaded) for follower in self._followers]
        return Consequences(
            starts=tuple(slot for each in told for slot in each.starts),
            stops=tuple(slot for each in told for slot in each.stops),
        )


def log_reload(telemetry: Telemetry, result: ReloadResult) -> None:
    """Count and log how a reload ended."""
    telemetry.reloaded(accepted=result.accepted)
    log = get_logger("oneiric.app")
    if result.accepted:
        log.info("config-applied", version=result.version, by=result.by, swaps=len(result.plan.swaps))
    else:
        log.error("config-refused", version=result.version, by=result.by, reason=result.reason)
