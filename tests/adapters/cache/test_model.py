"""The same calls give the same answers on every provider, and on a dictionary with a clock."""

import asyncio
import math
from collections import OrderedDict
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from oneiric.adapters.cache.memory import MemoryCacheAdapter, MemoryCacheSettings
from oneiric.adapters.cache.redis import RedisCacheAdapter, RedisCacheSettings
from oneiric.adapters.cache.sqlite import SQLiteCacheAdapter, SQLiteCacheSettings
from oneiric.core.errors import OneiricError, RejectedError

ROOM = 4

keys = st.sampled_from(["a", "b", "c", "é", "a*", "B"])
# Sums of these steps never meet these lifetimes, so a millisecond more or less decides nothing.
ttls = st.sampled_from([None, math.inf, 10.0, 1000.0])
steps = st.sampled_from([0.5, 7.25, 97.0])
scalars = st.none() | st.booleans() | st.integers(-5, 5) | st.floats(allow_nan=False, allow_infinity=False) | st.text()
values = st.binary() | st.recursive(
    scalars, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3), max_leaves=5
)
calls = st.one_of(
    st.tuples(st.just("get"), keys),
    st.tuples(st.just("set"), keys, values, ttls, st.booleans()),
    st.tuples(st.just("delete"), keys),
    st.tuples(st.just("exists"), keys),
    st.tuples(st.just("touch"), keys, ttls),
    st.tuples(st.just("ttl"), keys),
    st.tuples(st.just("increment"), keys, st.integers(-3, 3), ttls),
    st.tuples(st.just("get_many"), st.lists(keys)),
    st.tuples(st.just("set_many"), st.dictionaries(keys, values), ttls),
    st.tuples(st.just("delete_many"), st.lists(keys)),
    st.tuples(st.just("clear")),
    st.tuples(st.just("elapse"), steps),
)
sequences = st.lists(calls, max_size=40)


class Model:
    """A cache in its simplest form: the answers are obvious, the speed is not."""

    def __init__(self, room: float = math.inf) -> None:
        self.now, self.room = 0.0, room
        self.entries: OrderedDict[str, tuple[Any, float]] = OrderedDict()

    def live(self) -> OrderedDict[str, tuple[Any, float]]:
        for key in [key for key, (_, end) in self.entries.items() if end <= self.now]:
            del self.entries[key]
        return self.entries

    def put(self, key: str, value: Any, ttl: float | None) -> None:
        self.entries[key] = (value, self.now + (math.inf if ttl is None else ttl))
        self.entries.move_to_end(key)
        while len(self.live()) > self.room:
            self.entries.popitem(last=False)

    def use(self, key: str) -> Any:
        self.entries.move_to_end(key)
        return self.entries[key][0]

    def apply(self, call: tuple[Any, ...]) -> Any:
        name, *arguments = call
        self.live()
        return getattr(self, name)(*arguments)

    def get(self, key: str) -> Any:
        return self.use(key) if key in self.entries else "a default"

    def set(self, key: str, value: Any, ttl: float | None, only_if_absent: bool) -> bool:
        if only_if_absent and key in self.entries:
            return False
        self.put(key, value, ttl)
        return True

    def delete(self, key: str) -> bool:
        return self.entries.pop(key, None) is not None

    def exists(self, key: str) -> bool:
        return key in self.entries

    def touch(self, key: str, ttl: float | None) -> bool:
        if key not in self.entries:
            return False
        self.put(key, self.entries[key][0], ttl)
        return True

    def ttl(self, key: str) -> float | None:
        return self.entries[key][1] - self.now if key in self.entries else None

    def increment(self, key: str, delta: int, ttl: float | None) -> Any:
        if key not in self.entries:
            self.put(key, delta, ttl)
            return delta
        value, end = self.entries[key]
        if type(value) is not int:
            return RejectedError
        self.entries[key] = (value + delta, end)
        return self.use(key)

    def get_many(self, wanted: list[str]) -> dict[str, Any]:
        return {key: self.use(key) for key in dict.fromkeys(wanted) if key in self.entries}

    def set_many(self, items: dict[str, Any], ttl: float | None) -> None:
        for key, value in items.items():
            self.put(key, value, ttl)

    def delete_many(self, wanted: list[str]) -> int:
        return sum(self.delete(key) for key in dict.fromkeys(wanted))

    def clear(self) -> None:
        self.entries.clear()

    def elapse(self, seconds: float) -> None:
        self.now += seconds


