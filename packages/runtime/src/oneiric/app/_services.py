"""SupervisedServices: the services that are selected are those that are supervised, also after a reload."""

import asyncio
from collections.abc import Callable, Coroutine
from typing import TYPE_CHECKING, Any

from oneiric.core.errors import OneiricError
from oneiric.runtime.logging import get_logger
from oneiric.runtime.supervisor import LifecycleChild, ServiceSupervisor

if TYPE_CHECKING:
    from oneiric.app._app import App
    from oneiric.runtime.settings import LoadedSettings

__all__ = ["SupervisedServices"]


class SupervisedServices:
    """Start and supervise what ``services.selections`` names: those are the services somebody counts on.

    A reload that selects another service starts it before it is accepted: one that does not start refuses the reload.
    One that is no longer selected is drained and stopped once the reload is accepted; a first use starts it again.

    Args:
        app: The application.

    Attributes:
        supervisor: Does the work.
    """

    name = "supervisor"

    def __init__(self, app: "App") -> None:
        settings = app.settings.runtime_supervisor
        self._app = app
        self._children: dict[str, LifecycleChild] = {}
        self._adding = asyncio.Lock()
        self._changed = asyncio.Event()
        self._tasks: set[asyncio.Task[None]] = set()
        self._unsubscribe: tuple[Callable[[], None], ...] = ()
        self.supervisor = ServiceSupervisor(
            [self._child(key) for key in app.settings.services.selections],
            strategy=settings.strategy,
            max_restarts=settings.max_restarts,
            window_seconds=settings.restart_window_seconds,
            store=app.activity,
            poll_interval=settings.poll_interval,
        )

    async def start(self) -> None:
        """Start the services in order, then follow the reloads.

        Raises:
            LifecycleError: One did not start; those that did are stopped.
        """
        await self.supervisor.start()
        self._unsubscribe = (
            self._app.follow(self._adopt),
            self._app.reloader.observe(lambda _: self._changed.set()),
        )
        self._changed.set()  # for a reload that came while they started
        self._spawn(self._converge())

    async def wait(self) -> None:
        """Return when it was stopped.

        Raises:
            LifecycleError: It gave up.
        """
        await self.supervisor.wait()

    async def stop(self) -> None:
        """Stop the services in reverse order. Safe at any time, and twice."""
        for unsubscribe in self._unsubscribe:
            unsubscribe()
        self._unsubscribe = ()
        tasks = tuple(self._tasks)
        for task in tasks:
            task.cancel()
        if tasks:
            await asyncio.wait(tasks)
        await self.supervisor.stop()

    async def _adopt(self, loaded: "LoadedSettings") -> None:
        for key in loaded.settings.services.selections:
            await self._add(key)

    async def _add(self, key: str) -> None:
        async with self._adding:
            if key in self._children:
                return
            try:
                await self.supervisor.add_child(self._child(key))
            except BaseException:
                self._children.pop(key, None)
                raise

    async def _converge(self) -> None:
        """Supervise what the settings in force select, and nothing else, after each reload, accepted or not."""
        while True:
            await self._changed.wait()
            self._changed.clear()
            selected = self._app.settings.services.selections
            for key in [key for key in self._children if key not in selected]:
                self._spawn(self._remove(key))  # its drain holds nobody up
            for key in selected:
                try:
                    await self._add(key)
                except OneiricError as error:
                    get_logger("oneiric.supervisor").error(
                        "service-not-started", service=f"service:{key}", reason=str(error)
                    )

    async def _remove(self, key: str) -> None:
        child = self._children.pop(key, None)
        if child is not None:
            child.forget = True
            log = get_logger("oneiric.supervisor")
            try:
                await self.supervisor.remove_child(child.name)
            except OneiricError as error:
                log.warning("service-not-let-go", service=child.name, reason=str(error))
            else:
                log.info("service-let-go", service=child.name)

    def _child(self, key: str) -> LifecycleChild:
        child = self._children[key] = LifecycleChild(self._app.lifecycle, "service", key)
        return child

    def _spawn(self, work: Coroutine[Any, Any, None]) -> None:
        task = asyncio.create_task(work, name="supervised services")
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
