"""Observers: callables that are told what happened and can never disturb it."""

import sys
from collections.abc import Callable
from typing import Any

__all__ = ["Emitter", "Observer", "Observers"]

type Observer = Callable[[Any], object]


class Observers:
    """A list of observers; adding and removing publishes a new tuple, so that emitting needs no lock."""

    __slots__ = ("_observers",)

    def __init__(self) -> None:
        self._observers: tuple[Observer, ...] = ()

    def __bool__(self) -> bool:
        return bool(self._observers)

    def add(self, observer: Observer) -> Callable[[], None]:
        """Add an observer and return the call that removes it."""
        self._observers = (*self._observers, observer)

        def remove() -> None:
            self._observers = tuple(other for other in self._observers if other is not observer)

        return remove

    def emit(self, event: object) -> None:
        """Tell every observer; what one raises goes to the loop's exception handler, or to `sys.unraisablehook`."""
        for observer in self._observers:
            try:
                observer(event)
            except Exception as error:  # noqa: BLE001 - an observer must never undo what it is told of
                _report(observer, event, error)


class Emitter:
    """Tells the observers of a manager, and whoever else must know that something changed.

    True while somebody listens: what nobody hears need not be made.
    """

    __slots__ = ("_changed", "_observers")

    def __init__(self, observers: Observers, changed: Callable[[], None] | None) -> None:
        self._observers = observers
        self._changed = changed

    def __bool__(self) -> bool:
        return self._changed is not None or bool(self._observers)

    def __call__(self, event: object) -> None:
        if self._changed is not None:
            self._changed()
        self._observers.emit(event)


def _report(observer: Observer, event: object, error: Exception) -> None:
    # asyncio is only asked when somebody imported it: without it there is no loop.
    asyncio = sys.modules.get("asyncio")
    loop = asyncio._get_running_loop() if asyncio else None  # noqa: SLF001 - documented for framework authors
    name = type(event).__name__
    if loop is not None:
        loop.call_exception_handler({"message": f"observer {observer!r} failed on {name}", "exception": error})
    else:
        sys.excepthook(type(error), error, error.__traceback__)
