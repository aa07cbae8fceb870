"""App: the front door for Python users."""

import os
from collections.abc import Callable, Iterable, Mapping
from contextlib import AbstractAsyncContextManager, AsyncExitStack
from functools import partial
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any, Final, Self

from oneiric.app._activity_refresh import ActivityRefresh
from oneiric.app._execution import Execution, queue_key
from oneiric.app._reloads import Follower, Followers, log_reload
from oneiric.app._remote import Remote, restore_beside
from oneiric.core.catalog import DiscoveryReport, discover, register_modules
from oneiric.core.errors import LifecycleError
from oneiric.core.lifecycle import LifecycleHooks, LifecycleManager, LifecycleTimeouts
from oneiric.core.resolution import Resolver
from oneiric.domains import (
    ActionBridge,
    AdapterBridge,
    DomainBridge,
    EventBridge,
    JobProcessor,
    JobQueue,
    ServiceBridge,
    TaskBridge,
    WorkflowBridge,
)
from oneiric.runtime.activity import DomainActivityStore
from oneiric.runtime.logging import configure_logging, get_logger, log_event
from oneiric.runtime.notifications import NotificationRouter, default_adapter_key
from oneiric.runtime.reload import ConfigReloader, ReloadResult
from oneiric.runtime.secrets import REDACTOR, LifecycleUsers, SecretReader, SecretsHook
from oneiric.runtime.settings import (
    LoadedSettings,
    OneiricSettings,
    ProviderSettings,
    load_settings,
    policy_from,
    secret_ids_of,
)
from oneiric.runtime.telemetry import Telemetry
from oneiric.runtime.worker import Worker

if TYPE_CHECKING:
    from oneiric.app._running import OrchestrateOptions

__all__ = ["App"]

_SNAPSHOT: Final = "lifecycle_status.json"
_ACTIVITY: Final = "domain_activity.sqlite"
#: How much of the grace period a worker has to finish what it is at.
_WORKER_SHARE: Final = 0.5
#: How long a reload that is under way at the end may still take.
_RELOAD_SECONDS: Final = 0.5
#: What a reload puts in force beside selections, tenants and the settings of providers.
_LIVE: Final = ("secrets",)


