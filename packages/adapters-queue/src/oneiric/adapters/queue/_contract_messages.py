"""The contract of messages: their contents, order, delay and deduplication, and how instances open and close."""
# ruff: noqa: S101 - these are tests, shipped: they assert, and each one's name is its docstring

import asyncio
import time
from typing import Any

import pytest

from oneiric.adapters.queue._contract import LONG, SHORT, Contract, QueueInstance, contract, is_empty, one
from oneiric.adapters.queue._protocol import Delivery, ManagedQueue
from oneiric.core.errors import InactiveError, RejectedError

__all__ = ["MessageContract"]

_ROUND_TRIPS: tuple[dict[str, Any], ...] = (
    {},
    {"": None, "a b": [True, 1, -0.5, "é\x00\n\U0001f600", [], {}]},
    {"1": 2**63, "deep": {"er": [{"est": [1, "1", 10**40, 5e-324]}]}},
)

_REFUSED: tuple[Any, ...] = (
    None, [], "text", b"bytes", 5, {1: "a"}, {None: 1}, {"a": (1,)}, {"a": {1}}, {"a": b""}, {"a": object()},
    {"a": float("nan")}, {"a": float("inf")}, {"a": {"b": {2: 1}}}, {"a": "\ud83d"},
)  # fmt: skip


