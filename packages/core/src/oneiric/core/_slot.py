"""Slot: where one generation at a time is bound, and what is remembered of it."""

import asyncio
from collections import deque
from typing import Final

from oneiric.core._generation import Generation
from oneiric.core._registry import Slot as SlotName

__all__ = ["Slot", "SlotTable"]

_SAMPLES: Final = 20


class Slot:
    """A domain, key and tenant, with what is bound there.

    Attributes:
        name: Domain, key and tenant (None for the base).
        beside: The provider a slot beside the main one is pinned to, or None for a main slot.
        current: The generation that serves, or None. Assigned at the binding, read everywhere.
        lock: Held from resolution to the binding; draining belongs to the generation.
        attempt: Done when the first activation under way ends; None when there is none.
        waiting_for: Slots that a step of this one's attempt waits for, to tell a cycle from a queue.
    """

    __slots__ = (
        "attempt",
        "beside",
        "current",
        "draining",
        "durations_ms",
        "failed",
        "generations",
        "last_activated_at",
        "last_change_at",
        "last_error",
        "last_health_at",
        "lock",
        "name",
        "pending_provider",
        "retired",
        "state",
        "succeeded",
        "waiting_for",
    )

    def __init__(self, name: SlotName, beside: str | None) -> None:
        self.name = name
        self.beside = beside
        self.current: Generation | None = None
        self.lock = asyncio.Lock()
        self.attempt: asyncio.Future[Exception | None] | None = None
        self.waiting_for: set[Slot] = set()
        self.draining: set[Generation] = set()
        self.generations = 0
        self.state = "inactive"
        #: Set by a retirement, cleared by a binding: a failed swap in between starts nothing by first use.
        self.retired = False
        self.pending_provider: str | None = None
        self.last_error: str | None = None
        self.last_change_at: float | None = None
        self.last_activated_at: float | None = None
        self.last_health_at: float | None = None
        self.durations_ms: deque[float] = deque(maxlen=_SAMPLES)
        self.succeeded = 0
        self.failed = 0

    @property
    def sort_key(self) -> tuple[str, str, str, str]:
        """The order in which the locks of a group are taken."""
        domain, key, tenant = self.name
        return (domain, key, tenant or "", self.beside or "")

    def waits_for(self, other: "Slot") -> bool:
        """Tell whether this slot's attempt waits, directly or not, for *other*."""
        seen: set[Slot] = set()
        waiting = list(self.waiting_for)
        while waiting:
            slot = waiting.pop()
            if slot is other:
                return True
            if slot not in seen:
                seen.add(slot)
                waiting.extend(slot.waiting_for)
        return False

    def __str__(self) -> str:
        domain, key, tenant = self.name
        return f"{domain}:{key}" + (f" (tenant {tenant})" if tenant else "")

    def __repr__(self) -> str:
        return f"<Slot {self} {self.state}>"


class SlotTable:
    """All slots of a manager, made when first named."""

    __slots__ = ("_slots",)

    def __init__(self) -> None:
        self._slots: dict[tuple[SlotName, str | None], Slot] = {}

    def find(self, name: SlotName, beside: str | None = None) -> Slot | None:
        """Return a slot if it was ever named."""
        return self._slots.get((name, beside))

    def get(self, name: SlotName, beside: str | None = None) -> Slot:
        """Return a slot, made if need be."""
        slot = self._slots.get((name, beside))
        if slot is None:
            slot = self._slots[name, beside] = Slot(name, beside)
        return slot

    def all(self) -> list[Slot]:
        """Return every slot, sorted by name."""
        return sorted(self._slots.values(), key=lambda slot: slot.sort_key)

    def bound(self) -> list[Slot]:
        """Return the slots that have something bound."""
        return [slot for slot in self._slots.values() if slot.current is not None]
