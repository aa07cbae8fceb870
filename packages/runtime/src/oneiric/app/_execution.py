"""Execution: what an application keeps of events and workflows, and the engine that runs the latter."""

import asyncio
from collections.abc import Callable
from pathlib import Path
from typing import Final

from oneiric.core.errors import ConfigurationError, StoreError
from oneiric.domains import JobQueue
from oneiric.domains._workflows import ActiveWorkflows, BridgeRunner
from oneiric.runtime.dead_letters import DEAD_LETTERS_FILE, DeadLetterStore
from oneiric.runtime.deliveries import DELIVERIES_FILE, DeliveryStore
from oneiric.runtime.settings import OneiricSettings
from oneiric.runtime.state_files import WorkflowRecord
from oneiric.runtime.workflows import LocalWorkflowEngine, WorkflowCheckpointStore, WorkflowEngine

__all__ = ["Execution", "queue_key"]

_CHECKPOINTS: Final = "workflow_checkpoints.sqlite"
_LOCAL: Final = "local"
_QUEUE: Final = "queue"
#: How soon a store that could not be opened is tried again: a disk that was full heals without anybody's help.
_RETRY_SECONDS: Final = 1.0


def queue_key(settings: OneiricSettings) -> str:
    """Return the key of the adapter that carries jobs."""
    options = settings.workflows.options
    found = options.get("queue_category") or options.get("default_queue_category") or _QUEUE
    return str(found)


class Execution:
    """Keep the progress of workflows, the dead letters of events, and what deliveries came to.

    Args:
        settings: The application's.
        state_dir: Where its state files are, or None for nowhere: then nothing survives the process.

    Attributes:
        checkpoints: The progress of workflows, or None.
        dead_letters: What no handler took, and what was delivered and can never be done.
        deliveries: What deliveries came to, so that each is done once.

    Raises:
        ConfigurationError: ``engine.name`` is none there is.
    """

    def __init__(self, settings: OneiricSettings, state_dir: Path | None) -> None:
        if settings.engine.name != _LOCAL:
            raise ConfigurationError(
                f"there is no workflow engine {settings.engine.name!r}", f"engine.name: {_LOCAL}", key="engine.name"
            )
        self._max_parallel = settings.engine.max_parallel_nodes
        self._observers: list[Callable[[WorkflowRecord], object]] = []
        paths = settings.runtime_paths
        configured = paths.workflow_checkpoints_path
        path = configured or (None if state_dir is None else state_dir / _CHECKPOINTS)
        self.checkpoints: WorkflowCheckpointStore | None = None
        if path is not None and paths.workflow_checkpoints_enabled:
            self.checkpoints = WorkflowCheckpointStore(path, durability=settings.engine.durability)
        self.dead_letters = DeadLetterStore(None if state_dir is None else state_dir / DEAD_LETTERS_FILE)
        self.deliveries = DeliveryStore(None if state_dir is None else state_dir / DELIVERIES_FILE)
        kept = (self.checkpoints, self.dead_letters, self.deliveries)
        self._stores = [store for store in kept if store is not None]
        #: Stores that are not open → why not.
        self._closed = dict.fromkeys(self._stores, "")
        self._healing: asyncio.Task[None] | None = None

    def observe(self, observer: Callable[[WorkflowRecord], object]) -> None:
        """Have *observer* told of every run that ends; it must not raise."""
        self._observers.append(observer)

    def engine(self, queue: JobQueue, runner: BridgeRunner, definitions: ActiveWorkflows) -> WorkflowEngine:
        """Return the engine that runs workflows in this process."""
        return LocalWorkflowEngine(
            runner,
            definitions,
            checkpoints=self.checkpoints,
            queue=queue,
            max_parallel=self._max_parallel,
            observe=self._tell,
        )

    async def open(self) -> None:
        """Open what is kept; what cannot be opened is a `problem`, and tried again until it can."""
        await self._open_closed()
        if self._closed:
            self._healing = asyncio.create_task(self._heal(), name="open the stores of execution")

    async def _open_closed(self) -> None:
        for store in tuple(self._closed):
            try:
                await store.open()
            except StoreError as error:
                self._closed[store] = error.message
            else:
                del self._closed[store]

    async def _heal(self) -> None:
        while self._closed:
            await asyncio.sleep(_RETRY_SECONDS)
            await self._open_closed()

    @property
    def problem(self) -> str | None:
        """What keeps runs and dead letters from being kept, as a sentence; None if all is well."""
        return "; ".join(self._closed.values()) or None

    async def aclose(self) -> None:
        """Close what is kept; the engine first. Safe to call twice."""
        if self._healing is not None:
            self._healing.cancel()
            await asyncio.wait([self._healing])
        for store in self._stores:
            await store.aclose()

    def _tell(self, record: WorkflowRecord) -> None:
        for observer in self._observers:
            observer(record)
