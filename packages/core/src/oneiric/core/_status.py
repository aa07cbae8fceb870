"""Status: what is known of one slot at one moment."""

from collections.abc import Callable
from dataclasses import dataclass, fields
from datetime import UTC, datetime
from typing import Any

from oneiric.core._slot import Slot

__all__ = ["LifecycleStatus", "status_of"]


@dataclass(frozen=True, slots=True, kw_only=True)
class LifecycleStatus:
    """One slot at one moment. Times are ISO 8601 in UTC, or None when it never happened.

    Attributes:
        domain: The domain.
        key: The key.
        tenant: Whose slot, or None for the base.
        state: ``inactive``, ``activating``, ``ready``, ``failed`` (only when nothing is bound) or ``retired``.
        current_provider: The provider that serves, or None.
        pending_provider: The provider being prepared, or None.
        generation: Number of the generation that serves; 0 when none ever did.
        in_flight: Leases held on the generation that serves.
        draining: Older generations that still have leases.
        draining_in_flight: Leases held on those.
        withdrawn: True when what serves is no longer on offer.
        exclusive: True when what serves is swapped break-before-make.
        beside: True for a provider opened beside the active one.
        last_error: Why the last attempt failed; None after one that succeeded.
        last_state_change_at: When ``state`` or the generation last changed.
        last_activated_at: When what serves was bound.
        last_health_at: When health was last asked.
        last_swap_duration_ms: Resolution to binding of the last change.
        recent_swap_durations_ms: The last 20 of them, oldest first.
        successful_swaps: Bindings so far.
        failed_swaps: Attempts that stopped before the binding.
    """

    domain: str
    key: str
    tenant: str | None
    state: str
    current_provider: str | None
    pending_provider: str | None
    generation: int
    in_flight: int
    draining: int
    draining_in_flight: int
    withdrawn: bool
    exclusive: bool
    beside: bool
    last_error: str | None
    last_state_change_at: str | None
    last_activated_at: str | None
    last_health_at: str | None
    last_swap_duration_ms: float | None
    recent_swap_durations_ms: tuple[float, ...]
    successful_swaps: int
    failed_swaps: int

    def as_dict(self) -> dict[str, Any]:
        """Return plain data: an entry of ``lifecycle_status.json``."""
        plain = {field.name: getattr(self, field.name) for field in fields(self)}
        plain["recent_swap_durations_ms"] = list(self.recent_swap_durations_ms)
        return plain


def _iso(at: float | None) -> str | None:
    return None if at is None else datetime.fromtimestamp(at, UTC).isoformat()


def status_of(slot: Slot, is_withdrawn: Callable[[Any], bool]) -> LifecycleStatus:
    """Describe a slot as it is now."""
    domain, key, tenant = slot.name
    current = slot.current
    durations = tuple(slot.durations_ms)
    return LifecycleStatus(
        domain=domain,
        key=key,
        tenant=tenant,
        state=slot.state,
        current_provider=None if current is None else current.provider,
        pending_provider=slot.pending_provider,
        generation=0 if current is None else current.number,
        in_flight=0 if current is None else current.in_flight,
        draining=len(slot.draining),
        draining_in_flight=sum(generation.in_flight for generation in slot.draining),
        withdrawn=current is not None and is_withdrawn(current.candidate),
        exclusive=current is not None and current.candidate.exclusive,
        beside=slot.beside is not None,
        last_error=slot.last_error,
        last_state_change_at=_iso(slot.last_change_at),
        last_activated_at=_iso(slot.last_activated_at),
        last_health_at=_iso(slot.last_health_at),
        last_swap_duration_ms=durations[-1] if durations else None,
        recent_swap_durations_ms=durations,
        successful_swaps=slot.succeeded,
        failed_swaps=slot.failed,
    )
