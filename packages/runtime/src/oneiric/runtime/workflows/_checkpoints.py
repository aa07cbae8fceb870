"""WorkflowCheckpointStore: the progress of runs, kept in SQLite so that a crash costs no finished node."""

import asyncio
import json
import os
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Any, Literal

from oneiric.core.errors import CheckpointError, StoreError, WorkflowError
from oneiric.runtime._store_kept import KeptInStore
from oneiric.runtime._store_library import LibraryName
from oneiric.runtime._undisturbed import claimed
from oneiric.runtime.store import Database, SqliteStore
from oneiric.runtime.workflows._checkpoint_reading import listed, shown
from oneiric.runtime.workflows._checkpoint_table import (
    APPLICATION_ID,
    MIGRATIONS,
    TABLE,
    fenced,
    insert_run,
    keep_definition,
    let_go,
    the_row,
    the_row_or_none,
)
from oneiric.runtime.workflows._claims import Claim, Clocks, begin, is_held, new_row, reopen
from oneiric.runtime.workflows._journal import StoreJournal, unkept
from oneiric.runtime.workflows._lease import Claimant, boot_id
from oneiric.runtime.workflows._ledger import Closing, Opening, Wanted
from oneiric.runtime.workflows._plain import written
from oneiric.runtime.workflows._ports import OnChange
from oneiric.runtime.workflows._results import RunInfo
from oneiric.runtime.workflows._spec import WorkflowSpec

__all__ = ["WorkflowCheckpointStore"]


