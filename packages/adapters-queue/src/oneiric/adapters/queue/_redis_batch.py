"""Calls that are made together travel together: what many small requests to a server cost is mostly the journey."""

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any, Final, NamedTuple

__all__ = ["Batch"]

#: Requests in one journey: bounds how long the first of them waits.
_MOST: Final = 256


class _Request(NamedTuple):
    what: Any
    answer: asyncio.Future[Any]


class Batch:
    """Collect the requests of one turn of the event loop and send them as one.

    Args:
        send: Sends several requests and returns their answers, in order.
    """

    __slots__ = ("_collecting", "_send", "_waiting", "journeys")

    def __init__(self, send: Callable[[list[Any]], Awaitable[list[Any]]]) -> None:
        self._send = send
        self._waiting: list[_Request] = []
        self._collecting = False
        #: Those on their way.
        self.journeys: set[asyncio.Task[None]] = set()

    async def ask(self, what: Any) -> Any:
        """Send a request, with those asked in the same turn, and return its answer.

        Raises:
            Exception: What sending raised; each caller is given an exception of its own.
        """
        answer: asyncio.Future[Any] = asyncio.get_running_loop().create_future()
        self._waiting.append(_Request(what, answer))
        if not self._collecting:
            self._collecting = True
            try:
                await asyncio.sleep(0)
            finally:
                self._collecting = False
                waiting, self._waiting = self._waiting, []
                alone = len(waiting) == 1
                if not alone:
                    self._depart(waiting)
            if alone:
                return (await self._send([what]))[0]
        return await answer

    def _depart(self, waiting: list[_Request]) -> None:
        # In tasks of their own: a caller that is cancelled takes nobody with it.
        for first in range(0, len(waiting), _MOST):
            journey = asyncio.ensure_future(self._travel(waiting[first : first + _MOST]))
            self.journeys.add(journey)
            journey.add_done_callback(self.journeys.discard)

    async def _travel(self, requests: list[_Request]) -> None:
        requests = [request for request in requests if not request.answer.cancelled()]
        if not requests:
            return
        try:
            answers = await self._send([request.what for request in requests])
        except Exception as error:  # noqa: BLE001 - whatever it is belongs to the callers
            for request in requests:
                if not request.answer.done():
                    failure = type(error)(*error.args)
                    failure.__cause__ = error.__cause__ or error
                    request.answer.set_exception(failure)
            return
        for request, answer in zip(requests, answers, strict=True):
            if not request.answer.done():
                request.answer.set_result(answer)
