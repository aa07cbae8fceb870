"""RunningSystem: an application as a process of its own, from its first part to its exit code.

Probes are answered before the application is loaded: only the settings, the state directory's lock and the server
come first. What is heavy (instances, telemetry, watchers) is loaded by one part that starts after them.
"""

import asyncio
import sys
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from oneiric.app._serving import LatePlane, serving
from oneiric.core.errors import OneiricError
from oneiric.runtime._ports import Part
from oneiric.runtime._role import RoleLock
from oneiric.runtime._signals import ProcessSignals
from oneiric.runtime.orchestrator import PartStatus, RuntimeOrchestrator

if TYPE_CHECKING:
    from oneiric.app._app import App
    from oneiric.app._system import System
    from oneiric.runtime.settings import LoadedSettings

__all__ = ["OrchestrateOptions", "PlannedPart", "RunningSystem"]

_FORCED: Final = 128
#: How soon a thread that loads lets the event loop go on; a probe takes several turns.
_LOADING_SWITCH_SECONDS: Final = 0.0005


@dataclass(frozen=True, slots=True, kw_only=True)
class PlannedPart:
    """A part that others bring to the system.

    Attributes:
        part: The part.
        after: Names of those it needs running; ``"app"`` for the instances.
    """

    part: Part
    after: tuple[str, ...] = ("app",)


@dataclass(frozen=True, slots=True, kw_only=True)
class OrchestrateOptions:
    """How a system runs, beside what the settings say.

    Attributes:
        handle_signals: Whether SIGTERM and SIGINT stop it and SIGHUP reloads it; a host that has signal handlers of
            its own calls `RunningSystem.stop`.
        extend: Called with the app before its parts start; returns further parts.
        on_ready: Called with the system once it is ready.
        beside: Run beside the orchestrator of the state directory, if there is one: share its stores, and take neither
            its role nor its socket, its files, its services or its schedules.
    """

    handle_signals: bool = True
    extend: tuple[Callable[["App"], Iterable[PlannedPart]], ...] = ()
    on_ready: Callable[["RunningSystem"], object] | None = None
    beside: bool = False


