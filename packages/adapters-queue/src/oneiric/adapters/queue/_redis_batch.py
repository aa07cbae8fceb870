"""Calls that are made together travel together: what many small requests to a server cost is mostly the journey."""

import asyncio
from collections import deque
from collections.abc import Awaitable, Callable
from typing import Any, Final, NamedTuple

__all__ = ["Batch"]

#: Requests in one journey: bounds how long the first of them waits.
_MOST: Final = 256


class _Request(NamedTuple):
    what: Any
    answer: asyncio.Future[Any]


class Batch:
    """Send a request at once when none is on its way; those asked meanwhile travel together, next.

    Args:
        send: Sends several requests and returns their answers, in order.
    """

    __slots__ = ("_is_busy", "_send", "_waiting", "journeys")

    def __init__(self, send: Callable[[list[Any]], Awaitable[list[Any]]]) -> None:
        self._send = send
        self._waiting: deque[_Request] = deque()
        self._is_busy = False
        #: Those on their way.
        self.journeys: set[asyncio.Task[None]] = set()

    async def ask(self, what: Any) -> Any:
        """Send a request and return its answer.

        Raises:
            Exception: What sending raised; each caller is given an exception of its own.
        """
        if self._is_busy:
            answer: asyncio.Future[Any] = asyncio.get_running_loop().create_future()
            self._waiting.append(_Request(what, answer))
            return await answer
        self._is_busy = True
        try:
            return (await self._send([what]))[0]
        finally:
            self._depart()

    def _depart(self, _arrived: object = None) -> None:
        """Send those that wait, in a task of their own: a caller that is cancelled takes nobody with it."""
        if not self._waiting:
            self._is_busy = False
            return
        requests = [self._waiting.popleft() for _ in range(min(_MOST, len(self._waiting)))]
        journey = asyncio.ensure_future(self._travel(requests))
        self.journeys.add(journey)
        journey.add_done_callback(self.journeys.discard)
        journey.add_done_callback(self._depart)

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
