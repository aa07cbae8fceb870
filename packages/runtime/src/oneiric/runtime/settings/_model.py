"""The settings as a whole: every section there is, and the settings that are no more."""

from pathlib import Path as FilePath
from typing import Final

from pydantic import Field

from oneiric.runtime.settings._origin import Path
from oneiric.runtime.settings._remote import RemoteSettings
from oneiric.runtime.settings._running import (
    EngineSettings,
    HttpSettings,
    SchedulerSettings,
    SecretsSettings,
    SupervisorSettings,
)
from oneiric.runtime.settings._section import SECTION_OF, Section
from oneiric.runtime.settings._sections import (
    AppSettings,
    DomainSettings,
    LifecycleSettings,
    LoggingSettings,
    PluginSettings,
    ProfileSettings,
    RuntimePathsSettings,
)

__all__ = ["OBSOLETE", "OneiricSettings"]

#: Settings of the earlier release that have no meaning any more → what stands in for them.
OBSOLETE: Final[dict[Path, str]] = {
    ("lifecycle", "shield_tasks"): "every step is shielded from its caller's cancellation",
    ("plugins", "entry_points"): "plugins are found under the groups oneiric.adapters, oneiric.services and so on",
    ("logging", "environment"): "app.environment names it",
    ("logging", "timestamper_format"): "timestamps are ISO 8601 in UTC",
    ("logging", "extra_processors"): "structlog, when configured by the application, is left as it is",
}


class OneiricSettings(Section):
    """Everything that can be configured; construct it in code, or let `load_settings` read it."""

    app: AppSettings = AppSettings()
    adapters: DomainSettings = DomainSettings()
    services: DomainSettings = DomainSettings()
    tasks: DomainSettings = DomainSettings()
    events: DomainSettings = DomainSettings()
    workflows: DomainSettings = DomainSettings()
    actions: DomainSettings = DomainSettings()
    domains: dict[str, DomainSettings] = Field(default={}, description="Custom domains, by name.")
    secrets: SecretsSettings = SecretsSettings()
    remote: RemoteSettings = RemoteSettings()
    logging: LoggingSettings = LoggingSettings()
    lifecycle: LifecycleSettings = LifecycleSettings()
    plugins: PluginSettings = PluginSettings()
    profile: ProfileSettings = ProfileSettings()
    runtime_paths: RuntimePathsSettings = RuntimePathsSettings()
    runtime_supervisor: SupervisorSettings = SupervisorSettings()
    http: HttpSettings = HttpSettings()
    scheduler: SchedulerSettings = SchedulerSettings()
    engine: EngineSettings = EngineSettings()
    tenants: dict[str, dict[str, dict[str, str]]] = Field(
        default={}, description="Tenant → domain → key → provider: selections that overlay the base ones."
    )

    @property
    def state_dir(self) -> FilePath:
        """The directory of everything that is written; see `is_state_dir_configured` before writing unasked."""
        return self.runtime_paths.cache_dir or self.remote.cache_dir

    @property
    def is_state_dir_configured(self) -> bool:
        """Whether somebody named the state directory; an embedded application writes nothing otherwise."""
        return self.runtime_paths.cache_dir is not None or "cache_dir" in self.remote.model_fields_set

    @property
    def why_remote_is_off(self) -> str | None:
        """Which setting keeps the manifest that is named, if one is, from being put in force; None when none does."""
        if not self.remote.enabled:
            return "remote.enabled is false"
        if not self.remote.is_on_network:
            return None
        if not self.profile.remote_enabled:
            return "profile.remote_enabled is false, and the manifest is on the network"
        if self.profile.inline_manifest_only:
            return "profile.inline_manifest_only is true, and the manifest is on the network"
        return None

    @property
    def supervises(self) -> bool:
        """Whether a system with these settings supervises services."""
        return self.runtime_supervisor.enabled and self.profile.supervisor_enabled

    @property
    def supervised_services(self) -> tuple[tuple[str, str, str | None], ...]:
        """Domain, key and tenant of each service that is supervised where any is, in the order they start.

        A tenant has an instance of its own, and so a service of its own, where it has a selection of its own.
        """
        own = (("service", key, tenant) for tenant, chosen in self.tenants.items() for key in chosen.get("service", {}))
        return (*(("service", key, None) for key in self.services.selections), *own)

    def section(self, domain: str) -> DomainSettings:
        """Return the section of a domain; the empty one for a custom domain that is not configured."""
        if domain in SECTION_OF:
            found: DomainSettings = getattr(self, SECTION_OF[domain])
            return found
        return self.domains.get(domain, DomainSettings())
