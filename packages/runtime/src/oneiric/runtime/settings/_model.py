"""The settings themselves: every section, field, default and rule.

A section stands here only if something reads it. All models refuse unknown keys and are frozen.
"""

from pathlib import Path
from typing import Annotated, Any, Final, Literal

from pydantic import AliasChoices, BaseModel, BeforeValidator, ConfigDict, Field

__all__ = [
    "SECTION_OF",
    "AppSettings",
    "DomainSettings",
    "LifecycleSettings",
    "LoggingSettings",
    "OneiricSettings",
    "PluginSettings",
    "ProfileSettings",
    "RuntimePathsSettings",
    "section_path",
]

#: Built-in domain → the section that configures it.
SECTION_OF: Final = {
    "adapter": "adapters",
    "service": "services",
    "task": "tasks",
    "event": "events",
    "workflow": "workflows",
    "action": "actions",
}


def section_path(domain: str) -> tuple[str, ...]:
    """Return where a domain is configured: ``("adapters",)``, or ``("domains", "mine")`` for a custom one."""
    section = SECTION_OF.get(domain)
    return ("domains", domain) if section is None else (section,)


class _Section(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, hide_input_in_errors=True)


def _seconds(default: float, published_name: str, what: str, *, or_zero: bool = False) -> Any:
    return Field(
        default=default,
        gt=None if or_zero else 0,
        ge=0 if or_zero else None,
        allow_inf_nan=False,
        validation_alias=AliasChoices(published_name.replace("_timeout", "_seconds"), published_name),
        description=f"{what} In seconds.",
    )


def _level_name(value: object) -> object:
    name = value.strip().upper() if isinstance(value, str) else value
    return "WARNING" if name == "WARN" else name


class AppSettings(_Section):
    """The application as a whole."""

    name: str = Field(default="oneiric", description="What the application calls itself, in logs.")
    environment: str = Field(default="dev", description="Where it runs (dev, staging, production), in logs.")
    debug: bool = Field(default=False, description="Log at level DEBUG unless logging.level says otherwise.")
    allowed_env: tuple[str, ...] = Field(
        default=(), description="Environment variables, beside ONEIRIC_SECRET_*, that ${NAME} may refer to."
    )


class DomainSettings(_Section):
    """One domain: which providers are selected, and what each is configured with."""

    selections: dict[str, str] = Field(default={}, description="Key → the provider that serves it.")
    provider_settings: dict[str, dict[str, Any]] = Field(
        default={},
        repr=False,
        description="Provider, or key/provider where two keys share a provider's name → its settings.",
    )
    options: dict[str, Any] = Field(
        default={}, repr=False, description="Whatever else the domain's bridge wants to know."
    )


class LoggingSettings(_Section):
    """The log on stderr."""

    level: Annotated[Literal["DEBUG", "INFO", "WARNING", "ERROR", "CRITICAL"] | None, BeforeValidator(_level_name)] = (
        Field(
            default=None,
            description="Least severe level that is logged; INFO (DEBUG with app.debug) when not set.",
        )
    )
    emit_json: bool | None = Field(
        default=None, description="One JSON object per line; when not set, unless stderr is a terminal."
    )
    service_name: str | None = Field(default=None, description="service.name of every line; app.name when not set.")


class LifecycleSettings(_Section):
    """Deadlines of the steps an instance goes through."""

    activation_seconds: float = _seconds(30, "activation_timeout", "From loading the factory to the end of init().")
    health_seconds: float = _seconds(5, "health_timeout", "The health check before binding.")
    hook_seconds: float = _seconds(5, "hook_timeout", "Each hook.")
    drain_seconds: float = _seconds(30, "drain_timeout", "How long a swap waits for leases on the old.", or_zero=True)
    cleanup_seconds: float = _seconds(10, "cleanup_timeout", "The cleanup of a replaced instance.")


class PluginSettings(_Section):
    """Plugins written as code. Catalogues need no permission: reading them runs nothing."""

    auto_load: bool = Field(default=False, description="Import every installed plugin at start.")
    allowed_distributions: tuple[str, ...] | None = Field(
        default=None, description="Distributions that may offer catalogues and plugins; all when not set."
    )


class ProfileSettings(_Section):
    """The profile the application runs under."""

    name: Literal["default", "serverless"] = Field(
        default="default", description="default or serverless; also ONEIRIC_PROFILE."
    )


class RuntimePathsSettings(_Section):
    """Files the application writes. None is written while `cache_dir` is not set."""

    cache_dir: Path | None = Field(
        default=None, description="Directory of lifecycle_status.json; none is written when not set."
    )


class OneiricSettings(_Section):
    """Everything that can be configured; construct it in code, or let `load_settings` read it."""

    app: AppSettings = AppSettings()
    adapters: DomainSettings = DomainSettings()
    services: DomainSettings = DomainSettings()
    tasks: DomainSettings = DomainSettings()
    events: DomainSettings = DomainSettings()
    workflows: DomainSettings = DomainSettings()
    actions: DomainSettings = DomainSettings()
    domains: dict[str, DomainSettings] = Field(default={}, description="Custom domains, by name.")
    logging: LoggingSettings = LoggingSettings()
    lifecycle: LifecycleSettings = LifecycleSettings()
    plugins: PluginSettings = PluginSettings()
    profile: ProfileSettings = ProfileSettings()
    runtime_paths: RuntimePathsSettings = RuntimePathsSettings()
    tenants: dict[str, dict[str, dict[str, str]]] = Field(
        default={}, description="Tenant → domain → key → provider: selections that overlay the base ones."
    )

    def section(self, domain: str) -> DomainSettings:
        """Return the section of a domain; the empty one for a custom domain that is not configured."""
        if domain in SECTION_OF:
            found: DomainSettings = getattr(self, SECTION_OF[domain])
            return found
        return self.domains.get(domain, DomainSettings())
