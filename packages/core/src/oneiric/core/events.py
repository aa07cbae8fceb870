"""What happened, as typed frozen values handed to observers.

Logging, metrics and persistence are observers; nothing in the core writes a log line. ``at`` is seconds since the
epoch, ``tenant`` None for the base, ``generation`` counts the instances of one slot from 1.
"""

from dataclasses import dataclass

from oneiric.core._candidate import Candidate

__all__ = [
    "Bound",
    "CleanedUp",
    "CleanupFailed",
    "DrainTimedOut",
    "Event",
    "HookFailed",
    "Registered",
    "Retired",
    "StepHung",
    "SwapFailed",
    "WinnerChanged",
    "Withdrawn",
]


@dataclass(frozen=True, slots=True)
class Registered:
    """A candidate was taken in, or replaced the one of its identity."""

    at: float
    revision: int
    candidate: Candidate


@dataclass(frozen=True, slots=True)
class Withdrawn:
    """A candidate was taken out; an instance of it serves until it is swapped or retired."""

    at: float
    revision: int
    candidate: Candidate


@dataclass(frozen=True, slots=True)
class WinnerChanged:
    """Another provider ranks first; what serves does not change by that."""

    at: float
    revision: int
    domain: str
    key: str
    tenant: str | None
    before: str | None
    after: str | None


@dataclass(frozen=True, slots=True)
class _OfSlot:
    at: float
    domain: str
    key: str
    tenant: str | None
    provider: str
    generation: int


@dataclass(frozen=True, slots=True)
class Bound(_OfSlot):
    """A new generation serves.

    Attributes:
        previous: The provider that served before, or None.
        duration_seconds: From resolution to the binding.
        in_flight: Leases the previous generation held at that moment.
        revision: The registry's revision the decision was taken in.
    """

    previous: str | None
    duration_seconds: float
    in_flight: int
    revision: int


@dataclass(frozen=True, slots=True)
class SwapFailed(_OfSlot):
    """An activation or swap stopped before the binding.

    Attributes:
        step: The step that failed.
        reason: Why, in a sentence.
        rolled_back: True when an older generation goes on serving.
        revision: The registry's revision at that moment.
    """

    step: str
    reason: str
    rolled_back: bool
    revision: int


@dataclass(frozen=True, slots=True)
class HookFailed(_OfSlot):
    """A post_swap or on_cleanup hook failed; what it was told of stands all the same."""

    hook: str
    reason: str


@dataclass(frozen=True, slots=True)
class StepHung(_OfSlot):
    """A step ignored its deadline and its cancellation; its thread or task is still there."""

    step: str
    seconds: float


@dataclass(frozen=True, slots=True)
class DrainTimedOut(_OfSlot):
    """Leases outlived the drain deadline; the generation is cleaned up at its last release, or was by force.

    Attributes:
        in_flight: Leases held at the deadline.
        forced: True when the generation was cleaned up under them.
    """

    in_flight: int
    forced: bool


@dataclass(frozen=True, slots=True)
class CleanedUp(_OfSlot):
    """A generation was cleaned up."""


@dataclass(frozen=True, slots=True)
class CleanupFailed(_OfSlot):
    """The cleanup of a generation raised or missed its deadline; the swap that replaced it stands."""

    reason: str


@dataclass(frozen=True, slots=True)
class Retired(_OfSlot):
    """Nothing serves for the slot any more, by request."""


type Event = (
    Registered
    | Withdrawn
    | WinnerChanged
    | Bound
    | SwapFailed
    | HookFailed
    | StepHung
    | DrainTimedOut
    | CleanedUp
    | CleanupFailed
    | Retired
)
