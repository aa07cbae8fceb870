"""The one thread that owns a SQLite connection, and the way to ask it for something.

Requests that wait together are done in one transaction: that is what makes many small writes affordable. An
answer is given after its commit, never before. A caller that is cancelled leaves; the thread goes on.
"""

import asyncio
import sqlite3
from collections.abc import Callable
from pathlib import Path
from queue import Empty, SimpleQueue
from threading import Thread
from typing import Any, Final, NamedTuple

from oneiric.adapters.queue._sqlite_file import store_error

__all__ = ["Owner"]

#: Requests in one transaction: bounds how long the first of them waits for its answer.
_BATCH: Final = 256

type Work[T] = Callable[[sqlite3.Connection], T]


class _Request(NamedTuple):
    """Work that may be repeated: it runs again with its batch's transaction, and never commits."""

    work: Work[Any]
    writes: bool
    answer: asyncio.Future[Any]


class _Outcome(NamedTuple):
    answer: asyncio.Future[Any]
    value: Any = None
    error: BaseException | None = None


type _Inbox = SimpleQueue[_Request | None]


class Owner:
    """Run work on a connection that only its own thread touches.

    Args:
        path: The file, for the sentences of errors.
        connect: Opens the connection; called on the thread.
    """

    def __init__(self, path: Path, connect: Callable[[], sqlite3.Connection]) -> None:
        self._path, self._connect = path, connect
        self._inbox: _Inbox = SimpleQueue()
        self._is_stopping = False
        self._loop = asyncio.get_running_loop()
        self._opened: asyncio.Future[None] = self._loop.create_future()
        self._ended: asyncio.Future[None] = self._loop.create_future()

    async def start(self) -> None:
        """Start the thread and wait until the connection is open, or raise why it is not."""
        # A daemon: a program that forgets cleanup() still ends, and a transaction cut off there is rolled
        # back.
        Thread(target=self._run, name=f"oneiric-queue:{self._path.name}", daemon=True).start()
        try:
            await self._opened
        except BaseException:
            self._stop()
            raise

    def ask[T](self, work: Work[T], *, writes: bool) -> "asyncio.Future[T]":
        """Have *work* done on the thread; the answer is its result, after the commit if it *writes*.

        The request is made when this returns, not when the answer is awaited: nothing can come in between.

        Raises:
            StoreError: (by the answer) The transaction failed; nothing of it was written.
        """
        answer: asyncio.Future[T] = self._loop.create_future()
        self._inbox.put(_Request(work, writes, answer))
        return answer

    def tell(self, work: Work[None]) -> None:
        """Have *work*, which writes, done when its turn comes; nobody learns how it went."""
        if not self._is_stopping:
            answer: asyncio.Future[None] = self._loop.create_future()
            answer.add_done_callback(asyncio.Future.exception)
            self._inbox.put(_Request(work, writes=True, answer=answer))

    async def stop(self) -> None:
        """Finish what was asked, close the connection, and wait for the end of the thread's work."""
        self._stop()
        await asyncio.shield(self._ended)

    def _stop(self) -> None:
        if not self._is_stopping:
            self._is_stopping = True
            self._inbox.put(None)

    def _run(self) -> None:
        try:
            connection = self._connect()
        except Exception as error:  # noqa: BLE001 - whatever it is belongs to the caller, not to this thread
            self._post([_Outcome(self._opened, error=error), _Outcome(self._ended)])
            return
        self._post([_Outcome(self._opened)])
        try:
            while batch := self._next_batch():
                self._post(self._commit(connection, batch))
        finally:
            connection.close()
            self._post([_Outcome(self._ended)])

    def _next_batch(self) -> list[_Request]:
        """Wait for a request and take those waiting behind it; empty at the end."""
        first = self._inbox.get()
        batch: list[_Request] = []
        try:
            while first is not None:
                batch.append(first)
                if len(batch) == _BATCH:
                    return batch
                first = self._inbox.get_nowait()
        except Empty:
            return batch
        if batch:
            self._inbox.put(None)  # the end comes after this batch; nothing is asked behind it
        return batch

    def _commit(self, connection: sqlite3.Connection, batch: list[_Request]) -> list[_Outcome]:
        """Do *batch* in one transaction: all of it, or, on a failure of the file, none."""
        batch = [request for request in batch if not request.answer.cancelled()]
        writes = any(request.writes for request in batch)
        try:
            if not writes and len(batch) == 1:
                return [self._perform(connection, batch[0])]
            connection.execute("BEGIN IMMEDIATE" if writes else "BEGIN")
            outcomes = [self._perform(connection, request) for request in batch]
            connection.execute("COMMIT")
        except sqlite3.Error as error:
            if connection.in_transaction:
                connection.execute("ROLLBACK")
            # One error each: an exception that several tasks raise would collect all their tracebacks.
            return [_Outcome(request.answer, error=self._failed(error)) for request in batch]
        return outcomes

    def _perform(self, connection: sqlite3.Connection, request: _Request) -> _Outcome:
        try:
            return _Outcome(request.answer, value=request.work(connection))
        except sqlite3.Error:
            raise
        except Exception as error:  # noqa: BLE001 - a refusal, which comes before the work's first write
            return _Outcome(request.answer, error=error)

    def _failed(self, error: sqlite3.Error) -> Exception:
        failure = store_error(error, self._path)
        failure.__cause__ = error
        return failure

    def _post(self, outcomes: list[_Outcome]) -> None:
        try:
            self._loop.call_soon_threadsafe(_settle, outcomes)
        except RuntimeError:
            return  # the loop is closed: nobody waits any more


def _settle(outcomes: list[_Outcome]) -> None:
    for answer, value, error in outcomes:
        if answer.done():
            continue  # its caller was cancelled
        if error is None:
            answer.set_result(value)
        else:
            answer.set_exception(error)
