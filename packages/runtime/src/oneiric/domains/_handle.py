"""What `use` hands out: the instance that serves, and everything known of it."""

from collections.abc import Callable, Mapping
from typing import Any

from oneiric.core.lifecycle import Generation, Handle

__all__ = ["DomainHandle"]


class DomainHandle[T]:
    """A key in use: what serves for it now, and the means to hold it.

    `instance`, `provider`, `metadata` and `settings` always speak of what serves when they are read. An
    instance read from here is borrowed: it is valid until the key's next swap. Across an ``await`` during
    which a swap may come, hold it: ``async with bridge.lease(key)``, or `acquire` and `release`.

    Attributes:
        domain: The domain.
        key: The key.
        tenant: Whose, or None for the base.
    """

    __slots__ = ("_gate", "_handle", "domain", "key", "tenant")

    def __init__(
        self,
        domain: str,
        key: str,
        handle: Handle,
        tenant: str | None = None,
        *,
        gate: Callable[[], object] | None = None,
    ) -> None:
        self.domain = domain
        self.key = key
        self.tenant = tenant
        self._handle = handle
        self._gate = gate

    @property
    def instance(self) -> T:
        """The instance that serves, borrowed until the key's next swap.

        Raises:
            InactiveError: Nothing serves any more.
        """
        found: T = self._handle.instance
        return found

    @property
    def provider(self) -> str:
        """The provider that serves."""
        return self._handle.provider

    @property
    def metadata(self) -> Mapping[str, Any]:
        """What the provider's candidate says of itself."""
        found: Mapping[str, Any] = self._handle.candidate.metadata
        return found

    @property
    def settings(self) -> Any:
        """The checked settings the provider's factory was given, or None where it takes none."""
        return self._handle.settings

    def acquire(self) -> Generation:
        """Hold what serves, so that no swap cleans it up; use ``.instance`` of the answer and `release` it.

        Raises:
            InactiveError: Nothing serves any more.
            PausedError: The key takes no new work.
        """
        if self._gate is not None:
            self._gate()
        return self._handle.acquire()

    def release(self, generation: Generation) -> None:
        """Give back what `acquire` gave."""
        self._handle.release(generation)

    def __repr__(self) -> str:
        return f"<DomainHandle {self.domain}:{self.key}{f' of {self.tenant}' if self.tenant else ''}>"
