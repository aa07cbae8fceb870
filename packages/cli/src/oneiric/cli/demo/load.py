"""The customers: they order without a pause over sockets, and count what they do not get an answer to."""

import asyncio
import json
import random
from dataclasses import dataclass, field
from itertools import count
from typing import Any, Final

__all__ = ["Call", "Load"]

#: An answer that takes longer counts as none.
_ANSWER_SECONDS: Final = 5.0
#: What a customer thinks before the next order.
_THINKING_SECONDS: Final = (0.001, 0.006)


@dataclass(frozen=True, slots=True)
class Call:
    """One order.

    Attributes:
        began: When it was sent, by the event loop's clock.
        ended: When it was answered or given up.
        lost: ``raised``, ``unanswered`` or ``cleaned_up``; None for a call that was answered as it should be.
        reason: What a lost call was answered, or None.
    """

    began: float
    ended: float
    lost: str | None = None
    reason: str | None = None


@dataclass(slots=True)
class Load:
    """A number of customers with a connection each.

    Attributes:
        port: Of the service, on 127.0.0.1.
        customers: How many order at once.
        calls: Every order so far.
    """

    port: int
    customers: int
    calls: list[Call] = field(default_factory=list)
    _ends: bool = False
    _numbers: Any = field(default_factory=count)

    async def run(self) -> None:
        """Order until `end` is called; every order under way is finished first."""
        async with asyncio.TaskGroup() as group:
            for customer in range(self.customers):
                group.create_task(self._shop(customer))

    def end(self) -> None:
        """Begin no order any more."""
        self._ends = True

    async def _shop(self, customer: int) -> None:
        while not self._ends:
            reader, writer = await asyncio.open_connection("127.0.0.1", self.port)
            try:
                while await self._order(customer, reader, writer):
                    await self._think()
                    if self._ends:
                        break
            finally:
                writer.close()

    @staticmethod
    async def _think() -> None:
        await asyncio.sleep(random.uniform(*_THINKING_SECONDS))  # noqa: S311 - not a secret

    async def _order(self, customer: int, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> bool:
        """Make one order; return whether the connection is good for another."""
        clock = asyncio.get_running_loop().time
        number, began = next(self._numbers), clock()
        try:
            writer.write(json.dumps({"order": number, "customer": customer}).encode() + b"\n")
            async with asyncio.timeout(_ANSWER_SECONDS):
                line = await reader.readline()
        except (TimeoutError, ConnectionError) as error:
            self.calls.append(Call(began, clock(), "unanswered", type(error).__name__))
            return False
        answer = json.loads(line) if line else {"error": "the connection was closed"}
        self.calls.append(Call(began, clock(), *_verdict(answer, number)))
        return bool(line)


def _verdict(answer: dict[str, Any], number: int) -> tuple[str | None, str | None]:
    """Return how a call was lost, and why; twice None for one that was not."""
    if answer.get("used_after_cleanup"):
        return "cleaned_up", answer.get("error")
    if "error" in answer:
        return "raised", answer["error"]
    if answer["order"] != number:
        return "raised", f"order {number} got the answer to order {answer['order']}"
    return None, None
