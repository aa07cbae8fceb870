"""What the hook asks of those who keep secrets and of those who use them."""

from collections.abc import Callable, Collection, Iterable, Mapping
from contextlib import AbstractAsyncContextManager
from typing import Protocol

from oneiric.core import Secret

__all__ = ["NoUsers", "SecretReader", "SecretSource", "SecretUsers", "SecretsConfiguration", "Slot"]

#: Domain, key, tenant.
type Slot = tuple[str, str, str | None]


class SecretReader(Protocol):
    """A provider of the ``secrets`` family, as far as the hook needs one."""

    async def get_secret(self, secret_id: str) -> Secret | None:
        """Return the secret, or None when there is none of that id."""

    async def invalidate_cache(self, ids: Iterable[str] | None = None) -> None:
        """Forget what was read of *ids*, or of all."""


#: Holds the provider for an ``async with`` block: ``lambda: lifecycle.lease("adapter", "secrets")``.
type SecretSource = Callable[[], AbstractAsyncContextManager[SecretReader]]


class SecretUsers(Protocol):
    """Those whose settings use secrets, and who are replaced when one changes."""

    def users_of(self, ids: Collection[str]) -> tuple[Slot, ...]:
        """Return the active slots whose settings use one of *ids*, sorted."""

    def beside(self, ids: Collection[str]) -> tuple[str, ...]:
        """Name the instances that were opened beside the active ones and use one of *ids*; they are not replaced."""

    async def check(self, slots: Collection[Slot]) -> None:
        """Build the settings that new instances of *slots* would get; raises what is wrong with them."""

    async def renew(self, slots: Collection[Slot]) -> tuple[Slot, ...]:
        """Swap *slots* to new instances, all or none, and return those that were; raises if the old ones stay."""


class NoUsers:
    """Nobody uses secrets in settings."""

    def users_of(self, ids: Collection[str]) -> tuple[Slot, ...]:  # noqa: ARG002 - a port
        """Return no slots."""
        return ()

    def beside(self, ids: Collection[str]) -> tuple[str, ...]:  # noqa: ARG002 - a port
        """Name nothing."""
        return ()

    async def check(self, slots: Collection[Slot]) -> None:
        """Find nothing wrong."""

    async def renew(self, slots: Collection[Slot]) -> tuple[Slot, ...]:  # noqa: ARG002 - a port
        """Swap nothing."""
        return ()


class SecretsConfiguration(Protocol):
    """The section ``secrets`` of the settings, as far as the hook needs it."""

    @property
    def domain(self) -> str:
        """Domain of the provider."""

    @property
    def key(self) -> str:
        """Key of the provider."""

    @property
    def provider(self) -> str | None:
        """The provider, or None for the one that ranks first."""

    @property
    def inline(self) -> Mapping[str, Secret]:
        """Secrets that are never asked of a provider."""

    @property
    def cache_ttl_seconds(self) -> float:
        """How long a fetched secret is used; 0 fetches every time."""

    @property
    def refresh_interval(self) -> float | None:
        """How often secrets in use are fetched anew, in seconds; None is never."""
