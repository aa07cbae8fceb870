"""What is due: of a schedule and a moment, the slots to fire, those nobody was there for, and when to look again."""

from dataclasses import dataclass, field
from itertools import islice, takewhile
from typing import Final

from oneiric.runtime.scheduler._schedule import Schedule, Slot

__all__ = ["Due", "due_of"]

#: Missed slots that are written down one by one; a scheduler that was away for a year does not list every second.
_MOST_MISSED: Final = 100
#: Slots that are fired in one go; the rest follows.
_MOST_FIRED: Final = 1000
#: What is no later than this is in time: the machine was busy.
_PROMPT_SECONDS: Final = 5.0


@dataclass(slots=True, kw_only=True)
class Due:
    """What is due.

    Attributes:
        missed: Slots that are too late.
        missed_until: Up to when all that is not settled was missed; None where nothing was.
        slots: Slots to fire, and for each whether everything up to it is settled by that.
        next_at: When the next one is due, in seconds since the epoch; infinite where there is none.
    """

    missed: list[Slot] = field(default_factory=list)
    missed_until: float | None = None
    slots: list[tuple[Slot, bool]] = field(default_factory=list)
    next_at: float = float("inf")


def due_of(schedule: Schedule, floor: float, now: float, catch_up_seconds: float) -> Due:
    """Return what is due at *now* of all that is not settled, which is what comes after *floor*."""
    late = catch_up_seconds if schedule.catch_up_seconds is None else schedule.catch_up_seconds
    oldest = now - max(late, _PROMPT_SECONDS)
    found = Due()
    horizon = oldest - schedule.jitter_seconds
    if floor < horizon:
        passed = takewhile(lambda slot: slot.at <= horizon, schedule.slots(floor))
        found.missed = list(islice(passed, _MOST_MISSED))
        found.missed_until = floor = horizon
    is_settled = True
    for slot in schedule.slots(floor):
        if slot.at > now and slot.at >= found.next_at:
            break
        if slot.due > now:
            found.next_at = min(found.next_at, slot.due)
            is_settled = False
        elif slot.due < oldest:
            found.missed.append(slot)
        elif len(found.slots) < _MOST_FIRED:
            found.slots.append((slot, is_settled))
        else:
            found.next_at = now
            break
    return found
