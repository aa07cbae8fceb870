"""What is opened and closed, and may be used in an ``async with`` block. Knows nothing of what that means."""

import abc
from types import TracebackType
from typing import Self

__all__ = ["Opened"]


class Opened(abc.ABC):
    """Open at the beginning of an ``async with`` block, close at its end."""

    @abc.abstractmethod
    async def open(self) -> None:
        """Make it usable; nothing to do when it is."""

    @abc.abstractmethod
    async def aclose(self) -> None:
        """Let go of what it holds; nothing to do when that was done."""

    async def __aenter__(self) -> Self:
        await self.open()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        await self.aclose()
