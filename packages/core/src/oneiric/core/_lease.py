"""Leases and handles: hold an instance so that it is not cleaned up under a call."""

from collections.abc import Callable
from types import TracebackType
from typing import TYPE_CHECKING, Any

from oneiric.core._generation import Generation
from oneiric.core._slot import Slot
from oneiric.core.errors import InactiveError

if TYPE_CHECKING:
    from oneiric.core._activator import Activator
    from oneiric.core._registry import Slot as SlotName

__all__ = ["Handle", "Lease", "LeaseMany"]


class Lease:
    """``async with`` gives the instance that serves, and keeps it from being cleaned up until the block ends.

    Activates on first use, but not after `retire`.
    """

    __slots__ = ("_activator", "_beside", "_gate", "_generation", "_name")

    def __init__(
        self, activator: "Activator", name: "SlotName", beside: str | None, gate: Callable[[], object] | None = None
    ) -> None:
        self._activator = activator
        self._name = name
        self._beside = beside
        self._gate = gate
        self._generation: Generation | None = None

    async def __aenter__(self) -> Any:
        if self._gate is not None:
            self._gate()
        slot = self._activator.slot(self._name, self._beside)
        while (generation := slot.current) is None:
            await self._activator.first_use(slot)
            # Another provider may serve there by now than the one that is named.
            slot = self._activator.slot(self._name, self._beside)
        generation.in_flight += 1
        self._generation = generation
        return generation.instance

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        generation, self._generation = self._generation, None
        if generation is not None:
            generation.release()


class LeaseMany:
    """``async with`` gives the instances of several keys as one consistent set, and holds them all."""

    __slots__ = ("_activator", "_generations", "_names")

    def __init__(self, activator: "Activator", names: "tuple[SlotName, ...]") -> None:
        self._activator = activator
        self._names = names
        self._generations: list[Generation] = []

    async def __aenter__(self) -> tuple[Any, ...]:
        activator = self._activator
        while True:
            slots = [activator.slot(name) for name in self._names]
            missing = next((slot for slot in slots if slot.current is None), None)
            if missing is None:
                break
            await activator.first_use(missing)
        # Nothing is awaited from the last look to the last count: no group swap comes in between.
        self._generations = [slot.current for slot in slots if slot.current is not None]
        for generation in self._generations:
            generation.in_flight += 1
        return tuple(generation.instance for generation in self._generations)

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        generations, self._generations = self._generations, []
        for generation in generations:
            generation.release()


class Handle:
    """The cheap way to use a slot again and again: ``acquire`` and ``release`` are synchronous and count only.

    ``generation = handle.acquire()``, use ``generation.instance``, then ``handle.release(generation)`` in a
    ``finally``. What ``instance``, ``candidate``, ``settings`` and ``provider`` give is borrowed: it is valid until
    the slot's next swap.
    """

    __slots__ = ("_slot",)

    def __init__(self, slot: Slot) -> None:
        self._slot = slot

    def acquire(self) -> Generation:
        """Take a lease on what serves now.

        Raises:
            InactiveError: Nothing serves.
        """
        generation = self._slot.current
        try:
            generation.in_flight += 1  # type: ignore[union-attr]  # None is the rare case, and it has no counter
        except AttributeError:
            raise self._inactive() from None
        return generation  # type: ignore[return-value]  # as above

    def release(self, generation: Generation) -> None:
        """Give a lease back."""
        generation.in_flight -= 1
        if generation.retiring and not generation.in_flight:
            generation.became_idle()

    @property
    def current(self) -> Generation:
        """What serves now, without a lease.

        Raises:
            InactiveError: Nothing serves.
        """
        generation = self._slot.current
        if generation is None:
            raise self._inactive()
        return generation

    @property
    def instance(self) -> Any:
        """The instance that serves now, borrowed."""
        return self.current.instance

    @property
    def candidate(self) -> Any:
        """What the instance was made from."""
        return self.current.candidate

    @property
    def settings(self) -> Any:
        """What its factory was given, or None."""
        return self.current.settings

    @property
    def provider(self) -> str:
        """The provider that serves now."""
        return self.current.provider

    def _inactive(self) -> InactiveError:
        return InactiveError(f"nothing serves for {self._slot} ({self._slot.state})", "activate it")

    def __repr__(self) -> str:
        return f"<Handle {self._slot} {self._slot.state}>"


class PinnedHandle(Handle):
    """A handle on one named provider: it never hands out another's instance, also after a swap."""

    __slots__ = ("_provider",)

    def __init__(self, slot: Slot, provider: str) -> None:
        super().__init__(slot)
        self._provider = provider

    def acquire(self) -> Generation:
        """Take a lease on the provider's instance.

        Raises:
            InactiveError: It no longer serves here; ask for a new handle.
        """
        generation = self.current
        generation.in_flight += 1
        return generation

    @property
    def current(self) -> Generation:
        """What serves now, without a lease.

        Raises:
            InactiveError: The provider no longer serves here; ask for a new handle.
        """
        generation = self._slot.current
        if generation is None or generation.candidate.provider != self._provider:
            serves = "nothing" if generation is None else repr(generation.candidate.provider)
            raise InactiveError(
                f"provider {self._provider!r} no longer serves for {self._slot}: {serves} does",
                "ask for a new handle of that provider",
            )
        return generation