class WorkflowCheckpointStore(KeptInStore[SqliteStore]):
    """Keep the progress of runs in a SQLite file that several processes may use at once.

    Every node that finished is committed before anything that depends on it starts. A run is run by one process at a
    time: it holds a lease, which it renews, and a token, which is compared in the transaction of each commit, so that
    a process that was stopped for too long can commit nothing.

    Belongs to one engine, and to the event loop that opens it. A damaged file is kept as ``*.corrupt-<time>`` and an
    empty one begins: the log and `set_aside` tell.

    Args:
        path: The file.
        durability: ``"group"``: nodes that finish together share a commit. ``"strict"``: each has its own. Either
            way a dependant starts after the commit.
        synchronous: ``"full"``: a committed node survives a power failure. ``"normal"``: it survives the death of the
            process, and the last ones may be lost in a power failure; much faster.
        lease_seconds: After so long without renewal another process may take a run over. It is renewed three times
            as often. The run of a process that is known to have ended can be taken over at once.
        busy_seconds: How long to wait for another process's lock.
        library: Which SQLite; by default apsw where it is installed, else sqlite3.
        readonly: Never make or change a file: runs can be listed and inspected.
        clock: The time in seconds since the epoch, told to people and relied on by nothing.
        monotonic: The clock of leases, in seconds, the same for all processes of the machine.
    """

    def __init__(
        self,
        path: str | os.PathLike[str],
        *,
        durability: Literal["group", "strict"] = "group",
        synchronous: Literal["full", "normal"] = "full",
        lease_seconds: float = 30.0,
        busy_seconds: float = 5.0,
        library: LibraryName | None = None,
        readonly: bool = False,
        clock: Callable[[], float] = time.time,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        if not 0 < lease_seconds <= 86_400:
            raise WorkflowError(f"lease_seconds is {lease_seconds!r}", "seconds above 0, a day at most")
        super().__init__(
            SqliteStore(
                path,
                application_id=APPLICATION_ID,
                migrations=MIGRATIONS,
                adopts=TABLE,
                busy_seconds=busy_seconds,
                durability=durability,
                synchronous=synchronous,
                library=library,
                on_corrupt="set_aside",
                readonly=readonly,
            )
        )
        self._is_strict = durability == "strict"
        self._journals: dict[str, StoreJournal] = {}
        self._claiming: set[str] = set()
        self._clocks = Clocks(
            claimant=Claimant.here(),
            boot=boot_id(),
            clock=clock,
            monotonic=monotonic,
            lease_seconds=lease_seconds,
            is_run_here=self._journals.__contains__,
        )
        self._renewing: asyncio.Task[None] | None = None
        self._is_renewal_due = False

    @property
    def path(self) -> Path:
        """The file."""
        return self._store.path

    @property
    def journal_mode(self) -> str | None:
        """``"wal"`` or ``"delete"``; None while the store is closed or only read."""
        return self._store.journal_mode

    @property
    def set_aside(self) -> Path | None:
        """Where the last damaged file was put since this store was opened, or None."""
        return self._store.set_aside

    async def aclose(self) -> None:
        """Close the file. Close the engine first: what still runs can commit nothing more."""
        if self._renewing is not None:
            self._renewing.cancel()
            await asyncio.wait([self._renewing])
            self._renewing = None
        await super().aclose()

    async def check(self) -> str | None:
        """Read the whole file and return what is wrong with it, or None."""
        return await self._store.check()

    async def prune(self, ended_before: float) -> int:
        """Forget the runs that ended before a time, in seconds since the epoch; return how many there were.

        Raises:
            StoreError: Nothing can be written.
        """

        def work(database: Database) -> int:
            gone = database.execute(
                """SELECT run_id FROM workflow_executions WHERE ended_at < ? AND parent IS NULL
                       AND status IN ('completed', 'failed', 'cancelled')""",
                (ended_before,),
            )
            for (run_id,) in gone:
                # The runs of its sub-workflows have ids that begin with its own.
                for table in ("workflow_execution_nodes", "workflow_executions"):
                    database.execute(
                        f"DELETE FROM {table} WHERE run_id = ?1 OR substr(run_id, 1, length(?1) + 1) = ?1 || '/'",  # noqa: S608 - our own words
                        (run_id,),
                    )
            database.execute(
                """DELETE FROM workflow_definitions
                   WHERE digest NOT IN (SELECT definition FROM workflow_executions)"""
            )
            return len(gone)

        return await self._store.write(work)

    # For the engine.

    async def begin(self, wanted: Wanted) -> Opening | RunInfo:
        """Open a run, a new one or one to go on with; what is known of it where there is nothing to go on with.

        Raises:
            CheckpointError: It is another one, somebody runs it, its definition has changed, or nothing can be kept.
        """
        plain = _plain(wanted)
        return await self._claim(wanted.run_id, lambda database: begin(database, plain, self._clocks))

    async def reopen(
        self, run_id: str, specs: Mapping[str, WorkflowSpec], on_change: OnChange, from_node: str | None
    ) -> Opening | RunInfo:
        """Open a run that has begun before.

        Raises:
            CheckpointError: As of `begin`; or there is no such run or node.
            CandidateNotFoundError: Its workflow is gone.
        """
        choice = (on_change, from_node)
        return await self._claim(run_id, lambda database: reopen(database, run_id, specs, self._clocks, choice))

    async def _claim(self, run_id: str, work: Callable[[Database], Claim | None]) -> Opening | RunInfo:
        if run_id in self._journals or run_id in self._claiming:
            raise CheckpointError(f"run {run_id!r} is being run here", "wait for its end", "held")
        # A lease of our own that nobody works under can be claimed again: only one may try at a time.
        self._claiming.add(run_id)
        try:
            claim = await claimed(self._store.write(work), lambda claim: self._let_go(run_id, claim))
        except StoreError as error:
            raise unkept(run_id, error) from error
        finally:
            self._claiming.discard(run_id)
        if claim is None:
            return await self.inspect(run_id)
        journal = StoreJournal(
            run_id=run_id,
            token=claim.token,
            until=claim.until,
            place=claim.place,
            store=self._store,
            monotonic=self._clocks.monotonic,
            renew=self._renew_soon,
            is_strict=self._is_strict,
        )
        self._journals[run_id] = journal
        if self._renewing is None:
            self._renewing = asyncio.create_task(self._keep_renewing(), name="oneiric-workflow-leases")
        return Opening(
            wanted=claim.wanted,
            started_at=claim.started_at,
            committed=claim.committed,
            generations=claim.generations,
            journal=journal,
            undoing=claim.undoing,
        )

    async def _let_go(self, run_id: str, claim: Claim | None) -> None:
        if claim is not None:
            token = claim.token
            with suppress(StoreError):  # it can be taken over when its lease has run out
                await self._store.write(lambda database: let_go(database, run_id, token))

    async def close(self, opening: Opening, closing: Closing) -> None:
        """Write down how a run ended, and let go of it.

        Raises:
            CheckpointError: That cannot be kept.
        """
        journal = self._journals.get(opening.wanted.run_id)
        if journal is None or journal is not opening.journal:
            return
        try:
            await journal.close(closing)
        finally:
            del self._journals[journal.run_id]

    async def enqueue(self, wanted: Wanted) -> RunInfo:
        """Write down a run that is to be run.

        Raises:
            CheckpointError: There is a run of that id, or nothing can be kept.
        """
        wanted = _plain(wanted)
        context = json.dumps(wanted.context, sort_keys=True)

        def work(database: Database) -> None:
            if the_row_or_none(database, wanted.run_id) is not None:
                raise CheckpointError(f"there is a run {wanted.run_id!r} already", "another run id", "state")
            keep_definition(database, wanted.spec)
            insert_run(database, new_row(wanted, context, self._clocks, status="queued"))

        try:
            await self._store.write(work)
        except StoreError as error:
            raise unkept(wanted.run_id, error) from error
        return await self.inspect(wanted.run_id)

    async def cancel(self, run_id: str) -> RunInfo:
        """Cancel a run that is not run here: at once where nobody runs it, else when its owner next writes.

        Raises:
            RunNotFoundError: There is none.
            CheckpointError: Nothing can be kept.
        """

        def work(database: Database) -> None:
            row = the_row(database, run_id)
            if row.status in {"completed", "failed", "cancelled"}:
                return
            if is_held(row, self._clocks) is not None:
                database.execute("UPDATE workflow_executions SET cancel_requested = 1 WHERE run_id = ?", (run_id,))
                return
            # The token grows: should its owner be alive after all, it can commit nothing more.
            database.execute(
                """UPDATE workflow_executions SET status = 'cancelled', ended_at = ?, lease_token = lease_token + 1,
                       lease_owner = NULL WHERE run_id = ?""",
                (self._clocks.clock(), run_id),
            )

        try:
            await self._store.write(work)
        except StoreError as error:
            raise unkept(run_id, error) from error
        return await self.inspect(run_id)

    async def inspect(self, run_id: str) -> RunInfo:
        """Return what is kept of a run, its nodes included.

        Raises:
            RunNotFoundError: There is none.
            StoreError: The file cannot be read.
        """
        return await self._store.read(lambda database: shown(database, run_id, self._clocks))

    async def list(
        self, *, workflow: str | None = None, status: str | None = None, limit: int = 100
    ) -> Sequence[RunInfo]:
        """Return runs, the newest first, without their nodes and without those of sub-workflows.

        Raises:
            StoreError: The file cannot be read.
        """
        return await self._store.read(lambda database: listed(database, workflow, status, limit, self._clocks))

    # Leases.

    def _renew_soon(self) -> None:
        if not self._is_renewal_due:
            self._is_renewal_due = True
            asyncio.get_running_loop().call_soon(self._renew)

    async def _keep_renewing(self) -> None:
        while True:
            await asyncio.sleep(self._clocks.lease_seconds / 3)
            self._renew_soon()

    def _renew(self) -> None:
        self._is_renewal_due = False
        journals = list(self._journals.values())
        if not journals:
            return
        until = self._clocks.monotonic() + self._clocks.lease_seconds

        def work(database: Database) -> list[bool | CheckpointError]:
            answers: list[bool | CheckpointError] = []
            for journal in journals:
                try:
                    answers.append(fenced(database, journal.run_id, journal.token))
                except CheckpointError as error:
                    answers.append(error)
                    continue
                database.execute(
                    "UPDATE workflow_executions SET lease_until = ? WHERE run_id = ? AND lease_owner IS NOT NULL",
                    (until, journal.run_id),
                )
            return answers

        def renewed(future: "asyncio.Future[list[Any]]") -> None:
            if future.cancelled() or (error := future.exception()) is not None:
                self._unrenewed(journals, None if future.cancelled() else error)
                return
            for journal, answer in zip(journals, future.result(), strict=True):
                if isinstance(answer, CheckpointError):
                    journal.lost(answer)
                else:
                    journal.renewed(until, is_cancelled=answer)

        self._store.write(work).add_done_callback(renewed)

    def _unrenewed(self, journals: Sequence[StoreJournal], error: BaseException | None) -> None:
        """Give up the runs whose lease has ended and cannot be renewed."""
        now = self._clocks.monotonic()
        for journal in journals:
            if journal.until <= now:
                journal.lost(unkept(journal.run_id, error))


def _plain(wanted: Wanted) -> Wanted:
    """Return what is wanted with its context as it will be read back.

    Raises:
        WorkflowError: The context is no plain data.
    """
    return replace(wanted, context=written(wanted.context, f"the context of run {wanted.run_id!r}")[1])
