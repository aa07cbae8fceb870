"""Eligibility: may a candidate be ranked at all, and if not, what stands in its way."""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Final

from oneiric.core._candidate import Candidate, is_constrained
from oneiric.core._environment import Environment

__all__ = ["Obstacle", "machine_obstacles", "obstacles_of"]

#: Obstacles the operator can remove by a change that `why_not` offers; the others lie with the machine or the question.
REMOVABLE: Final = frozenset({"extra", "opt_in"})


@dataclass(frozen=True, slots=True)
class Obstacle:
    """One reason why a candidate is set aside.

    Attributes:
        kind: ``capability``, ``python``, ``os``, ``package``, ``conflict``, ``extra`` or ``opt_in``.
        detail: What was wanted and what was found.
        fix: What removes it, or None when only the machine or the question could change.
    """

    kind: str
    detail: str
    fix: str | None = None

    def __str__(self) -> str:
        return self.detail


def machine_obstacles(candidate: Candidate, environment: Environment) -> Iterable[Obstacle]:
    """Yield what the machine lacks for a candidate: Python, OS, packages, conflicts, its extra."""
    if candidate.requires_python and not environment.satisfies_python(candidate.requires_python):
        yield Obstacle("python", f"needs Python {candidate.requires_python}, this is {environment.python}")
    if candidate.requires_os and environment.os not in candidate.requires_os:
        yield Obstacle("os", f"runs on {', '.join(candidate.requires_os)}, this is {environment.os}")
    for requirement in candidate.requires_packages:
        if not environment.is_installed(requirement):
            yield Obstacle("package", f"needs {requirement}, which is not installed", f"pip install '{requirement}'")
    for requirement in candidate.conflicts_with:
        if environment.is_installed(requirement):
            yield Obstacle("conflict", f"conflicts with {requirement}, which is installed")
    extra = candidate.requires_extra
    if extra and not environment.is_installed(extra):
        yield Obstacle("extra", f"its extra {extra} is not installed", f"pip install '{extra}'")


def capability_obstacle(candidate: Candidate, wanted: tuple[str, ...], *, require_all: bool) -> Obstacle | None:
    """Return what a candidate lacks of the capabilities asked for, or None."""
    missing = [name for name in wanted if name not in candidate.capabilities]
    if not missing or (not require_all and len(missing) < len(wanted)):
        return None
    have = ", ".join(candidate.capabilities) or "none"
    return Obstacle("capability", f"lacks {', '.join(missing)} (has: {have})")


def obstacles_of(
    candidate: Candidate,
    environment: Environment,
    *,
    selected: bool,
    wanted: tuple[str, ...] = (),
    require_all: bool = True,
) -> tuple[Obstacle, ...]:
    """Return everything that stands in a candidate's way; empty when it may be ranked."""
    found: list[Obstacle] = []
    if wanted and (lacks := capability_obstacle(candidate, wanted, require_all=require_all)):
        found.append(lacks)
    if candidate.unconditional:
        return tuple(found)
    if is_constrained(candidate):
        found.extend(machine_obstacles(candidate, environment))
    if candidate.opt_in and not selected:
        found.append(
            Obstacle(
                "opt_in",
                "is opt-in and nobody selected it",
                f"select {candidate.provider!r} for {candidate.key!r}",
            )
        )
    return tuple(found)
