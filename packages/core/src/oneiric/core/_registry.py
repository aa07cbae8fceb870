"""Registry: all candidates, one numbered revision at a time.

Writers take turns under a lock, build the next revision from the last one, copying only what they touch, and publish
it with one pointer write. Readers take no lock: whatever they hold is one whole revision.
"""

import threading
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from itertools import islice
from typing import Any, Final

from oneiric.core._candidate import Candidate
from oneiric.core._policy import Policy, Selection
from oneiric.core._ranking import Ladder, Row, make_row, winner_of
from oneiric.core.errors import DuplicateCandidateError, InvalidCandidateError

__all__ = ["Change", "Registry", "Revision", "Slot"]

#: Domain, key and tenant; None is the base.
type Slot = tuple[str, str, str | None]

#: Past this many rows of one key a dictionary finds a row faster than a walk along the ladder.
_INDEXED_LENGTH: Final = 16

#: Answers a revision remembers at most.
_REMEMBERED: Final = 4096


class Revision:
    """One state of the registry. Immutable once published; its memo only ever gains derived answers.

    Attributes:
        number: Counts up by one with every change.
        winners: Domain → key → winner of the base; a key whose selection cannot be honoured is absent.
        ladders: Domain → key → all rows, best first.
        policy: The operator's decisions this revision was ranked with.
        runtime: Selections made by a swap, per slot.
        any_selected: Whether anything is selected for any slot.
        memo: Derived answers, dropped with the revision.
    """

    __slots__ = ("any_selected", "ladders", "memo", "number", "policy", "runtime", "winners")

    def __init__(
        self,
        number: int,
        winners: dict[str, dict[str, Candidate]],
        ladders: dict[str, dict[str, Ladder]],
        policy: Policy,
        runtime: Mapping[Slot, Selection],
    ) -> None:
        self.number = number
        self.winners = winners
        self.ladders = ladders
        self.policy = policy
        self.runtime = runtime
        self.any_selected = bool(runtime or policy.selections or policy.tenants)
        self.memo: dict[Any, Any] = {}

    def ladder(self, domain: str, key: str) -> Ladder:
        """Return the rows of a key, best first; empty when there are none."""
        keys = self.ladders.get(domain)
        return () if keys is None else keys.get(key, ())

    def remember(self, asked: Any, answer: object) -> None:
        """Keep a derived answer as long as the revision lasts, or until there are too many: tenants are users' data."""
        if len(self.memo) >= _REMEMBERED:
            self.memo.clear()
        self.memo[asked] = answer

    def own_selection(self, slot: Slot) -> Selection | None:
        """Return the selection made for exactly this slot: at run time, else configured."""
        return self.runtime.get(slot) or self.policy.selection_for(*slot)

    def selection(self, slot: Slot) -> Selection | None:
        """Return the selection in force for a slot: its own, else the base's."""
        own = self.own_selection(slot)
        if own is not None or slot[2] is None:
            return own
        return self.own_selection((slot[0], slot[1], None))

    def winner(self, slot: Slot) -> Candidate | None:
        """Return the winner of a slot, or None."""
        domain, key, tenant = slot
        if tenant is None or self.own_selection(slot) is None:
            return self.winners.get(domain, {}).get(key)
        ladder = self.ladder(domain, key)
        return winner_of(ladder, self.policy, self.selection(slot)) if ladder else None

    def tenants_with_own(self, domain: str, key: str) -> set[str]:
        """Return the tenants that have a selection of their own for a key."""
        own = {tenant for tenant in self.policy.tenants if self.policy.selection_for(domain, key, tenant)}
        return own | {slot[2] for slot in self.runtime if slot[2] is not None and slot[:2] == (domain, key)}


class Change:
    """What one revision changed, for observers and the journal."""

    __slots__ = ("added", "after", "at", "before", "touched", "withdrawn")

    def __init__(self, before: Revision, after: Revision) -> None:
        self.before, self.after = before, after
        #: When it was made, for whoever notes it.
        self.at = 0.0
        self.added: list[Candidate] = []
        self.withdrawn: list[Candidate] = []
        self.touched: dict[str, dict[str, Any]] = {}

    def winner_changes(self, last: int | None = None) -> Iterator[tuple[Slot, Candidate | None, Candidate | None]]:
        """Yield ``(slot, before, after)`` for each slot whose winner is another one; of the *last* keys at least."""
        before, after = self.before, self.after
        any_tenants = bool(before.policy.tenants or after.policy.tenants or before.runtime or after.runtime)
        for domain, keys in self.touched.items():
            old, new = before.winners.get(domain, {}), after.winners.get(domain, {})
            for key in keys if last is None else islice(keys, max(len(keys) - last, 0), None):
                if (was := old.get(key)) is not (now := new.get(key)):
                    yield (domain, key, None), was, now
                if any_tenants:
                    for tenant in sorted(before.tenants_with_own(domain, key) | after.tenants_with_own(domain, key)):
                        slot = (domain, key, tenant)
                        if (was := before.winner(slot)) is not (now := after.winner(slot)):
                            yield slot, was, now


