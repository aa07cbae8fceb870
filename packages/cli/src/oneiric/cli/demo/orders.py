"""The order service: TCP on loopback, one JSON line each way, a cache that may be swapped at any moment."""

import asyncio
import json
import random
from collections.abc import Callable
from typing import Any, Final, Self

from oneiric.adapters.cache import CACHE, Cache
from oneiric.core.events import Bound, CleanedUp, Event
from oneiric.core.lifecycle import LifecycleManager

__all__ = ["CACHE", "CACHE_SLOT", "OrderService"]

#: What events call the cache.
CACHE_SLOT: Final = (CACHE.domain, CACHE.name)

#: How long a payment takes. While it does, the order holds its lease, and the cache may be swapped.
_PAYMENT_SECONDS: Final = (0.002, 0.008)
#: Orders are forgotten after this time, also where the cache outlives the demo.
_REMEMBERED_SECONDS: Final = 60.0


class OrderService:
    """Take orders; an async context manager that serves while it is entered.

    An order looks up how many its customer has made, waits for the payment, and notes one more: two calls of one
    cache, held by one lease across the await between them.

    Args:
        lifecycle: Holds the cache; it must be active.

    Attributes:
        port: Where it listens, on 127.0.0.1.
    """

    def __init__(self, lifecycle: LifecycleManager) -> None:
        self._lifecycle = lifecycle
        self._graveyard = _Graveyard(lifecycle)
        self._server: asyncio.Server | None = None
        self._connections: set[asyncio.Task[None]] = set()
        self._next_lease: asyncio.Future[None] | None = None
        self._payments = _Payments()
        self.port = 0

    async def __aenter__(self) -> Self:
        self._graveyard.open()
        self._server = await asyncio.start_server(self._connected, "127.0.0.1", 0)
        self.port = self._server.sockets[0].getsockname()[1]
        return self

    async def __aexit__(self, *_: object) -> None:
        self._graveyard.close()
        if self._server is not None:
            self._server.close()
        for connection in self._connections:
            connection.cancel()
        if self._connections:
            await asyncio.wait(self._connections)

    async def hold_payments(self, orders: int) -> None:
        """Let no payment end before `release_payments`, and wait until as many orders wait for theirs.

        Each of them holds a lease on the cache that serves now: however long the machine pauses, it is in flight.
        """
        await self._payments.hold(orders)

    def release_payments(self) -> None:
        """Let payments end again. Does nothing when none are held."""
        self._payments.release()

    async def until_next_lease(self) -> None:
        """Wait until another order holds a lease."""
        if self._next_lease is None:
            self._next_lease = asyncio.get_running_loop().create_future()
        await asyncio.shield(self._next_lease)  # others wait for it, too

    async def _connected(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        if task is not None:
            self._connections.add(task)
            task.add_done_callback(self._connections.discard)
        try:
            while line := await reader.readline():
                answer = await self._answer(json.loads(line))
                writer.write(json.dumps(answer).encode() + b"\n")
                await writer.drain()
        except ConnectionError:
            pass  # the customer left
        except asyncio.CancelledError:
            pass  # the service closes, and nothing waits for this connection but it
        finally:
            writer.close()

    async def _answer(self, order: dict[str, Any]) -> dict[str, Any]:
        used_after_cleanup = False
        try:
            async with self._lifecycle.lease(CACHE) as cache:
                self._announce_lease()
                customer = f"customer:{order['customer']}"
                used_after_cleanup = self._graveyard.holds(cache)
                made = await cache.get(customer, 0)
                await self._payments.pay()
                used_after_cleanup = used_after_cleanup or self._graveyard.holds(cache)
                await cache.set(customer, made + 1, ttl=_REMEMBERED_SECONDS)
        except Exception as error:  # noqa: BLE001 - whatever it is, the customer is told, and counts the call as lost
            answer = {"error": f"{type(error).__name__}: {error}"}
        else:
            answer = {"made": made + 1}
        return answer | {"order": order["order"], "used_after_cleanup": used_after_cleanup}

    def _announce_lease(self) -> None:
        if self._next_lease is not None:
            self._next_lease.set_result(None)
            self._next_lease = None


class _Payments:
    """The payments under way: each takes its time, and none ends while they are held."""

    def __init__(self) -> None:
        self._under_way = 0
        self._begun = asyncio.Condition()
        self._may_end = asyncio.Event()
        self._may_end.set()

    async def pay(self) -> None:
        async with self._begun:
            self._under_way += 1
            self._begun.notify_all()
        try:
            await self._take_time()
            while not self._may_end.is_set():
                await self._may_end.wait()
                # What was held lasts beyond the swap as any other would: the old cache has something to drain.
                await self._take_time()
        finally:
            self._under_way -= 1

    @staticmethod
    async def _take_time() -> None:
        await asyncio.sleep(random.uniform(*_PAYMENT_SECONDS))  # noqa: S311 - not a secret

    async def hold(self, orders: int) -> None:
        self._may_end.clear()
        async with self._begun:
            await self._begun.wait_for(lambda: self._under_way >= orders)

    def release(self) -> None:
        self._may_end.set()


class _Graveyard:
    """The instances that were cleaned up: a call made on one of them is a lost call, whatever it answers."""

    def __init__(self, lifecycle: LifecycleManager) -> None:
        self._lifecycle = lifecycle
        # By provider, too: an attempt that never served is cleaned up under the number of what serves.
        self._bound: dict[tuple[str | None, int], Cache] = {}
        self._dead: dict[int, Cache] = {}  # by id; holding them keeps an id from being used again
        self._close: Callable[[], None] = lambda: None

    def open(self) -> None:
        status = self._lifecycle.get_status(CACHE)
        self._note(status.current_provider, status.generation)
        self._close = self._lifecycle.observe(self._observe)

    def close(self) -> None:
        self._close()

    def holds(self, cache: Cache) -> bool:
        return id(cache) in self._dead

    def _observe(self, event: Event) -> None:
        if isinstance(event, Bound | CleanedUp) and (event.domain, event.key) == CACHE_SLOT:
            if isinstance(event, Bound):
                self._note(event.provider, event.generation)
            elif (dead := self._bound.pop((event.provider, event.generation), None)) is not None:
                self._dead[id(dead)] = dead

    def _note(self, provider: str | None, generation: int) -> None:
        serving = self._lifecycle.get_instance(CACHE)
        if serving is not None:
            self._bound[provider, generation] = serving
