"""Turns are never lost: not to a caller that was cancelled, at whatever moment."""

import asyncio

import pytest

from oneiric.adapters.cache._turns import Turns


def test_a_turn_given_to_a_cancelled_caller_goes_to_the_next() -> None:
    async def go() -> None:
        turns = Turns(1)
        turns.free -= 1
        first, second = (asyncio.ensure_future(turns.wait()) for _ in range(2))
        await asyncio.sleep(0)
        turns.give()
        first.cancel()
        with pytest.raises(asyncio.CancelledError):
            await first
        async with asyncio.timeout(60):
            await second
        turns.give()
        assert turns.free == 1

    asyncio.run(go())


def test_a_caller_cancelled_while_waiting_is_passed_over() -> None:
    async def go() -> None:
        turns = Turns(1)
        turns.free -= 1
        waiting = [asyncio.ensure_future(turns.wait()) for _ in range(3)]
        await asyncio.sleep(0)
        waiting[0].cancel()
        turns.give()
        async with asyncio.timeout(60):
            await waiting[1]
        assert not waiting[2].done()
        turns.give()
        await waiting[2]
        turns.give()
        assert turns.free == 1

    asyncio.run(go())
