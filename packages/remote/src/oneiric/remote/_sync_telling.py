"""Telling how each sync ended: status, its file for readers outside, and those who watch."""

import asyncio
import time
from collections.abc import Callable, Coroutine
from contextlib import AbstractAsyncContextManager, AbstractContextManager, suppress
from contextvars import copy_context
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any, Final

from oneiric.core.errors import OneiricError
from oneiric.core.snapshot import read_json, write_json
from oneiric.remote._sync_status import RemoteStatus
from oneiric.remote._sync_values import SyncFailed, SyncReport

__all__ = ["Run", "Teller", "read_status"]

type _Observer = Callable[[SyncReport | SyncFailed], object]

_MS: Final = 1000.0


@dataclass(slots=True)
class Run:
    """One sync, as far as it has come.

    Attributes:
        source: Where from.
        step: Which it is at.
        started: When, on a clock that only goes on.
        cancelled: What came while it could not be broken off, and is raised once it can; None when nothing did.
    """

    source: str
    step: str = "fetch"
    started: float = field(default_factory=time.monotonic)
    cancelled: asyncio.CancelledError | None = None

    @property
    def took_ms(self) -> float:
        """How long ago it began."""
        return round((time.monotonic() - self.started) * _MS, 3)

    async def in_thread[T](self, function: Callable[..., T], *arguments: object) -> T:
        """Call a function in a thread, and return when it is over, also if the sync is cancelled meanwhile.

        A thread cannot be broken off: one that is left alone goes on writing when another sync holds the directory.
        """
        call = partial(copy_context().run, function, *arguments)
        return await self.to_its_end(asyncio.get_running_loop().run_in_executor(None, call))

    async def to_its_end[T](self, work: "asyncio.Future[T]") -> T:
        """Wait until something is over, and note the cancellation that comes meanwhile."""
        while not work.done():
            try:
                await asyncio.wait((work,))
            except asyncio.CancelledError as error:
                self.cancelled = error
        return work.result()

    def check(self) -> None:
        """Raise the cancellation that was put off, if one was."""
        if self.cancelled is not None:
            raise self.cancelled


class Teller:
    """Tell how syncs end.

    Args:
        path: The file for readers outside.
        status: What is known.
        document: Returns what the file is to hold.
        clock: Seconds since the epoch.
        trace: Opened around each sync.
    """

    def __init__(
        self,
        path: Path,
        status: RemoteStatus,
        document: Callable[[], dict[str, Any]],
        *,
        clock: Callable[[], float],
        trace: Callable[[], AbstractContextManager[object]],
    ) -> None:
        self._path, self._status, self._document = path, status, document
        self._clock, self._trace = clock, trace
        self._observers: list[_Observer] = []

    def observe(self, observer: _Observer) -> Callable[[], None]:
        """Have *observer* told how each sync ended; return the call that stops it."""
        self._observers.append(observer)

        def stop() -> None:
            with suppress(ValueError):
                self._observers.remove(observer)

        return stop

    async def told(
        self, run: Run, alone: AbstractAsyncContextManager[object], work: Callable[[], Coroutine[Any, Any, SyncReport]]
    ) -> SyncReport:
        """Do the work while *alone* is held, tell how it ended, and return or raise the same.

        Raises:
            CancelledError: It was cancelled; where that came too late to change how it ended, that is told as well.
        """
        try:
            return await self._told(run, alone, work)
        finally:
            run.check()

    async def _told(
        self, run: Run, alone: AbstractAsyncContextManager[object], work: Callable[[], Coroutine[Any, Any, SyncReport]]
    ) -> SyncReport:
        try:
            with self._trace():
                async with alone:
                    report = await work()
                report = replace(report, duration_ms=run.took_ms)
        except OneiricError as error:
            failed = SyncFailed(
                source=run.source,
                step={"swap": "apply"}.get(run.step, run.step),
                error=type(error).__name__,
                reason="; ".join([error.message, *getattr(error, "__notes__", ())]),
                duration_ms=run.took_ms,
            )
            self._status.failed(failed, self._clock())
            await self._tell(run, failed)
            raise
        self._status.succeeded(report, self._clock())
        await self._tell(run, report)
        return report

    async def _tell(self, run: Run, ended: SyncReport | SyncFailed) -> None:
        with suppress(OSError, ValueError):  # a file for readers outside: nothing hangs on it
            await run.in_thread(write_json, self._path, self._document())
        for observer in tuple(self._observers):
            observer(ended)


def read_status(path: Path) -> object:
    """Return the document of the process before; None when there is none that can be read."""
    try:
        return read_json(path)
    except (OSError, ValueError):
        return None  # it is written anew
