"""What a running system answers: one model per operation.

Names are those of the core's ``as_dict()``: a `LifecycleStatus` is a `SlotStatus`, an `Explanation` the greater part
of an `ExplainResponse`, a `JournalEntry` a `Decision`. Times called ``…_at`` in a slot are ISO 8601 in UTC, as in
``lifecycle_status.json``; all others are seconds since the epoch.
"""

from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, SerializerFunctionWrapHandler, model_serializer

__all__ = [
    "ActivityResponse",
    "ActivityState",
    "Component",
    "ComponentsResponse",
    "ConfigApplyResponse",
    "ConfigPlanResponse",
    "ConfigVersion",
    "ConfigVersions",
    "Decision",
    "DecisionsResponse",
    "DrainResponse",
    "EventsResponse",
    "ExplainResponse",
    "Health",
    "HealthResponse",
    "Obstacle",
    "PartStatus",
    "PastDecision",
    "PauseResponse",
    "ProbeResponse",
    "ProbeResult",
    "Ranked",
    "RemoteSyncResponse",
    "ResumeResponse",
    "RetireResponse",
    "SecretsRotateResponse",
    "SetAside",
    "SlotHealth",
    "SlotName",
    "SlotStatus",
    "StatusResponse",
    "SupervisorInfoResponse",
    "SwapResponse",
]

#: What is known of a component.
type Health = Literal["healthy", "unhealthy", "unknown"]


