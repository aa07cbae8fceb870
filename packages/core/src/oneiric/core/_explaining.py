"""Building explanations and resolution errors from one revision."""

import difflib
from dataclasses import dataclass
from typing import Final, NoReturn

from oneiric.core._candidate import Candidate
from oneiric.core._eligibility import obstacles_of
from oneiric.core._errors_choosing import listed
from oneiric.core._explanation import Explanation, RankedCandidate, SetAsideCandidate
from oneiric.core._policy import Policy, Selection
from oneiric.core._ranking import Ladder, Row
from oneiric.core._registry import Revision, Slot
from oneiric.core.errors import (
    CandidateNotFoundError,
    CapabilityNotFoundError,
    SelectionNotFoundError,
)

__all__ = ["Question", "build_explanation", "raise_unresolved", "remembered", "unknown_key"]

#: Rows of a ladder that a journal entry keeps for its sentence.
_ROWS_REMEMBERED: Final = 16


@dataclass(frozen=True, slots=True)
class Question:
    """What was asked of one key, apart from the rows there are.

    Attributes:
        slot: Domain, key and tenant.
        selection: The selection in force, or the provider the question names.
        wanted: Capabilities asked for.
        require_all: Whether all of them are needed.
    """

    slot: Slot
    selection: Selection | None
    wanted: tuple[str, ...] = ()
    require_all: bool = True


def build_explanation(ladder: Ladder, policy: Policy, question: Question, revision: int) -> Explanation:
    """Rank every row of a ladder, which has at least one, and record the values."""
    domain, key, tenant = question.slot
    selection = question.selection
    chosen = None if selection is None else selection.provider
    ranked: list[tuple[Row, tuple[int, int, int, int], dict[str, str]]] = []
    filtered: list[SetAsideCandidate] = []
    for row in ladder:
        candidate = row.candidate
        of_chosen = candidate.provider == chosen
        score = (int(of_chosen), row.priority, row.stack_level, row.registration)
        origins = _origins(candidate, policy, selection if of_chosen else None)
        obstacles = obstacles_of(
            candidate,
            policy.environment,
            selected=of_chosen,
            wanted=question.wanted,
            require_all=question.require_all,
        )
        if obstacles:
            filtered.append(SetAsideCandidate(candidate, score, origins, obstacles))
        else:
            ranked.append((row, score, origins))
    ranked.sort(key=lambda entry: entry[1], reverse=True)
    honoured = bool(ranked) and (selection is None or ranked[0][1][0] == 1)
    return Explanation(
        domain,
        key,
        ordered=tuple(
            RankedCandidate(row.candidate, score, origins, selected=honoured and place == 0)
            for place, (row, score, origins) in enumerate(ranked)
        ),
        filtered=tuple(filtered),
        tenant=tenant,
        revision=revision,
        selection=selection,
        capabilities=question.wanted,
    )


def remembered(ladder: Ladder, winner: Candidate | None) -> Ladder:
    """Return the rows that the sentence behind a journal entry needs: the top of the ladder, and the winner's.

    A journal of thousands of entries must not hold thousands of registries.
    """
    if len(ladder) <= _ROWS_REMEMBERED:
        return ladder
    low = tuple(row for row in ladder[_ROWS_REMEMBERED:] if row.candidate is winner)
    return ladder[:_ROWS_REMEMBERED] + low


def _origins(candidate: Candidate, policy: Policy, selection: Selection | None) -> dict[str, str]:
    origins = {"priority": policy.explain_priority(candidate)[1]}
    if candidate.stack_level is not None:
        origins["stack_level"] = f"stated by {candidate.origin}"
    if selection is not None:
        origins["selection"] = str(selection)
    return origins


def raise_unresolved(revision: Revision, question: Question) -> NoReturn:
    """Raise the error that says why a slot cannot be resolved."""
    domain, key, _ = question.slot
    ladder = revision.ladder(domain, key)
    if not ladder:
        raise unknown_key(revision, domain, key)
    explanation = build_explanation(ladder, revision.policy, question, revision.number)
    selection, wanted = question.selection, question.wanted
    rows = explanation.rows
    if selection is not None:
        aside = [row for row in explanation.filtered if row.provider == selection.provider]
        if not aside or not all(o.kind == "capability" for row in aside for o in row.obstacles):
            reasons = "; ".join(reason for row in aside for reason in row.reasons) or None
            fixes = [o.fix for row in aside for o in row.obstacles if o.fix]
            have = tuple(sorted({row.provider for row in rows}))
            by = None if selection.origin == "the question" else str(selection)
            raise SelectionNotFoundError(
                domain, key, selection.provider, reasons, have, by, fixes[0] if fixes else None
            )
    if wanted:
        offered = sorted({name for row in rows for name in row.candidate.capabilities})
        raise CapabilityNotFoundError(domain, key, wanted, question.require_all, tuple(offered))
    aside_all = "; ".join(f"{row.provider} {row.reasons[0]}" for row in explanation.filtered[:4])
    hint = next((o.fix for row in explanation.filtered for o in row.obstacles if o.fix), None)
    raise CandidateNotFoundError(domain, key, f"set aside: {aside_all}", hint)


def unknown_key(revision: Revision, domain: str, key: str) -> CandidateNotFoundError:
    """Return the error for a key without candidates, with what there is instead."""
    if domain not in revision.ladders:
        known = listed(revision.ladders)
        return CandidateNotFoundError(domain, key, f"no such domain; there are: {known}", "oneiric list")
    keys = revision.ladders[domain]
    near = difflib.get_close_matches(key, keys, n=1)
    found = f"no such key; did you mean {near[0]!r}?" if near else f"no such key; there are: {listed(keys)}"
    return CandidateNotFoundError(domain, key, found)