async def ask(cache: Any, call: tuple[Any, ...]) -> Any:
    """Make *call*; an error is answered as its class."""
    name, *arguments = call
    try:
        match name:
            case "get":
                return await cache.get(*arguments, "a default")
            case "set":
                key, value, ttl, only_if_absent = arguments
                return await cache.set(key, value, ttl=ttl, only_if_absent=only_if_absent)
            case "touch" | "increment" | "set_many":
                *positional, ttl = arguments
                return await getattr(cache, name)(*positional, ttl=ttl)
            case _:
                return await getattr(cache, name)(*arguments)
    except OneiricError as error:
        return type(error)


def same(call: tuple[Any, ...], answer: Any, expected: Any) -> bool:
    if call[0] == "ttl" and isinstance(expected, float) and math.isfinite(expected):
        return isinstance(answer, float) and abs(answer - expected) < 5
    # repr tells 1 from 1.0 and from True, also deep inside.
    return repr(answer) == repr(expected)


async def compare(cache: Any, model: Model, sequence: list[tuple[Any, ...]], elapse: Any) -> None:
    await cache.init()
    try:
        for number, call in enumerate(sequence):
            expected = model.apply(call)
            if call[0] == "elapse":
                await asyncio.to_thread(elapse, call[1])
                continue
            answer = await ask(cache, call)
            assert same(call, answer, expected), f"call {number} {call}: {answer!r}, not {expected!r}"
        model.live()
        for key in list(model.entries):
            assert same(("get",), await cache.get(key), model.entries[key][0])
    finally:
        await cache.cleanup()


class Time:
    def __init__(self) -> None:
        self.now = 1_700_000_000.0

    def __call__(self) -> float:
        return self.now

    def elapse(self, seconds: float) -> None:
        self.now += seconds


@given(sequences)
def test_memory_answers_as_the_model(sequence: list[tuple[Any, ...]]) -> None:
    time = Time()
    cache = MemoryCacheAdapter(MemoryCacheSettings(max_entries=None), clock=time)
    asyncio.run(compare(cache, Model(), sequence, time.elapse))


@given(sequences)
def test_a_full_memory_drops_the_least_recently_used_and_the_expired_first(sequence: list[tuple[Any, ...]]) -> None:
    time = Time()
    cache = MemoryCacheAdapter(MemoryCacheSettings(max_entries=ROOM), clock=time)
    asyncio.run(compare(cache, Model(ROOM), sequence, time.elapse))


@settings(max_examples=30, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(sequences)
def test_sqlite_answers_as_the_model(tmp_path: Path, sequence: list[tuple[Any, ...]]) -> None:
    time, path = Time(), tmp_path / "cache.sqlite"
    path.unlink(missing_ok=True)
    cache = SQLiteCacheAdapter(SQLiteCacheSettings(path=path), clock=time)
    asyncio.run(compare(cache, Model(), sequence, time.elapse))


@pytest.mark.xdist_group("redis")
@settings(max_examples=30, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(sequences)
def test_redis_answers_as_the_model(place: Any, sequence: list[tuple[Any, ...]]) -> None:
    for name in place.raw.scan_iter(match=f"{place.prefix}*"):
        place.raw.unlink(name)
    cache = RedisCacheAdapter(RedisCacheSettings(**place.settings))
    asyncio.run(compare(cache, Model(), sequence, place.elapse))
