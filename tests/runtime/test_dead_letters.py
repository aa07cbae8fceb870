"""Dead letters: kept with their reason, bounded, replayed once, and gone only when that succeeded."""

import asyncio
import stat
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from oneiric.core.errors import DispatchError, StoreError
from oneiric.core.testing import DrivenClock
from oneiric.runtime.dead_letters import DEAD_LETTERS_FILE, DeadLetter, DeadLetterStore
from oneiric.runtime.events import EventDispatcher, EventEnvelope, EventHandler

type Make = Callable[..., Any]


@pytest.fixture(params=["file", "memory"])
def make(request: pytest.FixtureRequest, tmp_path: Path) -> Make:
    path = tmp_path / "state" / DEAD_LETTERS_FILE if request.param == "file" else None

    @asynccontextmanager
    async def opened(**options: Any) -> AsyncIterator[DeadLetterStore]:
        async with DeadLetterStore(path, **options) as store:
            yield store

    return opened


def sent(topic: str = "orders.created", payload: Any = None) -> EventEnvelope:
    return EventEnvelope(topic, payload, {"X-Tenant": "acme"}, time="2026-01-02T03:04:05Z", hops=3)


async def done(letter: DeadLetter) -> None:
    """Do it."""


def failing(error: Exception) -> Callable[[DeadLetter], Awaitable[None]]:
    async def fail(letter: DeadLetter) -> None:
        raise error

    return fail


async def test_a_letter_says_who_did_not_take_what_and_why(make: Make) -> None:
    async with make(clock=DrivenClock(1000.0)) as store:
        event = sent(payload={"total": 3})
        kept = await store.keep(event, "mail:smtp", "failed", OSError("gone"), 3)
        shown = await store.show(kept.id)
        assert shown == kept
        assert (shown.at, shown.kind, shown.subject, shown.handler) == (1000.0, "event", "orders.created", "mail:smtp")
        assert (shown.reason, shown.error, shown.attempts, shown.replays) == ("failed", "OSError: gone", 3, 0)
        assert shown.envelope == EventEnvelope(**{**shown.body, "hops": 0})
        assert (shown.envelope.id, shown.envelope.headers) == (event.id, {"X-Tenant": "acme"})
        assert shown.as_dict()["body"]["payload"] == {"total": 3}


async def test_letters_are_listed_newest_first_and_by_what_is_asked_for(make: Make) -> None:
    async with make() as store:
        for number in range(3):
            await store.keep(sent(f"t{number}"), f"h{number % 2}", "failed", None, 1)
        await store.keep_body("workflow", "nightly", {"run_id": "1"}, "unknown", "no such workflow")
        assert [each.subject for each in await store.letters()] == ["nightly", "t2", "t1", "t0"]
        assert [each.subject for each in await store.letters(handler="h0")] == ["t2", "t0"]
        assert [each.subject for each in await store.letters(kind="event", subject="t1", reason="failed")] == ["t1"]
        assert [each.subject for each in await store.letters(limit=1)] == ["nightly"]
        assert await store.count() == 4


async def test_the_oldest_letters_give_way(make: Make) -> None:
    async with make(most_letters=3) as store:
        for number in range(10):
            await store.keep(sent(f"t{number}"), "h", "failed", None, 1)
        assert [each.subject for each in await store.letters()] == ["t9", "t8", "t7"]


async def test_a_letter_that_was_replayed_well_is_gone(make: Make) -> None:
    async with make() as store:
        kept = await store.keep(sent(), "h", "failed", None, 1)
        assert await store.replay(kept.id, done) == kept
        assert await store.letters() == []
        with pytest.raises(DispatchError, match="there is no dead letter"):
            await store.replay(kept.id, done)


async def test_a_letter_that_was_replayed_in_vain_stays_with_the_new_error(make: Make) -> None:
    async with make() as store:
        kept = await store.keep(sent(), "h", "failed", OSError("first"), 1)
        with pytest.raises(ValueError, match="second"):
            await store.replay(kept.id, failing(ValueError("second")))
        left = await store.show(kept.id)
        assert (left.error, left.replays, left.attempts) == ("ValueError: second", 1, 1)
        await store.replay(kept.id, done)


