"""Schedules of an application: a scheduler that fires into its tasks, workflows and events."""

import asyncio
from contextlib import suppress
from typing import TYPE_CHECKING, Final

from oneiric.core.errors import StoreError
from oneiric.domains import ScheduleTargets
from oneiric.runtime.logging import get_logger
from oneiric.runtime.scheduler import SCHEDULES_FILE, Scheduler, ScheduleStore

if TYPE_CHECKING:
    from oneiric.app._app import App

__all__ = ["ScheduledWork", "has_schedules"]

#: How much of the grace period slots that are being done have to end in.
_SHARE: Final = 0.5
#: How soon a store that could not be opened is tried again.
_RETRY_SECONDS: Final = 1.0


def has_schedules(app: "App") -> bool:
    """Tell whether the application fires schedules: it has a store for them, and is the system of its directory."""
    settings = app.settings.scheduler
    is_kept = app.state_dir is not None or settings.store_path is not None
    return settings.enabled and is_kept and not app.beside


class ScheduledWork:
    """Fire the schedules of the store; a part.

    A store that cannot be opened keeps nothing else from starting: it is logged, and tried again until it can.

    Args:
        app: The application; it must have a store for schedules, see `has_schedules`.
    """

    name = "scheduler"

    def __init__(self, app: "App") -> None:
        settings = app.settings.scheduler
        path = settings.store_path
        if path is None and app.state_dir is not None:
            path = app.state_dir / SCHEDULES_FILE
        targets = ScheduleTargets(app.tasks, app.workflows, app.events)
        self._scheduler = Scheduler(
            ScheduleStore(path),
            targets,
            catch_up_seconds=settings.catch_up_seconds,
            poll_seconds=settings.poll_seconds,
            refuses=targets.refuses,
            drain_seconds=app.settings.runtime_supervisor.shutdown_grace_seconds * _SHARE,
        )
        self._opening: asyncio.Task[None] | None = None

    async def start(self) -> None:
        """Begin to fire, as soon as the store can be opened."""
        try:
            await self._scheduler.start()
        except StoreError as error:
            get_logger("oneiric.scheduler").error("schedules-not-opened", reason=error.message)
            self._opening = asyncio.create_task(self._keep_opening(), name="open the schedules")

    async def wait(self) -> None:
        """Return or raise when it has ended by itself."""
        if self._opening is not None:
            await asyncio.shield(self._opening)
        await self._scheduler.wait()

    async def stop(self) -> None:
        """Claim no more, let what is being done end, and give back what does not."""
        if self._opening is not None:
            self._opening.cancel()
            await asyncio.wait([self._opening])
        await self._scheduler.stop()

    async def _keep_opening(self) -> None:
        is_open = False
        while not is_open:
            await asyncio.sleep(_RETRY_SECONDS)
            with suppress(StoreError):
                await self._scheduler.start()
                is_open = True
