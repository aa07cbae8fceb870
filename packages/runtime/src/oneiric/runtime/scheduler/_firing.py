"""Firing: what is done with a slot from its claim to its end."""

import asyncio
import copy
import logging
from collections.abc import Callable
from contextlib import suppress
from dataclasses import replace
from typing import Final, Protocol

from oneiric.core.errors import PausedError, StoreError
from oneiric.runtime._store_memory import Store
from oneiric.runtime._undisturbed import undisturbed
from oneiric.runtime.retry import RetryPolicy
from oneiric.runtime.scheduler._schedule import Schedule
from oneiric.runtime.scheduler._table import Claim, Lease, State, finish, release, renew
from oneiric.runtime.telemetry import count, span

__all__ = ["Fires", "Firing"]

_log: Final = logging.getLogger("oneiric.scheduler")
_LONGEST_DETAIL: Final = 500


class Fires(Protocol):
    """What a schedule fires into."""

    async def fire(self, schedule: Schedule, slot_time: float, idempotency_key: str) -> object:
        """Do what *schedule* says; a key that comes again is of the same slot, and is to have no second effect.

        Args:
            schedule: With its target and payload.
            slot_time: The time its rule names, in seconds since the epoch.
            idempotency_key: The same whoever fires the slot, and however often.

        Raises:
            PausedError: The target takes no new work: the slot is skipped.
            Exception: It failed; what the scheduler's retry policy allows is tried again.
        """


class Firing:
    """One slot that is being done.

    Args:
        claim: The slot.
        port: Does it.
        store: Where what becomes of it is written.
        retry: How often it is tried in this process.
        lease: Makes a lease that begins now.
        lease_seconds: How long one lasts.
        clock: Seconds since the epoch.
    """

    def __init__(
        self,
        claim: Claim,
        port: Fires,
        store: Store,
        *,
        retry: RetryPolicy,
        lease: Callable[[], Lease],
        lease_seconds: float,
        clock: Callable[[], float],
    ) -> None:
        self._claim, self._port, self._store = claim, port, store
        self._retry, self._lease, self._lease_seconds, self._clock = retry, lease, lease_seconds, clock
        self._is_lost = False

    async def run(self) -> None:
        """Do the slot and write down what became of it; one that is cancelled is given back."""
        claim = self._claim
        mine = asyncio.current_task()
        keeper = asyncio.get_running_loop().create_task(self._keep(mine))
        try:
            state, detail = await self._done()
        except asyncio.CancelledError:
            if self._is_lost:
                _log.error("the lease on %s was lost: somebody else fires it now", claim.slot.key)
                count("oneiric_schedule_slots_total", schedule=claim.schedule.name, outcome="lost")
                return
            with suppress(StoreError):  # it is fired again when its lease has run out
                await undisturbed(self._store.write(lambda database: release(database, claim)))
            raise
        finally:
            keeper.cancel()
        await self._written(state, detail)
        count("oneiric_schedule_slots_total", schedule=claim.schedule.name, outcome=state)

    async def _done(self) -> tuple[State, str | None]:
        claim = self._claim
        schedule = replace(claim.schedule, payload=copy.deepcopy(dict(claim.schedule.payload)))
        with span("schedule.fire", schedule=schedule.name, idempotency_key=claim.slot.key, attempt=claim.attempt):
            for attempt in range(1, self._retry.attempts + 1):
                try:
                    await self._port.fire(schedule, claim.slot.at, claim.slot.key)
                except PausedError as error:
                    return "skipped", error.message
                except Exception as error:  # noqa: BLE001 - whatever it raises is what became of the slot
                    detail = f"{type(error).__name__}: {error}"[:_LONGEST_DETAIL]
                    if attempt == self._retry.attempts:
                        _log.error("%s failed: %s", claim.slot.key, detail)
                        return "failed", detail
                    await asyncio.sleep(self._retry.delay_seconds(attempt))
                else:
                    break
        return "done", None

    async def _written(self, state: State, detail: str | None) -> None:
        """Write down what became of the slot, again and again while the store fails; its lease goes on meanwhile."""
        claim = self._claim
        for attempt in range(1, 4):
            try:
                # A slot that is done is written down also when its scheduler stops: it would be fired again.
                await undisturbed(
                    self._store.write(lambda database: finish(database, claim, state, detail, self._clock()))
                )
            except StoreError as error:
                _log.error("what became of %s cannot be written: %s", claim.slot.key, error.message)
                await asyncio.sleep(attempt * self._lease_seconds / 10)
            else:
                return

    async def _keep(self, mine: "asyncio.Task[None] | None") -> None:
        claim = self._claim
        while True:
            await asyncio.sleep(self._lease_seconds / 3)
            lease = self._lease()
            try:
                is_held = await self._store.write(lambda database, lease=lease: renew(database, claim, lease))  # type: ignore[misc]  # mypy does not infer a lambda's default
            except StoreError as error:
                _log.warning("the lease on %s cannot be renewed: %s", claim.slot.key, error.message)
                continue
            if not is_held and mine is not None:
                self._is_lost = True
                mine.cancel()
                return
