"""What is asked of a running system: one model per operation. A field it does not know is refused."""

from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field

__all__ = [
    "ActivityRequest",
    "ComponentsRequest",
    "ConfigApplyRequest",
    "ConfigPlanRequest",
    "DecisionsRequest",
    "DrainRequest",
    "EventsRequest",
    "ExplainRequest",
    "HealthRequest",
    "PauseRequest",
    "ProbeRequest",
    "RemoteSyncRequest",
    "ResumeRequest",
    "RetireRequest",
    "SecretsRotateRequest",
    "StatusRequest",
    "SupervisorInfoRequest",
    "SwapRequest",
]

_Domain = Annotated[str, Field(pattern=r"^[a-z][a-z0-9_-]*$", max_length=200)]
_Name = Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9_.-]*$", max_length=200)]
_Text = Annotated[str, Field(max_length=1000)]
_Seconds = Annotated[float, Field(allow_inf_nan=False, ge=0, le=253_402_300_799)]  # until the year 9999


class _Request(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, hide_input_in_errors=True)


class _Filtered(_Request):
    domain: _Domain | None = Field(default=None, description="Only this domain.")
    key: _Name | None = Field(default=None, description="Only this key.")
    tenant: _Name | None = Field(default=None, description="Only this tenant; the base one when not given.")


class _OfKey(_Request):
    domain: _Domain = Field(description="The domain.")
    key: _Name = Field(description="The key.")


class _Change(_Request):
    by: _Text | None = Field(default=None, description="Who asks; over TCP the authenticated name is added.")


class StatusRequest(_Request):
    """Describe the running system."""


class ComponentsRequest(_Filtered):
    """List what is active, what it shadows and what is set aside."""

    shadowed: bool = Field(default=True, description="Whether also what lost and what is set aside.")


class ExplainRequest(_OfKey):
    """Explain why a key resolves as it does."""

    tenant: _Name | None = Field(default=None, description="For this tenant.")
    provider: _Name | None = Field(default=None, description="As if this provider was asked for.")
    capabilities: list[_Name] = Field(default=[], max_length=100, description="Capabilities that are wanted.")
    require_all: bool = Field(default=True, description="Whether all of them, or any one.")
    why_not: _Name | None = Field(default=None, description="Also what keeps this provider from winning.")
    at: _Seconds | None = Field(
        default=None, description="Also what ranked first and served at this time (seconds since the epoch)."
    )


class DecisionsRequest(_Filtered):
    """Read the journal of decisions."""

    kind: Annotated[str, Field(pattern="^(winner|bound|retired)$")] | None = Field(
        default=None, description="Only winner, bound or retired."
    )
    since: _Seconds | None = Field(default=None, description="Only those at this time or later.")
    until: _Seconds | None = Field(default=None, description="Only those at this time or earlier.")
    limit: int = Field(default=100, ge=1, le=10_000, description="The newest so many.")


class EventsRequest(_Request):
    """Stream lifecycle events."""

    domain: _Domain | None = Field(default=None, description="Only this domain.")
    key: _Name | None = Field(default=None, description="Only this key.")
    after: Annotated[str, Field(max_length=100, pattern=r"^[\x21-\x7e]+$")] | None = Field(
        default=None, description="The id of the last event that was seen; also the header Last-Event-ID."
    )


class HealthRequest(_Filtered):
    """Report health as it was last seen."""


class ProbeRequest(_Filtered):
    """Ask each component that serves for its health."""


class SwapRequest(_OfKey, _Change):
    """Replace what serves for a key."""

    provider: _Name | None = Field(
        default=None, description="The provider to select; without it what an earlier swap selected is forgotten."
    )
    tenant: _Name | None = Field(default=None, description="Whose instance.")
    force: bool = Field(default=False, description="Bind even if the new instance reports itself unhealthy.")


class RetireRequest(_OfKey, _Change):
    """Stop serving for a key."""

    provider: _Name | None = Field(default=None, description="Only this provider's instance beside the active one.")
    tenant: _Name | None = Field(default=None, description="Whose instance.")
    forget: bool = Field(default=False, description="Leave the slot as if it was never used.")


class _ActivityChange(_OfKey, _Change):
    note: _Text | None = Field(default=None, description="Why.")
    owner: Annotated[str, Field(max_length=200)] | None = Field(default=None, description="Who answers for it.")


class PauseRequest(_ActivityChange):
    """Refuse new work for a key."""

    until: _Seconds | None = Field(default=None, description="When it ends by itself (seconds since the epoch).")


class DrainRequest(_ActivityChange):
    """Refuse new work for a key and finish what is in flight."""

    until: _Seconds | None = Field(default=None, description="When it ends by itself (seconds since the epoch).")


class ResumeRequest(_ActivityChange):
    """Take work for a key again."""


class ActivityRequest(_Request):
    """List the keys that are paused or draining."""

    domain: _Domain | None = Field(default=None, description="Only this domain.")
    key: _Name | None = Field(default=None, description="Only this key.")


class ConfigPlanRequest(_Request):
    """Tell what applying the configuration would change."""


class ConfigApplyRequest(_Change):
    """Apply the configuration, all or nothing."""

    digest: Annotated[str, Field(pattern="^[0-9a-f]{64}$")] | None = Field(
        default=None, description="Apply only what config_plan showed under this digest."
    )


class SecretsRotateRequest(_Change):
    """Read secrets anew and swap what uses them."""

    keys: list[Annotated[str, Field(min_length=1, max_length=1000)]] | None = Field(
        default=None, min_length=1, max_length=1000, description="Ids of the secrets; all when not given."
    )


class RemoteSyncRequest(_Change):
    """Put in force what the configured manifest offers now."""

    plan: bool = Field(default=False, description="Only tell what it would change.")


class SupervisorInfoRequest(_Request):
    """Describe the supervised services."""
