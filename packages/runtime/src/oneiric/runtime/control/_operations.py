"""The table of operations: what the server routes by, the client calls by, and the page and OpenAPI are made from."""

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final, Literal

if TYPE_CHECKING:
    from pydantic import BaseModel

__all__ = ["API_PREFIX", "OPERATIONS", "Operation"]

#: What every path of the API begins with.
API_PREFIX: Final = "/api/v1"


@dataclass(frozen=True, slots=True, kw_only=True)
class Operation:
    """One thing that can be asked of a running system.

    Its models are imported when they are first asked for, so that the table costs nothing to import.

    Attributes:
        name: What `ControlClient.call` and the method of `ControlPlane` are called.
        method: ``"GET"`` (fields travel in the query) or ``"POST"`` (fields travel as a JSON object).
        path: Below ``/api/v1``.
        model: The models are called by this and ``Request``, ``Response``.
        summary: One sentence.
        changes: Whether it may change the running system.
        errors: Classes of `oneiric.core.errors` it answers with, beside those every operation may.
        streams: Whether the answer is a stream of server-sent events.
    """

    name: str
    method: Literal["GET", "POST"]
    path: str
    model: str
    summary: str
    changes: bool = False
    errors: tuple[str, ...] = ()
    streams: bool = False

    @property
    def request(self) -> "type[BaseModel]":
        """The model of what is asked."""
        from oneiric.runtime.control import requests  # noqa: PLC0415 - pydantic is loaded by whoever needs it

        found: Any = getattr(requests, f"{self.model}Request")
        return found  # type: ignore[no-any-return]  # a module's attribute

    @property
    def response(self) -> "type[BaseModel]":
        """The model of the answer; for a stream that of each event's data."""
        from oneiric.runtime.control import responses  # noqa: PLC0415 - as above

        found: Any = getattr(responses, f"{self.model}Response")
        return found  # type: ignore[no-any-return]  # a module's attribute


_CHOOSING = ("ResolutionError", "CandidateNotFoundError", "SelectionNotFoundError")
_SWAPPING = (*_CHOOSING, "ActivationError", "SwapError", "LifecycleError")

#: Every operation, by topic.
OPERATIONS: Final[tuple[Operation, ...]] = (
    Operation(
        name="status",
        method="GET",
        path="/status",
        model="Status",
        summary="Describe the running system: configuration, revision, slots, parts, activity, problems.",
    ),
    Operation(
        name="components",
        method="GET",
        path="/components",
        model="Components",
        summary="List what is active, what it shadows and what is set aside.",
        errors=("ResolutionError",),
    ),
    Operation(
        name="explain",
        method="GET",
        path="/explain",
        model="Explain",
        summary="Explain why a key resolves as it does, now or at a past time.",
        errors=_CHOOSING[:2],
    ),
    Operation(
        name="decisions",
        method="GET",
        path="/decisions",
        model="Decisions",
        summary="Read the journal of decisions: what ranked first, was bound or retired, when and why.",
    ),
    Operation(
        name="events",
        method="GET",
        path="/events",
        model="Events",
        summary="Stream lifecycle events as they happen.",
        streams=True,
    ),
    Operation(
        name="health",
        method="GET",
        path="/health",
        model="Health",
        summary="Report health as it was last seen; asks no component.",
    ),
    Operation(
        name="probe",
        method="POST",
        path="/health/probe",
        model="Probe",
        summary="Ask each component that serves for its health, now.",
        errors=("ResolutionError",),
    ),
    Operation(
        name="swap",
        method="POST",
        path="/swap",
        model="Swap",
        summary="Replace what serves for a key by a new generation, or leave the old one serving.",
        changes=True,
        errors=_SWAPPING,
    ),
    Operation(
        name="retire",
        method="POST",
        path="/retire",
        model="Retire",
        summary="Stop serving for a key: drain and clean up what serves.",
        changes=True,
        errors=("ResolutionError", "InactiveError", "LifecycleError"),
    ),
    Operation(
        name="pause",
        method="POST",
        path="/pause",
        model="Pause",
        summary="Refuse new work for a key, at once.",
        changes=True,
        errors=("ResolutionError", "StoreError"),
    ),
    Operation(
        name="drain",
        method="POST",
        path="/drain",
        model="Drain",
        summary="Refuse new work for a key and let what is in flight finish.",
        changes=True,
        errors=("ResolutionError", "StoreError"),
    ),
    Operation(
        name="resume",
        method="POST",
        path="/resume",
        model="Resume",
        summary="Take work for a key again.",
        changes=True,
        errors=("ResolutionError", "StoreError"),
    ),
    Operation(
        name="activity",
        method="GET",
        path="/activity",
        model="Activity",
        summary="List the keys that are paused or draining.",
        errors=("StoreError",),
    ),
    Operation(
        name="config_plan",
        method="POST",
        path="/config/plan",
        model="ConfigPlan",
        summary="Read the configuration anew and tell what applying it would change; changes nothing.",
        errors=("ConfigurationError",),
    ),
    Operation(
        name="config_apply",
        method="POST",
        path="/config/apply",
        model="ConfigApply",
        summary="Read the configuration anew and apply it, all or nothing.",
        changes=True,
    ),
    Operation(
        name="secrets_rotate",
        method="POST",
        path="/secrets/rotate",
        model="SecretsRotate",
        summary="Read secrets anew and swap every component whose settings use them, all or none.",
        changes=True,
        errors=("SecretNotFoundError", "SwapError", "ConfigurationError"),
    ),
    Operation(
        name="remote_sync",
        method="POST",
        path="/remote/sync",
        model="RemoteSync",
        summary="Fetch the configured manifest and put it in force, all or nothing; or tell what that would change.",
        changes=True,
        errors=("FetchError", "ManifestError", "SignatureError", "DigestError", "SwapError", "ConfigurationError"),
    ),
    Operation(
        name="supervisor_info",
        method="GET",
        path="/supervisor",
        model="SupervisorInfo",
        summary="Describe the supervised services: state, restarts, escalations.",
    ),
)
