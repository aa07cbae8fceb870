"""Hooks and deadlines of the lifecycle."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from oneiric.core.errors import ConfigurationError

__all__ = ["LifecycleHooks", "LifecycleTimeouts"]

type SwapHook = Callable[[Any, Any, Any], Any]
type CleanupHook = Callable[[Any], Any]


class LifecycleHooks:
    """Calls made around a swap, in the order they were added; each may be synchronous or not.

    ``pre_swap(candidate, new, old)`` runs before the binding and may veto it: by raising, or by returning False.
    ``post_swap(candidate, new, old)`` runs after it; what it raises is reported and changes nothing.
    ``on_cleanup(instance)`` runs after an instance was cleaned up.
    """

    __slots__ = ("on_cleanup", "post_swap", "pre_swap")

    def __init__(self) -> None:
        self.pre_swap: list[SwapHook] = []
        self.post_swap: list[SwapHook] = []
        self.on_cleanup: list[CleanupHook] = []

    def add_pre_swap(self, hook: SwapHook) -> SwapHook:
        """Add a hook that may veto a swap; usable as a decorator."""
        self.pre_swap.append(hook)
        return hook

    def add_post_swap(self, hook: SwapHook) -> SwapHook:
        """Add a hook that is told of a swap; usable as a decorator."""
        self.post_swap.append(hook)
        return hook

    def add_cleanup(self, hook: CleanupHook) -> CleanupHook:
        """Add a hook that is told of a cleanup; usable as a decorator."""
        self.on_cleanup.append(hook)
        return hook


@dataclass(frozen=True, slots=True, kw_only=True)
class LifecycleTimeouts:
    """Deadlines in seconds; None is no deadline.

    Attributes:
        activation_seconds: From load to init, one budget.
        health_seconds: One health check.
        hook_seconds: Each hook.
        drain_seconds: How long a swap waits for the leases on the old generation; 0 does not wait.
        cleanup_seconds: One cleanup.

    Raises:
        ConfigurationError: A deadline is negative.
    """

    activation_seconds: float | None = 30.0
    health_seconds: float | None = 5.0
    hook_seconds: float | None = 5.0
    drain_seconds: float | None = 30.0
    cleanup_seconds: float | None = 10.0

    def __post_init__(self) -> None:
        for name in ("activation", "health", "hook", "drain", "cleanup"):
            seconds = getattr(self, f"{name}_seconds")
            if seconds is not None and seconds < 0:
                raise ConfigurationError(f"must not be negative, not {seconds!r}", key=f"lifecycle.{name}_seconds")
