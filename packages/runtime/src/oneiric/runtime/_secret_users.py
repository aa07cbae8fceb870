"""Who uses a secret: the active slots of a lifecycle, by what their providers' settings name."""

from collections.abc import Collection, Iterator
from contextlib import suppress
from inspect import isawaitable
from typing import Any, Protocol

from oneiric.core.errors import OneiricError, ResolutionError
from oneiric.core.lifecycle import LifecycleManager, LifecycleStatus
from oneiric.core.resolution import Candidate
from oneiric.runtime._secret_ports import Slot

__all__ = ["LifecycleUsers", "SettingsWithSecrets"]


class SettingsWithSecrets(Protocol):
    """What gives candidates their settings and knows which secrets are in them."""

    def __call__(self, candidate: Candidate, tenant: str | None = None, /) -> Any:
        """Return the settings of a candidate, or an awaitable of them; raises if they are not valid."""

    def secret_ids(self, candidate: Candidate, /) -> frozenset[str]:
        """Return the ids of the secrets that the settings of a candidate name."""


class LifecycleUsers:
    """The active slots whose settings use secrets.

    Args:
        lifecycle: Holds the instances and swaps them.
        provider_settings: What *lifecycle* was given as ``settings_for``.
    """

    def __init__(self, lifecycle: LifecycleManager, provider_settings: SettingsWithSecrets) -> None:
        self._lifecycle = lifecycle
        self._provider_settings = provider_settings

    def users_of(self, ids: Collection[str]) -> tuple[Slot, ...]:
        """Return the slots that serve, or are about to, and whose settings use one of *ids*, sorted."""
        return tuple((status.domain, status.key, status.tenant) for status in self._using(ids) if not status.beside)

    def beside(self, ids: Collection[str]) -> tuple[str, ...]:
        """Name the instances that were opened beside the active ones and use one of *ids*."""
        return tuple(
            f"{status.domain}:{status.key}/{status.current_provider}" for status in self._using(ids) if status.beside
        )

    async def check(self, slots: Collection[Slot]) -> None:
        """Build the settings that new instances of *slots* would get.

        Raises:
            ConfigurationError: They are not valid.
            ResolutionError: Nothing can be chosen for one of them.
        """
        for domain, key, tenant in slots:
            candidate = self._lifecycle.resolver.resolve(domain, key, tenant=tenant)
            if candidate.settings_model is not None:
                built = self._provider_settings(candidate, tenant)
                if isawaitable(built):
                    await built

    async def renew(self, slots: Collection[Slot]) -> tuple[Slot, ...]:
        """Swap *slots* to new instances, as one group, and return those that were.

        One that is on its way to its first instance is waited for: that may have got the old value.

        Raises:
            SwapError: One of them does not start, or is unhealthy; the old ones serve.
        """
        for domain, key, tenant in slots:
            if self._lifecycle.get_status(domain, key, tenant=tenant).current_provider is None:
                with suppress(OneiricError):  # nothing of it serves then, and nothing is to be replaced
                    async with self._lifecycle.lease(domain, key, tenant=tenant):
                        pass
        return (await self._lifecycle.renew(*slots)).swapped

    def _using(self, ids: Collection[str]) -> Iterator[LifecycleStatus]:
        wanted = frozenset(ids)
        for status in self._lifecycle.all_statuses():
            provider = status.current_provider or status.pending_provider
            if provider is None:
                continue
            try:
                candidate = self._lifecycle.resolver.resolve(
                    status.domain, status.key, provider=provider, tenant=status.tenant
                )
            except ResolutionError:
                continue  # withdrawn: a new instance of it cannot be made
            if self._provider_settings.secret_ids(candidate) & wanted:
                yield status
