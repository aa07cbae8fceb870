"""What a reload says about itself: its plan, its result, and the versions before and after. Plain values."""

from dataclasses import dataclass, fields
from typing import Any

__all__ = [
    "AppliedVersion",
    "Change",
    "Consequences",
    "RefusedVersion",
    "ReloadPlan",
    "ReloadResult",
    "SlotName",
    "Swap",
    "Versions",
]

#: Domain, key and tenant; None is the base.
type SlotName = tuple[str, str, str | None]


@dataclass(frozen=True, slots=True, kw_only=True)
class Change:
    """One setting that differs.

    Attributes:
        key: Dotted key, such as ``"adapters.selections.cache"``.
        before: Its value until now; None where it was not set. Secrets read ``***``.
        after: The value it is to have; None where it is no longer set.
        origin: Where the new value comes from; of a setting that is gone, where it stood.
    """

    key: str
    before: Any
    after: Any
    origin: str

    def as_dict(self) -> dict[str, Any]:
        """Return plain data."""
        return _plain(self)


@dataclass(frozen=True, slots=True, kw_only=True)
class Swap:
    """One slot that is given a new generation.

    Attributes:
        domain: The domain.
        key: The key.
        tenant: Whose slot, or None for the base.
        before: The provider that serves now; ``"from"`` in plain data.
        after: The provider that is to serve; ``"to"`` in plain data.
        reason: ``"selection"`` (another provider is selected, or none any more), ``"ranking"`` (another candidate
            ranks first) or ``"settings"`` (the provider stays, its settings change).
    """

    domain: str
    key: str
    tenant: str | None
    before: str
    after: str
    reason: str

    @property
    def slot(self) -> SlotName:
        """Domain, key and tenant."""
        return (self.domain, self.key, self.tenant)

    def as_dict(self) -> dict[str, Any]:
        """Return plain data."""
        return {
            "domain": self.domain,
            "key": self.key,
            "tenant": self.tenant,
            "from": self.before,
            "to": self.after,
            "reason": self.reason,
        }


@dataclass(frozen=True, slots=True, kw_only=True)
class Consequences:
    """What follows a reload beside its swaps, by those who follow it.

    Attributes:
        starts: Slots that begin to serve before it is accepted.
        stops: Slots that are drained and stopped once it is.
    """

    starts: tuple[SlotName, ...] = ()
    stops: tuple[SlotName, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class ReloadPlan:
    """What a reload would do.

    Attributes:
        changes: The settings that differ, by key.
        swaps: The slots that would be swapped, by name. Only what serves can be swapped.
        starts: The slots of supervised services that would begin to serve.
        stops: The slots of those that would be drained and stopped.
        needs_restart: Dotted keys that differ from what the process started with and are read at start only.
        problems: Why it would be refused, as far as that is known without starting anything; empty when nothing
            speaks against it.
    """

    changes: tuple[Change, ...] = ()
    swaps: tuple[Swap, ...] = ()
    starts: tuple[SlotName, ...] = ()
    stops: tuple[SlotName, ...] = ()
    needs_restart: tuple[str, ...] = ()
    problems: tuple[str, ...] = ()

    def as_dict(self) -> dict[str, Any]:
        """Return plain data."""
        return {
            "changes": [change.as_dict() for change in self.changes],
            "swaps": [swap.as_dict() for swap in self.swaps],
            "starts": [_named(slot) for slot in self.starts],
            "stops": [_named(slot) for slot in self.stops],
            "needs_restart": list(self.needs_restart),
            "problems": list(self.problems),
        }


@dataclass(frozen=True, slots=True, kw_only=True)
class AppliedVersion:
    """A configuration that is in force.

    Attributes:
        number: Counts up by one with each configuration that is applied; the one the process started with is 1.
            ``"version"`` in plain data.
        digest: SHA-256 over what it was read from.
        at: When it was applied, in seconds since the epoch.
    """

    number: int
    digest: str
    at: float

    def as_dict(self) -> dict[str, Any]:
        """Return plain data."""
        return {"version": self.number, "digest": self.digest, "at": self.at}


@dataclass(frozen=True, slots=True, kw_only=True)
class RefusedVersion:
    """A configuration that was read after the one in force, and refused.

    Attributes:
        number: The number it would have had; ``"version"`` in plain data.
        digest: SHA-256 over what it was read from; empty where it could not be read.
        reason: Why.
        at: When, in seconds since the epoch.
    """

    number: int
    digest: str
    reason: str
    at: float

    def as_dict(self) -> dict[str, Any]:
        """Return plain data."""
        return {"version": self.number, "digest": self.digest, "at": self.at, "reason": self.reason}


@dataclass(frozen=True, slots=True, kw_only=True)
class Versions:
    """The configuration in force, and the one on disk when that was refused.

    Attributes:
        applied: The one in force.
        refused: The latest one, if it was refused; None when the latest is in force.
    """

    applied: AppliedVersion
    refused: RefusedVersion | None = None

    def as_dict(self) -> dict[str, Any]:
        """Return plain data."""
        refused = None if self.refused is None else self.refused.as_dict()
        return {"applied": self.applied.as_dict(), "refused": refused}


@dataclass(frozen=True, slots=True, kw_only=True)
class ReloadResult:
    """How a reload ended.

    Attributes:
        accepted: Whether what was read is in force now.
        version: Number of the configuration in force.
        digest: SHA-256 over what was read; empty where it could not be read.
        reason: Why it was refused, or None.
        plan: What was to be done; empty where it could not be read, or was in force already.
        by: Who asked.
        duration_seconds: From the question until the new instances served, or until all was put back.
    """

    accepted: bool
    version: int
    digest: str
    reason: str | None
    plan: ReloadPlan
    by: str
    duration_seconds: float

    def as_dict(self) -> dict[str, Any]:
        """Return plain data."""
        return _plain(self) | {"plan": self.plan.as_dict()}


def _named(slot: SlotName) -> dict[str, Any]:
    return dict(zip(("domain", "key", "tenant"), slot, strict=True))


def _plain(value: Any) -> dict[str, Any]:
    return {field.name: getattr(value, field.name) for field in fields(value)}