class App:
    """A configured system: what is installed, what is selected, and the instances that serve.

    ::

        async with App.open("settings/") as app:
            cache = await app.adapters.use("cache")
            await cache.instance.set("greeting", "hello")

    Made by `open`. Resolving, listing and explaining need no event loop and write nothing; instances live between
    entering and leaving ``async with``. Files are written only if the settings name a state directory
    (``runtime_paths.cache_dir``), or with *keep_state*.

    Args:
        loaded: The settings, and where they came from.
        hooks: Calls made around each swap.
        load: Reads the settings anew, for `reload`; by default they stay what they are.
        keep_state: Whether state files are kept; by default if the settings name a state directory.
        beside: Share the stores of the state directory, and leave the files that describe its system to that.

    Attributes:
        loaded: The settings with their origins.
        resolver: Ranks what discovery found; register further candidates here.
        lifecycle: Holds the instances.
        adapters: The bridge of domain ``adapter``.
        services: The bridge of domain ``service``.
        tasks: The bridge of domain ``task``.
        events: The bridge of domain ``event``.
        workflows: The bridge of domain ``workflow``.
        actions: The bridge of domain ``action``.
        activity: Keeps which keys are paused or drain.
        execution: Keeps the progress of workflows and the dead letters of events; makes workers.
        secrets: Gives out what ``${secret:ID}`` in settings stands for, and rotates it.
        reloader: Puts changed settings in force, or refuses them.
        state_dir: Where state files are kept, or None.
        report: What discovery registered, and what it left out and why.
        beside: Whether another process may be the system of this state directory.

    Raises:
        ConfigurationError: ``ONEIRIC_STACK_ORDER`` is malformed, or a module of ``plugins.imports`` does not exist.
        LoadError: A module of ``plugins.imports`` cannot be imported.
    """

    def __init__(
        self,
        loaded: LoadedSettings,
        *,
        hooks: LifecycleHooks | None = None,
        load: Callable[[], LoadedSettings] | None = None,
        keep_state: bool | None = None,
        beside: bool = False,
    ) -> None:
        settings = loaded.settings
        self.beside = beside
        keeps_state = settings.is_state_dir_configured if keep_state is None else keep_state
        self.state_dir = state_dir = settings.state_dir if keeps_state else None
        self.resolver = Resolver(policy_from(loaded))
        self.report: DiscoveryReport = discover(
            self.resolver,
            plugins=settings.plugins.auto_load,
            allowed_distributions=settings.plugins.allowed_distributions,
        )
        register_modules(self.resolver, settings.plugins.imports, named_by="plugins.imports")
        self.provider_settings = ProviderSettings(loaded)
        self.lifecycle = LifecycleManager(
            self.resolver,
            settings_for=self.provider_settings,
            hooks=hooks,
            redact=REDACTOR.mask,
            timeouts=LifecycleTimeouts(**settings.lifecycle.model_dump()),
            status_snapshot_path=None if state_dir is None or beside else state_dir / _SNAPSHOT,
        )
        self.secrets = SecretsHook(
            settings.secrets,
            source=self._lease_secrets,
            users=LifecycleUsers(self.lifecycle, self.provider_settings),
        )
        self.provider_settings.secrets = self.secrets
        self.activity = DomainActivityStore(_activity_path(settings, state_dir))
        self.execution = Execution(settings, state_dir)
        self._make_bridges(settings)
        self._followers = Followers()
        self.reloader = ConfigReloader(
            loaded,
            load or (lambda: loaded),
            resolver=self.resolver,
            lifecycle=self.lifecycle,
            provider_settings=self.provider_settings,
            on_applied=self._adopt,
            foresee=self._followers.foresee,
            live=_LIVE,
        )
        self._observers: list[Callable[[Any], object]] = [log_event, self.secrets.on_event]
        self._open: AsyncExitStack | None = None
        self._was_entered = False
        self._remote: Remote | None = None

    def _make_bridges(self, settings: OneiricSettings) -> None:
        self._parts: dict[str, Any] = {
            "resolver": self.resolver,
            "lifecycle": self.lifecycle,
            "provider_settings": self.provider_settings,
            "activity": self.activity,
        }
        self.adapters = AdapterBridge(settings=settings.adapters, **self._parts)
        self.services = ServiceBridge(settings=settings.services, **self._parts)
        self.tasks = TaskBridge(settings=settings.tasks, **self._parts)
        dead_letters = self.execution.dead_letters
        self.events = EventBridge(settings=settings.events, dead_letters=dead_letters, **self._parts)
        self.tasks.queue = JobQueue(self.adapters, key=queue_key(settings))
        self.workflows = WorkflowBridge(
            settings=settings.workflows,
            tasks=self.tasks,
            engine=partial(self.execution.engine, self.tasks.queue),
            **self._parts,
        )
        self.actions = ActionBridge(settings=settings.actions, **self._parts)
        bridges = (self.adapters, self.services, self.tasks, self.events, self.workflows, self.actions)
        self._bridges: dict[str, DomainBridge] = {bridge.domain: bridge for bridge in bridges}

    @classmethod
    def open(
        cls,
        path: str | os.PathLike[str] | None = None,
        *,
        profile: str | None = None,
        overrides: Iterable[str] | Mapping[str, Any] = (),
        environ: Mapping[str, str] | None = None,
        hooks: LifecycleHooks | None = None,
        keep_state: bool | None = None,
        beside: bool = False,
    ) -> Self:
        """Read the settings, discover what is installed, and put the system together; enter it to use it.

        Args:
            path: A settings file or directory; by default what ``ONEIRIC_CONFIG`` names, else none.
            profile: The profile's name, stronger than any configured.
            overrides: ``"adapters.selections.cache=memory"`` texts, or a mapping of dotted keys to values.
            environ: Environment variables that settings are read from; by default those of the process.
            hooks: Calls made around each swap.
            keep_state: Whether state files are kept; by default if the settings name a state directory.
            beside: As of `App`.

        Raises:
            ConfigurationError: The settings cannot be read or are not valid; file, line and key are named.
        """
        if not isinstance(overrides, Mapping):
            overrides = tuple(overrides)  # read again by every reload
        load = partial(load_settings, path, environ=environ, overrides=overrides, profile=profile)
        return cls(load(), hooks=hooks, load=load, keep_state=keep_state, beside=beside)

    @property
    def loaded(self) -> LoadedSettings:
        """The settings in force, with their origins."""
        return self.reloader.loaded

    @property
    def settings(self) -> OneiricSettings:
        """The settings in force."""
        return self.loaded.settings

    @property
    def bridges(self) -> tuple[DomainBridge, ...]:
        """The bridges of the built-in domains, and of those that were asked for."""
        return tuple(self._bridges.values())

    @property
    def remote(self) -> Remote:
        """Remote delivery, as section ``remote`` of the settings describes it; nothing is fetched by asking for it.

        Raises:
            MissingExtraError: The distribution ``oneiric-remote`` is not installed.
            ConfigurationError: A key, the root or a certificate cannot be read.
            ManifestError: The root document is not to be used.
        """
        if self._remote is None:
            self._remote = Remote(self)
        return self._remote

    @property
    def notifications(self) -> NotificationRouter:
        """What sends records through the messaging adapter that is selected, and answers with receipts."""
        return NotificationRouter(
            self.adapters, default_adapter_key=default_adapter_key(self.adapters.settings.selections)
        )

    def domain(self, name: str) -> DomainBridge:
        """Return the bridge of a domain: a built-in one or one of the application's own.

        Raises:
            InvalidCandidateError: *name* cannot be a domain.
        """
        bridge = self._bridges.get(name)
        if bridge is None:
            bridge = DomainBridge(name, settings=self.settings.section(name), **self._parts)
            self._bridges[name] = bridge
        return bridge

    def observe(self, observer: Callable[[Any], object]) -> None:
        """Have *observer* told each event of resolver and lifecycle, a moment after it; before the app is entered.

        Raises:
            LifecycleError: The app was entered already.
        """
        if self._was_entered:
            raise LifecycleError("an App is told of observers before it is entered", "lifecycle.observe from now on")
        self._observers.append(observer)

    def follow(self, follower: Follower) -> Callable[[], None]:
        """Have *follower* put each new configuration in force beside the reload itself; return what ends that."""
        return self._followers.add(follower)

    def worker(self, queue: str | None = None, *, concurrency: int = 10) -> Worker:
        """Return a worker that does the tasks and workflows of a queue; start and stop it, or plan it as a part.

        Args:
            queue: The key of the queue adapter; by default ``workflows.options.queue_category``, else ``queue``.
            concurrency: Jobs at once.

        Raises:
            ConfigurationError: *concurrency* is not 1 to 10000.
        """
        key = queue or queue_key(self.settings)
        return Worker(
            lambda: self.adapters.lease(key),
            JobProcessor(self.tasks, self.workflows),
            concurrency=concurrency,
            grace_seconds=self.settings.runtime_supervisor.shutdown_grace_seconds * _WORKER_SHARE,
            activity=self.activity.get,
        )

    async def reload(self, by: str = "application") -> ReloadResult:
        """Read the settings anew and put them in force, all or nothing; see `ConfigReloader.reload`."""
        return await self.reloader.reload(by)

    async def run_forever(self, options: "OrchestrateOptions | None" = None) -> int:
        """Run as a process of its own does: supervise, watch, serve HTTP, until SIGTERM or SIGINT; then stop in order.

        Enters the app and leaves it. An app that keeps no state holds everything in memory: no command reaches it,
        and nothing keeps a second one from running beside it.

        Args:
            options: What the settings do not say.

        Returns:
            What the process should exit with.

        Raises:
            LifecycleError: A part did not start or broke down, or the app was entered already.
        """
        from oneiric.app._running import RunningSystem  # noqa: PLC0415 - an embedded app has none

        keep_state = self.state_dir is not None
        return await RunningSystem(self.loaded, lambda: self, keep_state=keep_state, options=options).run()

    async def __aenter__(self) -> Self:
        if self._was_entered:
            raise LifecycleError("an App is entered once", "App.open() for another one")
        self._was_entered = True
        configure_logging(self.settings.logging, app=self.settings.app)
        for problem in self.report.errors:
            get_logger("oneiric.app").warning("left-out", reason=str(problem))
        async with AsyncExitStack() as stack:
            stack.push_async_callback(self.activity.aclose)
            await self.activity.open()
            if self.activity.path is not None:
                refresh = ActivityRefresh(self.activity, self.settings.runtime_supervisor.poll_interval)
                stack.push_async_callback(refresh.stop)
                refresh.start()
            telemetry = Telemetry(also=tuple(self._observers))
            # Closed after the lifecycle: what closing does belongs in the log.
            stack.callback(telemetry.close)
            telemetry.watch(self.resolver, self.lifecycle)
            stack.callback(self.activity.add_listener(telemetry.activity_changed))
            stack.push_async_callback(self.execution.aclose)
            await self.execution.open()
            stack.callback(self.reloader.observe(partial(log_reload, telemetry)))
            await self.lifecycle.__aenter__()
            self._open = stack.pop_all()
        await restore_beside(self)
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        await self.aclose()

    async def aclose(self, *, drain_seconds: float | None = None) -> None:
        """Retire every instance, the last activated first, and let go of everything. Safe to call twice.

        Args:
            drain_seconds: How long all drains together may take; by default each has its own deadline.
        """
        stack, self._open = self._open, None
        wait_seconds = None if drain_seconds is None else min(_RELOAD_SECONDS, drain_seconds / 2)
        try:
            await self.reloader.aclose(wait_seconds=wait_seconds)
            await self.workflows.aclose()
            await self.lifecycle.aclose(drain_seconds=drain_seconds)
        finally:
            if stack is not None:
                await stack.aclose()

    def _lease_secrets(self) -> AbstractAsyncContextManager[SecretReader]:
        section = self.secrets.settings
        lease: AbstractAsyncContextManager[Any] = self.lifecycle.lease(
            section.domain, section.key, provider=section.provider
        )
        return lease

    async def _adopt(self, loaded: LoadedSettings) -> None:
        """Put in force what a reload does not itself; its selections and provider settings are in force already."""
        for bridge in self._bridges.values():
            bridge.adopt(loaded.settings.section(bridge.domain))
        changed = self.secrets.update(loaded.settings.secrets)
        # One that was taken away, and that nothing refers to, need not exist anywhere.
        changed &= loaded.settings.secrets.inline.keys() | secret_ids_of(loaded)
        if changed:
            await self.secrets.rotate(changed, by="reload")
        await self._followers.adopt(loaded)

    def __repr__(self) -> str:
        return f"<App {self.settings.app.name!r} from {self.loaded.path or 'defaults'}>"


def _activity_path(settings: OneiricSettings, state_dir: Path | None) -> Path | None:
    configured = settings.runtime_paths.activity_store
    if configured is not None or state_dir is None:
        return configured
    return state_dir / _ACTIVITY
