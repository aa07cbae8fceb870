"""Admission: whether a key takes new work, who changed that, and what of its work is still in flight."""

import asyncio
from dataclasses import replace
from typing import Final

from oneiric.core.errors import PausedError
from oneiric.core.lifecycle import LifecycleManager
from oneiric.core.resolution import Key
from oneiric.runtime.activity import DomainActivity, DomainActivityStore

__all__ = ["Admission"]

#: How often a drain looks whether it is done; leases count without telling anybody, so that they cost nothing.
_LOOK_SECONDS: Final = 0.02


class Admission:
    """Let new work of a domain through or refuse it, as an activity store says.

    Args:
        domain: The domain.
        lifecycle: Knows what is in flight.
        store: Knows what is paused and draining.
    """

    __slots__ = ("_domain", "_lifecycle", "store")

    def __init__(self, domain: str, lifecycle: LifecycleManager, store: DomainActivityStore) -> None:
        self._domain = domain
        self._lifecycle = lifecycle
        self.store = store

    def admit(self, key: str) -> None:
        """Return if a key takes new work.

        Raises:
            PausedError: It is paused or draining.
        """
        state = self.store.get(self._domain, key)
        if state.takes_work:
            return
        name, undo = ("paused", "pause {} --resume") if state.paused else ("draining", "drain {} --clear")
        raise PausedError(self._domain, key, name, state.note, f"oneiric {undo.format(f'{self._domain}:{key}')}")

    async def change(
        self,
        key: str,
        *,
        paused: bool | None,
        draining: bool | None,
        note: str | None,
        owner: str | None,
        until: float | None,
    ) -> DomainActivity:
        """Set what is not None, keep the rest; work that is taken again forgets the note and who left it."""
        Key(self._domain, key)  # refuses what cannot be a key

        def changed(before: DomainActivity) -> DomainActivity:
            after = replace(
                before,
                paused=before.paused if paused is None else paused,
                draining=before.draining if draining is None else draining,
                note=before.note if note is None else note or None,
                owner=before.owner if owner is None else owner or None,
                since=None,
                until=until,
            )
            return DomainActivity() if after.takes_work else after

        return await self.store.update(self._domain, key, changed)

    def in_flight(self, key: str) -> int:
        """Return the leases held on a key, of all tenants, providers and generations."""
        return sum(
            status.in_flight + status.draining_in_flight
            for status in self._lifecycle.all_statuses()
            if (status.domain, status.key) == (self._domain, key)
        )

    async def emptied(self, key: str) -> None:
        """Return when no lease is held on a key."""
        while self.in_flight(key):  # noqa: ASYNC110 - a lease gives no sign; see _LOOK_SECONDS
            await asyncio.sleep(_LOOK_SECONDS)
