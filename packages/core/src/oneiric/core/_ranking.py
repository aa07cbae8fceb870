"""Ranking: the rows of one key, best first, and the one that wins.

A *ladder* is the tuple of all rows of a key ordered by priority, stack level and registration, eligible or not. The
explicit selection is the tier above them: it is looked up, not sorted by, so that one ladder serves every tenant.
"""

from collections.abc import Iterator
from typing import Final, NamedTuple

from oneiric.core._candidate import Candidate
from oneiric.core._eligibility import obstacles_of
from oneiric.core._policy import Policy, Selection

__all__ = ["Ladder", "Row", "eligible_rows", "make_row", "winner_of"]


class Row(NamedTuple):
    """One candidate with the values it ranks by; compares by them, and no two rows of a registry are equal."""

    priority: int
    stack_level: int
    registration: int
    candidate: Candidate


type Ladder = tuple[Row, ...]


_new_tuple: Final = tuple.__new__


def make_row(candidate: Candidate, policy: Policy, registration: int) -> Row:
    """Rank a candidate as *policy* has it; *registration* is its place in registration order."""
    priority = candidate.priority
    if priority is None or policy.stack_order:
        priority = policy.priority_of(candidate)
    # Not through Row's own constructor, which is a Python function: this runs once for every candidate there is.
    return _new_tuple(Row, (priority, candidate.stack_level or 0, registration, candidate))


def eligible_rows(
    ladder: Ladder,
    policy: Policy,
    selection: Selection | None,
    wanted: tuple[str, ...] = (),
    *,
    require_all: bool = True,
) -> Iterator[Row]:
    """Yield the rows that may be ranked, best first, the selected provider's before all others."""
    chosen = None if selection is None else selection.provider
    for of_chosen in (True, False):
        for row in ladder:
            candidate = row.candidate
            if (candidate.provider == chosen) is of_chosen and not obstacles_of(
                candidate, policy.environment, selected=of_chosen, wanted=wanted, require_all=require_all
            ):
                yield row


def winner_of(
    ladder: Ladder,
    policy: Policy,
    selection: Selection | None,
    wanted: tuple[str, ...] = (),
    *,
    require_all: bool = True,
) -> Candidate | None:
    """Return the winner of a ladder, or None: also when the selected provider is absent or set aside."""
    if selection is None and not wanted:
        best = ladder[0].candidate
        if best.unconditional:
            return best
    for row in eligible_rows(ladder, policy, selection, wanted, require_all=require_all):
        candidate = row.candidate
        # A selection that cannot be honoured leaves no winner: nothing falls through silently.
        return candidate if selection is None or candidate.provider == selection.provider else None
    return None