async def test_a_letter_is_not_replayed_twice_at_the_same_time(make: Make) -> None:
    begun, release = asyncio.Event(), asyncio.Event()

    async def slow(letter: DeadLetter) -> None:
        begun.set()
        await release.wait()

    clock = DrivenClock(1000.0)
    async with make(clock=clock) as store:
        kept = await store.keep(sent(), "h", "failed", None, 1)
        first = asyncio.create_task(store.replay(kept.id, slow))
        await begun.wait()
        with pytest.raises(DispatchError, match="is being replayed already"):
            await store.replay(kept.id, done)
        release.set()
        await first
        assert await store.count() == 0


@pytest.mark.parametrize("seconds", [601, -1], ids=["later", "the clock was set back"])
async def test_a_replay_that_never_ended_does_not_keep_the_letter_for_ever(make: Make, seconds: int) -> None:
    clock = DrivenClock(1000.0)
    async with make(clock=clock) as store:
        kept = await store.keep(sent(), "h", "failed", None, 1)

        async def much_later(letter: DeadLetter) -> None:
            clock.now += seconds
            await store.replay(kept.id, done)

        await store.replay(kept.id, much_later)
        assert await store.count() == 0


async def test_letters_are_thrown_away_by_id_by_age_and_by_reason(make: Make) -> None:
    clock = DrivenClock(1000.0)
    async with make(clock=clock) as store:
        first = await store.keep(sent("a"), "h", "failed", None, 1)
        clock.advance(100)
        await store.keep(sent("b"), "h", "refused", None, 1)
        await store.keep(sent("c"), "h", "failed", None, 1)
        assert await store.purge() == 0
        assert await store.purge(older_than_seconds=50, reason="refused") == 0
        assert await store.purge(first.id, "unknown") == 1
        assert await store.purge(reason="refused") == 1
        assert await store.purge(older_than_seconds=0) == 1


@pytest.mark.parametrize("payload", [object(), float("nan"), {1, 2}, "x" * 5000])
async def test_what_cannot_be_kept_whole_is_described_and_not_replayed(make: Make, payload: Any) -> None:
    async with make(most_bytes=2000) as store:
        kept = await store.show((await store.keep(sent(payload=payload), "h", "failed", None, 1)).id)
        assert not kept.is_whole
        assert len(kept.body) <= 2000
        with pytest.raises(DispatchError, match="does not hold its event whole"):
            _ = kept.envelope


async def test_what_a_dispatch_did_not_do_is_kept_and_done_again_by_the_one_that_failed(make: Make) -> None:
    is_broken = True
    seen: list[str] = []

    def handler(name: str) -> EventHandler:
        async def handle(envelope: EventEnvelope) -> None:
            if name == "bad" and is_broken:
                raise OSError("gone")
            seen.append(f"{name} {envelope.payload}")

        return EventHandler(name=name, call=handle)

    async with make() as store:
        events = EventDispatcher(dead_letter=store.keep)
        events.replace([handler("good"), handler("bad")])
        report = await events.dispatch(EventEnvelope("a", 1))
        assert [each.handler for each in report.failures] == ["bad"]
        letter = (await store.letters())[0]
        is_broken = False
        await store.replay(letter.id, lambda each: events.deliver(each.envelope, each.handler))
        assert seen == ["good 1", "bad 1"]
        with pytest.raises(DispatchError, match=r"no event handler 'worse' \(have: good, bad\)"):
            await events.deliver(sent(), "worse")


async def test_the_file_is_its_owners_alone_and_shared_by_processes(tmp_path: Path) -> None:
    path = tmp_path / "state" / DEAD_LETTERS_FILE
    async with DeadLetterStore(path) as one:
        kept = await one.keep(sent(), "h", "failed", None, 1)
        assert stat.S_IMODE(path.stat().st_mode) == 0o600
    async with DeadLetterStore(path, readonly=True) as other:
        assert await other.show(kept.id) == kept
        with pytest.raises(StoreError):
            await other.purge(kept.id)


async def test_a_damaged_file_is_set_aside(tmp_path: Path) -> None:
    path = tmp_path / DEAD_LETTERS_FILE
    path.write_bytes(b"SQLite format 3\x00" + b"\xff" * 8192)
    path.chmod(0o600)
    async with DeadLetterStore(path) as store:
        assert store.set_aside is not None
        assert store.set_aside.exists()
        assert await store.count() == 0
