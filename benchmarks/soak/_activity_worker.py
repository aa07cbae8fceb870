"""A worker of the soak ``activity``: pauses keys of one store, and says when each is done (PATH NAME FIRST LAST).

Every transition writes another note, so that each of them changes a row: the store counts those by itself. A line is
printed after each answer: what was printed must survive whatever happens to this process.
"""

import asyncio
import sys

from oneiric.core.errors import StoreError
from oneiric.runtime.activity import DomainActivity, DomainActivityStore

__all__ = ["DOMAIN", "SHARED"]

DOMAIN = "service"
#: A key that every worker writes, every so many transitions.
SHARED = "shared"
_SHARED_EVERY = 4


async def work(path: str, name: str, first: int, last: int) -> None:
    """Make the transitions of one worker."""
    async with DomainActivityStore(path) as store:
        for number in range(first, last):
            key = SHARED if number % _SHARED_EVERY == 0 else name
            while True:
                try:
                    await store.set(DOMAIN, key, DomainActivity(paused=True, note=f"{name}:{number}"))
                    break
                except StoreError as error:
                    if error.kind != "locked":  # that one is for whoever is in a hurry
                        raise
            if key == name and store.get(DOMAIN, key).note != f"{name}:{number}":
                raise AssertionError(f"{name} set {number} and reads {store.get(DOMAIN, key)}")
            print(number, key, flush=True)


if __name__ == "__main__":
    asyncio.run(work(sys.argv[1], sys.argv[2], int(sys.argv[3]), int(sys.argv[4])))
