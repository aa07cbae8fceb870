"""Notice changes in directories through watchfiles, whose native part knows how each system tells of them."""

import asyncio
import threading
from collections.abc import Callable, Mapping
from typing import Any, Final

from oneiric.runtime._watch_settling import Sign

__all__ = ["RustNotifier"]

#: The native part sleeps that long between two looks at what the system told it; changes are grouped meanwhile.
_STEP_MS: Final = 10
_GROUP_MS: Final = 100
_DELETED: Final = 3


class RustNotifier:
    """Watches directories, not what lies below them, in a daemon thread.

    Args:
        notice: Called in the loop with a directory entry and what was noticed of it; with None where anything may
            have happened.

    Raises:
        ImportError: watchfiles is not installed.
    """

    name = "watchfiles"

    def __init__(self, notice: Callable[[str | None, Sign], None]) -> None:
        from watchfiles._rust_notify import RustNotify  # noqa: PLC0415 - only where it is used

        self._make: Callable[..., Any] = RustNotify
        self._notice = notice
        self._loop = asyncio.get_running_loop()
        self._directories: dict[str, tuple[int, int]] = {}
        self._stop: threading.Event | None = None

    def watch(self, directories: Mapping[str, tuple[int, int]]) -> bool:
        """Watch just these directories; return whether something in them may have been missed.

        The native part cannot change what it watches: it is made anew, and what the one before had noticed and not yet
        told goes with it.

        Raises:
            OSError: A directory cannot be watched.
        """
        if dict(directories) == self._directories:
            return False
        self.close()
        if directories:
            notifier = self._make(sorted(directories), False, False, 300, False, True)
            self._stop = threading.Event()
            threading.Thread(
                target=self._watch, args=(notifier, self._stop), name="oneiric.watchfiles", daemon=True
            ).start()
        self._directories = dict(directories)
        return True

    def close(self) -> None:
        """Let go of everything. Safe to call twice."""
        if self._stop is not None:
            self._stop.set()
            self._stop = None
        self._directories = {}

    def _watch(self, notifier: Any, stop: threading.Event) -> None:
        with notifier:
            while not stop.is_set():
                try:
                    changes = notifier.watch(_GROUP_MS, _STEP_MS, 0, stop)
                except Exception:  # noqa: BLE001 - the thread ends; the loop looks for itself, and watches anew
                    changes = {(_DELETED, "")}
                    stop.set()
                if isinstance(changes, str):  # it was stopped
                    return
                try:
                    self._loop.call_soon_threadsafe(self._seen, changes)
                except RuntimeError:  # the loop is closed
                    return

    def _seen(self, changes: set[tuple[int, str]]) -> None:
        for kind, path in changes:
            if not path or (kind == _DELETED and path in self._directories):
                # Whatever stands there next is not watched any more.
                self._directories.pop(path, None)
                if not path:
                    self._directories.clear()
                self._notice(None, "touched")
            else:
                self._notice(path, "touched")
