"""RunningSystem: an application as a process of its own, from its first part to its exit code."""

import asyncio
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from oneiric.app._plane import AppPlane
from oneiric.app._serving import serving
from oneiric.core.errors import LifecycleError, MissingExtraError, OneiricError
from oneiric.runtime._ports import Part
from oneiric.runtime._role import RoleLock
from oneiric.runtime._signals import ProcessSignals
from oneiric.runtime.logging import configure_logging, get_logger
from oneiric.runtime.orchestrator import PartStatus, RuntimeOrchestrator
from oneiric.runtime.secrets import REDACTOR, SecretsRefresh
from oneiric.runtime.settings import secret_ids_of
from oneiric.runtime.state_files import HEALTH_FILE, TELEMETRY_FILE, HealthFile, RuntimeTelemetryRecorder
from oneiric.runtime.supervisor import LifecycleChild, ServiceSupervisor

if TYPE_CHECKING:
    from oneiric.app._app import App
    from oneiric.runtime.telemetry import OtelHandle

__all__ = ["OrchestrateOptions", "PlannedPart", "RunningSystem"]

#: What is left of the grace period for cleaning up, once the drains are over.
_CLEANUP_SHARE: Final = 0.25
_FORCED: Final = 128


@dataclass(frozen=True, slots=True, kw_only=True)
class PlannedPart:
    """A part that others bring to the system.

    Attributes:
        part: The part.
        after: Names of those it needs running: ``"app"`` for the instances, ``"http"`` for the server.
    """

    part: Part
    after: tuple[str, ...] = ("app",)


@dataclass(frozen=True, slots=True, kw_only=True)
class OrchestrateOptions:
    """How a system runs, beside what the settings say.

    Attributes:
        handle_signals: Whether SIGTERM and SIGINT stop it and SIGHUP reloads it; a host that has signal handlers of
            its own calls `RunningSystem.stop`.
        extend: Called with the app before anything starts; returns further parts.
        on_ready: Called with the system once it is ready.
    """

    handle_signals: bool = True
    extend: tuple[Callable[["App"], Iterable[PlannedPart]], ...] = ()
    on_ready: Callable[["RunningSystem"], object] | None = None