class Registry:
    """Hold the current revision and make the next one."""

    __slots__ = ("_lock", "_registrations", "revision")

    def __init__(self, policy: Policy) -> None:
        self._lock = threading.RLock()
        self._registrations = 0
        self.revision = Revision(0, {}, {}, policy, {})

    def copy(self) -> "Registry":
        """Return a registry that goes on from the same revision by itself."""
        with self._lock:
            copied = Registry(self.revision.policy)
            copied.revision, copied._registrations = self.revision, self._registrations
        return copied

    def apply(
        self,
        add: Iterable[Candidate] = (),
        withdraw: Iterable[str | Candidate] = (),
        policy: Policy | None = None,
        *,
        record: Callable[[Change], object] | None = None,
    ) -> Change | None:
        """Make one revision of all the changes, or none at all; None when there is nothing to change.

        *record* is called with the change before the next writer has its turn.

        Raises:
            DuplicateCandidateError: *add* states one identity twice.
            InvalidCandidateError: *add* holds something that is not a candidate.
        """
        additions = _grouped(add)
        withdrawals = list(withdraw)
        with self._lock:
            before = self.revision
            draft = _Draft(before, policy or before.policy, self._registrations)
            draft.withdraw(withdrawals, additions)
            draft.add(additions)
            if policy is not None and policy is not before.policy:
                draft.rank_all()
            if not draft.changes and policy is None:
                return None
            after = draft.finish(before.runtime)
            change = Change(before, after)
            change.added, change.withdrawn, change.touched = draft.added, draft.withdrawn, draft.changes
            self._registrations = draft.registrations
            self.revision = after
            if record is not None:
                record(change)
            return change

    @contextmanager
    def selecting(self, selections: Mapping[Slot, Selection | None]) -> Iterator[Callable[[], Change | None]]:
        """Prepare a revision with runtime selections set or removed, and hand out the write that publishes it.

        Whatever can fail happens before the block is entered; writers wait until it is left. The block that does not
        call the publisher leaves the registry as it was.
        """
        with self._lock:
            before = self.revision
            runtime = dict(before.runtime)
            for slot, selection in selections.items():
                if selection is None:
                    runtime.pop(slot, None)
                else:
                    runtime[slot] = selection
            after = _reselected(before, runtime, selections)
            change = Change(before, after)
            for domain, key, _ in selections:
                change.touched.setdefault(domain, {})[key] = ()

            def publish() -> Change:
                self.revision = after
                return change

            yield publish


def _reselected(before: Revision, runtime: Mapping[Slot, Selection], slots: Iterable[Slot]) -> Revision:
    """Return the next revision with other runtime selections: every row stays, and few winners change."""
    winners = dict(before.winners)
    after = Revision(before.number + 1, winners, before.ladders, before.policy, runtime)
    for slot in slots:
        domain, key, tenant = slot
        ladder = before.ladder(domain, key)
        if tenant is not None or not ladder:
            continue
        winner = winner_of(ladder, before.policy, after.own_selection(slot))
        if winner is winners[domain].get(key):
            continue
        if winners[domain] is before.winners[domain]:
            winners[domain] = dict(before.winners[domain])
        if winner is None:
            del winners[domain][key]
        else:
            winners[domain][key] = winner
    return after


#: Domain → key → the one candidate stated for it, or several by provider and origin.
type _Grouped = dict[str, dict[str, Candidate | dict[tuple[str, str], Candidate]]]


def _grouped(candidates: Iterable[Candidate]) -> _Grouped:
    """Sort candidates by domain and key, refusing one identity stated twice."""
    grouped: _Grouped = {}
    for candidate in candidates:
        if type(candidate) is not Candidate:
            raise InvalidCandidateError("candidate", f"must be a Candidate, not {type(candidate).__name__}")
        keys = grouped.get(candidate.domain)
        if keys is None:
            keys = grouped[candidate.domain] = {}
        present = keys.get(candidate.key)
        if present is None:
            keys[candidate.key] = candidate
            continue
        several = _by_identity(present)
        identity = (candidate.provider, candidate.origin)
        if identity in several:
            raise DuplicateCandidateError(*candidate.identity)
        several[identity] = candidate
        keys[candidate.key] = several
    return grouped


def _by_identity(stated: Candidate | dict[tuple[str, str], Candidate] | None) -> dict[tuple[str, str], Candidate]:
    if isinstance(stated, Candidate):
        return {(stated.provider, stated.origin): stated}
    return stated or {}


