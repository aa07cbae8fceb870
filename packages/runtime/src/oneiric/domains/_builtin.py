"""The bridges of the six built-in domains: the generic one, and what differs."""

from collections.abc import Mapping
from typing import Any, ClassVar

from oneiric.core.errors import LifecycleError
from oneiric.core.lifecycle import LifecycleManager
from oneiric.core.resolution import Key, Resolver
from oneiric.domains._bridge import DomainBridge
from oneiric.runtime.activity import DomainActivityStore
from oneiric.runtime.settings import DomainSettings, ProviderSettings

__all__ = ["ActionBridge", "AdapterBridge", "BuiltInBridge", "ServiceBridge"]


class BuiltInBridge(DomainBridge):
    """A bridge whose domain is known by its class."""

    _domain: ClassVar[str]

    def __init__(
        self,
        *,
        resolver: Resolver,
        lifecycle: LifecycleManager,
        settings: DomainSettings | None = None,
        provider_settings: ProviderSettings | None = None,
        activity: DomainActivityStore | None = None,
    ) -> None:
        super().__init__(
            self._domain,
            resolver=resolver,
            lifecycle=lifecycle,
            settings=settings,
            provider_settings=provider_settings,
            activity=activity,
        )


class AdapterBridge(BuiltInBridge):
    """Use adapters: caches, queues, stores and other backends."""

    _domain = "adapter"


class ServiceBridge(BuiltInBridge):
    """Use services: the application's own business components."""

    _domain = "service"


class ActionBridge(BuiltInBridge):
    """Invoke actions."""

    _domain = "action"

    async def invoke(
        self,
        key: str | Key[Any],
        payload: Mapping[str, Any] | None = None,
        *,
        provider: str | None = None,
        tenant: str | None = None,
    ) -> dict[str, Any]:
        """Execute an action once, in this process, and return its result.

        Args:
            key: The action.
            payload: What its ``execute(payload)`` is given; by default nothing, an empty mapping.
            provider: This provider's instance, whatever is active.
            tenant: Whose; by default the base.

        Raises:
            ResolutionError: Nothing can be chosen for the key.
            ActivationError: A step of the activation failed.
            PausedError: The action takes no new work.
            LifecycleError: What serves has no ``execute``.
        """
        async with self.lease(self._name(key), provider=provider, tenant=tenant) as action:
            result: dict[str, Any] = await _method(self.domain, self._name(key), action, "execute")(dict(payload or {}))
            return result


def _method(domain: str, key: str, instance: object, name: str) -> Any:
    found = getattr(instance, name, None)
    if not callable(found):
        raise LifecycleError(
            f"{domain}:{key} is served by {type(instance).__name__}, which has no method {name!r}",
            f"async def {name}(self, payload) on it",
        )
    return found
