"""The contract of deliveries: settling them, letting them go, dying with them."""
# ruff: noqa: S101 - these are tests, shipped: they assert, and each one's name is its docstring

import asyncio
import time

import pytest

from oneiric.adapters.queue._contract import (
    LONG,
    SHORT,
    Contract,
    QueueInstance,
    cancel_after,
    contract,
    is_empty,
    one,
)
from oneiric.adapters.queue._protocol import Delivery
from oneiric.core.errors import RejectedError

__all__ = ["SettlingContract"]


class SettlingContract(Contract):
    """What holds for deliveries."""

    @contract(visibility_seconds=SHORT)
    async def test_a_message_that_is_not_settled_comes_again_after_its_visibility(self, queue: QueueInstance) -> None:
        message_id = await queue.enqueue({"n": 1})
        started = time.monotonic()
        first = await one(queue)
        assert first.visibility_seconds == SHORT
        second = await one(await self.beside(queue))
        assert time.monotonic() - started >= SHORT * 0.9
        assert (second.id, second.payload, second.attempt) == (message_id, {"n": 1}, 2)

    @contract(visibility_seconds=SHORT)
    async def test_a_stale_consumer_settles_nothing(self, queue: QueueInstance) -> None:
        await queue.enqueue({"n": 1})
        stale = await one(queue)
        other = await self.beside(queue)
        current = await one(other)
        assert await queue.extend(stale) is False
        assert await queue.ack(stale) is False
        assert await queue.retry(stale) is False
        assert await queue.dead_letter(stale, "stale") is False
        assert await queue.dead_letters() == []
        assert await other.ack(current) is True
        assert await is_empty(queue)
        assert await queue.depth() == await other.depth()
        assert (await queue.depth()).held == 0

    @contract()
    async def test_only_the_first_settling_counts(self, queue: QueueInstance) -> None:
        for settle in (queue.ack, queue.retry, lambda delivery: queue.dead_letter(delivery, "why")):
            await queue.enqueue({})
            delivery = await one(queue)
            assert await settle(delivery) is True
            assert await queue.ack(delivery) is False
            assert await queue.retry(delivery) is False
            assert await queue.extend(delivery) is False
            assert await queue.dead_letter(delivery, "again") is False
        # The third found the one that the second gave back.
        assert [(dead.reason, dead.attempts) for dead in await queue.dead_letters()] == [("why", 2)]
        assert await queue.ack(await one(queue)) is True
        assert await is_empty(queue)

    @contract(visibility_seconds=2.5 * SHORT)
    async def test_extending_keeps_it_from_the_others(self, queue: QueueInstance) -> None:
        await queue.enqueue({"n": 1})
        delivery = await one(queue)
        other = await self.beside(queue)
        for _ in range(4):
            assert await other.receive(wait_seconds=0.75 * SHORT) == []
            assert await queue.extend(delivery) is True
        assert await queue.ack(delivery) is True
        assert await other.receive(wait_seconds=3 * SHORT) == []

    @contract()
    async def test_a_retried_message_comes_again_behind_the_others(self, queue: QueueInstance) -> None:
        first, second = [await queue.enqueue({"n": number}) for number in range(2)]
        assert await queue.retry(await one(queue)) is True
        delivery = await one(queue)
        assert (delivery.id, delivery.attempt) == (second, 1)
        again = await one(queue)
        assert (again.id, again.attempt, again.payload) == (first, 2, {"n": 0})

    @contract()
    async def test_a_retry_can_wait(self, queue: QueueInstance) -> None:
        message_id = await queue.enqueue({}, headers={"h": "1"})
        started = time.monotonic()
        assert await queue.retry(await one(queue), delay_seconds=SHORT) is True
        assert await is_empty(queue)
        again = await one(queue)
        assert time.monotonic() - started >= SHORT * 0.9
        assert (again.id, again.attempt, dict(again.headers)) == (message_id, 2, {"h": "1"})

    @contract()
    async def test_what_is_given_back_uncounted_keeps_its_attempt(self, queue: QueueInstance) -> None:
        message_id = await queue.enqueue({"n": 1}, headers={"h": "1"})
        for delay_seconds in (0.0, 0.1, 0.0):
            delivery = await one(queue)
            assert (delivery.id, delivery.attempt) == (message_id, 1)
            assert await queue.retry(delivery, delay_seconds=delay_seconds, counted=False) is True
        assert await queue.retry(await one(queue)) is True
        last = await one(queue)
        assert (last.id, last.attempt, last.payload, dict(last.headers)) == (message_id, 2, {"n": 1}, {"h": "1"})
        assert await queue.ack(last) is True
        assert await is_empty(queue)

    @contract()
    async def test_a_dead_letter_keeps_everything_and_its_reason(self, queue: QueueInstance) -> None:
        ids = [await queue.enqueue({"n": number}, headers={"h": str(number)}) for number in range(3)]
        before = time.time()
        await queue.retry(await one(queue))
        for _ in range(3):
            delivery = await one(queue)
            assert await queue.dead_letter(delivery, f"failed: é\n{delivery.payload['n']}") is True
        assert await is_empty(queue)
        found = await queue.dead_letters()
        assert [dead.id for dead in found] == [ids[1], ids[2], ids[0]]
        assert [(dead.payload, dict(dead.headers), dead.attempts, dead.reason) for dead in found] == [
            ({"n": 1}, {"h": "1"}, 1, "failed: é\n1"),
            ({"n": 2}, {"h": "2"}, 1, "failed: é\n2"),
            ({"n": 0}, {"h": "0"}, 2, "failed: é\n0"),
        ]
        assert all(before - 2 <= dead.enqueued_at <= dead.dead_at + 2 for dead in found)
        assert await queue.dead_letters(limit=2) == found[:2]
        depth = await queue.depth()
        assert (depth.waiting, depth.held, depth.dead) == (0, 0, 3)

    @contract()
    async def test_a_dead_letter_is_requeued_or_discarded_by_id(self, queue: QueueInstance) -> None:
        ids = [await queue.enqueue({"n": number}, headers={"h": "1"}) for number in range(3)]
        for delivery in await queue.receive(max_messages=3, wait_seconds=LONG):
            await queue.dead_letter(delivery, "why")
        assert await queue.requeue(ids[1]) is True
        assert await queue.requeue(ids[1]) is False
        assert await queue.discard(ids[0]) is True
        assert await queue.discard(ids[0]) is False
        assert await queue.requeue("unknown") is False
        assert [dead.id for dead in await queue.dead_letters()] == [ids[2]]
        again = await one(queue)
        assert (again.id, again.payload, again.attempt, dict(again.headers)) == (ids[1], {"n": 1}, 1, {"h": "1"})
        assert await queue.dead_letter(again, "once more") is True
        assert [dead.reason for dead in await queue.dead_letters()] == ["why", "once more"]

    @contract(visibility_seconds=2 * SHORT)
    async def test_a_message_that_nobody_can_process_does_not_block_the_line(self, queue: QueueInstance) -> None:
        poison = await queue.enqueue({"poison": True})
        good = {await queue.enqueue({"n": number}) for number in range(20)}
        attempts = 0
        while good or attempts < 3:
            delivery = await one(queue)
            if delivery.id != poison:
                good.remove(delivery.id)
                assert await queue.ack(delivery) is True
                continue
            attempts += 1
            assert delivery.attempt == attempts  # and it is left to its visibility, as by a consumer that died
        assert (await queue.depth()).dead == 0

    @contract()
    async def test_a_receive_that_is_cancelled_at_any_moment_takes_no_message_with_it(
        self, queue: QueueInstance
    ) -> None:
        sent = {await queue.enqueue({"n": number}) for number in range(40)}
        done: set[str] = set()
        for turns in range(60):
            call = asyncio.ensure_future(queue.receive(max_messages=2, wait_seconds=LONG))
            await cancel_after(turns, call)
            for delivery in [] if call.cancelled() else call.result():
                assert await queue.ack(delivery) is True
                done.add(delivery.id)
        # Long before their visibility would have ended, and as if they had not been received.
        while done != sent:
            for delivery in await queue.receive(max_messages=20, wait_seconds=LONG / 4):
                assert delivery.attempt == 1
                assert await queue.ack(delivery) is True
                done.add(delivery.id)

    @contract()
    async def test_a_queue_that_is_closed_gives_back_what_was_on_its_way(self, queue: QueueInstance) -> None:
        sent = {await queue.enqueue({"n": number}) for number in range(20)}
        for turns in range(0, 40, 2):
            leaving = await self.another(queue)
            call = asyncio.ensure_future(leaving.receive(max_messages=2, wait_seconds=LONG))
            await cancel_after(turns, call)
            for delivery in [] if call.cancelled() else call.result():
                assert await leaving.retry(delivery, counted=False) is True
            await leaving.cleanup()
        found: list[Delivery] = []
        while len(found) < len(sent):
            found += await queue.receive(max_messages=20, wait_seconds=LONG / 4)
        assert {delivery.id: delivery.attempt for delivery in found} == dict.fromkeys(sent, 1)

    @contract(visibility_seconds=SHORT)
    async def test_a_settling_that_is_cancelled_at_any_moment_is_done_or_not(self, queue: QueueInstance) -> None:
        sent = {await queue.enqueue({"n": number}) for number in range(30)}
        done: set[str] = set()
        unsure: set[str] = set()
        for turns in range(30):
            (delivery,) = await queue.receive(wait_seconds=LONG)
            settle = (queue.ack, queue.retry, queue.extend)[turns % 3]
            call = asyncio.ensure_future(settle(delivery))
            await cancel_after(turns // 3, call)
            is_done = turns % 3 == 0 and not call.cancelled() and call.result()
            (done if is_done else unsure).add(delivery.id)
        while found := await queue.receive(max_messages=5, wait_seconds=SHORT * 4):
            for delivery in found:
                assert delivery.id not in done - unsure
                assert await queue.ack(delivery) is True
        assert done | unsure <= sent
        depth = await queue.depth()
        assert (depth.waiting, depth.held, depth.dead) == (0, 0, 0)

    @contract()
    async def test_what_is_no_delivery_of_this_provider_is_refused(self, queue: QueueInstance) -> None:
        foreign = Delivery(
            id="x", payload={}, headers={}, attempt=1, enqueued_at=0.0, visibility_seconds=1.0, receipt="else"
        )
        for call in (queue.ack(foreign), queue.retry(foreign), queue.extend(foreign), queue.dead_letter(foreign, "x")):
            with pytest.raises(RejectedError):
                await call
