"""Resolver: which implementation stands for a key, and why. Synchronous, thread-safe, free of I/O."""

import time
from collections.abc import Callable, Iterable, Mapping
from contextlib import contextmanager
from types import MappingProxyType
from typing import Any, Final, overload

from oneiric.core._candidate import Candidate
from oneiric.core._eligibility import Obstacle, obstacles_of
from oneiric.core._explaining import Question, build_explanation, raise_unresolved, unknown_key
from oneiric.core._explanation import Explanation
from oneiric.core._journal import Journal
from oneiric.core._key import Key
from oneiric.core._observers import Observer, Observers
from oneiric.core._policy import Policy, Selection
from oneiric.core._ranking import winner_of
from oneiric.core._registry import Change, Registry, Revision, Slot
from oneiric.core.errors import CandidateNotFoundError
from oneiric.core.events import Registered, WinnerChanged, Withdrawn

__all__ = ["Resolver"]

_NOTHING: Final[Mapping[str, Candidate]] = MappingProxyType({})


class Resolver:
    """Hold candidates and answer which one is active for a key, and why.

    Any thread may register while others read: a read sees one whole revision. The hot read is `get`, two dictionary
    look-ups; everything else is worked out once per revision.

    Args:
        policy: Selections, tenants, stack order and environment; by default none, with ``ONEIRIC_STACK_ORDER``
            honoured.
        journal_length: Decisions the journal keeps.
        clock: Seconds since the epoch.

    Raises:
        ConfigurationError: *policy* is None and ``ONEIRIC_STACK_ORDER`` is malformed.
    """

    __slots__ = ("_active_provider", "_clock", "_observers", "_registry", "journal")

    def __init__(
        self,
        policy: Policy | None = None,
        *,
        journal_length: int = 1024,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._registry = Registry(Policy.from_environ() if policy is None else policy)
        self._observers = Observers()
        self._active_provider: Callable[[str, str, str | None], str | None] = _nothing_active
        self._clock = clock
        self.journal = Journal(journal_length)

    def register(self, candidate: Candidate) -> int:
        """Take in a candidate; the same identity again replaces the row and keeps its place.

        Returns:
            The number of the revision that holds it.

        Raises:
            InvalidCandidateError: *candidate* is not a `Candidate`.
        """
        return self.apply(add=(candidate,))

    def register_from_pkg(
        self, package: str, path: str, candidates: Iterable[Candidate], priority: int | None = None
    ) -> int:
        """Take in the candidates of a package, so that their origin and, without a priority, their path count.

        Args:
            package: The package's import name; becomes the origin of candidates that state none.
            path: The directory the candidates live in, such as ``str(Path(__file__).parent)``; only what lies below
                the package's top directory counts.
            candidates: The candidates.
            priority: The priority of those that state none; None asks the path heuristic.

        Returns:
            The number of the revision that holds them.
        """
        placed = [
            candidate.replace(
                origin=package if candidate.origin == "local" else candidate.origin,
                priority=priority if candidate.priority is None else candidate.priority,
                metadata={"package": package, "path": str(path), **candidate.metadata},
            )
            for candidate in candidates
        ]
        return self.apply(add=placed)

    def withdraw(self, origin: str) -> int:
        """Take out every candidate of an origin; instances of them serve until they are swapped or retired."""
        return self.apply(withdraw=(origin,))

    def apply(
        self,
        add: Iterable[Candidate] = (),
        withdraw: Iterable[str | Candidate] = (),
        policy: Policy | None = None,
    ) -> int:
        """Make one atomic revision of several changes, or change nothing.

        Args:
            add: Candidates to take in; one of an identity that exists replaces it and keeps its place.
            withdraw: Origins, or single candidates, to take out first.
            policy: The operator's decisions from now on; by default those in force.

        Returns:
            The number of the revision that holds the changes: the present one when there are none.

        Raises:
            DuplicateCandidateError: *add* states one identity twice.
            InvalidCandidateError: *add* holds something that is not a `Candidate`.
        """
        change = self._registry.apply(add, withdraw, policy, record=self._record)
        if change is not None:
            self._announce(change)
        return self._registry.revision.number

    def preview(
        self,
        add: Iterable[Candidate] = (),
        withdraw: Iterable[str | Candidate] = (),
        policy: Policy | None = None,
    ) -> "Resolver":
        """Return a resolver that has made the change `apply` would make; this one stays as it is.

        What it resolves and explains is what would be; selections made by swaps hold in it too. It knows of no
        instances, and what is registered in either of the two later stays there.

        Raises:
            DuplicateCandidateError: *add* states one identity twice.
            InvalidCandidateError: *add* holds something that is not a `Candidate`.
        """
        preview = Resolver(self.policy, journal_length=1, clock=self._clock)
        preview._registry = self._registry.copy()
        preview.apply(add, withdraw, policy)
        return preview

    @contextmanager
    def _selecting(self, selections: Mapping[Slot, Selection | None]) -> Any:
        """Hand the lifecycle the write that publishes runtime selections; announce it."""
        published: list[Change | None] = []
        with self._registry.selecting(selections) as publish:
            yield lambda: published.append(publish())
            for change in published:
                if change is not None:
                    self._record(change)
        for change in published:
            if change is not None:
                self._announce(change)

    def _record(self, change: Change) -> None:
        """Note a change while other writers wait, so that the journal has the order of the revisions."""
        change.at = self._clock()
        self.journal.record_winners(change, change.at)

    def _announce(self, change: Change) -> None:
        if not self._observers:
            return
        at, emit, number = change.at, self._observers.emit, change.after.number
        for candidate in change.withdrawn:
            emit(Withdrawn(at, number, candidate))
        for candidate in change.added:
            emit(Registered(at, number, candidate))
        for slot, was, now in change.winner_changes():
            emit(WinnerChanged(at, number, *slot, _provider(was), _provider(now)))

    def _journal_bound(self, at: float, kind: str, slot: Slot, candidate: Candidate | None) -> None:
        """Record for the lifecycle what serves from now on."""
        self.journal.record_bound(self._registry.revision, at, kind, slot, candidate)

    def observe(self, observer: Observer) -> Callable[[], None]:
        """Call *observer* with each event of `oneiric.core.events` from now on; return the call that stops it."""
        return self._observers.add(observer)

    @overload
    def get(self, domain: str, key: str) -> Candidate | None: ...
    @overload
    def get[D](self, domain: str, key: str, default: D) -> Candidate | D: ...
    def get(self, domain: str, key: str, default: Any = None) -> Any:
        """Return the winner of a key, or *default*: also when its selection cannot be honoured. The hot read."""
        try:
            return self._registry.revision.winners[domain][key]
        except KeyError:
            return default

    def view(self, domain: str) -> Mapping[str, Candidate]:
        """Return one revision's winners of a domain, as a read-only mapping that later changes do not touch."""
        winners = self._registry.revision.winners.get(domain)
        return _NOTHING if winners is None else MappingProxyType(winners)

    @overload
    def resolve(
        self,
        domain: Key[Any],
        *,
        provider: str | None = None,
        capabilities: Iterable[str] = (),
        require_all: bool = True,
        tenant: str | None = None,
    ) -> Candidate: ...
    @overload
    def resolve(
        self,
        domain: str,
        key: str,
        *,
        provider: str | None = None,
        capabilities: Iterable[str] = (),
        require_all: bool = True,
        tenant: str | None = None,
    ) -> Candidate: ...
    def resolve(
        self,
        domain: str | Key[Any],
        key: str | None = None,
        *,
        provider: str | None = None,
        capabilities: Iterable[str] = (),
        require_all: bool = True,
        tenant: str | None = None,
    ) -> Candidate:
        """Return the candidate that stands for a key.

        Args:
            domain: A domain, or a `Key` that names both.
            key: The key, when *domain* is a string.
            provider: Ask for this provider; counts as a selection.
            capabilities: Capabilities the candidate must have.
            require_all: Whether it must have all of *capabilities*, or any one of them.
            tenant: Overlay this tenant's selections on the base ones.

        Raises:
            CandidateNotFoundError: The key has no candidate, or none that is eligible.
            SelectionNotFoundError: The provider named or selected is absent or set aside.
            CapabilityNotFoundError: No candidate has the capabilities.
        """
        if provider is None and tenant is None and not capabilities and key is not None:
            try:
                return self._registry.revision.winners[domain][key]  # type: ignore[index]  # a Key falls through
            except KeyError:
                pass
        return self._resolve_asked(_slot(domain, key, tenant), provider, _names(capabilities), require_all=require_all)

    def _resolve_asked(
        self, slot: Slot, provider: str | None, wanted: tuple[str, ...], *, require_all: bool
    ) -> Candidate:
        revision = self._registry.revision
        asked = ("resolve", slot, provider, wanted, require_all)
        found: Candidate | None = revision.memo.get(asked)
        if found is None:
            ladder = revision.ladder(slot[0], slot[1])
            selection = _selection_asked(revision, slot, provider)
            if ladder:
                found = winner_of(ladder, revision.policy, selection, wanted, require_all=require_all)
            if found is None:
                raise_unresolved(revision, Question(slot, selection, wanted, require_all))
            revision.remember(asked, found)
        return found

    def explain(
        self,
        domain: str | Key[Any],
        key: str | None = None,
        *,
        provider: str | None = None,
        capabilities: Iterable[str] = (),
        require_all: bool = True,
        tenant: str | None = None,
    ) -> Explanation:
        """Return the ranking behind `resolve`, asked the same way. A key whose selection fails is explained too.

        Raises:
            CandidateNotFoundError: The key has no candidate at all.
        """
        slot = _slot(domain, key, tenant)
        revision = self._registry.revision
        asked: Any = slot  # the usual question is remembered by its slot alone
        if provider is not None or capabilities:
            asked = ("explain", slot, provider, capabilities := _names(capabilities), require_all)
        found: Explanation | None = revision.memo.get(asked)
        active = self._active_provider(*slot)
        if found is None:
            ladder = revision.ladder(slot[0], slot[1])
            if not ladder:
                raise unknown_key(revision, slot[0], slot[1])
            question = Question(slot, _selection_asked(revision, slot, provider), tuple(capabilities), require_all)
            found = build_explanation(ladder, revision.policy, question, revision.number)
            revision.remember(asked, found)
        return found if active is None else found.with_active(active)

    def list_active(self, domain: str) -> tuple[Candidate, ...]:
        """Return the winners of a domain, by key."""
        return tuple(candidate for _, candidate in sorted(self.view(domain).items()))

    def list_shadowed(self, domain: str) -> tuple[Candidate, ...]:
        """Return the eligible candidates of a domain that lost, by key, best first."""
        return tuple(row.candidate for key in self.keys(domain) for row in self.explain(domain, key).shadowed)

    def list_filtered(self, domain: str) -> tuple[tuple[Candidate, tuple[Obstacle, ...]], ...]:
        """Return the candidates of a domain that are set aside, by key, each with its obstacles."""
        return tuple(
            (row.candidate, row.obstacles) for key in self.keys(domain) for row in self.explain(domain, key).filtered
        )

    def obstacles(self, candidate: Candidate, *, selected: bool = False) -> tuple[Obstacle, ...]:
        """Return what stands in a candidate's way on this machine; empty when it may be ranked."""
        return obstacles_of(candidate, self.policy.environment, selected=selected)

    def domains(self) -> tuple[str, ...]:
        """Return the domains that have candidates, sorted."""
        return tuple(sorted(self._registry.revision.ladders))

    def keys(self, domain: str) -> tuple[str, ...]:
        """Return the keys of a domain that have candidates, sorted."""
        return tuple(sorted(self._registry.revision.ladders.get(domain, ())))

    def candidates(self, domain: str | None = None) -> tuple[Candidate, ...]:
        """Return every candidate, of one domain or of all, by domain and key, best first."""
        ladders = self._registry.revision.ladders
        domains = sorted(ladders) if domain is None else [domain]
        return tuple(
            row.candidate for name in domains for _, ladder in sorted(ladders.get(name, {}).items()) for row in ladder
        )

    def selection_for(self, domain: str, key: str, *, tenant: str | None = None) -> Selection | None:
        """Return the selection in force for a key: by a swap, else configured; a tenant's own, else the base's."""
        return self._registry.revision.selection((domain, key, tenant))

    @property
    def policy(self) -> Policy:
        """The operator's decisions in force."""
        return self._registry.revision.policy

    @property
    def revision(self) -> int:
        """The number of the present revision."""
        return self._registry.revision.number

    def _resolve_configured(self, slot: Slot) -> Candidate:
        """Resolve a slot as if no swap had ever named a provider for it."""
        revision = self._registry.revision
        if slot not in revision.runtime:
            return self._resolve_asked(slot, None, (), require_all=True)
        domain, key, tenant = slot
        selection = revision.policy.selection_for(*slot)
        if selection is None and tenant is not None:
            selection = revision.selection((domain, key, None))
        ladder = revision.ladder(domain, key)
        found = winner_of(ladder, revision.policy, selection) if ladder else None
        if found is None:
            raise_unresolved(revision, Question(slot, selection))
        return found

    @property
    def _current(self) -> Revision:
        return self._registry.revision

    def __repr__(self) -> str:
        revision = self._registry.revision
        keys = sum(len(keys) for keys in revision.ladders.values())
        return f"<Resolver revision {revision.number}: {keys} keys in {len(revision.ladders)} domains>"


def _provider(candidate: Candidate | None) -> str | None:
    return None if candidate is None else candidate.provider


def _nothing_active(_domain: str, _key: str, _tenant: str | None) -> str | None:
    return None


def _slot(domain: str | Key[Any], key: str | None, tenant: str | None) -> Slot:
    if isinstance(domain, Key):
        return (domain.domain, domain.name, tenant)
    if key is None:
        raise CandidateNotFoundError(str(domain), "", "no key was named", "resolve(domain, key) or resolve(Key(…))")
    return (domain, key, tenant)


def _names(capabilities: Iterable[str]) -> tuple[str, ...]:
    return (capabilities,) if isinstance(capabilities, str) else tuple(capabilities)


def _selection_asked(revision: Revision, slot: Slot, provider: str | None) -> Selection | None:
    return revision.selection(slot) if provider is None else Selection(provider, "the question")
