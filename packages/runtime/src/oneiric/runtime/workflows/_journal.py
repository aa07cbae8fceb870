"""StoreJournal: keeps the results of one run, as long as the run is ours.

What ends in one turn of the event loop is written together, in one transaction that first makes sure of the lease. Only
then is it acknowledged, and only then does a dependant start.
"""

import asyncio
import time
from collections.abc import Callable
from functools import partial
from time import perf_counter
from typing import Any, Final, Protocol

from oneiric.core.errors import CheckpointError, StoreError
from oneiric.runtime._store_database import Database
from oneiric.runtime.workflows._calls import NodeCall
from oneiric.runtime.workflows._checkpoint_table import NodeRow, fenced, keep_nodes
from oneiric.runtime.workflows._ledger import Closing
from oneiric.runtime.workflows._plain import encoded, written
from oneiric.runtime.workflows._results import NodeInfo
from oneiric.runtime.workflows._scheduler import Scheduler
from oneiric.runtime.workflows._steps import Unit

__all__ = ["StoreJournal", "Writer", "unkept"]

_UNTIED: Final = "lease_owner = NULL, lease_boot = NULL, lease_until = NULL"


class Writer(Protocol):
    """The store that a journal writes to."""

    def write[T](self, work: Callable[[Database], T]) -> asyncio.Future[T]:
        """Run *work* in a transaction; the future is done after its commit."""


