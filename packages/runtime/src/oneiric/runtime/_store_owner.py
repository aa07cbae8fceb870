"""The one thread that owns a store's connection, and the way to ask it for something.

What is asked in one turn of the event loop crosses to the thread together, and comes back together. Writes that wait
at the same time share a commit: that is what makes many small ones affordable. An answer is given after its commit,
never before. A caller that is cancelled leaves; the thread goes on.
"""

import asyncio
from collections.abc import Callable
from pathlib import Path
from queue import Empty, SimpleQueue
from threading import Thread
from time import perf_counter
from typing import Any, Final

from oneiric.core.errors import StoreError
from oneiric.runtime._store_database import Database
from oneiric.runtime._store_library import Connection, store_error
from oneiric.runtime._store_open import Opened, StoreSpec, open_file
from oneiric.runtime._store_place import identity, is_at_rest

__all__ = ["Owner"]

#: Writes in one commit: bounds how long the first of them waits for its answer.
_MOST_TOGETHER: Final = 1024
#: Finished answers are not kept from their callers for longer than this while others are still being written.
_MOST_SECONDS_UNTOLD: Final = 0.001
#: What no retry on the same connection heals: the file is opened anew for the next request.
_REOPENED: Final = frozenset({"corrupt", "io", "readonly"})
#: What one write met and those waiting behind it would meet too.
_FOR_ALL: Final = _REOPENED | {"locked", "newer", "foreign"}

type Work[T] = Callable[[Database], T]


# Plain tuples: there is one of each for every record written.
type _Request = tuple[Work[Any], asyncio.Future[Any]]
type _Outcome = tuple[asyncio.Future[Any], Any, BaseException | None]
type _Batch = tuple[list[_Request], list[_Request]]  # reads, writes