class MessageContract(Contract):
    """What holds for messages."""

    @contract()
    async def test_it_satisfies_the_protocol_is_healthy_and_may_be_initialised_again(
        self, queue: QueueInstance
    ) -> None:
        assert isinstance(queue, ManagedQueue)
        assert await queue.health() is not False
        await queue.enqueue({"n": 1})
        await queue.init()
        assert (await one(queue)).payload == {"n": 1}

    @contract()
    async def test_payload_headers_and_time_come_back_as_they_were(self, queue: QueueInstance) -> None:
        headers = {"traceparent": "00-ab-cd-01", "X_y-1": "", "spaces": "a  b"}
        for payload in _ROUND_TRIPS:
            before = time.time()
            message_id = await queue.enqueue(payload, headers=headers)
            delivery = await one(queue)
            assert (delivery.id, delivery.attempt) == (message_id, 1)
            assert repr(delivery.payload) == repr(payload)
            assert dict(delivery.headers) == headers
            assert before - 2 <= delivery.enqueued_at <= time.time() + 2
            assert delivery.visibility_seconds > 0
            assert await queue.ack(delivery) is True
        await queue.enqueue({"n": 1})
        assert dict((await one(queue)).headers) == {}

    @contract()
    async def test_what_would_not_come_back_equal_is_refused(self, queue: QueueInstance) -> None:
        deep: Any = []
        for _ in range(100_000):
            deep = [deep]
        for payload in (*_REFUSED, {"deep": deep}):
            with pytest.raises(RejectedError):
                await queue.enqueue(payload)
        wrong: Any
        for wrong in ({"a b": "x"}, {"": "x"}, {"a": "é"}, {"a": "1\r\n2"}, {"a": 1}, {"Nats-Msg-Id": "1"},
                      {"a": "x" * 9000}, {"a": " x"}, {"oneiric-id": "x"}):  # fmt: skip
            with pytest.raises(RejectedError):
                await queue.enqueue({}, headers=wrong)
        assert await is_empty(queue)

    @contract(max_payload_bytes=1000)
    async def test_a_message_that_is_too_large_is_refused_and_the_largest_is_not(self, queue: QueueInstance) -> None:
        with pytest.raises(RejectedError, match="1001 bytes"):
            await queue.enqueue({"a": "x" * 993})
        await queue.enqueue({"a": "x" * 992})
        assert (await one(queue)).payload == {"a": "x" * 992}

    @contract()
    async def test_a_number_out_of_range_is_refused(self, queue: QueueInstance) -> None:
        await queue.enqueue({})
        delivery = await one(queue)
        wrong: Any
        for wrong in (-1, float("nan"), 1e9, "5", True, None):
            for call in (queue.enqueue({}, delay_seconds=wrong), queue.receive(wait_seconds=wrong),
                         queue.retry(delivery, delay_seconds=wrong)):  # fmt: skip
                with pytest.raises(RejectedError):
                    await call
        for wrong in (0, -1, 257, 1.0, "1", True, None):
            with pytest.raises(RejectedError):
                await queue.receive(max_messages=wrong)
        for wrong in ("", "x" * 300, 5, "a\nb"):
            with pytest.raises(RejectedError):
                await queue.enqueue({}, dedup_id=wrong)
        for wrong in ("", " ", None):
            with pytest.raises(RejectedError):
                await queue.dead_letter(delivery, wrong)
        assert await queue.ack(delivery) is True

    @contract()
    async def test_nothing_is_an_empty_list_now_or_at_the_end_of_the_wait(self, queue: QueueInstance) -> None:
        assert await queue.receive() == []
        assert await queue.receive(max_messages=10, wait_seconds=0.1) == []

    @contract()
    async def test_one_consumer_receives_in_the_order_of_enqueueing(self, queue: QueueInstance) -> None:
        ids = [await queue.enqueue({"n": number}) for number in range(30)]
        received: list[Delivery] = []
        while len(received) < 30:
            received += await queue.receive(max_messages=7, wait_seconds=LONG)
        assert [delivery.id for delivery in received] == ids
        assert [delivery.payload["n"] for delivery in received] == list(range(30))

    @contract()
    async def test_it_takes_no_more_than_it_was_asked_for(self, queue: QueueInstance) -> None:
        await asyncio.gather(*(queue.enqueue({"n": number}) for number in range(5)))
        assert len(await queue.receive(max_messages=2, wait_seconds=LONG)) == 2
        other = await self.beside(queue)
        assert len(await other.receive(max_messages=256, wait_seconds=LONG)) == 3

    @contract()
    async def test_a_waiting_consumer_gets_what_arrives(self, queue: QueueInstance) -> None:
        other = await self.beside(queue)
        for sender in (queue, other):
            waiting = asyncio.ensure_future(one(queue))
            await asyncio.sleep(0)
            await sender.enqueue({"n": 1})
            assert (await waiting).payload == {"n": 1}

    @contract()
    async def test_a_message_with_a_consumer_is_nobody_elses(self, queue: QueueInstance) -> None:
        await queue.enqueue({})
        await one(queue)
        assert await is_empty(queue)
        assert await is_empty(await self.beside(queue))

    @contract()
    async def test_a_delayed_message_waits_and_the_others_do_not_wait_for_it(self, queue: QueueInstance) -> None:
        started = time.monotonic()
        late = await queue.enqueue({"late": True}, delay_seconds=SHORT)
        soon = await queue.enqueue({"soon": True})
        assert (await one(queue)).id == soon
        assert await is_empty(queue)
        delivery = await one(queue)
        assert time.monotonic() - started >= SHORT * 0.9
        assert (delivery.id, delivery.attempt) == (late, 1)
        assert await queue.ack(delivery) is True

    @contract()
    async def test_many_delayed_messages_do_not_block_the_line(self, queue: QueueInstance) -> None:
        await asyncio.gather(*(queue.enqueue({}, delay_seconds=3600) for _ in range(300)))
        soon = await queue.enqueue({})
        assert (await one(queue)).id == soon
        assert (await queue.depth()).held == 301

    @contract()
    async def test_of_messages_with_one_dedup_id_the_first_is_stored(self, queue: QueueInstance) -> None:
        other = await self.beside(queue)
        first = await queue.enqueue({"n": 1}, dedup_id="a b")
        assert await other.enqueue({"n": 2}, dedup_id="a b", delay_seconds=0.1) == first
        assert await queue.enqueue({"n": 3}, dedup_id="a c") != first
        deliveries = await queue.receive(max_messages=10, wait_seconds=LONG)
        assert [delivery.payload["n"] for delivery in deliveries] == [1, 3]
        assert await queue.ack(deliveries[0]) is True
        assert await queue.enqueue({"n": 4}, dedup_id="a b") == first
        assert await queue.receive(wait_seconds=0.2) == []

    @contract()
    async def test_fifty_consumers_receive_each_message_exactly_once(self, queue: QueueInstance) -> None:
        other = await self.beside(queue)
        sent = await asyncio.gather(*((queue, other)[n % 2].enqueue({"n": n}) for n in range(300)))
        seen: list[tuple[str, int]] = []

        async def consume(number: int) -> None:
            instance = (queue, other)[number % 2]
            while len(seen) < 300:
                for delivery in await instance.receive(max_messages=1 + number % 5, wait_seconds=0.2):
                    seen.append((delivery.id, delivery.attempt))
                    assert await instance.ack(delivery) is True

        await asyncio.gather(*(consume(number) for number in range(50)))
        assert sorted(seen) == sorted((message_id, 1) for message_id in sent)
        assert len(set(sent)) == 300
        depth = await queue.depth()
        assert (depth.waiting, depth.held, depth.dead) == (0, 0, 0)

    @contract()
    async def test_messages_outlive_the_instance(self, queue: QueueInstance) -> None:
        waiting = await queue.enqueue({"n": 1})
        await queue.enqueue({"n": 2})
        first = await one(queue)
        await queue.dead_letter(first, "why")
        other = await self.beside(queue)
        await queue.cleanup()
        assert first.id == waiting
        assert (await one(other)).payload == {"n": 2}
        assert [dead.id for dead in await other.dead_letters()] == [waiting]

    @contract()
    async def test_a_closed_queue_says_so_on_every_call_and_closes_again(self, queue: QueueInstance) -> None:
        await queue.enqueue({})
        delivery = await one(queue)
        waiting = asyncio.ensure_future(queue.receive(wait_seconds=LONG))
        for _ in range(5):
            await asyncio.sleep(0)
        await queue.cleanup()
        await queue.cleanup()
        for call in (
            queue.enqueue({}), queue.receive(), queue.ack(delivery), queue.retry(delivery), queue.extend(delivery),
            queue.dead_letter(delivery, "why"), queue.depth(), queue.dead_letters(), queue.requeue("x"),
            queue.discard("x"), queue.health(), queue.init(), waiting,
        ):  # fmt: skip
            with pytest.raises(InactiveError, match="closed"):
                await call
