"""Journal: what was active at a given time, and why. Bounded; the oldest entries go first."""

from collections import deque
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, Final

__all__ = ["Journal", "JournalAnswer", "JournalEntry"]

DEFAULT_LENGTH: Final = 1024


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

    __slots__ = ("_why", "at", "domain", "key", "kind", "provider", "revision", "tenant")

    def __init__(
        self,
        at: float,
        kind: str,
        slot: tuple[str, str, str | None],
        provider: str | None,
        *,
        revision: int,
        why: str | Callable[[], str],
    ) -> None:
        self.at, self.kind, self.provider, self.revision = at, kind, provider, revision
        self.domain, self.key, self.tenant = slot
        self._why = why

    @property
    def why(self) -> str:
        """The sentence the explanation of that moment gives; rendered when first read."""
        if not isinstance(self._why, str):
            self._why = self._why()
        return self._why

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

    __slots__ = ("_entries", "dropped")

    def __init__(self, length: int = DEFAULT_LENGTH) -> None:
        self._entries: deque[JournalEntry] = deque(maxlen=length)
        self.dropped = 0

    @property
    def length(self) -> int:
        """Entries kept at most."""
        return self._entries.maxlen or 0

    def record(self, entry: JournalEntry) -> None:
        """Append an entry, dropping the oldest when full."""
        if len(self._entries) == self._entries.maxlen:
            self.dropped += 1
        self._entries.append(entry)

    def at(self, when: float, domain: str, key: str, *, tenant: str | None = None) -> JournalAnswer:
        """Return what ranked first and what served at *when* (seconds since the epoch)."""
        winner = active = None
        for entry in tuple(self._entries):
            if entry.at <= when and (entry.domain, entry.key, entry.tenant) == (domain, key, tenant):
                if entry.kind == "winner":
                    winner = entry
                else:
                    active = entry
        return JournalAnswer(winner, active)

    def __iter__(self) -> Iterator[JournalEntry]:
        return iter(tuple(self._entries))

    def __len__(self) -> int:
        return len(self._entries)

    def __repr__(self) -> str:
        return f"<Journal of {len(self)} entries, {self.dropped} dropped>"
