"""System: an application with everything that runs beside it: files, supervision, watchers, what others bring."""

import asyncio
from collections.abc import Callable
from typing import TYPE_CHECKING, Final

from oneiric.app._app import App
from oneiric.app._plane import AppPlane
from oneiric.app._remote import is_wanted, remote_part
from oneiric.app._schedules import ScheduledWork, has_schedules
from oneiric.app._services import SupervisedServices
from oneiric.core.errors import LifecycleError, MissingExtraError, OneiricError
from oneiric.runtime.events import event_record
from oneiric.runtime.logging import configure_logging, get_logger
from oneiric.runtime.orchestrator import PartStatus, RuntimeOrchestrator
from oneiric.runtime.secrets import REDACTOR, SecretsRefresh
from oneiric.runtime.settings import secret_ids_of
from oneiric.runtime.state_files import HEALTH_FILE, TELEMETRY_FILE, HealthFile, RuntimeTelemetryRecorder
from oneiric.runtime.supervisor import ChildEvent
from oneiric.runtime.telemetry import count, setup_otel

if TYPE_CHECKING:
    from oneiric.app._running import OrchestrateOptions
    from oneiric.runtime.telemetry import OtelHandle

__all__ = ["System"]

#: What is left of the grace period for cleaning up, once the drains are over.
_CLEANUP_SHARE: Final = 0.25
#: How long instances that are being started when the process is told to stop may still take.
_STARTS_SECONDS: Final = 5.0


class System:
    """An application and the parts that run beside it.

    Args:
        app: The application; not entered yet.
        options: What the settings do not say.
        not_ready: Why the process takes no work, as codes.
        parts: The status of every part of the process.

    Attributes:
        app: The application.
        orchestrator: Starts and stops the parts.
        supervisor: Supervises the selected services, or None.
        plane: What the control API answers from.
    """

    def __init__(
        self,
        app: App,
        options: "OrchestrateOptions",
        *,
        not_ready: Callable[[], list[str]],
        parts: Callable[[], tuple[PartStatus, ...]],
    ) -> None:
        self.app = app
        settings = app.settings
        # Before the first part: what it logs belongs on stderr.
        configure_logging(settings.logging, app=settings.app)
        self.orchestrator = RuntimeOrchestrator(
            grace_seconds=settings.runtime_supervisor.shutdown_grace_seconds, observe=_log_part
        )
        self._services = _services(app)
        self.supervisor = None if self._services is None else self._services.supervisor
        self.plane = AppPlane(app, not_ready=not_ready, parts=parts, supervisor=self.supervisor)
        if self.supervisor is not None:
            self.supervisor.observe(self._child_changed)
        self._otel = _otel(app)
        self._unwatch: Callable[[], object] = int
        try:
            self._plan(options)
        except BaseException:
            # Nobody gets to stop what never came to be: the process must be able to try again.
            self._unwatch()
            if self._otel is not None:
                self._otel.shutdown()
            raise

    def _plan(self, options: "OrchestrateOptions") -> None:
        app, add = self.app, self.orchestrator.add
        settings, directory = app.settings, app.state_dir
        add(_AppPart(app, self.orchestrator))
        health: HealthFile | None = None
        if directory is not None and not app.beside:
            recorder = RuntimeTelemetryRecorder(directory / TELEMETRY_FILE, redact=REDACTOR.mask)
            app.observe(recorder)
            app.execution.observe(recorder.workflow)
            app.events.observe(lambda report: recorder.event(event_record(report)))
            add(_RecorderPart(recorder, app), after=("app",))
            health = HealthFile(
                settings.runtime_paths.health_path or directory / HEALTH_FILE,
                statuses=app.lifecycle.all_statuses,
                activity=app.activity.snapshot,
                remote_enabled=is_wanted(settings),
                redact=REDACTOR.mask,
            )
            app.observe(health.changed)
            app.activity.add_listener(lambda *_: health.changed())
            add(health, after=("app",))
        add(SecretsRefresh(app.secrets), after=("app",))
        before_services: tuple[str, ...] = ("app",)
        if is_wanted(settings) and not app.beside:
            # Services may come from a manifest: the last good one is in force before they start.
            remote = remote_part(app, health)
            self._unwatch = app.remote.watch()
            app.remote.loader.observe(lambda ended: self.plane.feed.publish("remote-synced", ended.as_dict()))
            add(remote, after=("app",))
            before_services = ("app", remote.name)
        elif settings.remote.enabled and settings.remote.manifest_url is not None and not app.beside:
            if app.loaded.origin_of(("remote", "manifest_url")).kind == "argument":
                app.remote.check(app.remote.url)  # it was named for this start: that nothing comes of it is an error
            get_logger("oneiric.remote").warning("remote-off", reason=settings.why_remote_is_off)
        if self._services is not None:
            add(self._services, after=before_services)
        if has_schedules(app):
            add(ScheduledWork(app), after=before_services)
        if settings.profile.watchers_enabled and app.loaded.path is not None:
            from oneiric.runtime.watchers import watch_config  # noqa: PLC0415 - watchfiles, only where it watches

            add(watch_config(app.reloader), after=("app",))
        for extend in options.extend:
            for planned in extend(app):
                add(planned.part, after=planned.after)

    def _child_changed(self, event: ChildEvent) -> None:
        self.plane.feed.publish(
            "service-changed", {"at": event.at, "service": event.name, "state": event.state, "error": event.error}
        )
        if event.state == "restarting":
            count("oneiric_supervisor_restarts_total", child=event.name)
            get_logger("oneiric.supervisor").warning("service-restarting", service=event.name, reason=event.error)

    async def stop(self) -> None:
        """Stop every part, and what watched them."""
        seconds = min(_STARTS_SECONDS, self.orchestrator.remaining_seconds / 4)
        ending = asyncio.get_running_loop().call_later(seconds, self.app.lifecycle.end_changes)
        try:
            await self.orchestrator.stop()
        finally:
            ending.cancel()
            self.plane.close()
            self._unwatch()
            otel, self._otel = self._otel, None
            if otel is not None:
                await asyncio.to_thread(otel.shutdown)  # it may wait for an exporter


class _AppPart:
    """The instances: opened before whatever uses them, and closed inside what is left of the grace period."""

    name = "app"

    def __init__(self, app: App, orchestrator: RuntimeOrchestrator) -> None:
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

    def __init__(self, recorder: RuntimeTelemetryRecorder, app: App) -> None:
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


def _services(app: App) -> SupervisedServices | None:
    settings = app.settings
    if app.beside:
        return None  # the system it runs beside has them
    if settings.supervises:
        return SupervisedServices(app)
    return None


def _otel(app: App) -> "OtelHandle | None":
    try:
        return setup_otel(app.settings)
    except (MissingExtraError, LifecycleError):
        return None  # no SDK, or the process has set one up: metrics are its own


def _log_part(status: PartStatus) -> None:
    log = get_logger("oneiric.app")
    if status.state == "failed":
        log.error("part-failed", part=status.name, reason=status.error)
    else:
        log.debug("part", part=status.name, state=status.state)
