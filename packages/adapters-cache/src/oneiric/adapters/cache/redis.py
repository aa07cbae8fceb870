"""The cache on a Redis server (or one that speaks its protocol): shared between machines.

Built on redis-py's asyncio client. Nothing is sent twice: a failed call raises, because a repeated
`increment` would count twice; retrying is for the layer that knows whether it may. Clusters are not
supported.
"""

import asyncio
from collections.abc import Awaitable, Callable, Iterable, Mapping
from functools import partial
from math import inf
from typing import Any, Final

from oneiric.adapters.cache._protocol import Value
from oneiric.adapters.cache._redis_errors import FAILURES, adapter_error, is_dropped
from oneiric.adapters.cache._redis_settings import RedisCacheSettings, connect
from oneiric.adapters.cache._turns import Turns
from oneiric.adapters.cache._values import (
    check_delta,
    check_items,
    check_key,
    check_keys,
    closed,
    decode,
    encode,
    lifetime_ms,
)
from oneiric.core.errors import RejectedError

__all__ = ["RedisCacheAdapter", "RedisCacheSettings"]

#: A `redis.asyncio.Redis`: its commands are typed as answering either now or later, which fits no caller.
type _Client = Any
type _Send = Callable[[], Awaitable[Any]]

#: Keys a SCAN looks at, and an UNLINK takes, in one step: short enough for the server's other clients.
_STEP: Final = 1000