class Owner:
    """Run work on a connection that only its own thread touches.

    Args:
        spec: Of the store.
        is_strict: Whether each write has a commit of its own.

    Attributes:
        opened: The open store as of the last request, or None.
        set_aside: Where the last damaged file was put, or None.
    """

    def __init__(self, spec: StoreSpec, *, is_strict: bool) -> None:
        self._spec, self._is_strict = spec, is_strict
        self._library = spec.library
        self._inbox: SimpleQueue[_Batch | None] = SimpleQueue()
        self._reads: list[_Request] = []
        self._writes: list[_Request] = []
        self._is_stopping = False
        self._loop = asyncio.get_running_loop()
        self._started: asyncio.Future[None] = self._loop.create_future()
        self._ended: asyncio.Future[None] = self._loop.create_future()
        self.opened: Opened | None = None
        self.set_aside: Path | None = None

    # In the event loop.

    async def start(self) -> None:
        """Start the thread and wait until the store is open, or raise why it is not."""
        # A daemon: a program that forgets to close its stores still ends, and a transaction cut off is rolled back.
        Thread(target=self._run, name=f"oneiric-store:{self._spec.path.name}", daemon=True).start()
        try:
            await asyncio.shield(self._started)
        except BaseException:
            await self.stop()
            raise

    def read(self, work: Work[Any]) -> asyncio.Future[Any]:
        """Have *work* run on the thread; the future holds its result."""
        return self._asked(self._reads, work)

    def write(self, work: Work[Any]) -> asyncio.Future[Any]:
        """Have *work* run on the thread; the future holds its result after the commit."""
        return self._asked(self._writes, work)

    def _asked(self, waiting: list[_Request], work: Work[Any]) -> asyncio.Future[Any]:
        answer = self._loop.create_future()
        if self._is_stopping:
            answer.set_exception(StoreError(f"store {str(self._spec.path)!r} is closed", "open() first", "io"))
            return answer
        if waiting is self._writes and self._spec.readonly:
            answer.set_exception(StoreError(f"store {str(self._spec.path)!r} was opened to be read", None, "readonly"))
            return answer
        if not (self._reads or self._writes):
            self._loop.call_soon(self._send)
        waiting.append((work, answer))
        return answer

    def _send(self) -> None:
        if self._reads or self._writes:
            self._inbox.put((self._reads, self._writes))
            self._reads, self._writes = [], []

    async def stop(self) -> None:
        """Finish what was asked, close the connection, and wait for the end of the thread's work."""
        if not self._is_stopping:
            self._is_stopping = True
            self._send()
            self._inbox.put(None)
        await asyncio.shield(self._ended)

    # On the thread.

    def _run(self) -> None:
        try:
            self._open()
        except BaseException as error:  # noqa: BLE001 - whatever it is belongs to the caller, not to this thread
            self._post([(self._started, None, error)])
        else:
            self._post([(self._started, None, None)])
        try:
            while any(batch := self._next_batch()):
                self._serve(*batch)
        finally:
            self._close()
            self._post([(self._ended, None, None)])

    def _next_batch(self) -> _Batch:
        """Wait for requests and take those waiting behind them; empty at the end."""
        reads: list[_Request] = []
        writes: list[_Request] = []
        sent = self._inbox.get()
        try:
            while sent is not None:
                reads += sent[0]
                writes += sent[1]
                if len(reads) + len(writes) >= _MOST_TOGETHER:
                    return reads, writes
                sent = self._inbox.get_nowait()
        except Empty:
            return reads, writes
        if reads or writes:
            self._inbox.put(None)  # the end comes after this batch; nothing is asked behind it
        return reads, writes

    def _serve(self, reads: list[_Request], writes: list[_Request]) -> None:
        self._leave_if_replaced()
        # Reads first: none of them sees what its neighbours have not committed.
        if reads := _still_wanted(reads):
            self._post(self._read(reads))
        writes = _still_wanted(writes)
        if self._is_strict:
            self._write_each(writes)
            return
        for start in range(0, len(writes), _MOST_TOGETHER):
            self._post(self._together(writes[start : start + _MOST_TOGETHER], "BEGIN IMMEDIATE"))

    def _read(self, reads: list[_Request]) -> list[_Outcome]:
        outcomes = self._together(reads, "BEGIN")
        if self._spec.readonly:
            # It may have been opened as a file nobody writes; whether that still holds is found out each time.
            was_at_rest = self.opened is not None and self.opened.at_rest
            self._close()
            if was_at_rest and not is_at_rest(self._spec.path):
                outcomes = self._together(reads, "BEGIN")
                self._close()
        return outcomes

    def _write_each(self, writes: list[_Request]) -> None:
        """Give each write its own commit, and answers soon after it, several at a time."""
        outcomes: list[_Outcome] = []
        told = perf_counter()
        for number, request in enumerate(writes):
            outcomes += self._together([request], "BEGIN IMMEDIATE")
            error = outcomes[-1][2]
            if isinstance(error, StoreError) and error.kind in _FOR_ALL:
                # The others have waited as long for the same file.
                if rest := writes[number + 1 :]:
                    outcomes += self._failed(rest, error)
                break
            if (now := perf_counter()) - told > _MOST_SECONDS_UNTOLD:
                self._post(outcomes)
                outcomes, told = [], now
        if outcomes:
            self._post(outcomes)

    def _together(self, requests: list[_Request], begin: str) -> list[_Outcome]:
        """Do *requests* in one transaction: on a failure of the file, none of them is done."""
        try:
            opened = self._begun(begin)
            connection, database = opened.connection, opened.database
            try:
                outcomes = self._performed(database, requests)
                if outcomes is None:
                    self._roll_back(connection)
                    connection.execute(begin)
                    outcomes = [self._apart(connection, database, request) for request in requests]
                connection.execute("COMMIT")
            except BaseException:
                self._roll_back(connection)
                raise
        except BaseException as error:  # noqa: BLE001 - it belongs to the callers, and the thread has others to serve
            return self._failed(requests, error)
        return outcomes

    def _performed(self, database: Database, requests: list[_Request]) -> list[_Outcome] | None:
        """Do all, as if none could fail; None where one was wrong and its neighbours have to be done without it."""
        try:
            return [(answer, work(database), None) for work, answer in requests]
        except BaseException as error:  # whatever one piece of work raises, its neighbours are still done
            if len(requests) == 1 or self._is_of_file(error):
                raise
            return None

    def _apart(self, connection: Connection, database: Database, request: _Request) -> _Outcome:
        """Do one request so that, should it be wrong, nothing of it stays."""
        work, answer = request
        outcome: _Outcome
        connection.execute("SAVEPOINT one")
        try:
            outcome = (answer, work(database), None)
        except BaseException as error:  # whatever the work raises belongs to who asked for it
            if self._is_of_file(error):
                raise
            connection.execute("ROLLBACK TO one")
            outcome = (answer, None, self._told(error))
        connection.execute("RELEASE one")
        return outcome

    def _begun(self, begin: str) -> Opened:
        """Return the open store with a transaction begun."""
        opened = self.opened or self._open()
        opened.connection.execute(begin)
        if opened.journal == "delete" and not self._library.is_safe_with_wal and begin != "BEGIN":
            mode = opened.connection.execute("PRAGMA journal_mode").fetchall()[0][0]
            if mode != "delete":  # a newer SQLite in another process has switched it
                self._roll_back(opened.connection)
                self._close()
                opened = self._open()
                opened.connection.execute(begin)
        return opened

    def _leave_if_replaced(self) -> None:
        """Let go of a file that is no longer the one at the path, so that the next request opens that one."""
        if self.opened is not None and self.opened.identity != identity(self._spec.path):
            connection, self.opened = self.opened.connection, None
            self._library.let_go(connection)

    def _open(self) -> Opened:
        if self.opened is None:
            self.opened = open_file(self._spec)
            self.set_aside = self.opened.set_aside or self.set_aside
        return self.opened

    def _close(self) -> None:
        if self.opened is not None:
            connection, self.opened = self.opened.connection, None
            try:
                connection.close()
            except self._library.error:
                return  # what it could not tidy up, the next opening does

    def _roll_back(self, connection: Connection) -> None:
        try:
            if connection.in_transaction:
                connection.execute("ROLLBACK")
        except self._library.error:
            self._close()

    def _is_of_file(self, error: BaseException) -> bool:
        return self._library.code(error) is not None and self._told_kind(error) is not None

    def _told_kind(self, error: BaseException) -> str | None:
        told = self._told(error)
        return told.kind if isinstance(told, StoreError) else None

    def _told(self, error: BaseException) -> BaseException:
        """Return what a caller is told: our own error in place of the library's, and any other as it is."""
        if isinstance(error, self._library.error):
            told = store_error(error, self._spec.path, self._library)
            told.__cause__ = error
            return told
        if isinstance(error, StopIteration):  # a future cannot hold it
            stopped = RuntimeError("the work raised StopIteration")
            stopped.__cause__ = error
            return stopped
        return error

    def _failed(self, requests: list[_Request], error: BaseException) -> list[_Outcome]:
        told = self._told(error)
        if isinstance(told, StoreError) and told.kind in _REOPENED:
            self._close()
        if len(requests) == 1:
            return [(requests[0][1], None, told)]
        # One error each: an exception that several tasks raise would collect all their tracebacks.
        if not isinstance(told, StoreError):
            told = StoreError(f"store {str(self._spec.path)!r} failed: {told!r}", None, "io")
        return [(answer, None, _again(told, error)) for _, answer in requests]

    def _post(self, outcomes: list[_Outcome]) -> None:
        try:
            self._loop.call_soon_threadsafe(_settle, outcomes)
        except RuntimeError:
            return  # the loop is closed: nobody waits any more


def _still_wanted(requests: list[_Request]) -> list[_Request]:
    return [request for request in requests if not request[1].cancelled()]


def _again(told: StoreError, cause: BaseException) -> StoreError:
    copy = StoreError(told.message, told.hint, told.kind)
    copy.__cause__ = cause
    return copy


def _settle(outcomes: list[_Outcome]) -> None:
    for answer, value, error in outcomes:
        if answer.done():
            continue  # its caller was cancelled
        if error is None:
            answer.set_result(value)
        else:
            answer.set_exception(error)
