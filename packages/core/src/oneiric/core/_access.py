"""The reading half of a lifecycle manager: use what serves, and tell what is known of it."""

from collections.abc import Callable
from typing import Any, cast, overload

from oneiric.core._activator import Activator, slot_name
from oneiric.core._generation import method_of
from oneiric.core._hooks import LifecycleTimeouts
from oneiric.core._key import Key
from oneiric.core._lease import Handle, Lease, LeaseMany, PinnedHandle
from oneiric.core._live import LiveProxy
from oneiric.core._registry import Slot as SlotName
from oneiric.core._status import LifecycleStatus, status_of

__all__ = ["InstanceAccess", "Target", "target_name"]

type Target = tuple[str, str] | Key[Any]
type Gate = Callable[[], object]


def target_name(target: Target, tenant: str | None) -> SlotName:
    """Return the slot a target of a group means."""
    return slot_name(target, None, tenant) if isinstance(target, Key) else slot_name(*target, tenant)


class InstanceAccess:
    """Leases, proxies, handles and status; changes nothing but by first use."""

    _activator: Activator
    _clock: Callable[[], float]
    timeouts: LifecycleTimeouts

    def lease(
        self,
        domain: str | Key[Any],
        key: str | None = None,
        *,
        provider: str | None = None,
        tenant: str | None = None,
        gate: Gate | None = None,
    ) -> Lease:
        """Hold what serves for the length of an ``async with`` block; the safe way to use it across awaits.

        Activates on first use, but not after `retire`.

        Args:
            domain: A domain, or a `Key` that names both.
            key: The key, when *domain* is a string.
            provider: This provider's instance, opened beside the active one if it is another.
            tenant: Whose instance; by default the base one.
            gate: Called as the block is entered; what it raises refuses the lease. By default nothing is refused.
        """
        return Lease(self._activator, slot_name(domain, key, tenant), provider, gate)

    def lease_many(self, *keys: Target, tenant: str | None = None) -> LeaseMany:
        """Hold the instances of several keys as one consistent set; a group swap never comes in between."""
        names = tuple(target_name(key, tenant) for key in keys)
        return LeaseMany(self._activator, names)

    @overload
    def live[T](
        self, domain: Key[T], *, provider: str | None = None, tenant: str | None = None, gate: Gate | None = None
    ) -> T: ...
    @overload
    def live(
        self,
        domain: str,
        key: str,
        *,
        provider: str | None = None,
        tenant: str | None = None,
        gate: Gate | None = None,
    ) -> Any: ...
    def live(
        self,
        domain: str | Key[Any],
        key: str | None = None,
        *,
        provider: str | None = None,
        tenant: str | None = None,
        gate: Gate | None = None,
    ) -> Any:
        """Return a proxy that always speaks to what serves, holding a lease for each call.

        Its awaitable methods, async iterators and async context managers work; anything else raises `TypeError`.

        Args:
            domain: A domain, or a `Key` that names both.
            key: The key, when *domain* is a string.
            provider: This provider's instance, opened beside the active one if it is another.
            tenant: Whose instance; by default the base one.
            gate: Called as each call begins; what it raises refuses the call. By default nothing is refused.
        """
        return cast("Any", LiveProxy(self._activator, slot_name(domain, key, tenant), provider, gate))

    async def handle(
        self,
        domain: str | Key[Any],
        key: str | None = None,
        *,
        provider: str | None = None,
        tenant: str | None = None,
    ) -> Handle:
        """Activate if need be and return the cheap way to use a slot again and again.

        Args:
            domain: A domain, or a `Key` that names both.
            key: The key, when *domain* is a string.
            provider: This provider's instance: the active one if it is that, else one opened beside it.
            tenant: Whose instance; by default the base one.

        Raises:
            ResolutionError: Nothing can be chosen.
            ActivationError: A step failed.
            InactiveError: The key was retired.
        """
        name = slot_name(domain, key, tenant)
        while (slot := self._activator.slot(name, provider)).current is None:
            await self._activator.first_use(slot)
        return Handle(slot) if provider is None else PinnedHandle(slot, provider)

    @overload
    def get_instance[T](self, domain: Key[T], *, tenant: str | None = None) -> T | None: ...
    @overload
    def get_instance(self, domain: str, key: str, *, tenant: str | None = None) -> Any: ...
    def get_instance(self, domain: str | Key[Any], key: str | None = None, *, tenant: str | None = None) -> Any:
        """Return what serves, borrowed, or None; activates nothing."""
        generation = self._activator.slot(slot_name(domain, key, tenant)).current
        return None if generation is None else generation.instance

    async def probe_instance_health(
        self, domain: str | Key[Any], key: str | None = None, *, tenant: str | None = None
    ) -> bool | None:
        """Ask what serves for its health.

        Returns:
            False when it says so, raises or misses the deadline; True otherwise, also when it has no health check;
            None when nothing serves.
        """
        self._activator.check_loop()
        slot = self._activator.slot(slot_name(domain, key, tenant))
        generation = slot.current
        if generation is None:
            return None
        generation.in_flight += 1
        try:
            slot.last_health_at = self._clock()
            health = method_of(generation.instance, "health")
            if health is None:
                return True
            runner = self._activator.drainer.runner(slot)
            return await runner.run("health", self.timeouts.health_seconds, health) is not False
        except Exception:  # noqa: BLE001 - whatever health raises is its verdict
            return False
        finally:
            generation.release()

    def get_status(
        self, domain: str | Key[Any], key: str | None = None, *, tenant: str | None = None
    ) -> LifecycleStatus:
        """Return what is known of a slot at this moment."""
        return status_of(self._activator.slot(slot_name(domain, key, tenant)), self._activator.is_withdrawn)

    def all_statuses(self) -> tuple[LifecycleStatus, ...]:
        """Return the status of every slot that was ever used, sorted by name."""
        return tuple(status_of(slot, self._activator.is_withdrawn) for slot in self._activator.slots.all())
