"""Which run of the machine this is: readings of the monotonic clock mean something only within one."""

import time
from functools import cache
from pathlib import Path
from typing import Final

__all__ = ["boot_id"]

_LINUX: Final = Path("/proc/sys/kernel/random/boot_id")


@cache
def boot_id() -> str:
    """Return a text that all processes of one boot share; where the system gives none, when it began, to the minute."""
    try:
        return _LINUX.read_text(encoding="ascii").strip()
    except OSError:
        return f"since-{round((time.time() - time.monotonic()) / 60)}"
