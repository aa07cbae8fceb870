"""Bridges: one domain of the resolver and the lifecycle, bound to its section of the settings."""

from collections.abc import Iterable
from contextlib import AbstractAsyncContextManager
from dataclasses import replace
from typing import Any, ClassVar, overload

from oneiric.core.errors import ConfigurationError, ResolutionError
from oneiric.core.lifecycle import LifecycleManager
from oneiric.core.resolution import Candidate, Explanation, Key, Resolver
from oneiric.domains._handle import DomainHandle
from oneiric.runtime.settings import DomainSettings, ProviderSettings, selections_of

__all__ = ["AdapterBridge", "DomainBridge", "ServiceBridge"]


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
        provider_settings: What the lifecycle asks for the settings of a provider.

    Raises:
        ConfigurationError: *settings* configure providers, but there is no *provider_settings* to carry
            that to their factories.
    """

    def __init__(
        self,
        domain: str,
        *,
        resolver: Resolver,
        lifecycle: LifecycleManager,
        settings: DomainSettings | None = None,
        provider_settings: ProviderSettings | None = None,
    ) -> None:
        self.domain = Key(domain, "any").domain  # a Key refuses what cannot be a domain
        self.resolver = resolver
        self.lifecycle = lifecycle
        self._provider_settings = provider_settings
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
        if self._provider_settings is not None:
            self._select(section)
            self._provider_settings.update(self.domain, section)
        elif section.provider_settings:
            raise ConfigurationError(
                f"the settings of {self.domain} providers would never reach their factories",
                "settings = ProviderSettings(), given to LifecycleManager(settings_for=…) and to the bridge",
            )
        else:
            self._select(section)
        self._settings = section

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
    ) -> DomainHandle[Any]: ...
    async def use(
        self,
        key: str | Key[Any],
        *,
        provider: str | None = None,
        capabilities: Iterable[str] = (),
        require_all: bool = True,
        tenant: str | None = None,
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

        Raises:
            CandidateNotFoundError: Nothing eligible stands for the key.
            SelectionNotFoundError: The provider named or selected is absent or set aside.
            CapabilityNotFoundError: No candidate, or not the selected one, has the capabilities.
            ActivationError: A step of the activation failed; ``step`` names it.
        """
        name = self._name(key)
        wanted = tuple(capabilities)
        if wanted:
            provider = self._capable(name, provider, wanted, require_all=require_all, tenant=tenant)
        handle = await self.lifecycle.handle(self.domain, name, provider=provider, tenant=tenant)
        return DomainHandle(self.domain, name, handle, tenant)

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
        lease: AbstractAsyncContextManager[Any] = self.lifecycle.lease(
            self.domain, self._name(key), provider=provider, tenant=tenant
        )
        return lease

    @overload
    def live[T](self, key: Key[T], *, tenant: str | None = None) -> T: ...
    @overload
    def live(self, key: str, *, tenant: str | None = None) -> Any: ...
    def live(self, key: str | Key[Any], *, tenant: str | None = None) -> Any:
        """Return a proxy that calls whatever serves at the moment of each call."""
        return self.lifecycle.live(self.domain, self._name(key), tenant=tenant)

    def explain(self, key: str | Key[Any], *, tenant: str | None = None) -> Explanation:
        """Return which provider is chosen for a key, and why.

        Raises:
            CandidateNotFoundError: Nothing stands for the key.
        """
        return self.resolver.explain(self.domain, self._name(key), tenant=tenant)

    def active(self) -> tuple[Candidate, ...]:
        """Return the candidates that rank first, one per key."""
        return self.resolver.list_active(self.domain)

    def shadowed(self) -> tuple[Candidate, ...]:
        """Return the candidates that others rank before."""
        return self.resolver.list_shadowed(self.domain)

    def _name(self, key: str | Key[Any]) -> str:
        if isinstance(key, str):
            return key
        if key.domain != self.domain:
            raise ResolutionError(f"{key} is no key of domain {self.domain!r}", f"the bridge of {key.domain!r}")
        return key.name

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self.domain}>"


class _BuiltIn(DomainBridge):
    """A bridge whose domain is known by its class."""

    _domain: ClassVar[str]

    def __init__(
        self,
        *,
        resolver: Resolver,
        lifecycle: LifecycleManager,
        settings: DomainSettings | None = None,
        provider_settings: ProviderSettings | None = None,
    ) -> None:
        super().__init__(
            self._domain,
            resolver=resolver,
            lifecycle=lifecycle,
            settings=settings,
            provider_settings=provider_settings,
        )


class AdapterBridge(_BuiltIn):
    """Use adapters: caches, queues, stores and other backends."""

    _domain = "adapter"


class ServiceBridge(_BuiltIn):
    """Use services: the application's own business components."""

    _domain = "service"
