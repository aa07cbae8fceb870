"""SupervisedServices: the services that are selected are those that are supervised, also after a reload."""

import asyncio
from collections.abc import Callable, Coroutine
from typing import TYPE_CHECKING, Any

from oneiric.core.errors import OneiricError
from oneiric.runtime.logging import get_logger
from oneiric.runtime.reload import Consequences, SlotName
from oneiric.runtime.supervisor import LifecycleChild, ServiceSupervisor

if TYPE_CHECKING:
    from oneiric.app._app import App
    from oneiric.runtime.settings import LoadedSettings

__all__ = ["SupervisedServices"]


class SupervisedServices:
    """Start and supervise the services that are selected, by ``services.selections`` or for a tenant.

    Those are the services somebody counts on. A tenant's are those it has an instance of its own of.
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
        self._children: dict[SlotName, LifecycleChild] = {}
        self._adding = asyncio.Lock()
        self._changed = asyncio.Event()
        self._tasks: set[asyncio.Task[None]] = set()
        self._unsubscribe: tuple[Callable[[], None], ...] = ()
        self.supervisor = ServiceSupervisor(
            [self._child(slot) for slot in app.settings.supervised_services],
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
            self._app.follow(self),
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

    async def adopt(self, loaded: "LoadedSettings") -> None:
        """Start what these settings select and nobody supervises yet.

        Raises:
            LifecycleError: One did not start.
        """
        for slot in loaded.settings.supervised_services:
            await self._add(slot)

    def foresee(self, loaded: "LoadedSettings") -> Consequences:
        """Tell which services these settings would start, and which they would stop."""
        selected, supervised = loaded.settings.supervised_services, tuple(self._children)
        serving = {
            (status.domain, status.key, status.tenant)
            for status in self._app.lifecycle.all_statuses()
            if status.current_provider is not None and not status.beside
        }
        return Consequences(
            starts=tuple(slot for slot in selected if slot not in supervised and slot not in serving),
            stops=tuple(slot for slot in supervised if slot not in selected and slot in serving),
        )

    async def _add(self, slot: SlotName) -> None:
        async with self._adding:
            if slot in self._children:
                return
            try:
                await self.supervisor.add_child(self._child(slot))
            except BaseException:
                self._children.pop(slot, None)
                raise

    async def _converge(self) -> None:
        """Supervise what the settings in force select, and nothing else, after each reload, accepted or not."""
        while True:
            await self._changed.wait()
            self._changed.clear()
            selected = self._app.settings.supervised_services
            for slot in [slot for slot in self._children if slot not in selected]:
                self._spawn(self._remove(slot))  # its drain holds nobody up
            for slot in selected:
                try:
                    await self._add(slot)
                except OneiricError as error:
                    domain, key, tenant = slot
                    get_logger("oneiric.supervisor").error(
                        "service-not-started", service=f"{domain}:{key}", tenant=tenant, reason=str(error)
                    )

    async def _remove(self, slot: SlotName) -> None:
        child = self._children.pop(slot, None)
        if child is not None:
            child.forget = True
            log = get_logger("oneiric.supervisor")
            try:
                await self.supervisor.remove_child(child.name)
            except OneiricError as error:
                log.warning("service-not-let-go", service=child.name, reason=str(error))
            else:
                log.info("service-let-go", service=child.name)

    def _child(self, slot: SlotName) -> LifecycleChild:
        domain, key, tenant = slot
        child = self._children[slot] = LifecycleChild(self._app.lifecycle, domain, key, tenant=tenant)
        return child

    def _spawn(self, work: Coroutine[Any, Any, None]) -> None:
        task = asyncio.create_task(work, name="supervised services")
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
