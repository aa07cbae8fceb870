"""ActivityRefresh: what other processes pause is noticed in this one."""

import asyncio

from oneiric.runtime.activity import DomainActivityStore
from oneiric.runtime.logging import get_logger

__all__ = ["ActivityRefresh"]


class ActivityRefresh:
    """Read the activity store again and again, whether or not anything is supervised.

    Args:
        store: The store.
        poll_interval: Seconds between two looks.
    """

    def __init__(self, store: DomainActivityStore, poll_interval: float) -> None:
        self._store = store
        self._poll_interval = poll_interval
        self._task: asyncio.Task[None] | None = None

    def start(self) -> None:
        """Begin; the first look comes after an interval."""
        if self._task is None:
            self._task = asyncio.create_task(self._run(), name="refresh of activity")

    async def stop(self) -> None:
        """End. Safe to call twice."""
        task, self._task = self._task, None
        if task is not None:
            task.cancel()
            await asyncio.wait((task,))

    async def _run(self) -> None:
        while True:
            await asyncio.sleep(self._poll_interval)
            try:
                await self._store.refresh()
            except Exception as error:  # noqa: BLE001 - one look that fails must not end all that would follow
                get_logger("oneiric.activity").error("activity-not-read", reason=type(error).__name__)
