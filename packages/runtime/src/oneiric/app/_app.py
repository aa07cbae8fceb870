"""App: the front door for Python users."""

import os
from collections.abc import Callable, Iterable, Mapping
from types import TracebackType
from typing import Any, Final, Self

from oneiric.core.catalog import DiscoveryReport, discover
from oneiric.core.errors import LifecycleError
from oneiric.core.lifecycle import LifecycleHooks, LifecycleManager, LifecycleTimeouts
from oneiric.core.resolution import Resolver
from oneiric.domains import AdapterBridge, DomainBridge, ServiceBridge
from oneiric.runtime.logging import configure_logging, get_logger, log_event
from oneiric.runtime.settings import (
    LoadedSettings,
    OneiricSettings,
    ProviderSettings,
    load_settings,
    policy_from,
)

__all__ = ["App"]

_SNAPSHOT: Final = "lifecycle_status.json"


class App:
    """A configured system: what is installed, what is selected, and the instances that serve.

    ::

        async with App.open("settings/") as app:
            cache = await app.adapters.use("cache")
            await cache.instance.set("greeting", "hello")

    Made by `open`. Resolving, listing and explaining need no event loop and write nothing; instances live
    between entering and leaving ``async with``.

    Args:
        loaded: The settings, and where they came from.
        hooks: Calls made around each swap.

    Attributes:
        loaded: The settings with their origins.
        resolver: Ranks what discovery found; register further candidates here.
        lifecycle: Holds the instances.
        adapters: The bridge of domain ``adapter``.
        services: The bridge of domain ``service``.
        report: What discovery registered, and what it left out and why.

    Raises:
        ConfigurationError: ``ONEIRIC_STACK_ORDER`` is malformed.
    """

    def __init__(self, loaded: LoadedSettings, *, hooks: LifecycleHooks | None = None) -> None:
        settings = loaded.settings
        self.loaded = loaded
        self.resolver = Resolver(policy_from(loaded))
        self.report: DiscoveryReport = discover(
            self.resolver,
            plugins=settings.plugins.auto_load,
            allowed_distributions=settings.plugins.allowed_distributions,
        )
        self._provider_settings = ProviderSettings(loaded)
        cache_dir = settings.runtime_paths.cache_dir
        self.lifecycle = LifecycleManager(
            self.resolver,
            settings_for=self._provider_settings,
            hooks=hooks,
            timeouts=LifecycleTimeouts(**settings.lifecycle.model_dump()),
            status_snapshot_path=None if cache_dir is None else cache_dir / _SNAPSHOT,
        )
        parts: dict[str, Any] = {
            "resolver": self.resolver,
            "lifecycle": self.lifecycle,
            "provider_settings": self._provider_settings,
        }
        self.adapters = AdapterBridge(settings=settings.adapters, **parts)
        self.services = ServiceBridge(settings=settings.services, **parts)
        self._bridges: dict[str, DomainBridge] = {"adapter": self.adapters, "service": self.services}
        self._parts = parts
        self._unsubscribe: list[Callable[[], None]] = []
        self._was_entered = False

    @classmethod
    def open(
        cls,
        path: str | os.PathLike[str] | None = None,
        *,
        profile: str | None = None,
        overrides: Iterable[str] | Mapping[str, Any] = (),
        environ: Mapping[str, str] | None = None,
        hooks: LifecycleHooks | None = None,
    ) -> Self:
        """Read the settings, discover what is installed, and put the system together; enter it to use it.

        Args:
            path: A settings file or directory; by default what ``ONEIRIC_CONFIG`` names, else none.
            profile: The profile's name, stronger than any configured.
            overrides: ``"adapters.selections.cache=memory"`` texts, or a mapping of dotted keys to values.
            environ: Environment variables that settings are read from; by default those of the process.
            hooks: Calls made around each swap.

        Raises:
            ConfigurationError: The settings cannot be read or are not valid; file, line and key are named.
        """
        loaded = load_settings(path, environ=environ, overrides=overrides, profile=profile)
        return cls(loaded, hooks=hooks)

    @property
    def settings(self) -> OneiricSettings:
        """The settings."""
        return self.loaded.settings

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

    async def __aenter__(self) -> Self:
        if self._was_entered:
            raise LifecycleError("an App is entered once", "App.open() for another one")
        self._was_entered = True
        configure_logging(self.settings.logging, app=self.settings.app)
        for problem in self.report.errors:
            get_logger("oneiric.app").warning("left-out", reason=str(problem))
        await self.lifecycle.__aenter__()
        self._unsubscribe = [self.resolver.observe(log_event), self.lifecycle.observe(log_event)]
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        await self.aclose()

    async def aclose(self) -> None:
        """Retire every instance, the last activated first, and let go of everything. Safe to call twice."""
        try:
            await self.lifecycle.aclose()
        finally:
            # After the lifecycle: what closing does belongs in the log.
            for unsubscribe in self._unsubscribe:
                unsubscribe()
            self._unsubscribe = []

    def __repr__(self) -> str:
        return f"<App {self.settings.app.name!r} from {self.loaded.path or 'defaults'}>"