class RunningSystem:
    """Run an application: the order of its parts, its signals, and what becomes of the process.

    Args:
        loaded: The application's settings.
        make_app: Makes the application, not entered yet; called in a thread, once the server is there.
        keep_state: Whether there is a state directory: a lock on it, and a control socket in it.
        options: What the settings do not say.

    Attributes:
        loaded: The settings it started with.
        system: The application and its parts, once they are loaded.
        remaining_seconds: What was left of the grace period when it had stopped.
    """

    def __init__(
        self,
        loaded: "LoadedSettings",
        make_app: Callable[[], "App"],
        *,
        keep_state: bool,
        options: OrchestrateOptions | None = None,
    ) -> None:
        self.loaded = loaded
        self.system: System | None = None
        self._make_app = make_app
        self._options = options or OrchestrateOptions()
        self._plane = LatePlane(self.not_ready)
        self._reloads: set[asyncio.Task[Any]] = set()
        grace = loaded.settings.runtime_supervisor.shutdown_grace_seconds
        self.remaining_seconds = grace
        self._orchestrator = RuntimeOrchestrator(grace_seconds=grace)
        self._loading = _Loading(self)
        self.http, is_first = serving(self, keep_state=keep_state, plane=self._plane)
        before: tuple[str, ...] = ()
        if keep_state:
            self._orchestrator.add(RoleLock(loaded.settings.state_dir, retaken=self._role_retaken))
            before = ("role",)
        # HTTP is there before the instances and after them: probes are answered while those start and drain.
        if self.http is not None and is_first:
            self._orchestrator.add(self.http, after=before)
            before = (*before, self.http.name)
        self._orchestrator.add(self._loading, after=before)
        if self.http is not None and not is_first:
            self._orchestrator.add(self.http, after=(self._loading.name,))

    def parts(self) -> tuple[PartStatus, ...]:
        """Return the status of every part that is known by now."""
        own = tuple(part for part in self._orchestrator.parts() if part.name != self._loading.name)
        return own if self.system is None else (*own, *self.system.orchestrator.parts())

    def not_ready(self) -> list[str]:
        """Return why no work is taken, as codes; empty when it is."""
        if self._orchestrator.stopping:
            return ["stopping"]
        if not self._orchestrator.ready:
            waiting = [part.name for part in self.parts() if part.state != "running"]
            return [f"starting:{name}" for name in waiting] or ["starting"]
        return []

    async def run(self) -> int:
        """Run until told to stop.

        Returns:
            0 after an orderly stop, 128 plus the signal's number after a forced one.

        Raises:
            LifecycleError: A part did not start, or broke down; everything is stopped.
        """
        if not self._options.handle_signals:
            await self._run()
            return 0
        grace = self.loaded.settings.runtime_supervisor.shutdown_grace_seconds
        with ProcessSignals(
            stop=self.stop, force=self.force, reload=self._reload_by_signal, grace_seconds=grace
        ) as signals:
            await self._run()
        return 0 if signals.forced is None else _FORCED + signals.forced

    def stop(self) -> None:
        """Ask it to stop in order; returns at once."""
        self._orchestrator.request_stop()

    def fail(self, reason: str) -> None:
        """Ask it to stop in order because of what a component did, and to exit with 1; returns at once."""
        from oneiric.runtime.logging import get_logger  # noqa: PLC0415 - loaded by now

        get_logger("oneiric.app").error("task-exited", reason=reason)
        self._orchestrator.fail(reason)

    def force(self) -> None:
        """Ask it to stop at once."""
        if self.system is not None:
            self.system.orchestrator.force()
        self._orchestrator.force()

    async def _run(self) -> None:
        announced = asyncio.create_task(self._announce())
        try:
            await self._orchestrator.run()
        finally:
            announced.cancel()
            await asyncio.wait((announced,))
            self.remaining_seconds = self._orchestrator.remaining_seconds
        if not announced.cancelled():
            announced.result()

    async def _announce(self) -> None:
        await self._orchestrator.became_ready.wait()
        from oneiric.runtime.logging import get_logger  # noqa: PLC0415 - loaded by now

        port = self.http.port if self.http is not None and self.loaded.settings.http.enabled else None
        get_logger("oneiric.app").info("ready", parts=len(self.parts()), port=port)
        try:
            if self._options.on_ready is not None:
                self._options.on_ready(self)
        except Exception:
            self.stop()  # `_run` raises it
            raise

    async def _role_retaken(self) -> None:
        from oneiric.runtime.logging import get_logger  # noqa: PLC0415 - loaded by now

        get_logger("oneiric.app").warning("state-directory-was-removed", directory=str(self.loaded.settings.state_dir))
        if self.http is not None:
            await self.http.listen_again()

    def _reload_by_signal(self) -> None:
        if self.system is not None:
            task = asyncio.create_task(_reloaded(self.system.app), name="reload by SIGHUP")
            self._reloads.add(task)
            task.add_done_callback(self._reloads.discard)


async def _reloaded(app: "App") -> None:
    try:
        await app.reload(by="SIGHUP")
    except OneiricError as error:
        from oneiric.runtime.logging import get_logger  # noqa: PLC0415 - loaded by now

        get_logger("oneiric.app").warning("not-reloaded", by="SIGHUP", reason=str(error))


class _Loading:
    """The application: loaded in a thread while probes are answered, then started part by part."""

    name = "application"

    def __init__(self, running: RunningSystem) -> None:
        self._running = running

    async def start(self) -> None:
        running = self._running
        interval = sys.getswitchinterval()
        sys.setswitchinterval(_LOADING_SWITCH_SECONDS)
        try:
            system = await asyncio.to_thread(self._load)
        finally:
            sys.setswitchinterval(interval)
        running.system = system
        running._plane.become(system.plane)  # noqa: SLF001 - one module
        await system.orchestrator.start()

    def _load(self) -> "System":
        from oneiric.app._system import System  # noqa: PLC0415 - heavy, and loaded in a thread for that

        running = self._running
        return System(running._make_app(), running._options, not_ready=running.not_ready, parts=running.parts)  # noqa: SLF001 - one module

    async def wait(self) -> None:
        system = self._running.system
        if system is not None:
            await system.orchestrator.wait()

    async def stop(self) -> None:
        system = self._running.system
        if system is not None:
            await system.stop()
