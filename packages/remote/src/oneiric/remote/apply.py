"""Applying: one registry revision and one group of swaps, or what was before.

Nothing here fetches or verifies. What is registered was staged; what is swapped is what the change touched and what
serves; what fails puts the former candidates back and swaps what had been swapped to them.
"""

import asyncio
from collections.abc import Awaitable, Callable, Iterable, Mapping
from dataclasses import dataclass, fields
from typing import Final

from oneiric.core.errors import OneiricError, ResolutionError, UnhealthyError
from oneiric.core.lifecycle import LifecycleManager
from oneiric.core.resolution import Candidate, Resolver
from oneiric.remote._sync_values import Outcome, PlannedSwap, Verdict

__all__ = ["Change", "Probation", "Transaction", "change_between", "counts", "is_same", "planned_swaps"]

type _Slot = tuple[str, str, str | None]

#: Says which manifest an entry came with; that alone is no change of the entry.
_ABOUT: Final = frozenset({"manifest"})
_COMPARED: Final = tuple(f.name for f in fields(Candidate) if f.name not in {"origin", "metadata"})


@dataclass(frozen=True, slots=True, kw_only=True)
class Change:
    """From the candidates in force to those of a new manifest.

    Attributes:
        add: Candidates to register, in order.
        withdraw: Candidates in force to take out.
        result: All candidates in force afterwards, in the order of the manifests.
        verdicts: What becomes of each entry.
    """

    add: tuple[Candidate, ...] = ()
    withdraw: tuple[Candidate, ...] = ()
    result: tuple[Candidate, ...] = ()
    verdicts: tuple[Verdict, ...] = ()

    @property
    def touched(self) -> frozenset[tuple[str, str]]:
        """The (domain, key) that it changes."""
        return frozenset((each.domain, each.key) for each in (*self.add, *self.withdraw))

    @property
    def reverse(self) -> "Change":
        """What undoes it."""
        return Change(add=self.withdraw, withdraw=self.add)


def change_between(before: Iterable[Candidate], after: Iterable[Candidate]) -> Change:
    """Compare what is in force with what a manifest offers, key by key.

    An entry that says the same as before keeps its candidate, so that nothing is swapped for it; it goes on naming
    the manifest it came with. Among candidates of equal rank the later one wins, so from the first entry of a key
    that differs on, all of the key are registered anew: a running system and a restarted one choose alike.
    """
    old, new = _by_key(before), _by_key(after)
    add: list[Candidate] = []
    withdraw: list[Candidate] = []
    kept: dict[int, Candidate] = {}
    verdicts: dict[int, Verdict] = {}
    gone: list[Verdict] = []
    for key in dict.fromkeys((*new, *old)):
        was, now = old.get(key, []), new.get(key, [])
        same = 0
        while same < min(len(was), len(now)) and is_same(was[same], now[same]):
            kept[id(now[same])] = was[same]
            same += 1
        withdraw += was[same:]
        add += now[same:]
        known = {each.provider: each for each in was}
        for each in now:
            verdicts[id(each)] = Verdict(name=str(each), outcome=_outcome(known.get(each.provider), each))
        offered = {each.provider for each in now}
        gone += [Verdict(name=str(each), outcome="withdrawn") for each in was if each.provider not in offered]
    in_order = [candidate for each in new.values() for candidate in each]
    return Change(
        add=tuple(add),
        withdraw=tuple(withdraw),
        result=tuple(kept.get(id(each), each) for each in in_order),
        verdicts=(*(verdicts[id(each)] for each in in_order), *gone),
    )


def _outcome(before: Candidate | None, after: Candidate) -> Outcome:
    if before is None:
        return "added"
    return "unchanged" if is_same(before, after) else "changed"


def _by_key(candidates: Iterable[Candidate]) -> dict[tuple[str, str], list[Candidate]]:
    found: dict[tuple[str, str], list[Candidate]] = {}
    for each in candidates:
        found.setdefault((each.domain, each.key), []).append(each)
    return found


def is_same(before: Candidate, after: Candidate) -> bool:
    """Tell whether two candidates say the same, whichever manifest they came with."""
    if before is after:
        return True
    if any(getattr(before, name) != getattr(after, name) for name in _COMPARED):
        return False
    return _stated(before) == _stated(after)