class StoreJournal:
    """Keep the results of one run.

    Args:
        run_id: The run.
        token: Proves that it is ours.
        until: When our lease ends, on the monotonic clock.
        place: Of the last node that ended.
        store: Where it is kept.
        monotonic: The clock of leases.
        renew: Asks for a renewal of the lease, at once.
        is_strict: Whether each node has a commit of its own.

    Attributes:
        until: When our lease ends, as far as is known.
        is_cancelled: Whether somebody asked for the run to be cancelled.
    """

    def __init__(
        self,
        *,
        run_id: str,
        token: int,
        until: float,
        place: int,
        store: Writer,
        monotonic: Callable[[], float],
        renew: Callable[[], object],
        is_strict: bool,
    ) -> None:
        self.run_id, self.token, self.until = run_id, token, until
        self.is_cancelled = False
        self._place, self._store, self._monotonic, self._renew = place, store, monotonic, renew
        self._is_strict = is_strict
        self._are_failures_told = False
        self._scheduler: Scheduler | None = None
        self._batch: list[tuple[Unit, Any]] = []
        self._rows: list[NodeRow] = []
        #: Units that have begun and of which nothing is written yet → when.
        self._begun: dict[str, float] = {}
        self._loop = asyncio.get_running_loop()
        #: What turns the performance counter into seconds since the epoch.
        self._offset = time.time() - perf_counter()

    def attach(self, scheduler: Scheduler) -> None:
        """Answer to this scheduler."""
        self._scheduler = scheduler

    # For the scheduler.

    def may_start(self, unit: Unit) -> bool:
        """Say whether the lease still lasts; where it does not, nothing starts before it is renewed."""
        if self._monotonic() < self.until:
            self._begun[unit.key] = perf_counter()
            return True
        self._renew()
        return False

    def finished(self, unit: Unit, call: NodeCall, value: Any, started: float, ended: float) -> None:
        """Keep a result, and acknowledge it when it is committed.

        Raises:
            WorkflowError: It is no plain data.
        """
        text, again = written(value)
        self._begun.pop(unit.key, None)
        self._place += 1
        offset = self._offset
        self._rows.append(
            (
                unit.key,
                "completed",
                started + offset,
                ended + offset,
                call.attempt,
                None,
                text,
                call.known_key,
                self._place,
            )
        )
        if not self._batch and not self._is_strict:
            self._loop.call_soon(self.flush)
        self._batch.append((unit, again))
        if self._is_strict:
            self.flush()

    def skipped(self, unit: Unit) -> None:
        """Note that a node does not run, with whatever is written next."""
        self._rows.append((unit.key, "skipped", None, None, 0, None, None, None, self._place))

    def flush(self) -> None:
        """Write what there is."""
        batch, self._batch = self._batch, []
        if batch:
            self._write(batch, self._taken())

    def _taken(self) -> list[NodeRow]:
        rows, self._rows = self._rows, []
        if self._begun:
            begun, self._begun = self._begun, {}
            rows += [
                (key, "running", began + self._offset, None, 0, None, None, None, self._place)
                for key, began in begun.items()
            ]
        return rows

    def _write(self, batch: list[tuple[Unit, Any]], rows: list[NodeRow]) -> None:
        run_id, token = self.run_id, self.token

        def work(database: Database) -> bool:
            is_cancelled = fenced(database, run_id, token)
            keep_nodes(database, run_id, rows)
            return is_cancelled

        self._store.write(work).add_done_callback(partial(self._answered, batch, rows))

    def _answered(self, batch: list[tuple[Unit, Any]], rows: list[NodeRow], future: "asyncio.Future[bool]") -> None:
        scheduler = self._scheduler
        if scheduler is None:
            return
        error = None if future.cancelled() else future.exception()
        if isinstance(error, StoreError) and error.kind == "locked" and self._monotonic() < self.until:
            self._write(batch, rows)  # another process is slow; the run is still ours
            return
        if error is not None or future.cancelled():
            told = error if isinstance(error, CheckpointError) else unkept(self.run_id, error)
            scheduler.stop(told, cancel=True)
            scheduler.forgotten(len(batch))
            return
        if future.result():
            self.cancel()
        scheduler.acknowledged(batch)

    # For the store.

    def renewed(self, until: float, *, is_cancelled: bool) -> None:
        """Take note that the lease lasts longer."""
        self.until = until
        if is_cancelled:
            self.cancel()
        elif self._scheduler is not None:
            self._scheduler.go_on()

    def lost(self, error: CheckpointError) -> None:
        """Take note that the run is not ours any more."""
        if self._scheduler is not None:
            self._scheduler.stop(error, cancel=True)

    def cancel(self) -> None:
        """Cancel the run, as somebody asked."""
        self.is_cancelled = True
        if self._scheduler is not None:
            self._scheduler.cancel()

    # For the execution.

    async def undoing(self, error: str) -> None:
        """Keep that the run has failed and is being undone."""
        self._tell_failures()
        await self._kept("UPDATE workflow_executions SET undoing = ? WHERE run_id = ?", (error, self.run_id))

    async def undone(self, info: NodeInfo) -> None:
        """Keep that a node was undone, or could not be."""
        self._place += 1
        self._rows.append(
            (
                info.node,
                info.status,
                info.started_at,
                info.ended_at,
                info.attempts,
                info.error,
                None,
                info.idempotency_key,
                self._place,
            )
        )
        await self._kept()

    async def close(self, closing: Closing) -> None:
        """Keep how the run ended, and let go of it.

        Raises:
            CheckpointError: That cannot be kept.
        """
        output = None
        if closing.status == "completed":
            output = encoded(closing.output)
        status = "running" if closing.status == "interrupted" else closing.status
        ended_at = None if closing.status == "interrupted" else closing.ended_at
        self._tell_failures()
        await self._kept(
            f"UPDATE workflow_executions SET status = ?, ended_at = ?, error = ?, output = ?, cancel_requested = 0, "  # noqa: S608 - our own words
            f"{_UNTIED} WHERE run_id = ?",
            (status, ended_at, closing.error, output, self.run_id),
        )

    def _tell_failures(self) -> None:
        """Note what failed or was cancelled, with whatever is written next; once."""
        ended = () if self._scheduler is None or self._are_failures_told else self._scheduler.ended
        self._are_failures_told = True
        offset = self._offset
        self._rows += [
            (
                unit.key,
                "failed" if reason else "cancelled",
                started + offset,
                end + offset,
                attempts,
                reason or None,
                None,
                None,
                self._place,
            )
            for unit, started, end, attempts, reason in ended
            if reason is not None
        ]

    async def _kept(self, sql: str = "", values: tuple[Any, ...] = ()) -> None:
        self._begun.clear()
        rows, run_id, token = self._taken(), self.run_id, self.token

        def work(database: Database) -> None:
            fenced(database, run_id, token)
            keep_nodes(database, run_id, rows)
            if sql:
                database.execute(sql, values)

        try:
            await self._store.write(work)
        except StoreError as error:
            raise unkept(run_id, error) from error


def unkept(run_id: str, error: BaseException | None) -> CheckpointError:
    """Return what is told where nothing can be written."""
    if isinstance(error, StoreError):
        told = CheckpointError(f"run {run_id!r} cannot be kept: {error.message}", error.hint, "store")
    else:
        told = CheckpointError(f"run {run_id!r} cannot be kept: {error!r}", None, "store")
    told.__cause__ = error
    return told
