"""Generation: one activated instance and the calls that hold it."""

import asyncio
from collections.abc import Callable
from typing import Any, Protocol, runtime_checkable

from oneiric.core._candidate import Candidate

__all__ = ["Generation", "HasCleanup", "HasHealth", "HasInit", "method_of"]


@runtime_checkable
class HasInit(Protocol):
    """An instance that prepares itself before it serves, synchronously or not."""

    def init(self) -> Any:
        """Get ready; raising refuses the activation."""
        ...


@runtime_checkable
class HasHealth(Protocol):
    """An instance that knows whether it can serve, synchronously or not."""

    def health(self) -> Any:
        """Return False, or raise, when it cannot serve; None counts as healthy."""
        ...


@runtime_checkable
class HasCleanup(Protocol):
    """An instance that gives back what it holds; ``aclose`` or ``close`` do as well."""

    def cleanup(self) -> Any:
        """Give everything back; called once, when no call is in flight any more."""
        ...


def method_of(instance: object, *names: str) -> Callable[[], Any] | None:
    """Return the first of the methods that an instance has, or None."""
    for name in names:
        method = getattr(instance, name, None)
        if callable(method):
            found: Callable[[], Any] = method
            return found
    return None


class Generation:
    """One activated instance of a slot. Borrow it through a lease, a live proxy or a handle.

    Attributes:
        instance: What serves.
        candidate: What it was made from.
        settings: What its factory was given, or None.
        number: Counts the generations of its slot from 1.
        in_flight: Leases held now.
    """

    __slots__ = ("_idle", "candidate", "in_flight", "instance", "number", "order", "retiring", "settings")

    def __init__(self, instance: Any, candidate: Candidate, settings: Any, number: int) -> None:
        self.instance = instance
        self.candidate = candidate
        self.settings = settings
        self.number = number
        self.in_flight = 0
        #: Place in the manager's order of activation; retirement goes backwards.
        self.order = 0
        #: True from the moment another generation is bound in its place.
        self.retiring = False
        self._idle: asyncio.Future[None] | None = None

    @property
    def provider(self) -> str:
        """The provider that serves."""
        return self.candidate.provider

    def release(self) -> None:
        """Give back one lease."""
        self.in_flight -= 1
        if self.retiring and not self.in_flight:
            self.became_idle()

    def became_idle(self) -> None:
        """Tell whoever drains this generation that its last lease was given back."""
        if self._idle is not None and not self._idle.done():
            self._idle.set_result(None)

    def idle(self) -> "asyncio.Future[None]":
        """Return the future that is done once no lease is held; one drainer at a time."""
        self._idle = asyncio.get_running_loop().create_future()
        if not self.in_flight:
            self._idle.set_result(None)
        return self._idle

    def __repr__(self) -> str:
        return f"<Generation {self.number} of {self.candidate}, {self.in_flight} in flight>"
