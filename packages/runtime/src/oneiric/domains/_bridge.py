"""Bridges: one domain of the resolver and the lifecycle, bound to its section of the settings."""

from collections.abc import Callable, Iterable
from contextlib import AbstractAsyncContextManager, suppress
from dataclasses import replace
from functools import partial
from typing import Any, overload

from oneiric.core.errors import ConfigurationError, InactiveError, ResolutionError
from oneiric.core.lifecycle import LifecycleManager
from oneiric.core.resolution import Candidate, Explanation, Key, Resolver
from oneiric.domains._admission import Admission
from oneiric.domains._handle import DomainHandle
from oneiric.runtime.activity import DomainActivity, DomainActivityStore
from oneiric.runtime.settings import DomainSettings, ProviderSettings, selections_of

__all__ = ["DomainBridge"]


class DomainBridge:
    """Use the keys of one domain.

    The section's selections become part of the resolver's policy, so that resolving, explaining and using
    agree. Its provider settings reach the factories through *provider_settings*, the object the lifecycle
    was given as ``settings_for``.

    Args:
        domain: The domain's name; any lower-case name.
        resolver: Ranks the candidates.
        lifecycle: Holds the instances; must be of the same resolver.
        settings: The domain's section; by default an empty one.
        provider_settings: What the lifecycle asks for the settings of a provider; by default what it was made
            with. A lifecycle that was made without is given one as soon as providers are configured.
        activity: Keeps which keys are paused or drain; by default one in memory. A paused key is refused when it is
            asked for, and so is each new call of a handle, lease or live proxy that was given out before.

    Raises:
        ConfigurationError: *settings* configure providers, but the lifecycle asks somebody else for settings.
    """

    def __init__(
        self,
        domain: str,
        *,
        resolver: Resolver,
        lifecycle: LifecycleManager,
        settings: DomainSettings | None = None,
        provider_settings: ProviderSettings | None = None,
        activity: DomainActivityStore | None = None,
    ) -> None:
        self.domain = Key(domain, "any").domain  # a Key refuses what cannot be a domain
        self.resolver = resolver
        self.lifecycle = lifecycle
        self._provider_settings = provider_settings
        self._admission = Admission(self.domain, lifecycle, activity or DomainActivityStore())
        self._settings = DomainSettings()
        if settings is not None:
            self.update_settings(settings)

    @property
    def settings(self) -> DomainSettings:
        """The domain's section in force."""
        return self._settings

    def update_settings(self, section: DomainSettings) -> None:
        """Put another section in force: its selections at once, its provider settings at the next swap.

        Nothing is swapped by this: ``lifecycle.stale()`` lists what now differs, ``lifecycle.reconcile()``
        swaps it.

        Args:
            section: The whole section; what it does not select is no longer selected.

        Raises:
            ConfigurationError: The section configures providers, but nothing carries that to their factories.
            InvalidCandidateError: A key or provider breaks the grammar of names.
        """
        carrier = self._carrier(section)
        self._select(section)
        if carrier is not None:
            carrier.update(self.domain, section)
        self._settings = section

    def adopt(self, section: DomainSettings) -> None:
        """Note that a section is in force already, because a reload put it there as a whole."""
        self._settings = section

    def _carrier(self, section: DomainSettings) -> ProviderSettings | None:
        """Return what brings the section's provider settings to the factories, if there is any to bring."""
        if self._provider_settings is None:
            asked = self.lifecycle.settings_for
            if isinstance(asked, ProviderSettings):
                self._provider_settings = asked
            elif section.provider_settings and asked is None:
                self._provider_settings = self.lifecycle.settings_for = ProviderSettings()
            elif section.provider_settings:
                raise ConfigurationError(
                    f"the settings of {self.domain} providers would never reach their factories: "
                    "the lifecycle asks somebody else for settings",
                    "LifecycleManager(settings_for=ProviderSettings(…))",
                )
        return self._provider_settings

    def _select(self, section: DomainSettings) -> None:
        policy = self.resolver.policy
        before = policy.selections.get(self.domain, {})
        chosen = selections_of(self.domain, section)
        # A choice that did not change keeps its origin: a file and line say more than "settings".
        kept = {
            key: before[key] if key in before and before[key].provider == selection.provider else selection
            for key, selection in chosen.items()
        }
        if kept != before:
            selections = {**policy.selections, self.domain: kept}
            self.resolver.apply(policy=replace(policy, selections=selections))

    @overload
    async def use[T](
        self,
        key: Key[T],
        *,
        provider: str | None = None,
        capabilities: Iterable[str] = (),
        require_all: bool = True,
        tenant: str | None = None,
        force_reload: bool = False,
    ) -> DomainHandle[T]: ...
    @overload
    async def use(
        self,
        key: str,
        *,
        provider: str | None = None,
        capabilities: Iterable[str] = (),
        require_all: bool = True,
        tenant: str | None = None,
        force_reload: bool = False,
    ) -> DomainHandle[Any]: ...
    async def use(
        self,
        key: str | Key[Any],
        *,
        provider: str | None = None,
        capabilities: Iterable[str] = (),
        require_all: bool = True,
        tenant: str | None = None,
        force_reload: bool = False,
    ) -> DomainHandle[Any]:
        """Return a handle on what serves for a key; activate it first if nothing does.

        Args:
            key: A key of the domain, or a typed one.
            provider: A provider to use whatever is active: another than the active one is opened beside it,
                and closed by ``lifecycle.retire(…, provider=…)``.
            capabilities: What the provider must be able to do. If the active one cannot, one that can is
                opened beside it.
            require_all: Whether it must have all of *capabilities*, or any.
            tenant: Whose; by default the base.
            force_reload: Replace what serves by a new instance first, even of the same provider with the same settings.

        Raises:
            CandidateNotFoundError: Nothing eligible stands for the key.
            SelectionNotFoundError: The provider named or selected is absent or set aside.
            CapabilityNotFoundError: No candidate, or not the selected one, has the capabilities.
            ActivationError: A step of the activation failed; ``step`` names it.
            PausedError: The key takes no new work.
        """
        name = self._name(key)
        self._admission.admit(name)
        wanted = tuple(capabilities)
        if wanted:
            provider = self._capable(name, provider, wanted, require_all=require_all, tenant=tenant)
        if force_reload:
            await self._renew(name, provider, tenant)
        handle = await self.lifecycle.handle(self.domain, name, provider=provider, tenant=tenant)
        return DomainHandle(self.domain, name, handle, tenant, gate=self._gate(name))

    async def _renew(self, key: str, provider: str | None, tenant: str | None) -> None:
        serving = self.lifecycle.get_status(self.domain, key, tenant=tenant).current_provider
        if provider in {None, serving}:
            await self.lifecycle.renew((self.domain, key, tenant))
        else:
            with suppress(InactiveError):  # it is not open, so the one that will be is new
                await self.lifecycle.retire(self.domain, key, provider=provider, tenant=tenant, forget=True)

    def _capable(
        self, key: str, provider: str | None, wanted: tuple[str, ...], *, require_all: bool, tenant: str | None
    ) -> str | None:
        """Return the provider to ask the lifecycle for; None is whatever is active or ranks first."""

        def able(asked: str | None) -> Candidate:
            return self.resolver.resolve(
                self.domain, key, provider=asked, capabilities=wanted, require_all=require_all, tenant=tenant
            )

        found = able(provider)
        if provider is not None:
            return provider
        active = self.lifecycle.get_status(self.domain, key, tenant=tenant).current_provider
        if active is None:
            first = self.resolver.resolve(self.domain, key, tenant=tenant)
            return None if first is found else found.provider
        try:
            able(active)
        except ResolutionError:
            return found.provider
        return None

    @overload
    def lease[T](
        self, key: Key[T], *, provider: str | None = None, tenant: str | None = None
    ) -> AbstractAsyncContextManager[T]: ...
    @overload
    def lease(
        self, key: str, *, provider: str | None = None, tenant: str | None = None
    ) -> AbstractAsyncContextManager[Any]: ...
    def lease(
        self, key: str | Key[Any], *, provider: str | None = None, tenant: str | None = None
    ) -> AbstractAsyncContextManager[Any]:
        """Hold an instance across awaits: ``async with bridge.lease("cache") as cache``."""
        name = self._name(key)
        lease: AbstractAsyncContextManager[Any] = self.lifecycle.lease(
            self.domain, name, provider=provider, tenant=tenant, gate=self._gate(name)
        )
        return lease

    @overload
    def live[T](self, key: Key[T], *, tenant: str | None = None) -> T: ...
    @overload
    def live(self, key: str, *, tenant: str | None = None) -> Any: ...
    def live(self, key: str | Key[Any], *, tenant: str | None = None) -> Any:
        """Return a proxy that calls whatever serves at the moment of each call."""
        name = self._name(key)
        return self.lifecycle.live(self.domain, name, tenant=tenant, gate=self._gate(name))

    def explain(self, key: str | Key[Any], *, tenant: str | None = None) -> Explanation:
        """Return which provider is chosen for a key, and why.

        Raises:
            CandidateNotFoundError: Nothing stands for the key.
        """
        return self.resolver.explain(self.domain, self._name(key), tenant=tenant)

    def active_candidates(self) -> tuple[Candidate, ...]:
        """Return the candidates that rank first, one per key."""
        return self.resolver.list_active(self.domain)

    def shadowed_candidates(self) -> tuple[Candidate, ...]:
        """Return the candidates that others rank before."""
        return self.resolver.list_shadowed(self.domain)

    def should_accept_work(self, key: str | Key[Any]) -> bool:
        """Tell whether a key takes new work: it is neither paused nor draining."""
        return self.activity_state(key).takes_work

    def activity_state(self, key: str | Key[Any]) -> DomainActivity:
        """Return whether a key is paused or draining, who said so and why."""
        return self._admission.store.get(self.domain, self._name(key))

    def activity_snapshot(self) -> dict[str, DomainActivity]:
        """Return the keys that are paused or draining."""
        return self._admission.store.all_for_domain(self.domain)

    async def set_paused(
        self,
        key: str | Key[Any],
        paused: bool,  # noqa: FBT001 - the published signature
        *,
        note: str | None = None,
        owner: str | None = None,
        until: float | None = None,
    ) -> DomainActivity:
        """Refuse new work for a key, or take it again; here at once, in other processes within their poll interval.

        Args:
            key: A key of the domain.
            paused: Whether it is paused from now on.
            note: Why; by default what was noted before. ``""`` clears it.
            owner: Who answers for it; by default who did before.
            until: When it ends by itself, in seconds since the epoch; by default never.

        Raises:
            StoreError: It could not be stored, and nothing changed.
            InvalidCandidateError: *key* cannot be a key.
        """
        name = self._name(key)
        return await self._admission.change(
            name, paused=paused, draining=None, note=note, owner=owner, until=until if paused else None
        )

    async def set_draining(
        self,
        key: str | Key[Any],
        draining: bool,  # noqa: FBT001 - the published signature
        *,
        note: str | None = None,
        owner: str | None = None,
        until: float | None = None,
    ) -> DomainActivity:
        """Refuse new work for a key and let what it has finish, or take work again; as `set_paused`.

        Raises:
            StoreError: It could not be stored, and nothing changed.
            InvalidCandidateError: *key* cannot be a key.
        """
        name = self._name(key)
        return await self._admission.change(
            name, paused=None, draining=draining, note=note, owner=owner, until=until if draining else None
        )

    async def resume(self, key: str | Key[Any]) -> DomainActivity:
        """Take work for a key again, whether it was paused, draining or both.

        Raises:
            StoreError: It could not be stored, and nothing changed.
            InvalidCandidateError: *key* cannot be a key.
        """
        name = self._name(key)
        return await self._admission.change(name, paused=False, draining=False, note=None, owner=None, until=None)

    def in_flight(self, key: str | Key[Any]) -> int:
        """Return the leases held on a key at this moment, of all tenants, providers and generations."""
        return self._admission.in_flight(self._name(key))

    async def drained(self, key: str | Key[Any]) -> None:
        """Return when no lease is held on a key; refuse new work before (`set_draining`), or that may be never."""
        await self._admission.emptied(self._name(key))

    def _gate(self, key: str) -> Callable[[], object]:
        return partial(self._admission.admit, key)

    def _name(self, key: str | Key[Any]) -> str:
        if isinstance(key, str):
            return key
        if key.domain != self.domain:
            raise ResolutionError(f"{key} is no key of domain {self.domain!r}", f"the bridge of {key.domain!r}")
        return key.name

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self.domain}>"
