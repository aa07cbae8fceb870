"""Admission: whether a key takes new work at this moment."""

from oneiric.core.errors import PausedError
from oneiric.runtime._ports import ActivitySource

__all__ = ["admit"]


def admit(activity: ActivitySource, domain: str, key: str) -> None:
    """Let new work through, or refuse it.

    Raises:
        PausedError: The key is paused or draining.
    """
    state = activity.get(domain, key)
    if state.paused or state.draining:
        command = "drain" if state.draining and not state.paused else "pause"
        raise PausedError(
            domain,
            key,
            "paused" if state.paused else "draining",
            state.note,
            f"oneiric {command} {domain}:{key} {'--clear' if command == 'drain' else '--resume'}",
        )
