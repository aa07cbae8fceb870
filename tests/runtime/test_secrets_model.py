"""Whatever is asked of the hook in whatever order: nobody gets a value that was replaced longer ago than its time."""

import asyncio
from collections.abc import AsyncIterator, Collection, Iterable
from contextlib import asynccontextmanager

from hypothesis import example, given
from hypothesis import strategies as st

from oneiric.core import Secret
from oneiric.core.errors import OneiricError, RejectedError, UnavailableError
from oneiric.core.testing import DrivenClock
from oneiric.runtime.secrets import Redactor, SecretsHook, Slot
from oneiric.runtime.settings import SecretsSettings

TTL = 10.0
STEPS = st.one_of(
    st.tuples(st.just("put"), st.sampled_from("ab")),
    st.tuples(st.just("get"), st.sampled_from("ab")),
    st.tuples(st.just("advance"), st.sampled_from([1.0, 4.0, 9.0, 11.0])),
    st.tuples(st.just("invalidate"), st.sampled_from(["a", "b", ""])),
    st.tuples(st.just("start"), st.sampled_from("ab")),
    st.tuples(st.just("rotate"), st.sampled_from(["good", "sick", "down"])),
)


class World:
    """A provider, a clock, and users that hold the value they were built with."""

    def __init__(self) -> None:
        self.clock = DrivenClock(1000.0)
        self.number = 0
        self.values = {"a": "a0", "b": "b0"}
        self.replaced_at: dict[str, float] = {}
        self.is_down = self.is_sick = False
        #: Users by id → the value each serves with.
        self.serving: dict[str, str] = {}
        self.hook = SecretsHook(
            SecretsSettings(cache_ttl_seconds=TTL), source=self.lease, users=self, clock=self.clock, redactor=Redactor()
        )

    @asynccontextmanager
    async def lease(self) -> AsyncIterator["World"]:
        yield self

    async def get_secret(self, secret_id: str) -> Secret | None:
        if self.is_down:
            raise UnavailableError("down")
        return Secret(self.values[secret_id])

    async def invalidate_cache(self, ids: Iterable[str] | None = None) -> None:
        pass

    def users_of(self, ids: Collection[str]) -> tuple[Slot, ...]:
        return tuple(("service", one, None) for one in sorted(self.serving) if one in ids)

    def beside(self, ids: Collection[str]) -> tuple[str, ...]:
        return ()

    async def check(self, slots: Collection[Slot]) -> None:
        pass

    async def renew(self, slots: Collection[Slot]) -> tuple[Slot, ...]:
        made = {key: (await self.hook.get(key)).reveal() for _, key, _ in slots}
        if self.is_sick:
            raise RejectedError("sick")
        self.serving |= made
        return tuple(slots)

    async def step(self, what: str, which: str | float) -> None:
        if isinstance(which, float):
            self.clock.advance(which)
        elif what == "put":
            self.number += 1
            self.replaced_at[self.values[which]] = self.clock.now
            self.values[which] = f"{which}{self.number}"
        elif what == "get":
            self.is_fresh((await self.hook.get(which)).reveal())
        elif what == "invalidate":
            self.hook.invalidate([which] if which else None)
            for one in which or "ab":
                assert (await self.hook.get(one)).reveal() == self.values[one]
        elif what == "start":
            self.serving[which] = (await self.hook.get(which)).reveal()
        else:
            await self.rotate(which)

    async def rotate(self, how: str) -> None:
        before, cached = dict(self.serving), self.hook.info().cached
        self.is_sick, self.is_down = how == "sick", how == "down"
        try:
            report = await self.hook.rotate()
        except OneiricError:
            assert self.serving == before
            assert self.hook.info().cached == cached
        else:
            assert all(value == self.values[one] for one, value in self.serving.items())
            assert {one for one in before if before[one] != self.serving[one]} <= set(report.rotated)
        finally:
            self.is_sick = self.is_down = False

    def is_fresh(self, value: str) -> None:
        assert self.clock.now - self.replaced_at.get(value, self.clock.now) <= TTL


@example([("get", "a"), ("advance", 11.0), ("invalidate", "")])
@given(st.lists(STEPS, max_size=40))
def test_no_value_outlives_its_time_and_every_rotation_is_whole(steps: list[tuple[str, str | float]]) -> None:
    async def scenario() -> None:
        world = World()
        for what, which in steps:
            await world.step(what, which)

    asyncio.run(scenario())