class RunningSystem:
    """Run an application: the order of its parts, its signals, and what becomes of the process.

    Args:
        app: The application; not entered yet.
        options: What the settings do not say.

    Attributes:
        app: The application.
        supervisor: Supervises the selected services, or None.
        plane: What the control API answers from.
        http: The HTTP server, or None.
    """

    def __init__(self, app: "App", options: OrchestrateOptions | None = None) -> None:
        self.app = app
        self._options = options or OrchestrateOptions()
        settings = app.settings
        self._orchestrator = RuntimeOrchestrator(
            grace_seconds=settings.runtime_supervisor.shutdown_grace_seconds, observe=self._part_changed
        )
        self.supervisor = _supervisor(app)
        self.plane = AppPlane(app, not_ready=self.not_ready, parts=self._orchestrator.parts, supervisor=self.supervisor)
        self._reloads: set[asyncio.Task[Any]] = set()
        self._otel: OtelHandle | None = None
        self.http, self._is_http_first = serving(app, self.plane, self.not_ready)
        self._plan()

    def _plan(self) -> None:
        """Hand every part to the orchestrator. HTTP comes first, so that probes are answered while the rest starts."""
        app, add = self.app, self._orchestrator.add
        settings, directory = app.settings, app.state_dir
        role: tuple[str, ...] = ()
        if directory is not None:
            add(RoleLock(directory))
            role = ("role",)
        # HTTP is there before the instances and after them: probes are answered while those start and drain.
        if self.http is not None and self._is_http_first:
            add(self.http, after=role)
            role = (*role, self.http.name)
        add(_AppPart(app, self._orchestrator), after=role)
        if self.http is not None and not self._is_http_first:
            add(self.http, after=("app",))
        if directory is not None:
            recorder = RuntimeTelemetryRecorder(directory / TELEMETRY_FILE, redact=REDACTOR.mask)
            app.observe(recorder)
            add(_RecorderPart(recorder, app), after=("app",))
            health = HealthFile(
                settings.runtime_paths.health_path or directory / HEALTH_FILE,
                statuses=app.lifecycle.all_statuses,
                activity=app.activity.snapshot,
                remote_enabled=settings.remote.enabled,
                redact=REDACTOR.mask,
            )
            app.observe(health.changed)
            app.activity.add_listener(lambda *_: health.changed())
            add(health, after=("app",))
        add(SecretsRefresh(app.secrets), after=("app",))
        if self.supervisor is not None:
            add(self.supervisor, after=("app",))
        if settings.profile.watchers_enabled and app.loaded.path is not None:
            from oneiric.runtime.watchers import watch_config  # noqa: PLC0415 - watchfiles, only where it watches

            add(watch_config(app.reloader, mode="auto"), after=("app",))
        for extend in self._options.extend:
            for planned in extend(app):
                add(planned.part, after=planned.after)

    def not_ready(self) -> list[str]:
        """Return why no work is taken, as codes; empty when it is."""
        if self._orchestrator.stopping:
            return ["stopping"]
        if not self._orchestrator.ready:
            waiting = [part.name for part in self._orchestrator.parts() if part.state != "running"]
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
        with ProcessSignals(stop=self.stop, force=self._orchestrator.force, reload=self._reload_by_signal) as signals:
            await self._run()
        return 0 if signals.forced is None else _FORCED + signals.forced

    def stop(self) -> None:
        """Ask it to stop in order; returns at once."""
        self._orchestrator.request_stop()

    async def _run(self) -> None:
        # Before the first part: what it logs belongs on stderr.
        configure_logging(self.app.settings.logging, app=self.app.settings.app)
        self._set_up_telemetry()
        announced = asyncio.create_task(self._announce())
        try:
            await self._orchestrator.run()
        finally:
            announced.cancel()
            self.plane.close()
            if self._otel is not None:
                self._otel.shutdown()

    async def _announce(self) -> None:
        await self._orchestrator.became_ready.wait()
        port = None if self.http is None else self.http.port
        get_logger("oneiric.app").info("ready", parts=len(self._orchestrator.parts()), port=port)
        if self._options.on_ready is not None:
            self._options.on_ready(self)

    def _set_up_telemetry(self) -> None:
        from oneiric.runtime.telemetry import setup_otel  # noqa: PLC0415 - the SDK is slow to load

        try:
            self._otel = setup_otel(self.app.settings)
        except (MissingExtraError, LifecycleError):
            self._otel = None  # no SDK, or the host has set one up: metrics are the host's

    def _reload_by_signal(self) -> None:
        task = asyncio.create_task(self.app.reload(by="SIGHUP"), name="reload by SIGHUP")
        self._reloads.add(task)
        task.add_done_callback(self._reloads.discard)

    def _part_changed(self, status: PartStatus) -> None:
        log = get_logger("oneiric.app")
        if status.state == "failed":
            log.error("part-failed", part=status.name, reason=status.error)
        else:
            log.debug("part", part=status.name, state=status.state)


class _AppPart:
    """The instances: opened before whatever uses them, and closed inside what is left of the grace period."""

    name = "app"

    def __init__(self, app: "App", orchestrator: RuntimeOrchestrator) -> None:
        self._app = app
        self._orchestrator = orchestrator

    async def start(self) -> None:
        await self._app.__aenter__()
        try:
            await self._app.secrets.prefetch(secret_ids_of(self._app.loaded))
        except OneiricError as error:
            # Whoever needs it fails with it; that may be nobody.
            get_logger("oneiric.app").warning("secrets-not-fetched", reason=str(error))

    async def stop(self) -> None:
        await self._app.aclose(drain_seconds=self._orchestrator.remaining_seconds * (1 - _CLEANUP_SHARE))


class _RecorderPart:
    """Notes reloads, and writes the file a last time."""

    name = "telemetry-file"

    def __init__(self, recorder: RuntimeTelemetryRecorder, app: "App") -> None:
        self._recorder = recorder
        self._app = app
        self._unsubscribe: Callable[[], None] | None = None

    async def start(self) -> None:
        self._unsubscribe = self._app.reloader.observe(
            lambda result: self._recorder.reload(
                accepted=result.accepted,
                version=result.version,
                digest=result.digest,
                by=result.by,
                reason=result.reason,
            )
        )
        await self._recorder.flush()

    async def stop(self) -> None:
        if self._unsubscribe is not None:
            self._unsubscribe()
        await self._recorder.flush()


def _supervisor(app: "App") -> ServiceSupervisor | None:
    """Return a supervisor of the services that are selected in the settings: those somebody counts on."""
    settings = app.settings.runtime_supervisor
    if not (settings.enabled and app.settings.profile.supervisor_enabled):
        return None
    return ServiceSupervisor(
        [LifecycleChild(app.lifecycle, "service", key) for key in app.settings.services.selections],
        strategy=settings.strategy,
        max_restarts=settings.max_restarts,
        window_seconds=settings.restart_window_seconds,
        store=app.activity,
        poll_interval=settings.poll_interval,
    )
