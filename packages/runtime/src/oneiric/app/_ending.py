"""Ending a process in bounded time, whatever threads and tasks of its components still do."""

import os
import sys
import threading
import time
from typing import Final, Never

__all__ = ["LEAST_SECONDS", "leave"]

#: What is left running gets at least so long to end by itself.
LEAST_SECONDS: Final = 2.0


def leave(code: int) -> Never:
    """End this process: as ``sys.exit``, but threads that do not end hold it up for two seconds and not for ever.

    Args:
        code: What it exits with; 1 in place of 0 when threads had to be left behind.
    """
    deadline = time.monotonic() + LEAST_SECONDS
    left = _threads()
    for thread in left:
        thread.join(max(0.0, deadline - time.monotonic()))
    left = [thread for thread in left if thread.is_alive()]
    if left:
        names = ", ".join(sorted(thread.name for thread in left))
        sys.stdout.flush()
        sys.stderr.write(f"error: threads of components did not end: {names}\n")
        sys.stderr.flush()
        os._exit(code or 1)
    sys.exit(code)


def _threads() -> list[threading.Thread]:
    current = threading.current_thread()
    return [thread for thread in threading.enumerate() if thread is not current and not thread.daemon]
