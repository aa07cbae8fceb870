"""What keeps its tables in a store of its own, and is opened, closed and found with it."""

from pathlib import Path

from oneiric.runtime._opened import Opened
from oneiric.runtime._store_memory import Store

__all__ = ["KeptInStore"]


class KeptInStore[Kept: Store = Store](Opened):
    """Keep tables in a store that nobody else opens or closes.

    Args:
        store: The store, in a file or in memory.
    """

    def __init__(self, store: Kept) -> None:
        self._store = store

    @property
    def path(self) -> Path | None:
        """The file; None where everything is in memory."""
        return self._store.path

    async def open(self) -> None:
        """Open the file, creating or migrating it as needed; nothing to do when it is open.

        Raises:
            StoreError: It cannot be opened.
        """
        await self._store.open()

    async def aclose(self) -> None:
        """Close the file; nothing to do when it is closed."""
        await self._store.aclose()
