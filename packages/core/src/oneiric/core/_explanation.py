"""Explanation: the ranking of one key as values, rendered only when somebody reads it."""

from collections.abc import Mapping, Sequence
from typing import Any, Final, NoReturn

from oneiric.core._candidate import Candidate, CandidateSource
from oneiric.core._eligibility import Obstacle
from oneiric.core._policy import Selection
from oneiric.core._why_not import WhyNot, why_not
from oneiric.core.errors import LoadError

__all__ = ["Explanation", "RankedCandidate", "SetAsideCandidate"]

#: The tiers in the order they decide, and the place of each in a score.
TIERS: Final = ("selection", "priority", "stack_level", "registration")


class RankedCandidate:
    """A candidate that was ranked, with the value it had in each tier.

    Attributes:
        candidate: The candidate.
        score: ``(selection 0 or 1, priority, stack_level, registration)``; compared in this order, highest first.
        origins: Tier → where its value came from, for the tiers that have an origin.
        selected: True for the winner.
    """

    __slots__ = ("candidate", "origins", "score", "selected")

    def __init__(
        self,
        candidate: Candidate,
        score: tuple[int, int, int, int],
        origins: Mapping[str, str],
        *,
        selected: bool,
    ) -> None:
        self.candidate = candidate
        self.score = score
        self.origins = origins
        self.selected = selected

    @property
    def provider(self) -> str:
        """The candidate's provider."""
        return self.candidate.provider

    @property
    def tiers(self) -> dict[str, int]:
        """Tier name → value."""
        return dict(zip(TIERS, self.score, strict=True))

    @property
    def reasons(self) -> tuple[str, ...]:
        """One clause a tier, strongest first."""
        return tuple(self._clauses())

    def _clauses(self) -> list[str]:
        chosen, priority, stack_level, registration = self.score
        origin = self.origins.get
        clauses = [
            f"priority {priority} ({origin('priority', 'default')})",
            f"stack_level {stack_level} ({origin('stack_level', 'default')})",
            f"registered as number {registration}",
        ]
        return [f"selected by {origin('selection', 'the question')}", *clauses] if chosen else clauses

    def as_dict(self) -> dict[str, Any]:
        """Return plain data."""
        candidate = self.candidate
        shown = {
            "provider": candidate.provider,
            "selected": self.selected,
            "score": list(self.score),
            "origins": dict(self.origins),
            "reasons": self._clauses(),
            "source": candidate.source.value,
            "origin": candidate.origin,
            "version": candidate.version,
        }
        about = candidate.metadata.get("manifest")
        if about is not None and isinstance(about, Mapping):
            shown["manifest"] = dict(about)
        return shown

    def __repr__(self) -> str:
        return f"<RankedCandidate {self.provider!r} {self.score}>"


class SetAsideCandidate:
    """A candidate that was not ranked, with everything that stands in its way.

    Attributes:
        candidate: The candidate.
        score: What it would rank with.
        origins: Tier → where its value came from.
        obstacles: All of them, never empty.
    """

    __slots__ = ("candidate", "obstacles", "origins", "score")

    def __init__(
        self,
        candidate: Candidate,
        score: tuple[int, int, int, int],
        origins: Mapping[str, str],
        obstacles: tuple[Obstacle, ...],
    ) -> None:
        self.candidate = candidate
        self.score = score
        self.origins = origins
        self.obstacles = obstacles

    @property
    def provider(self) -> str:
        """The candidate's provider."""
        return self.candidate.provider

    @property
    def reasons(self) -> tuple[str, ...]:
        """One clause an obstacle."""
        return tuple(obstacle.detail for obstacle in self.obstacles)

    def as_dict(self) -> dict[str, Any]:
        """Return plain data."""
        candidate = self.candidate
        return {
            "provider": candidate.provider,
            "score": list(self.score),
            "origins": dict(self.origins),
            "obstacles": [{"kind": o.kind, "detail": o.detail, "fix": o.fix} for o in self.obstacles],
            "source": candidate.source.value,
            "origin": candidate.origin,
            "version": candidate.version,
            "requires_extra": candidate.requires_extra,
        }

    def __repr__(self) -> str:
        return f"<SetAsideCandidate {self.provider!r}: {'; '.join(self.reasons)}>"


