"""What the runtime asks of those it works with, and does not import."""

from typing import Protocol

__all__ = ["ActivityState", "Part"]


class Part(Protocol):
    """Something that runs for as long as the application does.

    A part that can fail while it runs also has ``async def wait() -> None``: it returns or raises when the part
    has ended by itself, and the application stops then.
    """

    @property
    def name(self) -> str:
        """What status, logs and dependencies call it."""

    async def start(self) -> None:
        """Begin; when this returns, the part does its work."""

    async def stop(self) -> None:
        """End, and let go of everything; safe after a failed or cancelled `start`, and twice."""


class ActivityState(Protocol):
    """Whether a key takes new work."""

    @property
    def paused(self) -> bool:
        """It takes no new work."""

    @property
    def draining(self) -> bool:
        """It takes no new work and finishes what it has."""

    @property
    def note(self) -> str | None:
        """Why, in the words of who did it."""
