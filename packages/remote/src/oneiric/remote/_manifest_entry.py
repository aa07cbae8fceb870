"""The fields of a manifest's entry, for people and their editors: what the JSON Schema is generated from.

What an entry must be is decided by one validator, `oneiric.core.catalog.candidate_from_row`. These models state the
same rules in a form that a schema can be made of; tests hold the two together.
"""

from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field

__all__ = ["CapabilityDescriptor", "CapabilitySecurity", "EventFilter", "ManifestEntry", "RetryPolicy"]

_FACTORY = r"^[A-Za-z_][A-Za-z0-9_]*(\.[A-Za-z_][A-Za-z0-9_]*)*:[A-Za-z_][A-Za-z0-9_]*$"
_Text = Annotated[str, Field(max_length=4000)]
_Name = Annotated[str, Field(max_length=200, pattern=r"^[A-Za-z0-9][A-Za-z0-9_.-]*$")]
_Factory = Annotated[str, Field(max_length=300, pattern=_FACTORY)]
_Amount = Annotated[float, Field(ge=0)]


class _Table(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class CapabilitySecurity(_Table):
    """What using a capability demands."""

    classification: _Text | None = None
    auth_required: bool = True
    scopes: list[_Text] = []
    encryption: _Text | None = None
    signature_required: bool = False
    audience: list[_Text] = []
    notes: _Text | None = None


class CapabilityDescriptor(_Table):
    """A capability with more than its name."""

    name: _Text
    description: _Text | None = None
    event_types: list[_Text] = []
    payload_schema: Any = None
    schema_format: _Text | None = None
    security: CapabilitySecurity | None = None
    metadata: dict[str, Any] = {}


class RetryPolicy(_Table):
    """How often, and with what pauses in seconds, a call is tried again."""

    attempts: Annotated[int, Field(ge=1, le=1000)] | None = None
    base_delay: _Amount | None = None
    max_delay: _Amount | None = None
    jitter: _Amount | None = None
    retriable_status_codes: list[Annotated[int, Field(ge=100, le=599)]] = []


class EventFilter(_Table):
    """Which events a handler is given."""

    path: _Text
    equals: Any = None
    any_of: list[Any] | None = None
    exists: bool | None = None


class ManifestEntry(_Table):
    """One implementation on offer."""

    domain: Annotated[str, Field(max_length=200, pattern=r"^[a-z][a-z0-9_-]*$", description="Such as `adapter`.")]
    key: Annotated[_Name, Field(description="What it implements, such as `cache`.")]
    provider: Annotated[_Name, Field(description="Its own name among the providers of the key.")]
    factory: Annotated[_Factory, Field(description="`module:attr`; a class or function defined in that very module.")]
    uri: Annotated[_Text, Field(description="Where its wheel, zip or single file lies.")] | None = None
    sha256: Annotated[str, Field(pattern=r"^[0-9A-Fa-f]{64}$", description="Of the artifact.")] | None = None
    size: Annotated[int, Field(ge=1, le=2**53 - 1, description="Of the artifact, in bytes.")] | None = None
    priority: Annotated[int, Field(ge=-1000, le=1000)] | None = None
    stack_level: Annotated[int, Field(ge=-100, le=100)] | None = None
    version: _Text | None = None
    description: _Text | None = None
    capabilities: Annotated[list[_Text | CapabilityDescriptor], Field(max_length=1000)] | None = None
    owner: _Text | None = None
    license: _Text | None = None
    documentation_url: _Text | None = None
    requires_secrets: bool | None = None
    settings_model: Annotated[_Factory, Field(description="`module:Class` of its settings.")] | None = None
    side_effect_free: bool | None = None
    timeout_seconds: _Amount | None = None
    retry_policy: RetryPolicy | None = None
    requires_python: Annotated[_Text, Field(description="Specifiers, such as `>=3.13`.")] | None = None
    python_version: Annotated[_Text, Field(description="Earlier name of requires_python.")] | None = None
    requires_os: Annotated[list[_Text], Field(description="`linux`, `darwin`, `win32`.")] | None = None
    os_platform: Annotated[list[_Text], Field(description="Earlier name of requires_os.")] | None = None
    requires_packages: Annotated[list[_Text], Field(description="Such as `redis>=6`.")] | None = None
    requires: Annotated[list[_Text], Field(description="Earlier name of requires_packages.")] | None = None
    conflicts_with: Annotated[list[_Text], Field(description="Of which none may be installed.")] | None = None
    requires_extra: _Text | None = None
    opt_in: bool | None = None
    blocking: bool | None = None
    exclusive: bool | None = None
    needs: dict[str, Annotated[str, Field(description="`domain:key`.")]] | None = None
    event_topics: list[_Text] | None = None
    event_max_concurrency: Annotated[int, Field(ge=1, le=1_000_000)] | None = None
    event_filters: list[EventFilter] | None = None
    event_priority: Annotated[int, Field(ge=-1000, le=1000)] | None = None
    event_fanout_policy: Annotated[str, Field(pattern=r"^(broadcast|exclusive)$")] | None = None
    dag: dict[str, Any] | None = None
    metadata: dict[str, Any] | None = None