class _Draft:
    """The revision being made: touched keys hold unsorted row lists until `finish`."""

    __slots__ = ("_before", "_policy", "added", "changes", "registrations", "withdrawn")

    def __init__(self, before: Revision, policy: Policy, registrations: int) -> None:
        self._before = before
        self._policy = policy
        self.registrations = registrations
        #: Domain → key → the rows it is to have; a tuple is sorted already.
        self.changes: dict[str, dict[str, list[Row] | Ladder]] = {}
        self.added: list[Candidate] = []
        self.withdrawn: list[Candidate] = []

    def rows(self, domain: str, key: str) -> list[Row] | Ladder:
        """Return the rows of a key as drafted so far."""
        drafted = self.changes.get(domain, {}).get(key)
        return self._before.ladder(domain, key) if drafted is None else drafted

    def withdraw(self, withdrawals: list[str | Candidate], readded: _Grouped) -> None:
        """Drop the rows of the origins named, except those stated anew, which keep their place."""
        if not withdrawals:
            return
        origins = {item for item in withdrawals if isinstance(item, str)}
        identities = {item.identity for item in withdrawals if isinstance(item, Candidate)}
        for domain, keys in self._before.ladders.items():
            for key, ladder in keys.items():
                again = _by_identity(readded.get(domain, {}).get(key))
                gone = {
                    row.registration
                    for row in ladder
                    if (row.candidate.origin in origins or row.candidate.identity in identities)
                    and (row.candidate.provider, row.candidate.origin) not in again
                }
                if gone:
                    self.withdrawn += [row.candidate for row in ladder if row.registration in gone]
                    kept = tuple(row for row in ladder if row.registration not in gone)
                    self.changes.setdefault(domain, {})[key] = kept

    def add(self, additions: _Grouped) -> None:
        """Add or replace rows."""
        policy, before = self._policy, self._before.ladders
        for domain, keys in additions.items():
            changes = self.changes.setdefault(domain, {})
            present, drafted, added = before.get(domain, {}), bool(changes), self.added
            for key, stated in keys.items():
                if type(stated) is Candidate and key not in present and not (drafted and key in changes):
                    added.append(stated)
                    self.registrations += 1
                    changes[key] = (make_row(stated, policy, self.registrations),)
                else:
                    candidates = _by_identity(stated)
                    self.added.extend(candidates.values())
                    changes[key] = self._merged(self.rows(domain, key), candidates)

    def _merged(self, ladder: list[Row] | Ladder, candidates: dict[tuple[str, str], Candidate]) -> list[Row]:
        places: dict[tuple[str, str], int] = {}
        kept = list(ladder)
        if len(candidates) < _INDEXED_LENGTH:
            # Few additions: one walk finds the rows they replace.
            for row in ladder:
                identity = (row.candidate.provider, row.candidate.origin)
                if identity in candidates:
                    places[identity] = row.registration
                    kept.remove(row)
        else:
            places = {(row.candidate.provider, row.candidate.origin): row.registration for row in ladder}
            kept = [row for row in ladder if (row.candidate.provider, row.candidate.origin) not in candidates]
        for identity, candidate in candidates.items():
            place = places.get(identity)
            if place is None:
                self.registrations += 1
                place = self.registrations
            kept.append(make_row(candidate, self._policy, place))
        return kept

    def rank_all(self) -> None:
        """Rank every row anew, after the policy changed."""
        for domain, keys in self._before.ladders.items():
            changes = self.changes.setdefault(domain, {})
            for key in keys:
                changes[key] = [
                    make_row(row.candidate, self._policy, row.registration) for row in self.rows(domain, key)
                ]

    def finish(self, runtime: Mapping[Slot, Selection]) -> Revision:
        """Sort what was touched, pick the winners, and return the next revision."""
        before, policy = self._before, self._policy
        ladders, winners = dict(before.ladders), dict(before.winners)
        after = Revision(before.number + 1, winners, ladders, policy, runtime)
        any_selected = after.any_selected
        for domain, keys in self.changes.items():
            own_ladders = ladders[domain] = dict(ladders.get(domain, ()))
            own_winners = winners[domain] = dict(winners.get(domain, ()))
            for key, rows in keys.items():
                if not rows:
                    own_ladders.pop(key, None)
                    own_winners.pop(key, None)
                    continue
                if type(rows) is list:
                    rows.sort(reverse=True)
                ladder = own_ladders[key] = rows if type(rows) is tuple else tuple(rows)
                best = ladder[0].candidate
                if best.unconditional and not any_selected:  # nearly all there are: `winner_of` would say the same
                    own_winners[key] = best
                    continue
                winner = winner_of(ladder, policy, after.own_selection((domain, key, None)))
                if winner is None:
                    own_winners.pop(key, None)
                else:
                    own_winners[key] = winner
            if not own_ladders:
                del ladders[domain], winners[domain]
        return after
