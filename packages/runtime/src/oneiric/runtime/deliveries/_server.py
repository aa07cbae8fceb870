"""SchedulerHTTPServer: the two deliveries behind a server of their own, for a process that serves nothing else."""

from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING

from oneiric.runtime.dead_letters import DeadLetterStore
from oneiric.runtime.deliveries._apps import (
    DispatchesEvents,
    EventDeliveries,
    WorkflowDeliveries,
    WorkflowTaskProcessor,
)
from oneiric.runtime.deliveries._store import DeliveryStore
from oneiric.runtime.events import EventEnvelope
from oneiric.runtime.http._asgi import ASGIApp

if TYPE_CHECKING:
    from oneiric.runtime.settings import HttpSettings

__all__ = ["EVENTS_PATH", "WORKFLOWS_PATH", "SchedulerHTTPServer", "delivery_mounts"]

WORKFLOWS_PATH = "/tasks/workflow"
EVENTS_PATH = "/events/push"


def delivery_mounts(
    store: DeliveryStore,
    dead_letters: DeadLetterStore,
    *,
    processor: WorkflowTaskProcessor | None = None,
    events: DispatchesEvents | None = None,
    default_topic: str | None = None,
    refuses: Callable[[EventEnvelope], str | None] | None = None,
) -> dict[str, ASGIApp]:
    """Return the deliveries there is somebody for, by path: ``build_app(mounts=delivery_mounts(…))``.

    Args:
        store: What deliveries came to; open while they are served.
        dead_letters: Keeps what can never be done; open as well.
        processor: Runs workflows.
        events: Gives events to their handlers.
        default_topic: As of `EventDeliveries`, as is *refuses*.
        refuses: Why nobody takes an event now.
    """
    mounts: dict[str, ASGIApp] = {}
    if processor is not None:
        mounts[WORKFLOWS_PATH] = WorkflowDeliveries(processor, store, dead_letters)
    if events is not None:
        mounts[EVENTS_PATH] = EventDeliveries(events, store, dead_letters, default_topic=default_topic, refuses=refuses)
    return mounts


class SchedulerHTTPServer:
    """Serve deliveries, probes and nothing else; a part that runs between `start` and `stop`.

    It authenticates and bounds requests as the control API does, because it is the same server: on any address but a
    loopback one it does not start without ``settings.auth``.

    Args:
        processor: Runs workflows, or None.
        settings: Where it listens, who may ask, and how much.
        store: What deliveries came to; opened by `start` and closed by `stop`.
        dead_letters: Keeps what can never be done; likewise.
        events: Gives events to their handlers, or None.
        default_topic: As of `EventDeliveries`, as is *refuses*.
        refuses: Why nobody takes an event now.
        readiness: Why no work can be taken, as codes; empty when it can.
    """

    name = "deliveries"

    def __init__(
        self,
        processor: WorkflowTaskProcessor | None,
        *,
        settings: "HttpSettings",
        store: DeliveryStore,
        dead_letters: DeadLetterStore,
        events: DispatchesEvents | None = None,
        default_topic: str | None = None,
        refuses: Callable[[EventEnvelope], str | None] | None = None,
        readiness: Callable[[], Iterable[str]] = tuple,
    ) -> None:
        from oneiric.runtime.http import HttpServer, build_app  # noqa: PLC0415 - loaded by whoever serves

        self._store, self._dead_letters = store, dead_letters
        mounts = delivery_mounts(
            store, dead_letters, processor=processor, events=events, default_topic=default_topic, refuses=refuses
        )
        app = build_app(None, settings=settings, mounts=mounts, readiness=readiness)
        self._server = HttpServer(app, settings)

    @property
    def port(self) -> int:
        """The port it listens on.

        Raises:
            LifecycleError: It listens on none.
        """
        return self._server.port

    async def start(self) -> None:
        """Open the stores and listen.

        Raises:
            StoreError: A store cannot be opened.
            ConfigurationError: The address cannot be bound, or would be open to everybody.
            MissingExtraError: uvicorn is not installed.
        """
        try:
            await self._store.open()
            await self._dead_letters.open()
            await self._server.start()
        except BaseException:
            await self.stop()
            raise

    async def stop(self) -> None:
        """Stop listening, let what is being done end, and close the stores; safe twice."""
        try:
            await self._server.stop()
        finally:
            await self._store.aclose()
            await self._dead_letters.aclose()
