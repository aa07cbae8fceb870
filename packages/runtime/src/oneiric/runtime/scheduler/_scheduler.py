"""Scheduler: fires the slots of the schedules in a store, each once, whoever else does the same."""

import asyncio
import logging
import os
import time
from collections.abc import Callable
from contextlib import suppress
from typing import Final

from oneiric.core.errors import StoreError
from oneiric.runtime._boot import boot_id
from oneiric.runtime._undisturbed import claimed
from oneiric.runtime.retry import RetryPolicy
from oneiric.runtime.scheduler._due import Due, due_of
from oneiric.runtime.scheduler._firing import Fires, Firing
from oneiric.runtime.scheduler._schedule import Schedule, Slot
from oneiric.runtime.scheduler._store import ScheduleStore
from oneiric.runtime.scheduler._table import (
    Claim,
    Lease,
    Loaded,
    ScheduleStatus,
    abandon,
    decide,
    load,
    miss,
    release,
    rewind,
    take_over,
)
from oneiric.runtime.store import Database
from oneiric.runtime.telemetry import count

__all__ = ["Scheduler"]

_NO_RETRY: Final = RetryPolicy()
_MOST_AT_ONCE: Final = 100
_log: Final = logging.getLogger("oneiric.scheduler")


class Scheduler:
    """Fire slots when they are due; a part that runs between `start` and `stop`.

    A slot is claimed in a transaction before it is fired, so that of several schedulers on one store one fires it. If
    that process dies meanwhile, another one (or the next) fires the slot again, under the same idempotency key, when
    the lease has run out. Leases and waits go by the monotonic clock, slots by the wall clock: one that is set back
    fires nothing twice, one that is set forward is as if the process had been away.

    Args:
        store: The schedules; opened by `start` and closed by `stop`.
        port: What is fired into.
        catch_up_seconds: How late a slot may fire that nobody was there for, where its schedule does not say. Up to
            5 seconds late is in time.
        poll_seconds: How often changes that another process made are looked for.
        lease_seconds: How long after its process died a slot is fired again.
        retry: How often a slot that fails is tried in this process.
        refuses: Asked before a slot is fired: why its target takes no new work, or None; it is skipped then.
        most_at_once: Slots that are being done at a time; the others wait.
        drain_seconds: How long `stop` waits for what is being done; what is left then is given back, for the next
            scheduler to fire again.
        clock: Seconds since the epoch.
    """

    name = "scheduler"

    def __init__(
        self,
        store: ScheduleStore,
        port: Fires,
        *,
        catch_up_seconds: float = 3600.0,
        poll_seconds: float = 1.0,
        lease_seconds: float = 30.0,
        retry: RetryPolicy = _NO_RETRY,
        refuses: Callable[[Schedule], str | None] | None = None,
        most_at_once: int = _MOST_AT_ONCE,
        drain_seconds: float = 30.0,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._schedules, self._port = store, port
        self._catch_up_seconds, self._poll_seconds, self._lease_seconds = catch_up_seconds, poll_seconds, lease_seconds
        self._retry, self._refuses, self._most, self._drain_seconds = retry, refuses, most_at_once, drain_seconds
        self._clock = clock
        self._is_stopping = False
        self._owner = f"{os.getpid()}-{os.urandom(4).hex()}"
        self._wake = asyncio.Event()
        self._loop: asyncio.Task[None] | None = None
        self._firing: dict[tuple[str, float], asyncio.Task[None]] = {}
        #: Name → schedule, floor, and when its next slot is due; nothing has to be worked out before.
        self._next: dict[str, tuple[Schedule, float, float]] = {}
        self._problem: str | None = None

    @property
    def problem(self) -> str | None:
        """Why nothing can be fired now, as a sentence; None if all is well."""
        return self._problem

    @property
    def firing(self) -> int:
        """How many slots are being done here now."""
        return len(self._firing)

    async def start(self) -> None:
        """Open the store and begin to fire.

        Raises:
            StoreError: The store cannot be opened.
        """
        if self._loop is None:
            await self._schedules.open()
            self._is_stopping = False
            self._loop = asyncio.get_running_loop().create_task(self._run(), name="scheduler")

    async def stop(self) -> None:
        """Claim no more, let what is being done end, give back what does not, and close the store; safe twice."""
        loop, self._loop = self._loop, None
        self._is_stopping = True
        try:
            if loop is not None:
                self._wake.set()
                await asyncio.wait([loop], timeout=self._drain_seconds)
                loop.cancel()
                await asyncio.wait([loop])
            if firing := list(self._firing.values()):
                await asyncio.wait(firing, timeout=self._drain_seconds)
        finally:  # also when the one who stops it runs out of patience
            left = [*self._firing.values(), *(() if loop is None else (loop,))]
            for task in left:
                task.cancel()
            if left:
                await asyncio.wait(left)
            await self._schedules.aclose()

    async def wait(self) -> None:
        """Return or raise when it has ended by itself."""
        if self._loop is not None:
            await asyncio.shield(self._loop)

    def wake(self) -> None:
        """Look at the store now: something was changed there."""
        self._wake.set()

    async def _run(self) -> None:
        while not self._is_stopping:
            try:
                delay = await self.step()
                self._problem = None
            except StoreError as error:
                delay = self._poll_seconds
                if self._problem is None:
                    _log.error("schedules are not fired: %s", error.message)
                self._problem = error.message
            with suppress(TimeoutError):
                async with asyncio.timeout(delay):
                    await self._wake.wait()
            self._wake.clear()

    async def step(self) -> float:
        """Claim and begin what is due now; return the seconds after which to look again, by the monotonic clock.

        Raises:
            StoreError: The store failed; what was claimed before that is being done.
        """
        loaded = await self._schedules.store.read(load)
        await self._resume(loaded)
        delay = self._poll_seconds
        now = self._clock()
        for status in loaded.schedules:
            if not status.paused and len(self._firing) < self._most:
                delay = min(delay, await self._claim_due(status, now) - self._clock())
        self._next = {status.schedule.name: known for status in loaded.schedules
                      if (known := self._next.get(status.schedule.name))}  # fmt: skip
        return max(0.0, delay)

    async def _claim_due(self, status: ScheduleStatus, now: float) -> float:
        """Settle the slots of a schedule that are due; return when the next one is."""
        schedule, floor = status.schedule, status.floor
        known = self._next.get(schedule.name)
        if known is not None and known[0] is schedule and known[1] == floor and floor <= now < known[2]:
            return known[2]
        store = self._schedules.store
        if floor > now:
            await store.write(lambda database: rewind(database, schedule.name, now))
            floor = now
        due = due_of(schedule, floor, now, self._catch_up_seconds)
        if due.missed or due.missed_until is not None:
            await self._miss(schedule, due, floor, now)
        for slot, settles in due.slots:
            if len(self._firing) >= self._most or self._is_stopping:
                return now + self._poll_seconds  # or as soon as one of them ends
            await self._claim(schedule, slot, now, settles=settles)
        self._next[schedule.name] = (schedule, floor, due.next_at)
        return due.next_at

    async def _miss(self, schedule: Schedule, due: Due, floor: float, now: float) -> None:
        until = floor if due.missed_until is None else due.missed_until
        missed = await self._schedules.store.write(
            lambda database: miss(database, schedule.name, due.missed, until, now)
        )
        if missed:
            _log.warning("%d slots of schedule %s were missed", missed, schedule.name)
            count("oneiric_schedule_slots_total", missed, schedule=schedule.name, outcome="missed")

    async def _claim(self, schedule: Schedule, slot: Slot, now: float, *, settles: bool) -> None:
        lease = self._lease()
        refused = None if self._refuses is None else self._refuses(schedule)
        state, attempt = await self._taken(
            schedule,
            slot,
            lambda database: decide(database, schedule, slot, lease, now=now, refused=refused, settles=settles),
        )
        if state == "running":
            self._begin(Claim(schedule=schedule, slot=slot, attempt=attempt))
        elif state == "skipped":
            count("oneiric_schedule_slots_total", schedule=schedule.name, outcome="skipped")

    async def _taken(
        self, schedule: Schedule, slot: Slot, take: Callable[[Database], tuple[str, int]]
    ) -> tuple[str, int]:
        store = self._schedules.store

        async def give_back(found: tuple[str, int]) -> None:
            if found[0] == "running":
                claim = Claim(schedule=schedule, slot=slot, attempt=found[1])
                with suppress(StoreError):  # it is fired when its lease has run out
                    await store.write(lambda database: release(database, claim))

        return await claimed(store.write(take), give_back)

    async def _resume(self, loaded: Loaded) -> None:
        """Do what waits its turn, and what a process began that is gone."""
        statuses = {status.schedule.name: status for status in loaded.schedules}
        running = {name for name, _, state, *_ in loaded.open if state == "running"}
        lease, now = self._lease(), self._clock()
        for name, at, state, _, boot, until in loaded.open:
            is_held = state == "running" and boot == lease.boot and until is not None and until > lease.now
            waits = state == "buffered" and name in running
            if is_held or waits or (name, at) in self._firing or len(self._firing) >= self._most or self._is_stopping:
                continue
            status = statuses.get(name)
            if status is None:
                await self._schedules.store.write(lambda database, name=name: abandon(database, name, now))  # type: ignore[misc]  # mypy does not infer a lambda's default
            elif not status.paused:
                await self._take_over(status.schedule, at, now)

    async def _take_over(self, schedule: Schedule, at: float, now: float) -> None:
        slot = schedule.slot_at(at)
        lease = self._lease()  # a new one: it may have taken long until it is this slot's turn
        state, attempt = await self._taken(
            schedule, slot, lambda database: take_over(database, schedule, slot, lease, now)
        )
        if state == "running":
            if attempt > 1:
                _log.warning("%s is fired again: the process that did is gone", slot.key)
            self._begin(Claim(schedule=schedule, slot=slot, attempt=attempt))

    def _begin(self, claim: Claim) -> None:
        firing = Firing(
            claim,
            self._port,
            self._schedules.store,
            retry=self._retry,
            lease=self._lease,
            lease_seconds=self._lease_seconds,
            clock=self._clock,
        )
        place = (claim.slot.schedule, claim.slot.at)
        task = asyncio.get_running_loop().create_task(firing.run(), name=claim.slot.key)
        self._firing[place] = task

        def ended(task: "asyncio.Task[None]") -> None:
            del self._firing[place]
            self._wake.set()
            if not task.cancelled() and (error := task.exception()) is not None:
                _log.error("%s was not settled: %s: %s", claim.slot.key, type(error).__name__, error)

        task.add_done_callback(ended)

    def _lease(self) -> Lease:
        now = asyncio.get_running_loop().time()  # the monotonic clock, which all processes of one boot share
        return Lease(owner=self._owner, boot=boot_id(), now=now, until=now + self._lease_seconds)
