"""Journal: what was active at a given time, and why. Bounded; the oldest entries go first."""

from collections import deque
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any, Final, NamedTuple

from oneiric.core._candidate import Candidate
from oneiric.core._explaining import Question, build_explanation, remembered
from oneiric.core._policy import Policy, Selection
from oneiric.core._ranking import Ladder
from oneiric.core._registry import Change, Revision, Slot

__all__ = ["Journal", "JournalAnswer", "JournalEntry"]

DEFAULT_LENGTH: Final = 1024
_NO_LADDERS: Final[Mapping[str, Ladder]] = MappingProxyType({})


class Moment(NamedTuple):
    """What the entries of one change share."""

    at: float
    revision: int
    policy: Policy


#: Moment, kind, slot, candidate, rows or a sentence, and selection: what an entry is made of when somebody reads it.
type Record = tuple[Moment, str, Slot, Candidate | None, Ladder | str, Selection | None]


class JournalEntry:
    """One decision that was taken.

    Attributes:
        at: Seconds since the epoch.
        kind: ``"winner"`` (another provider ranks first), ``"bound"`` (it serves) or ``"retired"`` (nothing does).
        domain: The domain.
        key: The key.
        tenant: Whose slot, or None for the base.
        provider: The provider that ranks first or serves from then on, or None.
        revision: The registry's revision.
    """

    __slots__ = ("_policy", "_rows", "_selection", "at", "domain", "key", "kind", "provider", "revision", "tenant")

    def __init__(self, record: Record) -> None:
        moment, self.kind, slot, candidate, self._rows, self._selection = record
        self.at, self.revision, self._policy = moment
        self.domain, self.key, self.tenant = slot
        self.provider = None if candidate is None else candidate.provider

    @property
    def why(self) -> str:
        """The sentence the explanation of that moment gives; rendered when it is read."""
        if isinstance(self._rows, str):
            return self._rows
        if not self._rows:
            return "the last candidate was withdrawn"
        question = Question((self.domain, self.key, self.tenant), self._selection)
        return build_explanation(self._rows, self._policy, question, self.revision).why

    def as_dict(self) -> dict[str, Any]:
        """Return plain data."""
        fields = ("at", "kind", "domain", "key", "tenant", "provider", "revision", "why")
        return {name: getattr(self, name) for name in fields}

    def __repr__(self) -> str:
        return f"<JournalEntry {self.kind} {self.domain}:{self.key} → {self.provider!r} at {self.at:.3f}>"


@dataclass(frozen=True, slots=True)
class JournalAnswer:
    """What ranked first and what served at one moment.

    Attributes:
        winner: The entry that says what ranked first then, or None when the journal does not reach back that far.
        active: The entry that says what served then (or that nothing did), or None when nothing is recorded.
    """

    winner: JournalEntry | None
    active: JournalEntry | None

    @property
    def provider(self) -> str | None:
        """The provider that served then; what ranked first where no lifecycle bound anything."""
        entry = self.active or self.winner
        return None if entry is None else entry.provider

    @property
    def why(self) -> str | None:
        """Why that one, in a sentence."""
        entry = self.active or self.winner
        return None if entry is None else entry.why


class Journal:
    """A bounded record of decisions, oldest first.

    Args:
        length: Entries kept.
    """

    __slots__ = ("_records", "dropped")

    def __init__(self, length: int = DEFAULT_LENGTH) -> None:
        self._records: deque[Record] = deque(maxlen=length)
        self.dropped = 0

    @property
    def length(self) -> int:
        """Entries kept at most."""
        return self._records.maxlen or 0

    def record_winners(self, change: Change, at: float) -> None:
        """Append what ranks first since a change, of as many keys as there is room for."""
        after = change.after
        moment, selected, ladders = Moment(at, after.number, after.policy), after.any_selected, after.ladders
        records: list[Record] = [
            (
                moment,
                "winner",
                slot,
                now,
                remembered(ladders.get(slot[0], _NO_LADDERS).get(slot[1], ()), now),
                after.selection(slot) if selected else None,
            )
            for slot, _, now in change.winner_changes(last=self.length)
        ]
        self._append(records[-self.length :])

    def record_bound(self, revision: Revision, at: float, kind: str, slot: Slot, candidate: Candidate | None) -> None:
        """Append what serves from now on; None is nothing, because it was retired."""
        why = "it was retired" if candidate is None else remembered(revision.ladder(slot[0], slot[1]), candidate)
        moment = Moment(at, revision.number, revision.policy)
        self._append([(moment, kind, slot, candidate, why, revision.selection(slot))])

    def _append(self, records: list[Record]) -> None:
        before = len(self._records)
        self._records.extend(records)
        self.dropped += before + len(records) - len(self._records)

    def at(self, when: float, domain: str, key: str, *, tenant: str | None = None) -> JournalAnswer:
        """Return what ranked first and what served at *when* (seconds since the epoch)."""
        asked = (domain, key, tenant)
        winner = active = None
        for record in tuple(self._records):
            if record[0].at <= when and record[2] == asked:
                if record[1] == "winner":
                    winner = record
                else:
                    active = record
        return JournalAnswer(winner and JournalEntry(winner), active and JournalEntry(active))

    def __iter__(self) -> Iterator[JournalEntry]:
        return map(JournalEntry, tuple(self._records))

    def __len__(self) -> int:
        return len(self._records)

    def __repr__(self) -> str:
        return f"<Journal of {len(self)} entries, {self.dropped} dropped>"
