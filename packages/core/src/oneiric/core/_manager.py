"""LifecycleManager: turns winners into live instances and swaps them safely."""

import os
import time
import warnings
from collections.abc import Callable, Iterable, Mapping
from contextvars import copy_context
from types import TracebackType
from typing import Any, Literal, Self, overload

from oneiric.core._access import InstanceAccess, Target, target_name
from oneiric.core._activator import Activator, slot_name
from oneiric.core._attempt import SettingsFor, SettingsSource, Workshop
from oneiric.core._hooks import LifecycleHooks, LifecycleTimeouts
from oneiric.core._key import Key
from oneiric.core._observers import Emitter, Observer, Observers
from oneiric.core._reasons import Reasons
from oneiric.core._reconcile import ReconcileReport, reconcile, stale_slots
from oneiric.core._registry import Slot as SlotName
from oneiric.core._resolver import Resolver
from oneiric.core.errors import InactiveError, LifecycleError
from oneiric.core.snapshot import SnapshotWriter

__all__ = ["LifecycleManager"]


class LifecycleManager(InstanceAccess):
    """Activate, lease, swap and retire the implementations a resolver chooses.

    Bound to the event loop it is first used from. Use it as an async context manager, or call `aclose`.

    Args:
        resolver: Chooses the candidates; a swap tells it what was chosen by hand.
        settings_for: Candidate and tenant → the settings its factory is called with; may be async. By default the
            candidate's settings model is constructed without arguments.
        hooks: Calls made around each swap.
        timeouts: Deadlines.
        status_snapshot_path: Where ``lifecycle_status.json`` is kept up to date; by default nowhere.
        on_drain_timeout: ``"report"`` leaves a generation to its last lease; ``"force"`` cleans it up under the
            leases that outlive the drain deadline, and counts them in `broken_leases`.
        clock: Seconds since the epoch, for time stamps.
        redact: Text → the same text with secrets masked: what components raise goes through it before it gets into a
            status, an event or an error. An error whose traceback would still show one is not chained.
    """

    def __init__(
        self,
        resolver: Resolver,
        *,
        settings_for: SettingsFor | None = None,
        hooks: LifecycleHooks | None = None,
        timeouts: LifecycleTimeouts | None = None,
        status_snapshot_path: str | os.PathLike[str] | None = None,
        on_drain_timeout: Literal["report", "force"] = "report",
        clock: Callable[[], float] = time.time,
        redact: Callable[[str], str] | None = None,
    ) -> None:
        if on_drain_timeout not in {"report", "force"}:
            raise LifecycleError(f"on_drain_timeout is 'report' or 'force', not {on_drain_timeout!r}")
        self.resolver = resolver
        self.hooks = hooks or LifecycleHooks()
        self.timeouts = timeouts or LifecycleTimeouts()
        self._settings = SettingsSource(settings_for)
        self._clock = clock
        self._observers = Observers()
        self._snapshot: SnapshotWriter | None = None
        if status_snapshot_path is not None:
            self._snapshot = SnapshotWriter(status_snapshot_path, self._plain_statuses)
        context, settings, reasons = copy_context(), self._settings, Reasons(redact)

        def workshop(provide: Callable[..., Any]) -> Workshop:
            return Workshop(
                context=context,
                timeouts=self.timeouts,
                hooks=self.hooks,
                settings=settings,
                reasons=reasons,
                provide=provide,
            )

        emit = Emitter(self._observers, None if self._snapshot is None else self._snapshot.mark)
        self._activator = Activator(resolver, emit, clock, workshop, force=on_drain_timeout == "force")
        resolver._active_provider = self._activator.active_provider  # noqa: SLF001 - explain() reports what serves

    @property
    def settings_for(self) -> SettingsFor | None:
        """What gives a candidate the settings its factory takes; None constructs its model without arguments.

        It may be set once, by whoever configures providers, if the manager was made without one.

        Raises:
            LifecycleError: It is set and there is one already.
        """
        return self._settings.settings_for

    @settings_for.setter
    def settings_for(self, settings_for: SettingsFor) -> None:
        if self._settings.settings_for not in {None, settings_for}:
            raise LifecycleError(f"{self!r} has a settings_for already", "give that one the settings")
        self._settings.settings_for = settings_for

    def _plain_statuses(self) -> list[dict[str, Any]]:
        return [status.as_dict() for status in self.all_statuses()]

    @overload
    async def activate[T](
        self, domain: Key[T], *, provider: str | None = None, tenant: str | None = None, force: bool = False
    ) -> T: ...
    @overload
    async def activate(
        self,
        domain: str,
        key: str,
        provider: str | None = None,
        *,
        tenant: str | None = None,
        force: bool = False,
    ) -> Any: ...
    async def activate(
        self,
        domain: str | Key[Any],
        key: str | None = None,
        provider: str | None = None,
        *,
        tenant: str | None = None,
        force: bool = False,
    ) -> Any:
        """Make sure something serves for a key, and return it; what serves already is never replaced.

        Concurrent first users share one activation, and its failure. The instance is borrowed: it is valid until the
        slot's next swap; `lease` holds it.

        Args:
            domain: A domain, or a `Key` that names both.
            key: The key, when *domain* is a string.
            provider: The provider to activate when nothing serves yet; counts as a selection.
            tenant: Whose instance; by default the base one.
            force: Bind even if the instance reports itself unhealthy.

        Raises:
            ResolutionError: Nothing can be chosen.
            ActivationError: A step failed; ``step`` names it.
            LifecycleError: Another provider than the one named serves; `swap` changes that.
        """
        self._activator.check_loop()
        slot = self._activator.slot(slot_name(domain, key, tenant), own=provider is not None)
        generation = slot.current
        if generation is None:
            generation = await self._activator.activated(slot, provider, force=force)
        if provider is not None and generation.provider != provider:
            raise LifecycleError(
                f"{slot} is served by provider {generation.provider!r}, not {provider!r}",
                "swap() to replace it, or a lease of that provider beside it",
            )
        return generation.instance

    @overload
    async def swap[T](
        self,
        domain: Key[T],
        *,
        provider: str | None = None,
        tenant: str | None = None,
        force: bool = False,
        by: str | None = None,
    ) -> T: ...
    @overload
    async def swap(
        self,
        domain: str,
        key: str,
        provider: str | None = None,
        *,
        tenant: str | None = None,
        force: bool = False,
        by: str | None = None,
    ) -> Any: ...
    async def swap(
        self,
        domain: str | Key[Any],
        key: str | None = None,
        provider: str | None = None,
        *,
        tenant: str | None = None,
        force: bool = False,
        by: str | None = None,
    ) -> Any:
        """Replace what serves for a key by a new generation, or leave the old one serving.

        Callers that hold a lease keep the old instance until they release it; nobody waits. The call returns when the
        old generation is cleaned up, at the drain deadline at the latest.

        Args:
            domain: A domain, or a `Key` that names both.
            key: The key, when *domain* is a string; need not be active yet.
            provider: The provider to activate and to select from now on, above any configuration. Without it, what
                an earlier swap selected is forgotten and the configuration decides.
            tenant: Whose instance; by default the base one. Naming a provider gives the tenant a slot of its own.
            force: Bind even if the new instance reports itself unhealthy.
            by: Who asked; explanations name them.

        Returns:
            The instance that serves now, borrowed.

        Raises:
            SelectionNotFoundError: *provider* is not registered for the key, or set aside.
            SwapError: A step before the binding failed; ``step`` names it and the old generation serves.
            ActivationError: The same, when nothing served before.
        """
        self._activator.check_loop()
        name = slot_name(domain, key, tenant)
        activator = self._activator
        slot = activator.slot(name, own=provider is not None)
        if provider is None and slot.name[2] is not None and self.resolver.policy.selection_for(*slot.name) is None:
            # Only a swap gave this tenant a slot of its own; without it the base serves.
            return await self._rejoin_base(name)
        (instance,) = await activator.swapper.swap([activator.request(slot, provider, by)], force=force)
        return instance

    async def _rejoin_base(self, name: SlotName) -> Any:
        activator = self._activator
        own = activator.slot(name)
        await activator.retire(own, forget=True)
        return (await activator.first_use(activator.slot(name))).instance

    async def swap_group(
        self,
        targets: Mapping[Target, str | None],
        *,
        tenant: str | None = None,
        force: bool = False,
        by: str | None = None,
    ) -> dict[Target, Any]:
        """Swap several keys, all or none: no caller ever sees some of them new and some old.

        Args:
            targets: ``(domain, key)`` or `Key` → the provider, or None for what the configuration says.
            tenant: Whose instances; by default the base ones.
            force: Bind even what reports itself unhealthy.
            by: Who asked.

        Returns:
            The same keys → the instances that serve now.

        Raises:
            SwapError: A step of one of them failed, or two of one key cannot exist at once; all old ones serve.
            ActivationError: The same, for a key that nothing served before.
            ResolutionError: One of them cannot be resolved.
        """
        self._activator.check_loop()
        requests = []
        for target, provider in targets.items():
            slot = self._activator.slot(target_name(target, tenant), own=provider is not None)
            requests.append(self._activator.request(slot, provider, by))
        if len({request.slot.sort_key for request in requests}) < len(requests):
            raise LifecycleError("a group names one slot twice", "name each key once")
        instances = await self._activator.swapper.swap(requests, force=force)
        return dict(zip(targets, instances, strict=True))

    def stale(self) -> tuple[SlotName, ...]:
        """Return the slots (domain, key, tenant) that serve something else than what ranks first, sorted."""
        return stale_slots(self._activator)

    async def reconcile(self, *, also: Iterable[SlotName] = ()) -> ReconcileReport:
        """Swap every stale slot to what ranks first, as one group; retire tenants' slots whose overlay is gone.

        Providers that must be swapped break-before-make are swapped one by one after the group.

        Args:
            also: Slots (domain, key, tenant) to swap to a new generation even if they serve what ranks first, such as
                those whose settings changed. One that serves nothing is left alone; what an operator selected stays.

        Raises:
            SwapError: A step of one of them failed; those of its group keep what they have.
        """
        self._activator.check_loop()
        return await reconcile(self._activator, frozenset(also))

    async def renew(self, *slots: SlotName) -> ReconcileReport:
        """Swap the named slots to new generations of what ranks first, as one group, and no others.

        What an operator selected stays; a slot that serves nothing is left alone, and one of a tenant whose overlay is
        gone is retired.

        Args:
            slots: (domain, key, tenant) each.

        Raises:
            SwapError: A step of one of them failed; all keep what they have.
        """
        self._activator.check_loop()
        return await reconcile(self._activator, frozenset(slots), nothing_else=True)

    async def retire(
        self,
        domain: str | Key[Any],
        key: str | None = None,
        *,
        provider: str | None = None,
        tenant: str | None = None,
        forget: bool = False,
    ) -> None:
        """Stop serving for a key: drain and clean up what serves. Only `activate` and `swap` start it again.

        Args:
            domain: A domain, or a `Key` that names both.
            key: The key, when *domain* is a string.
            provider: Close only this provider's instance that was opened beside the active one.
            tenant: Whose instance; by default the base one.
            forget: Leave the slot as if it was never used: what a swap selected is forgotten, and first use starts it.

        Raises:
            InactiveError: *provider* is named and is not open beside the active one.
        """
        self._activator.check_loop()
        name = slot_name(domain, key, tenant)
        slot = self._activator.slot(name)
        if provider is not None:
            beside = self._activator.slots.find(slot.name, provider)
            if beside is None or beside.current is None:
                raise InactiveError(f"provider {provider!r} is not open beside {slot}")
            slot = beside
        await self._activator.retire(slot, forget=forget)

    @property
    def broken_leases(self) -> int:
        """Leases under which a generation was cleaned up, by force or at shutdown."""
        return self._activator.drainer.broken

    def observe(self, observer: Observer) -> Callable[[], None]:
        """Call *observer* with each lifecycle event from now on; return the call that stops it."""
        return self._observers.add(observer)

    def end_changes(self) -> None:
        """Make activations and swaps fail from now on, those under way too; what serves goes on and can be retired.

        For a process that stops: what waits to retire a key does not wait for a new instance that is slow to start.
        """
        self._activator.swapper.end()

    async def aclose(self, *, drain_seconds: float | None = None) -> None:
        """Retire everything, last activated first; at the drain deadline also under leases. Safe to call twice.

        Args:
            drain_seconds: How long all drains together may take; by default each has its own deadline.
        """
        if not self._activator.used:
            self._activator.swapper.close()
            return
        self._activator.check_loop()
        await self._activator.close(self.timeouts.cleanup_seconds, drain_seconds)
        if self._snapshot is not None:
            await self._snapshot.flush()

    async def __aenter__(self) -> Self:
        self._activator.check_loop()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        await self.aclose()

    def __del__(self) -> None:
        activator = getattr(self, "_activator", None)
        if activator is not None and not activator.swapper.closed and (bound := activator.slots.bound()):
            names = ", ".join(str(slot) for slot in bound)
            warnings.warn(f"LifecycleManager was not closed; still active: {names}", ResourceWarning, stacklevel=1)