class Explanation:
    """Why a key resolves as it does: the ranked rows themselves, read when asked.

    Attributes:
        domain: The domain asked for.
        key: The key asked for.
        tenant: Whose answer it is, or None for the base.
        revision: The registry's revision it was taken from.
        selection: The explicit selection in force, or None.
        capabilities: The capabilities asked for.
        ordered: The ranked candidates, best first; with a selection that cannot be honoured none of them wins.
        filtered: The candidates set aside, by rank.
        active: The provider that serves at the moment of asking, or None.
    """

    __slots__ = (
        "active",
        "capabilities",
        "domain",
        "filtered",
        "key",
        "ordered",
        "revision",
        "selection",
        "tenant",
    )

    def __init__(
        self,
        domain: str,
        key: str,
        *,
        ordered: tuple[RankedCandidate, ...],
        filtered: tuple[SetAsideCandidate, ...] = (),
        tenant: str | None = None,
        revision: int = 0,
        selection: Selection | None = None,
        capabilities: tuple[str, ...] = (),
        active: str | None = None,
    ) -> None:
        self.domain, self.key, self.tenant = domain, key, tenant
        self.ordered, self.filtered = ordered, filtered
        self.revision, self.selection = revision, selection
        self.capabilities, self.active = capabilities, active

    def with_active(self, active: str | None) -> "Explanation":
        """Return this explanation with another provider serving."""
        return Explanation(
            self.domain,
            self.key,
            ordered=self.ordered,
            filtered=self.filtered,
            tenant=self.tenant,
            revision=self.revision,
            selection=self.selection,
            capabilities=self.capabilities,
            active=active,
        )

    @property
    def winner(self) -> Candidate | None:
        """The candidate that ranks first, or None when nothing can be chosen."""
        return self.ordered[0].candidate if self.ordered and self.ordered[0].selected else None

    @property
    def selected(self) -> str | None:
        """The winner's provider, or None."""
        winner = self.winner
        return None if winner is None else winner.provider

    @property
    def rows(self) -> "tuple[RankedCandidate | SetAsideCandidate, ...]":
        """Every candidate of the key: the ranked ones, then those set aside."""
        return (*self.ordered, *self.filtered)

    @property
    def shadowed(self) -> tuple[RankedCandidate, ...]:
        """The ranked candidates that lost, best first."""
        return self.ordered[1:] if self.winner is not None else self.ordered

    @property
    def reasons(self) -> tuple[str, ...]:
        """The winner's clauses, strongest tier first; why there is none when there is no winner."""
        return self.ordered[0].reasons if self.winner is not None else (self.why,)

    @property
    def why(self) -> str:
        """One sentence: the tier that decided, and against whom."""
        if self.winner is None:
            return self._why_nothing()
        first = self.ordered[0]
        rival = next((row for row in self.ordered[1:] if row.provider != first.provider), None)
        if first.score[0]:
            return f"{first.provider} is selected by {first.origins.get('selection', 'the question')}"
        if rival is None:
            aside = f"; set aside: {', '.join(row.provider for row in self.filtered)}" if self.filtered else ""
            return f"{first.provider} is the only eligible candidate{aside}"
        place = next(i for i in range(1, 4) if first.score[i] != rival.score[i])
        tier, value, other = TIERS[place], first.score[place], rival.score[place]
        if tier == "registration":
            return f"{first.provider} was registered after {rival.provider}, and all else is equal"
        origin = first.origins.get(tier, "default")
        return f"{first.provider} has {tier} {value} ({origin}), above {other} of {rival.provider}"

    def _why_nothing(self) -> str:
        if self.selection is None:
            return f"every candidate is set aside: {', '.join(row.provider for row in self.filtered)}"
        provider = self.selection.provider
        reasons = "; ".join(reason for row in self.filtered if row.provider == provider for reason in row.reasons)
        state = f"is set aside: {reasons}" if reasons else "is not registered"
        return f"{provider} is selected by {self.selection}, and {state}"

    def why_not(self, provider: str) -> WhyNot:
        """Tell what keeps a provider from winning, and the least change per tier that would make it win.

        Raises:
            SelectionNotFoundError: The key has no such provider.
        """
        return why_not(self, provider)

    def replay(self) -> str | None:
        """Derive the winner's provider anew from the recorded tier values alone."""
        best = max(self.ordered, key=lambda row: row.score, default=None)
        if best is None or (self.selection is not None and not best.score[0]):
            return None
        return best.provider

    def as_dict(self) -> dict[str, Any]:
        """Return plain data: the shape of ``oneiric explain --json``."""
        selection = self.selection
        return {
            "domain": self.domain,
            "key": self.key,
            "tenant": self.tenant,
            "revision": self.revision,
            "selected": self.selected,
            "active": self.active,
            "why": self.why,
            "reasons": list(self.reasons),
            "selection": None
            if selection is None
            else {
                "provider": selection.provider,
                "origin": selection.origin,
                "by": selection.by,
                "at": selection.at,
            },
            "capabilities": list(self.capabilities),
            "ordered": [row.as_dict() for row in self.ordered],
            "shadowed": [row.provider for row in self.shadowed],
            "filtered": [row.as_dict() for row in self.filtered],
        }

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> "Explanation":
        """Read back what `as_dict` gave, also through JSON.

        The candidates carry what was recorded of them; their factories only raise `LoadError`.

        Raises:
            KeyError: A field is missing.
        """
        domain, key = data["domain"], data["key"]

        def candidate(row: Mapping[str, Any]) -> Candidate:
            return _recorded(domain, key, row)

        ordered = tuple(
            RankedCandidate(candidate(row), _score(row), row["origins"], selected=row["selected"])
            for row in data["ordered"]
        )
        filtered = tuple(
            SetAsideCandidate(
                candidate(row),
                _score(row),
                row["origins"],
                tuple(Obstacle(**obstacle) for obstacle in row["obstacles"]),
            )
            for row in data["filtered"]
        )
        return cls(
            domain,
            key,
            ordered=ordered,
            filtered=filtered,
            tenant=data["tenant"],
            revision=data["revision"],
            selection=None if data["selection"] is None else Selection(**data["selection"]),
            capabilities=tuple(data["capabilities"]),
            active=data["active"],
        )

    def __str__(self) -> str:
        whose = f" (tenant {self.tenant})" if self.tenant else ""
        return f"{self.domain}:{self.key}{whose}: {self.why}"

    def __repr__(self) -> str:
        return f"<Explanation {self.domain}:{self.key} → {self.selected!r}, revision {self.revision}>"


def _score(row: Mapping[str, Any]) -> tuple[int, int, int, int]:
    values: Sequence[int] = row["score"]
    chosen, priority, stack_level, registration = values
    return chosen, priority, stack_level, registration


def _recorded(domain: str, key: str, row: Mapping[str, Any]) -> Candidate:
    return Candidate(
        domain=domain,
        key=key,
        provider=row["provider"],
        factory=_recorded_factory,
        source=CandidateSource(row["source"]),
        origin=row["origin"],
        version=row["version"],
        requires_extra=row.get("requires_extra"),
        metadata={"manifest": dict(row["manifest"])} if row.get("manifest") else {},
    )


def _recorded_factory(*_: object, **__: object) -> NoReturn:
    raise LoadError("a candidate read back from a recorded explanation cannot be started")
