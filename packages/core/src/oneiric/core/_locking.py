"""The locks of slots: taken in one order, and refused where waiting for one would never end."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager

from oneiric.core._slot import Slot
from oneiric.core._steps import current_scope
from oneiric.core.errors import LifecycleError

__all__ = ["Locks", "refuse_reentry", "waiting_for"]


class Locks:
    """Holds the locks of some slots for an ``async with`` block, taken in sorted order; see `Swapper.locked`.

    Args:
        slots: The slots.
        refuse_closed: Raises once the lifecycle is closed.
    """

    __slots__ = ("_held", "_refuse_closed", "_slots")

    def __init__(self, slots: Sequence[Slot], refuse_closed: Callable[[], None]) -> None:
        self._refuse_closed = refuse_closed
        self._slots = slots if len(slots) == 1 else sorted(slots, key=lambda slot: slot.sort_key)
        self._held: list[Slot] = []

    async def __aenter__(self) -> None:
        self._refuse_closed()
        is_in_step = current_scope() is not None
        if is_in_step:
            for slot in self._slots:
                refuse_reentry(slot)
        try:
            for slot in self._slots:
                if is_in_step:
                    with waiting_for(slot):
                        await slot.lock.acquire()
                else:
                    await slot.lock.acquire()
                self._held.append(slot)
            self._refuse_closed()
        except BaseException:
            self._release()
            raise

    async def __aexit__(self, *_: object) -> None:
        self._release()

    def _release(self) -> None:
        while self._held:
            self._held.pop().lock.release()


@contextmanager
def waiting_for(slot: Slot) -> Iterator[None]:
    """Note that the step that runs, if one does, waits for a slot: `refuse_reentry` finds the cycle by it."""
    scope = current_scope()
    if scope is None:
        yield
        return
    scope.slot.waiting_for.add(slot)
    try:
        yield
    finally:
        scope.slot.waiting_for.discard(slot)


def refuse_reentry(slot: Slot) -> None:
    """Raise if the caller is a step of this slot, or of one that this slot's attempt waits for.

    Raises:
        LifecycleError: It is; the message names the cycle.
    """
    path = [str(slot)]
    scope = current_scope()
    while scope is not None:
        path.append(str(scope.slot))
        if scope.active and (scope.slot is slot or slot.waits_for(scope.slot)):
            cycle = " → ".join(reversed(path))
            raise LifecycleError(
                f"{slot} is being changed by the very step that asks for it ({cycle})", "ask from outside"
            )
        scope = scope.parent