def _stated(candidate: Candidate) -> dict[str, object]:
    return {name: value for name, value in candidate.metadata.items() if name not in _ABOUT}


def planned_swaps(resolver: Resolver, lifecycle: LifecycleManager | None, change: Change) -> tuple[PlannedSwap, ...]:
    """Return the slots that serve and that a change would swap; nothing is changed."""
    touched = change.touched
    serving = [
        status
        for status in (() if lifecycle is None else lifecycle.all_statuses())
        if not status.beside and status.current_provider is not None and (status.domain, status.key) in touched
    ]
    if not serving:
        return ()
    preview = resolver.preview(add=change.add, withdraw=change.withdraw)
    found = []
    for status in serving:
        slot = (status.domain, status.key, status.tenant)
        after = _winner(preview, slot)
        if after is None or after is not _winner(resolver, slot):
            found.append(
                PlannedSwap(
                    domain=status.domain,
                    key=status.key,
                    tenant=status.tenant,
                    before=status.current_provider,
                    after=None if after is None else after.provider,
                )
            )
    return tuple(found)


def _winner(resolver: Resolver, slot: _Slot) -> Candidate | None:
    try:
        return resolver.resolve(slot[0], slot[1], tenant=slot[2])
    except ResolutionError:
        return None


@dataclass(frozen=True, slots=True, kw_only=True)
class Probation:
    """How long new generations are watched before they are committed to.

    Attributes:
        seconds: For how long; 0 asks nobody.
        interval_seconds: Between two questions.
        sleep: Waits.
    """

    seconds: float = 5.0
    interval_seconds: float = 1.0
    sleep: Callable[[float], Awaitable[object]] = asyncio.sleep

    async def watch(self, lifecycle: LifecycleManager, slots: Iterable[_Slot]) -> None:
        """Ask each slot for its health until the time is over.

        Raises:
            UnhealthyError: One said no, raised or did not answer.
        """
        left, watched = self.seconds, tuple(slots)
        while left > 0 and watched:
            pause = min(self.interval_seconds, left)
            await self.sleep(pause)
            left -= pause
            for domain, key, tenant in watched:
                if await lifecycle.probe_instance_health(domain, key, tenant=tenant) is False:
                    whose = f" (tenant {tenant})" if tenant else ""
                    raise UnhealthyError(
                        f"{domain}:{key}{whose} reported itself unhealthy in its probation of {self.seconds:g} s"
                    )


class Transaction:
    """One change of the registry and the swaps it brings, kept or undone as a whole.

    Args:
        resolver: The registry.
        lifecycle: Serves; None swaps nothing.
        change: The change.
    """

    def __init__(self, resolver: Resolver, lifecycle: LifecycleManager | None, change: Change) -> None:
        self._resolver = resolver
        self._lifecycle = lifecycle
        self._change = change
        self.swapped: tuple[_Slot, ...] = ()
        self._is_registered = False

    def register(self) -> int:
        """Make the one revision, and return its number."""
        self._is_registered = True
        return self._resolver.apply(add=self._change.add, withdraw=self._change.withdraw)

    async def swap(self) -> None:
        """Swap what serves and is touched, as one group.

        Raises:
            SwapError: One did not start; those of the group serve what they did.
        """
        slots = self._stale()
        if self._lifecycle is not None and slots:
            report = await self._lifecycle.renew(*slots)
            self.swapped = report.swapped

    def _stale(self) -> tuple[_Slot, ...]:
        if self._lifecycle is None:
            return ()
        touched = self._change.touched
        return tuple(slot for slot in self._lifecycle.stale() if slot[:2] in touched)

    async def undo(self) -> str | None:
        """Put everything back; return why a slot could not go back, or None. Safe at any point, and twice."""
        if not self._is_registered:
            return None
        self._is_registered = False
        reverse = self._change.reverse
        self._resolver.apply(add=reverse.add, withdraw=reverse.withdraw)
        slots = self._stale()
        if self._lifecycle is None or not slots:
            return None
        try:
            await self._lifecycle.renew(*slots)
        except OneiricError as error:
            return f"what served before could not be started again: {error.message}"
        return None


def counts(candidates: Iterable[Candidate]) -> Mapping[str, int]:
    """Return how many there are of each domain."""
    found: dict[str, int] = {}
    for each in candidates:
        found[each.domain] = found.get(each.domain, 0) + 1
    return found