class _Response(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class SlotName(_Response):
    """A slot: domain, key and whose."""

    domain: str
    key: str
    tenant: str | None = None


class SlotStatus(_Response):
    """`oneiric.core.lifecycle.LifecycleStatus.as_dict()`."""

    domain: str
    key: str
    tenant: str | None
    state: str
    current_provider: str | None
    pending_provider: str | None
    generation: int
    in_flight: int
    draining: int
    draining_in_flight: int
    withdrawn: bool
    exclusive: bool
    beside: bool
    last_error: str | None
    last_state_change_at: str | None
    last_activated_at: str | None
    last_health_at: str | None
    last_swap_duration_ms: float | None
    recent_swap_durations_ms: list[float]
    successful_swaps: int
    failed_swaps: int


class ActivityState(_Response):
    """Whether a key takes work."""

    domain: str
    key: str
    paused: bool
    draining: bool
    note: str | None = None
    owner: str | None = None
    since: float | None = None
    until: float | None = None
    in_flight: int | None = Field(default=None, description="Work in flight; null where it is not known.")


class PauseResponse(ActivityState):
    """The key's state from now on."""


class DrainResponse(ActivityState):
    """The key's state from now on; empty when ``in_flight`` is 0."""


class ResumeResponse(ActivityState):
    """The key's state from now on."""


class ActivityResponse(_Response):
    """The keys that are paused or draining."""

    activity: list[ActivityState]
    problem: str | None = Field(default=None, description="Why the store cannot be read or written, or null.")


class ConfigVersion(_Response):
    """One version of the configuration."""

    version: int
    digest: str
    at: float
    reason: str | None = Field(default=None, description="Why it was refused; null for what was applied.")


class ConfigVersions(_Response):
    """What is applied, and what was refused since."""

    applied: ConfigVersion | None
    refused: ConfigVersion | None


class PartStatus(_Response):
    """One part of the running system, as the orchestrator says it."""

    name: str
    state: str = Field(description="waiting, starting, running, stopping, stopped or failed")
    after: list[str] = []
    start_seconds: float | None = None
    error: str | None = None


class StatusResponse(_Response):
    """The running system."""

    running: Literal[True] = True
    name: str
    pid: int
    version: str
    started_at: float
    profile: str
    ready: bool
    config: ConfigVersions
    revision: int
    slots: list[SlotStatus]
    stale: list[SlotName]
    activity: list[ActivityState]
    parts: list[PartStatus]
    remote: dict[str, Any] | None = Field(description="State of remote delivery, or null when there is none.")
    problems: list[str]


class Ranked(_Response):
    """A candidate that was ranked."""

    provider: str
    selected: bool
    score: list[int]
    origins: dict[str, str]
    reasons: list[str]
    source: str
    origin: str
    version: str | None
    manifest: dict[str, Any] | None = Field(
        default=None, description="The manifest it came with, if any: product, version, digest, signature, signed_by."
    )

    @model_serializer(mode="wrap")
    def _as_the_core_says_it(self, serialize: SerializerFunctionWrapHandler) -> dict[str, Any]:
        plain: dict[str, Any] = serialize(self)
        if self.manifest is None:
            del plain["manifest"]
        return plain


class Obstacle(_Response):
    """What stands in a candidate's way."""

    kind: str
    detail: str
    fix: str | None


class SetAside(_Response):
    """A candidate that was not ranked."""

    provider: str
    score: list[int]
    origins: dict[str, str]
    obstacles: list[Obstacle]
    source: str
    origin: str
    version: str | None
    requires_extra: str | None


class Component(_Response):
    """One key: what is active for it, and what it won against."""

    domain: str
    key: str
    tenant: str | None
    provider: str | None = Field(description="The provider that ranks first, or null when none can.")
    active: str | None = Field(description="The provider that serves now, or null.")
    state: Literal["active", "unresolved"]
    why: str
    ordered: list[Ranked] = Field(description="Best first; the winner alone unless shadowed ones were asked for.")
    filtered: list[SetAside]


class ComponentsResponse(_Response):
    """What is active."""

    revision: int
    keys: list[Component]


class Decision(_Response):
    """`oneiric.core.resolution.JournalEntry.as_dict()`."""

    at: float
    kind: Literal["winner", "bound", "retired"]
    domain: str
    key: str
    tenant: str | None
    provider: str | None
    revision: int
    why: str


class DecisionsResponse(_Response):
    """Decisions, oldest first."""

    decisions: list[Decision]
    dropped: int = Field(description="How many older ones the journal has let go of.")


class PastDecision(_Response):
    """What ranked first and what served at one moment."""

    at: float
    provider: str | None
    why: str | None
    winner: Decision | None
    active: Decision | None


class ExplainResponse(_Response):
    """`oneiric.core.resolution.Explanation.as_dict()`, and what was asked for beside it."""

    domain: str
    key: str
    tenant: str | None
    revision: int
    selected: str | None
    active: str | None
    why: str
    reasons: list[str]
    selection: dict[str, Any] | None
    capabilities: list[str]
    ordered: list[Ranked]
    shadowed: list[str]
    filtered: list[SetAside]
    why_not: dict[str, Any] | None = None
    past: PastDecision | None = None


class EventsResponse(_Response):
    """The data of one event: its time, the slot it is about, and what its kind adds."""

    model_config = ConfigDict(extra="allow", frozen=True)

    at: float
    domain: str | None = None
    key: str | None = None
    tenant: str | None = None
    provider: str | None = None


class SlotHealth(_Response):
    """The health of a slot as it was last seen."""

    domain: str
    key: str
    tenant: str | None
    provider: str | None
    state: str
    health: Health
    detail: str | None = None
    last_health_at: str | None = None


class HealthResponse(_Response):
    """Health as it was last seen."""

    healthy: bool
    ready: bool
    reasons: list[str] = Field(description="Why it is not ready, as codes; empty when it is.")
    degraded: list[str] = Field(default=[], description="What serves and should not, as sentences.")
    slots: list[SlotHealth]


class ProbeResult(_Response):
    """What a component said of itself."""

    domain: str
    key: str
    tenant: str | None
    provider: str | None
    health: Health
    detail: str | None = None
    duration_ms: float | None = None


class ProbeResponse(_Response):
    """The health of every component that was asked."""

    healthy: bool = Field(description="False when any is unhealthy.")
    at: float
    results: list[ProbeResult]


class SwapResponse(_Response):
    """What serves now."""

    previous: str | None = Field(description="The provider that served before, or null.")
    status: SlotStatus


class RetireResponse(_Response):
    """The slot that serves nothing now."""

    status: SlotStatus


class ConfigPlanResponse(_Response):
    """What applying would change."""

    digest: str | None = None
    plan: dict[str, Any]


class ConfigApplyResponse(_Response):
    """Whether the configuration was taken; if not, the last good one serves on."""

    accepted: bool
    version: int
    digest: str
    reason: str | None = None
    plan: dict[str, Any] | None = None


class SecretsRotateResponse(_Response):
    """What was read anew."""

    rotated: list[str] = Field(description="Ids of the secrets whose value changed.")
    unchanged: list[str] = Field(default=[], description="Ids of those that did not.")
    swapped: list[SlotName] = Field(description="Slots that serve with the new values.")


class RemoteSyncResponse(_Response):
    """What became of the manifest."""

    outcome: Literal["applied", "unchanged", "restored", "stored", "planned"]
    report: dict[str, Any] = Field(description="Source, signature, manifest, entries with verdicts, swaps, problems.")


class SupervisorInfoResponse(_Response):
    """The supervisor, as `SupervisorInfo.as_dict()` says it."""

    model_config = ConfigDict(extra="allow", frozen=True)

    enabled: bool