class RedisCacheAdapter:
    """Keep values on a server.

    Args:
        settings: By default, the default settings.
    """

    def __init__(self, settings: RedisCacheSettings | None = None) -> None:
        self._settings = settings or RedisCacheSettings()
        self._prefix = self._settings.key_prefix
        self._default_ttl = self._settings.default_ttl
        # redis-py raises when its pool is exhausted; here callers wait.
        self._turns = Turns(self._settings.max_connections)
        self._client: _Client | None = None
        self._was_open = False
        self._place = ""

    async def init(self) -> None:
        """Connect; a closed cache stays closed.

        Raises:
            AuthenticationError: The server did not accept the credentials.
            AdapterTimeoutError: It did not answer within ``healthcheck_timeout``.
            UnavailableError: It cannot be reached.
        """
        if self._was_open:
            self._serving()
            return
        client: _Client
        client, self._place = connect(self._settings)
        try:
            await self._ping(client)
        except BaseException:
            await client.aclose()
            raise
        self._client, self._was_open = client, True

    async def health(self) -> bool:
        """Say that the server answers a PING in time.

        Raises:
            AuthenticationError, AdapterTimeoutError, UnavailableError: As of ``init()``.
            InactiveError: The cache is not open.
        """
        await self._ping(self._serving())
        return True

    async def cleanup(self) -> None:
        """Close the connections; every later call raises `InactiveError`."""
        self._was_open = True
        client, self._client = self._client, None
        if client is not None:
            await client.aclose()

    async def get(self, key: str, default: Any = None) -> Any:
        """Return the value of *key*, or *default*."""
        client = self._client
        if client is None:
            raise self._closed()
        name = self._prefix + check_key(key)
        # Written out rather than passed through `_run`: this is the call that is made most.
        turns = self._turns
        if turns.free:
            turns.free -= 1
        else:
            await turns.wait()
        try:
            data = await client.execute_command("GET", name)
        except FAILURES as error:
            data = await self._once_more(error, partial(client.get, name))
        finally:
            turns.give()
        return default if data is None else decode(data)

    async def set(self, key: str, value: Value, *, ttl: float | None = None, only_if_absent: bool = False) -> bool:
        """Store *value*; say whether it was stored."""
        client, name, data = self._serving(), self._name(key), encode(value)
        lifetime = lifetime_ms(ttl, self._default_ttl)
        # Sent again, only_if_absent would find what its first sending stored, and say False.
        stored = await self._run(
            lambda: client.set(name, data, px=lifetime, nx=only_if_absent), is_repeatable=not only_if_absent
        )
        return bool(stored)

    async def delete(self, key: str) -> bool:
        """Remove *key*; say whether it was there."""
        return await self.delete_many([key]) == 1

    async def exists(self, key: str) -> bool:
        """Say whether *key* is there."""
        client, name = self._serving(), self._name(key)
        return bool(await self._run(lambda: client.exists(name), is_repeatable=True))

    async def touch(self, key: str, *, ttl: float | None = None) -> bool:
        """Give *key* a new lifetime; say whether it was there."""
        client, name = self._serving(), self._name(key)
        lifetime = lifetime_ms(ttl, self._default_ttl)
        if lifetime is not None:
            return bool(await self._run(lambda: client.pexpire(name, lifetime), is_repeatable=True))
        # PERSIST alone answers 0 also for a key that is there and stays forever already.
        both = await self._run(
            lambda: client.pipeline(transaction=True).exists(name).persist(name).execute(), is_repeatable=True
        )
        return bool(both[0])

    async def ttl(self, key: str) -> float | None:
        """Return the seconds *key* has left, ``math.inf`` for forever, None when it is not there."""
        client, name = self._serving(), self._name(key)
        left = int(await self._run(lambda: client.pttl(name), is_repeatable=True))
        if left == -2:
            return None
        return inf if left == -1 else left / 1000

    async def increment(self, key: str, delta: int = 1, *, ttl: float | None = None) -> int:
        """Add *delta* to an integer; return the sum."""
        client, name = self._serving(), self._name(key)
        check_delta(delta)
        lifetime = lifetime_ms(ttl, self._default_ttl)
        if lifetime is None:
            return int(await self._run(lambda: client.incrby(name, delta), is_repeatable=False))
        # Both in one transaction: no other client can see the counter without its lifetime.
        steps = client.pipeline(transaction=True).set(name, 0, px=lifetime, nx=True).incrby(name, delta)
        return int((await self._run(steps.execute, is_repeatable=False))[1])

    async def get_many(self, keys: Iterable[str]) -> dict[str, Any]:
        """Return the keys that are there, with their values."""
        client, names = self._serving(), check_keys(keys)
        if not names:
            return {}
        full = [self._prefix + name for name in names]
        found = await self._run(lambda: client.mget(full), is_repeatable=True)
        return {name: decode(data) for name, data in zip(names, found, strict=True) if data is not None}

    async def set_many(self, items: Mapping[str, Value], *, ttl: float | None = None) -> None:
        """Store all of *items*, or none."""
        client = self._serving()
        written = {self._prefix + key: data for key, data in check_items(items).items()}
        lifetime = lifetime_ms(ttl, self._default_ttl)

        def send() -> Any:
            steps = client.pipeline(transaction=True)
            for name, data in written.items():
                steps.set(name, data, px=lifetime)
            return steps.execute()

        if written:
            await self._run(send, is_repeatable=True)

    async def delete_many(self, keys: Iterable[str]) -> int:
        """Remove *keys*; return how many were there."""
        client, names = self._serving(), [self._prefix + key for key in check_keys(keys)]
        if not names:
            return 0
        return int(await self._run(lambda: client.unlink(*names), is_repeatable=False))

    async def clear(self) -> None:
        """Remove every key under ``key_prefix``; one that is set meanwhile may stay.

        Raises:
            RejectedError: There is no prefix, and so no telling whose keys they are.
        """
        client = self._serving()
        if not self._prefix:
            raise RejectedError("redis cache has no key_prefix to tell its keys from others'", "set key_prefix")
        scan = partial(client.scan, match=_literally(self._prefix) + "*", count=_STEP)
        cursor = 0
        while True:
            cursor, names = await self._run(partial(scan, cursor), is_repeatable=True)
            if names:
                await self._run(partial(client.unlink, *names), is_repeatable=True)
            if int(cursor) == 0:
                return

    def _serving(self) -> _Client:
        if self._client is None:
            raise self._closed()
        return self._client

    def _closed(self) -> Exception:
        return closed("redis", was_open=self._was_open)

    def _name(self, key: str) -> str:
        return self._prefix + check_key(key)

    async def _run(self, send: _Send, *, is_repeatable: bool) -> Any:
        """Send a command in turn; raise what Oneiric calls its failure."""
        if self._turns.free:
            self._turns.free -= 1
        else:
            await self._turns.wait()
        try:
            return await send()
        except FAILURES as error:
            if not is_repeatable:
                raise self._failed(error) from error
            return await self._once_more(error, send)
        finally:
            self._turns.give()

    async def _once_more(self, error: Exception, send: _Send) -> Any:
        """Send a harmless command again if *error* is a dropped connection; else raise.

        A server that restarted has dropped the idle connections too: the first call on each finds out.
        """
        if not is_dropped(error):
            raise self._failed(error) from error
        try:
            return await send()
        except FAILURES as second:
            raise self._failed(second) from second

    def _failed(self, error: Exception) -> Exception:
        return adapter_error(error, self._place, self._settings.socket_timeout)

    async def _ping(self, client: _Client) -> None:
        deadline = self._settings.healthcheck_timeout
        try:
            async with asyncio.timeout(deadline):
                await client.ping()
        except FAILURES as error:
            raise adapter_error(error, self._place, deadline) from error


def _literally(prefix: str) -> str:
    """Escape what means something in a pattern of Redis."""
    return "".join(f"\\{character}" if character in r"\*?[]^-" else character for character in prefix)
