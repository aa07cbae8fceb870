"""Live proxies: an object that always speaks to what serves now, one lease a call."""

import inspect
from collections.abc import Callable, Generator
from functools import partial
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from oneiric.core._activator import Activator
    from oneiric.core._generation import Generation
    from oneiric.core._registry import Slot as SlotName
    from oneiric.core._slot import Slot

__all__ = ["LiveProxy"]

#: Return annotations that promise something a lease can be held across.
_PROMISES: Final = (
    "Awaitable",
    "Coroutine",
    "Future",
    "Task",
    "AsyncIterator",
    "AsyncIterable",
    "AsyncGenerator",
    "AsyncContextManager",
)


class _Target:
    """The slot a proxy speaks to."""

    __slots__ = ("_activator", "_beside", "_suitable", "_type", "fixed", "gate", "name")

    def __init__(
        self, activator: "Activator", name: "SlotName", beside: str | None, gate: Callable[[], object] | None
    ) -> None:
        self._activator = activator
        self._beside = beside
        self.name = name
        #: Called before each lease is taken; raises to refuse it.
        self.gate = gate
        #: The class that was last spoken to, and its methods that are known to suit.
        self._type: type | None = None
        self._suitable: set[str] = set()
        # A tenant's slot, and one beside the active one, may become another when selections change.
        self.fixed = activator.slot(name) if beside is None and name[2] is None else None

    @property
    def slot(self) -> "Slot":
        """The slot at this moment."""
        return self.fixed or self._activator.slot(self.name, self._beside)

    async def lease(self) -> "Generation":
        """Take a lease on what serves, activating it if need be; the caller releases it."""
        if self.gate is not None:
            self.gate()
        generation = self.slot.current or await self.first_use()
        generation.in_flight += 1
        return generation

    def method(self, instance: object, attribute: str) -> Callable[..., Any]:
        """Return a method of *instance*, or raise if a lease cannot be held across a call of it.

        Raises:
            AttributeError: There is no such attribute.
            TypeError: It is not a method that is awaited, iterated or entered.
        """
        found: Callable[..., Any] = getattr(instance, attribute)
        owner = type(instance)
        if owner is not self._type:
            self._type = owner
            self._suitable.clear()
        elif attribute in self._suitable:
            return found
        if not _is_suitable(found):
            raise TypeError(
                f"{owner.__name__}.{attribute} is neither awaited, nor iterated, nor entered: "
                "use it under `async with lifecycle.lease(...)`"
            )
        # What an instance carries itself may differ from the next one's.
        if attribute not in getattr(instance, "__dict__", {}):
            self._suitable.add(attribute)
        return found

    async def first_use(self) -> "Generation":
        """Activate the slot, and another if the provider that is named does not serve there by then."""
        while (generation := (slot := self.slot).current) is None:
            await self._activator.first_use(slot)
        return generation


class LiveProxy:
    """Stand for the instance of a key; every call is made on whatever serves when it starts.

    Methods whose result is awaited, iterated with ``async for`` or entered with ``async with`` work, each holding a
    lease for just that long. Anything else would outlive its lease and raises `TypeError` naming ``lease``.
    """

    __slots__ = ("_oneiric_target",)
    _oneiric_target: _Target

    def __init__(
        self,
        activator: "Activator",
        name: "SlotName",
        beside: str | None,
        gate: Callable[[], object] | None = None,
    ) -> None:
        object.__setattr__(self, "_oneiric_target", _Target(activator, name, beside, gate))

    def __getattr__(self, attribute: str) -> Callable[..., "_LiveCall"]:
        if attribute.startswith("__"):
            raise AttributeError(attribute)
        target = self._oneiric_target
        current = (target.fixed or target.slot).current
        if current is not None:
            target.method(current.instance, attribute)
        return partial(_LiveCall, target, attribute)

    def __setattr__(self, attribute: str, value: object) -> None:
        raise TypeError(f"a live proxy takes no attributes: set {attribute!r} on the instance under lease(...)")

    def __repr__(self) -> str:
        domain, key, tenant = self._oneiric_target.name
        return f"<live {domain}:{key}{f' (tenant {tenant})' if tenant else ''}>"


class _LiveCall:
    """A call that has not started: awaiting, iterating or entering it takes the lease."""

    __slots__ = ("_args", "_attribute", "_entered", "_generation", "_kwargs", "_target")

    _generation: "Generation"
    _entered: Any

    def __init__(self, target: _Target, attribute: str, *args: Any, **kwargs: Any) -> None:
        self._target = target
        self._attribute = attribute
        self._args = args
        self._kwargs = kwargs

    def __await__(self) -> Generator[Any, Any, Any]:
        return self._call().__await__()

    async def _call(self) -> Any:
        target = self._target
        if target.gate is not None:
            target.gate()
        generation = (target.fixed or target.slot).current or await target.first_use()
        generation.in_flight += 1
        try:
            return await target.method(generation.instance, self._attribute)(*self._args, **self._kwargs)
        finally:
            generation.release()

    def _start(self, generation: "Generation") -> Any:
        method = self._target.method(generation.instance, self._attribute)
        return method(*self._args, **self._kwargs)

    async def __aiter__(self) -> Any:
        generation = await self._target.lease()
        try:
            async for item in self._start(generation):
                yield item
        finally:
            generation.release()

    async def __aenter__(self) -> Any:
        self._generation = generation = await self._target.lease()
        try:
            self._entered = self._start(generation)
            return await self._entered.__aenter__()
        except BaseException:
            generation.release()
            raise

    async def __aexit__(self, *error: Any) -> Any:
        try:
            return await self._entered.__aexit__(*error)
        finally:
            self._generation.release()


def _is_suitable(method: object) -> bool:
    if not callable(method):
        return False
    function = inspect.unwrap(method)
    if inspect.iscoroutinefunction(method) or inspect.iscoroutinefunction(function):
        return True
    if inspect.isasyncgenfunction(method) or inspect.isasyncgenfunction(function):
        return True
    if inspect.iscoroutinefunction(getattr(type(method), "__call__", None)):  # noqa: B004 - its kind, not its presence
        return True
    promised = getattr(function, "__annotations__", {}).get("return", "")
    text = promised if isinstance(promised, str) else getattr(promised, "__qualname__", "") + repr(promised)
    return any(name in text for name in _PROMISES)
