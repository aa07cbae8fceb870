"""What a cache is: the Protocol every provider satisfies, and the key under which one is found.

This module owns the methods' meaning. A caller that keeps to it can have its provider swapped while it runs;
that includes what comes back (`oneiric.adapters.cache._values`) and how long it lives, not only the names of
the methods.
"""

from collections.abc import Iterable, Mapping
from typing import Any, Final, Protocol, runtime_checkable

from oneiric.core import Key

__all__ = ["CACHE", "Cache", "Value"]

#: What a cache holds: JSON's values, and bytes at the top level. Lists and dictionaries hold the same, less
#: bytes.
type Value = bool | int | float | str | bytes | list[Any] | dict[str, Any] | None


@runtime_checkable
class Cache(Protocol):
    """Keep values under string keys, for a while.

    **Values.** What `get` returns equals what `set` took and is yours to change; whatever could not come back
    equal (a tuple, a set, an object, a dictionary with other keys than strings) is refused when it is stored.

    **Lifetimes** (``ttl``) are in seconds, fractions included, and last at least one millisecond. None means
    the provider's ``default_ttl``, and without one forever; ``math.inf`` means forever. Zero and less are
    refused.

    **A miss is not an error**: it gives the default, False, or no entry. An error is raised, always one of
    Oneiric's: `RejectedError` (the request is wrong), `UnavailableError`, `AdapterTimeoutError`,
    `AuthenticationError` (the server cannot serve it), `StoreError` (the file cannot), `InactiveError` (the
    instance is not initialised, or is closed).
    """

    async def get(self, key: str, default: Any = None) -> Any:
        """Return the value of *key*, or *default*; one of your own tells a miss from a stored None."""

    async def set(self, key: str, value: Value, *, ttl: float | None = None, only_if_absent: bool = False) -> bool:
        """Store *value*, replacing value and lifetime; say whether it was stored.

        With *only_if_absent* a key that is there keeps what it has and the answer is False: of many callers
        at once, in as many processes as share the cache, one is told True.
        """

    async def delete(self, key: str) -> bool:
        """Remove *key*; say whether it was there."""

    async def exists(self, key: str) -> bool:
        """Say whether *key* is there."""

    async def touch(self, key: str, *, ttl: float | None = None) -> bool:
        """Give *key* a new lifetime, counted from now; say whether it was there."""

    async def ttl(self, key: str) -> float | None:
        """Return the seconds *key* has left: ``math.inf`` for forever, None when it is not there."""

    async def increment(self, key: str, delta: int = 1, *, ttl: float | None = None) -> int:
        """Add *delta* to an integer in one atomic step and return the sum; a missing key counts from 0.

        *ttl* is given to a key that this call creates; one that is there keeps its lifetime (a fixed window).
        A value that is no integer, and a sum outside 64 bits, are refused.
        """

    async def get_many(self, keys: Iterable[str]) -> dict[str, Any]:
        """Return the keys that are there, with their values."""

    async def set_many(self, items: Mapping[str, Value], *, ttl: float | None = None) -> None:
        """Store all of *items*, or, when one is refused, none."""

    async def delete_many(self, keys: Iterable[str]) -> int:
        """Remove *keys*; return how many were there."""

    async def clear(self) -> None:
        """Remove what this cache holds, and nothing that others keep beside it."""


CACHE: Final[Key[Cache]] = Key("adapter", "cache")
