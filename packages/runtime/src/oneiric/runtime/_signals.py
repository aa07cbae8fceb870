"""Signals of a running orchestrator: the first asks it to stop, the second forces it, SIGHUP reloads."""

import asyncio
import os
import signal
import threading
from collections.abc import Callable
from types import TracebackType
from typing import Any, Final, Self

__all__ = ["ProcessSignals"]

_STOPPING: Final = (signal.SIGTERM, signal.SIGINT)
#: How long a forced stop may still take before the process ends whatever it does.
_LAST_SECONDS: Final = 2.0


class ProcessSignals:
    """Turn signals into calls while the block runs; what was set before is put back.

    Args:
        stop: Called with the first SIGTERM or SIGINT.
        force: Called with the second. If the process is still there two seconds later, or with a third, it exits
            at once with 128 plus the signal's number.
        reload: Called with each SIGHUP; by default SIGHUP is left alone.

    Attributes:
        received: The signal that asked to stop, or None.
        forced: The signal that forced it, or None.
    """

    def __init__(
        self, *, stop: Callable[[], object], force: Callable[[], object], reload: Callable[[], object] | None = None
    ) -> None:
        self._stop = stop
        self._force = force
        self._reload = reload
        self._before: dict[signal.Signals, Any] = {}
        self._last: threading.Timer | None = None
        self.received: signal.Signals | None = None
        self.forced: signal.Signals | None = None

    def __enter__(self) -> Self:
        # Only the main thread is told of signals; a host that runs us elsewhere keeps its own.
        if threading.current_thread() is threading.main_thread():
            loop = asyncio.get_running_loop()
            for number in _STOPPING:
                self._before[number] = signal.getsignal(number)
                loop.add_signal_handler(number, self._stopping, number)
            if self._reload is not None:
                self._before[signal.SIGHUP] = signal.getsignal(signal.SIGHUP)
                loop.add_signal_handler(signal.SIGHUP, self._reload)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        if self._last is not None:
            self._last.cancel()
        loop = asyncio.get_running_loop()
        for number, before in self._before.items():
            loop.remove_signal_handler(number)
            signal.signal(number, before)
        self._before.clear()

    def _stopping(self, number: signal.Signals) -> None:
        if self.received is None:
            self.received = number
            self._stop()
        elif self.forced is None:
            self.forced = number
            # A thread of its own: the loop may be what hangs.
            self._last = threading.Timer(_LAST_SECONDS, os._exit, (128 + number,))
            self._last.daemon = True
            self._last.start()
            self._force()
        else:
            os._exit(128 + number)
