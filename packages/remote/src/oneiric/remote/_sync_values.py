"""What a sync reports: verdicts, plans, outcomes."""

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

__all__ = ["Outcome", "PlannedSwap", "RemotePlan", "RevokedInUse", "SyncFailed", "SyncReport", "Verdict"]

type Outcome = Literal["added", "changed", "unchanged", "withdrawn", "refused"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Verdict:
    """What becomes of one entry.

    Attributes:
        name: ``domain:key/provider``, as far as the entry states them.
        outcome: ``added``, ``changed``, ``unchanged``, ``withdrawn`` (no longer offered) or ``refused``.
        reason: Why it was refused; None otherwise.
        publisher: Whose entry; empty for the product's own.
    """

    name: str
    outcome: Outcome
    reason: str | None = None
    publisher: str = ""

    def as_dict(self) -> dict[str, Any]:
        """Return plain data."""
        return {name: getattr(self, name) for name in self.__slots__}


@dataclass(frozen=True, slots=True, kw_only=True)
class PlannedSwap:
    """A slot that serves and would be swapped.

    Attributes:
        domain: The domain.
        key: The key.
        tenant: Whose slot; None for the base.
        before: The provider that serves.
        after: The provider that would; None when nothing could be chosen, and what serves goes on.
    """

    domain: str
    key: str
    tenant: str | None
    before: str | None
    after: str | None

    def as_dict(self) -> dict[str, Any]:
        """Return plain data."""
        return {name: getattr(self, name) for name in self.__slots__}


@dataclass(frozen=True, slots=True, kw_only=True)
class RemotePlan:
    """What a verified manifest would change.

    Attributes:
        source: Where it came from.
        signature: ``envelope``, ``embedded`` or ``unsigned``.
        manifest: Product, channel, version, digest and signers, as far as it states them.
        verdicts: One for each entry, and for each that is no longer offered.
        swaps: Slots that serve and would be swapped, as one group.
        problems: What was left out, as sentences.
    """

    source: str
    signature: str
    manifest: Mapping[str, Any]
    verdicts: tuple[Verdict, ...] = ()
    swaps: tuple[PlannedSwap, ...] = ()
    problems: tuple[str, ...] = ()

    @property
    def changes(self) -> bool:
        """True when an entry would be added, changed or withdrawn."""
        return any(each.outcome in {"added", "changed", "withdrawn"} for each in self.verdicts)

    def as_dict(self) -> dict[str, Any]:
        """Return plain data."""
        return {
            "source": self.source,
            "signature": self.signature,
            "manifest": dict(self.manifest),
            "changes": self.changes,
            "entries": [each.as_dict() for each in self.verdicts],
            "swaps": [each.as_dict() for each in self.swaps],
            "problems": list(self.problems),
        }


@dataclass(frozen=True, slots=True, kw_only=True)
class SyncReport:
    """A manifest that was accepted.

    Attributes:
        outcome: ``applied``; ``unchanged``, when what was fetched is what is in force; ``restored``, from the cache;
            or ``stored``, when nothing is applied because nothing runs.
        plan: What it changed.
        swapped: Slots (domain, key, tenant) that serve a new generation.
        registered: Candidates of the manifest that are registered now, or would be.
        per_domain: The same by domain.
        digest_checks: Artifacts whose digest was checked.
        duration_ms: It took.
        revision: Of the registry, after it.
    """

    outcome: Literal["applied", "unchanged", "restored", "stored"]
    plan: RemotePlan
    swapped: tuple[tuple[str, str, str | None], ...] = ()
    registered: int = 0
    per_domain: Mapping[str, int] = field(default_factory=dict)
    digest_checks: int = 0
    duration_ms: float = 0.0
    revision: int = 0

    @property
    def skipped(self) -> int:
        """Entries that were refused."""
        return Counter(each.outcome for each in self.plan.verdicts)["refused"]

    def as_dict(self) -> dict[str, Any]:
        """Return plain data."""
        return {
            "outcome": self.outcome,
            **self.plan.as_dict(),
            "swapped": [{"domain": d, "key": k, "tenant": t} for d, k, t in self.swapped],
            "registered": self.registered,
            "skipped": self.skipped,
            "per_domain": dict(self.per_domain),
            "digest_checks": self.digest_checks,
            "duration_ms": self.duration_ms,
        }


@dataclass(frozen=True, slots=True, kw_only=True)
class SyncFailed:
    """A sync that was refused or broke off; what served before serves on.

    Attributes:
        source: Where from.
        step: How far it came: ``fetch``, ``verify``, ``stage``, ``plan``, ``apply``, ``probation`` or ``commit``.
        error: The class of the error.
        reason: Its sentence.
        duration_ms: It took.
    """

    source: str
    step: str
    error: str
    reason: str
    duration_ms: float = 0.0

    def as_dict(self) -> dict[str, Any]:
        """Return plain data."""
        return {name: getattr(self, name) for name in self.__slots__}


@dataclass(frozen=True, slots=True, kw_only=True)
class RevokedInUse:
    """What serves on although its artifact was revoked: nothing that may be used can replace it.

    Attributes:
        domain: The domain.
        key: The key.
        tenant: Whose slot; None for the base.
        provider: What serves.
        sha256: Of its artifact.
    """

    domain: str
    key: str
    tenant: str | None
    provider: str
    sha256: str

    def as_dict(self) -> dict[str, Any]:
        """Return plain data, with the sentence about it as ``reason``."""
        return {**{name: getattr(self, name) for name in self.__slots__}, "reason": str(self)}

    def __str__(self) -> str:
        whose = "" if self.tenant is None else f" (tenant {self.tenant})"
        return (
            f"{self.domain}:{self.key}{whose} is served by {self.provider}, whose artifact {self.sha256} was revoked: "
            f"nothing else can serve the key, so it serves on until it is replaced or retired"
        )
