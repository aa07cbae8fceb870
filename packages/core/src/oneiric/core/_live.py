"""Live proxies: an object that always speaks to what serves now, one lease a call."""

import inspect
from collections.abc import Callable, Generator
from typing import TYPE_CHECKING, Any, Final
from weakref import WeakKeyDictionary

if TYPE_CHECKING:
    from oneiric.core._activator import Activator
    from oneiric.core._generation import Generation
    from oneiric.core._registry import Slot as SlotName

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

    __slots__ = ("_activator", "_beside", "name")

    def __init__(self, activator: "Activator", name: "SlotName", beside: str | None) -> None:
        self._activator = activator
        self._beside = beside
        self.name = name

    @property
    def current(self) -> "Generation | None":
        """What serves now."""
        return self._activator.slot(self.name, self._beside).current

    async def lease(self) -> "Generation":
        """Take a lease on what serves, activating it if need be; the caller releases it."""
        slot = self._activator.slot(self.name, self._beside)
        generation = slot.current or await self._activator.first_use(slot)
        generation.in_flight += 1
        return generation


class LiveProxy:
    """Stand for the instance of a key; every call is made on whatever serves when it starts.

    Methods whose result is awaited, iterated with ``async for`` or entered with ``async with`` work, each holding a
    lease for just that long. Anything else would outlive its lease and raises `TypeError` naming ``lease``.
    """

    __slots__ = ("_oneiric_target",)
    _oneiric_target: _Target

    def __init__(self, activator: "Activator", name: "SlotName", beside: str | None) -> None:
        object.__setattr__(self, "_oneiric_target", _Target(activator, name, beside))

    def __getattr__(self, attribute: str) -> "_LiveMethod":
        if attribute.startswith("__"):
            raise AttributeError(attribute)
        target = self._oneiric_target
        current = target.current
        if current is not None:
            _check(current.instance, attribute)
        return _LiveMethod(target, attribute)

    def __setattr__(self, attribute: str, value: object) -> None:
        raise TypeError(f"a live proxy takes no attributes: set {attribute!r} on the instance under lease(...)")

    def __repr__(self) -> str:
        domain, key, tenant = self._oneiric_target.name
        return f"<live {domain}:{key}{f' (tenant {tenant})' if tenant else ''}>"


class _LiveMethod:
    """A method of whatever serves at the time of the call."""

    __slots__ = ("_attribute", "_target")

    def __init__(self, target: _Target, attribute: str) -> None:
        self._target = target
        self._attribute = attribute

    def __call__(self, *args: Any, **kwargs: Any) -> "_LiveCall":
        return _LiveCall(self._target, self._attribute, args, kwargs)


class _LiveCall:
    """A call that has not started: awaiting, iterating or entering it takes the lease."""

    __slots__ = ("_args", "_attribute", "_entered", "_generation", "_kwargs", "_target")

    def __init__(self, target: _Target, attribute: str, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        self._target = target
        self._attribute = attribute
        self._args = args
        self._kwargs = kwargs
        self._generation: Generation | None = None
        self._entered: Any = None

    def __await__(self) -> Generator[Any, Any, Any]:
        return self._call().__await__()

    async def _call(self) -> Any:
        generation = await self._target.lease()
        try:
            return await self._start(generation)
        finally:
            generation.release()

    def _start(self, generation: "Generation") -> Any:
        method = _check(generation.instance, self._attribute)
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
        generation = self._generation
        try:
            return await self._entered.__aexit__(*error)
        finally:
            if generation is not None:
                generation.release()


#: Class → attribute → whether a lease can be held across its calls; weak, because remote providers come and go.
_suitable: WeakKeyDictionary[type, dict[str, bool]] = WeakKeyDictionary()


def _check(instance: object, attribute: str) -> Callable[..., Any]:
    """Return a method of *instance*, or raise if a lease cannot be held across a call of it.

    Raises:
        AttributeError: There is no such attribute.
        TypeError: It is not a method that is awaited, iterated or entered.
    """
    method = getattr(instance, attribute)
    owner = type(instance)
    known = _suitable.get(owner)
    if known is None:
        known = _suitable[owner] = {}
    suitable = known.get(attribute)
    if suitable is None:
        suitable = _is_suitable(method)
        # What an instance carries itself may differ from the next one's.
        if attribute not in getattr(instance, "__dict__", {}):
            known[attribute] = suitable
    if not suitable:
        raise TypeError(
            f"{owner.__name__}.{attribute} is neither awaited, nor iterated, nor entered: "
            "use it under `async with lifecycle.lease(...)`"
        )
    found: Callable[..., Any] = method
    return found


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
