"""Why not: what keeps a provider from winning, and the least change per tier that would make it win."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from oneiric.core._eligibility import REMOVABLE, Obstacle
from oneiric.core.errors import SelectionNotFoundError

if TYPE_CHECKING:
    from oneiric.core._explanation import Explanation, RankedCandidate, SetAsideCandidate

__all__ = ["LeastChange", "WhyNot", "why_not"]


@dataclass(frozen=True, slots=True)
class LeastChange:
    """One way to make a provider win.

    Attributes:
        tier: ``selection``, ``extra``, ``priority`` or ``stack_level``.
        value: The provider to select, the requirement to install, the lowest priority, the lowest stack level.
        how: The change in words.
        install: A requirement that must be installed as well, or None.
    """

    tier: str
    value: str | int
    how: str
    install: str | None = None


@dataclass(frozen=True, slots=True)
class WhyNot:
    """What keeps a provider from winning.

    Attributes:
        provider: The provider asked about.
        wins: True when it is the winner, and there is nothing to change.
        obstacles: Why it is set aside; empty when it was ranked and lost.
        changes: Tier → the least change there that makes it win, for the tiers that could decide; None when only the
            machine or the question could change.
    """

    provider: str
    wins: bool
    obstacles: tuple[Obstacle, ...]
    changes: Mapping[str, LeastChange] | None

    def as_dict(self) -> dict[str, Any]:
        """Return plain data."""
        return {
            "provider": self.provider,
            "wins": self.wins,
            "obstacles": [{"kind": o.kind, "detail": o.detail, "fix": o.fix} for o in self.obstacles],
            "changes": None
            if self.changes is None
            else {
                tier: {"value": change.value, "how": change.how, "install": change.install}
                for tier, change in self.changes.items()
            },
        }

    def __str__(self) -> str:
        if self.wins:
            return f"{self.provider} wins"
        stands = "; ".join(obstacle.detail for obstacle in self.obstacles) or "it was ranked and lost"
        if self.changes is None:
            return f"{self.provider}: {stands}; only the machine or the question could change that"
        return f"{self.provider}: {stands}; {' or '.join(change.how for change in self.changes.values())}"


def why_not(explanation: "Explanation", provider: str) -> WhyNot:
    """Answer `Explanation.why_not`."""
    if explanation.selected == provider:
        return WhyNot(provider, wins=True, obstacles=(), changes={})
    ranked = next((row for row in explanation.ordered if row.provider == provider), None)
    if ranked is not None:
        return WhyNot(provider, wins=False, obstacles=(), changes=_changes(explanation, ranked))
    aside = [row for row in explanation.filtered if row.provider == provider]
    if not aside:
        have = {row.provider for row in explanation.rows}
        raise SelectionNotFoundError(explanation.domain, explanation.key, provider, None, tuple(sorted(have)))
    # Of several rows of one provider, the one that least stands in the way of is the one to speak of.
    best = min(aside, key=lambda row: (any(o.kind not in REMOVABLE for o in row.obstacles), [-v for v in row.score]))
    if any(obstacle.kind not in REMOVABLE for obstacle in best.obstacles):
        return WhyNot(provider, wins=False, obstacles=best.obstacles, changes=None)
    return WhyNot(provider, wins=False, obstacles=best.obstacles, changes=_changes(explanation, best))


def _changes(explanation: "Explanation", row: "RankedCandidate | SetAsideCandidate") -> dict[str, LeastChange]:
    """Find the least change per tier for a row that only removable obstacles, or its rank, keep from winning."""
    kinds = {obstacle.kind for obstacle in getattr(row, "obstacles", ())}
    install = row.candidate.requires_extra if "extra" in kinds else None
    also = f" and pip install '{install}'" if install else ""
    changes: dict[str, LeastChange] = {}
    chosen = explanation.selection
    of_others = chosen is not None and chosen.provider != row.provider
    best = max((rival.score[1:] for rival in explanation.ordered if rival.provider != row.provider), default=None)
    outranks = chosen is not None or best is None or row.score[1:] > best
    if install and not of_others and "opt_in" not in kinds and outranks:
        # Nothing but the missing extra is in the way.
        return {"extra": LeastChange("extra", install, f"pip install '{install}'")}
    how = f"select {row.provider!r} for {explanation.key!r}{also}"
    if chosen is not None and chosen.origin == "swap":
        how = f"swap {explanation.key!r} to {row.provider!r}{also}"
    changes["selection"] = LeastChange("selection", row.provider, how, install)
    if of_others or "opt_in" in kinds or best is None:
        return changes
    _, priority, stack_level, registration = row.score
    rival = _rival_for_priority(explanation, row)
    if rival is not None:
        lowest = rival[0] if (stack_level, registration) > rival[1:] else rival[0] + 1
        changes["priority"] = LeastChange("priority", lowest, _how_priority(row, lowest) + also, install)
    if priority == best[0]:
        lowest = best[1] if registration > best[2] else best[1] + 1
        changes["stack_level"] = LeastChange("stack_level", lowest, f"give it stack_level {lowest}{also}", install)
    return changes


def _rival_for_priority(
    explanation: "Explanation", row: "RankedCandidate | SetAsideCandidate"
) -> tuple[int, int, int] | None:
    """Return the best score that another priority of the row must beat; None when no priority can.

    A priority stated for a whole package moves every candidate of that package, and none past another of it.
    """
    package = _package(row)
    best: tuple[int, int, int] | None = None
    for rival in explanation.ordered:
        if rival.provider == row.provider:
            continue
        if package and _package(rival) == package:
            if rival.score[2:] > row.score[2:]:
                return None
        elif best is None or rival.score[1:] > best:
            best = rival.score[1:]
    return best


def _package(row: "RankedCandidate | SetAsideCandidate") -> str:
    """Return ``VARIABLE package`` when the operator's order gives the row its priority, else nothing."""
    origin = row.origins.get("priority", "")
    return "" if origin.startswith(("stated by ", "path ")) or origin == "default" else origin


def _how_priority(row: "RankedCandidate | SetAsideCandidate", lowest: int) -> str:
    variable, _, package = _package(row).partition(" ")
    return f"state {package}:{lowest} in {variable}" if package else f"give it priority {lowest}"
