"""Sections of the application itself: its name, its domains, its log, its deadlines, plugins and files."""

from pathlib import Path
from typing import Annotated, Any, Literal, Self

from pydantic import BeforeValidator, Field, model_validator

from oneiric.runtime.settings._section import Section, broken, seconds

__all__ = [
    "AppSettings",
    "DomainSettings",
    "LifecycleSettings",
    "LoggingSettings",
    "LoggingSinkSettings",
    "PluginSettings",
    "ProfileSettings",
    "RuntimePathsSettings",
]


def _level_name(value: object) -> object:
    name = value.strip().upper() if isinstance(value, str) else value
    return "WARNING" if name == "WARN" else name


type _Level = Annotated[Literal["DEBUG", "INFO", "WARNING", "ERROR", "CRITICAL"], BeforeValidator(_level_name)]


class AppSettings(Section):
    """The application as a whole."""

    name: str = Field(default="oneiric", description="What the application calls itself, in logs.")
    environment: str = Field(default="dev", description="Where it runs (dev, staging, production), in logs.")
    debug: bool = Field(default=False, description="Log at level DEBUG unless logging.level says otherwise.")
    allowed_env: tuple[str, ...] = Field(
        default=(), description="Environment variables, beside ONEIRIC_SECRET_*, that ${NAME} may refer to."
    )


class DomainSettings(Section):
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


class LoggingSinkSettings(Section):
    """One place that log lines go to."""

    target: Literal["stdout", "stderr", "file", "http"] = Field(
        default="stderr", description="Where lines go. stdout belongs to the results of commands."
    )
    level: _Level | None = Field(
        default=None, description="Least severe level this sink takes; logging.level when not set."
    )
    path: Path = Field(default=Path("oneiric.log"), description="The file; for target file.")
    max_bytes: int = Field(
        default=5 << 20, ge=0, description="Size in bytes at which the file is rotated; 0 never does."
    )
    backup_count: int = Field(default=5, ge=0, description="How many rotated files are kept.")
    endpoint: str | None = Field(default=None, description="The URL that takes batches of lines; for target http.")
    method: Literal["POST", "PUT"] = Field(default="POST", description="The method of those requests.")

    @model_validator(mode="after")
    def _has_its_endpoint(self) -> Self:
        if self.target == "http" and not self.endpoint:
            raise broken("needs an endpoint, since its target is http")
        return self


class LoggingSettings(Section):
    """The log."""

    level: _Level | None = Field(
        default=None, description="Least severe level that is logged; INFO (DEBUG with app.debug) when not set."
    )
    emit_json: bool | None = Field(
        default=None, description="One JSON object per line; when not set, unless stderr is a terminal."
    )
    service_name: str | None = Field(default=None, description="service.name of every line; app.name when not set.")
    release: str | None = Field(default=None, description="service.version of every line.")
    include_trace_context: bool = Field(default=True, description="Write trace_id and span_id where there is a span.")
    sinks: tuple[LoggingSinkSettings, ...] = Field(
        default=(LoggingSinkSettings(),), description="Where lines go; each sink is a table of its own."
    )


class LifecycleSettings(Section):
    """Deadlines of the steps an instance goes through."""

    activation_seconds: float = seconds(
        30, "From loading the factory to the end of init().", published_name="activation_timeout"
    )
    health_seconds: float = seconds(5, "The health check before binding.", published_name="health_timeout")
    hook_seconds: float = seconds(5, "Each hook.", published_name="hook_timeout")
    drain_seconds: float = seconds(
        30, "How long a swap waits for leases on the old.", at_least=0, published_name="drain_timeout"
    )
    cleanup_seconds: float = seconds(10, "The cleanup of a replaced instance.", published_name="cleanup_timeout")


class PluginSettings(Section):
    """Plugins written as code. Catalogues need no permission: reading them runs nothing."""

    auto_load: bool = Field(default=False, description="Import every installed plugin at start.")
    imports: tuple[str, ...] = Field(
        default=(),
        description="Modules of the application to import at start, from the current directory too; "
        "the register(resolver) of each is called.",
    )
    allowed_distributions: tuple[str, ...] | None = Field(
        default=None, description="Distributions that may offer catalogues and plugins; all when not set."
    )


class ProfileSettings(Section):
    """What the orchestrator does by itself. A profile is a set of defaults: any setting overrides it."""

    name: Literal["default", "serverless"] = Field(
        default="default", description="The profile whose defaults hold, also ONEIRIC_PROFILE and --profile."
    )
    watchers_enabled: bool = Field(default=True, description="Watch the configuration and reload when it changes.")
    remote_enabled: bool = Field(
        default=True, description="Fetch over the network; when false, a manifest that lies there is not put in force."
    )
    supervisor_enabled: bool = Field(default=True, description="Supervise services.")
    inline_manifest_only: bool = Field(
        default=False,
        description="Put in force only a manifest packed with the application, and none that lies on the network.",
    )


class RuntimePathsSettings(Section):
    """Files the application writes. Those without a path of their own lie in the state directory."""

    cache_dir: Path | None = Field(
        default=None,
        description="The state directory; remote.cache_dir when not set. "
        "An application that embeds Oneiric writes nothing before one of the two is set.",
    )
    activity_store: Path | None = Field(
        default=None, description="domain_activity.sqlite: what is paused and drained. Also ONEIRIC_ACTIVITY_STORE."
    )
    health_path: Path | None = Field(default=None, description="runtime_health.json.")
    workflow_checkpoints_enabled: bool = Field(
        default=True, description="Keep the progress of workflows, so that they can be resumed."
    )
    workflow_checkpoints_path: Path | None = Field(default=None, description="workflow_checkpoints.sqlite.")
