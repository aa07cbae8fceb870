"""Reconcile: make what serves agree with what ranks first."""

from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass

from oneiric.core._activator import Activator
from oneiric.core._candidate import Candidate
from oneiric.core._registry import Slot as SlotName
from oneiric.core._slot import Slot
from oneiric.core._swapping import Request
from oneiric.core.errors import ResolutionError

__all__ = ["ReconcileReport", "reconcile", "stale_slots"]


@dataclass(frozen=True, slots=True, kw_only=True)
class ReconcileReport:
    """What `LifecycleManager.reconcile` did.

    Attributes:
        swapped: Slots (domain, key, tenant) that serve their winner now.
        retired: Tenants' slots that were retired because the overlay is gone.
        unresolved: Slots that keep what they have, because nothing can be chosen: slot → the error.
    """

    swapped: tuple[SlotName, ...]
    retired: tuple[SlotName, ...]
    unresolved: Mapping[SlotName, ResolutionError]


@dataclass(frozen=True, slots=True)
class _Plan:
    stale: list[tuple[Slot, Candidate]]
    orphans: list[Slot]
    unresolved: dict[SlotName, ResolutionError]


def _plan(activator: Activator, also: Collection[SlotName] = ()) -> _Plan:
    """Compare every main slot with what ranks first there; those in *also* count as stale whatever they serve."""
    plan = _Plan([], [], {})
    revision = activator.resolver._current  # noqa: SLF001 - one distribution
    for slot in activator.slots.all():
        if slot.current is None or slot.beside is not None:
            continue
        if slot.name[2] is not None and revision.own_selection(slot.name) is None:
            plan.orphans.append(slot)
            continue
        try:
            winner = activator.winner(slot)
        except ResolutionError as error:
            plan.unresolved[slot.name] = error
            continue
        if winner is not slot.current.candidate or slot.name in also:
            plan.stale.append((slot, winner))
    return plan


def stale_slots(activator: Activator) -> tuple[SlotName, ...]:
    """Return the slots that `reconcile` would change, sorted."""
    plan = _plan(activator)
    return tuple(slot.name for slot in sorted([*(s for s, _ in plan.stale), *plan.orphans], key=lambda s: s.sort_key))


async def reconcile(
    activator: Activator, also: Collection[SlotName] = (), *, nothing_else: bool = False
) -> ReconcileReport:
    """Swap every stale slot and those in *also*, as one group; retire tenants' slots whose overlay is gone.

    With *nothing_else*, slots that are not in *also* are left as they are.
    """
    plan = _plan(activator, also)
    if nothing_else:
        stale = [(slot, winner) for slot, winner in plan.stale if slot.name in also]
        unresolved = {name: error for name, error in plan.unresolved.items() if name in also}
        plan = _Plan(stale, [slot for slot in plan.orphans if slot.name in also], unresolved)
    group: list[Slot] = []
    alone: list[Slot] = []
    for slot, winner in plan.stale:
        current = slot.current
        broken_first = current is not None and current.candidate.exclusive and winner.exclusive
        (alone if broken_first else group).append(slot)
    swapped: list[SlotName] = []

    def is_stale(request: Request) -> bool:
        # Asked anew: it may have been swapped, or retired, since the plan was made.
        slot = request.slot
        if slot.current is None or (slot.name not in also and not _has_other_winner(activator, slot)):
            return False
        swapped.append(slot.name)
        return True

    for slots in ([group] if group else []) + [[slot] for slot in alone]:
        requests = [Request(slot, _winner(activator, slot)) for slot in slots]
        await activator.swapper.swap(requests, force=False, wanted=is_stale)
    retired = [slot.name for slot in plan.orphans if await activator.retire(slot, orphan=True)]
    return ReconcileReport(swapped=tuple(swapped), retired=tuple(retired), unresolved=plan.unresolved)


def _winner(activator: Activator, slot: Slot) -> Callable[[], Candidate]:
    return lambda: activator.winner(slot)


def _has_other_winner(activator: Activator, slot: Slot) -> bool:
    try:
        return slot.current is None or activator.winner(slot) is not slot.current.candidate
    except ResolutionError:
        return True  # its swap says so
