"""Schedules: what is done at which times, each time once, whoever dies and whichever clock is changed.

A `Schedule` says when; a `ScheduleStore` keeps it; a `Scheduler` fires its slots into whatever does the work.
"""

from oneiric.runtime.scheduler._firing import Fires
from oneiric.runtime.scheduler._schedule import Overlap, Schedule, Slot
from oneiric.runtime.scheduler._scheduler import Scheduler
from oneiric.runtime.scheduler._store import SCHEDULES_FILE, ScheduleStore
from oneiric.runtime.scheduler._table import Fired, ScheduleStatus

__all__ = [
    "SCHEDULES_FILE",
    "Fired",
    "Fires",
    "Overlap",
    "Schedule",
    "ScheduleStatus",
    "ScheduleStore",
    "Scheduler",
    "Slot",
]
