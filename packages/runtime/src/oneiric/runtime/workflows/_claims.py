"""Claims: whether a run may be run here, and with what is already done; decided and taken in one transaction."""

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from oneiric.core.errors import CandidateNotFoundError, CheckpointError
from oneiric.runtime._store_database import Database
from oneiric.runtime.workflows._changes import below, first_difference
from oneiric.runtime.workflows._checkpoint_table import (
    Row,
    insert_run,
    keep_definition,
    parsed,
    stored_spec,
    take,
    the_row,
    the_row_or_none,
)
from oneiric.runtime.workflows._lease import Claimant
from oneiric.runtime.workflows._ledger import Wanted
from oneiric.runtime.workflows._ports import OnChange
from oneiric.runtime.workflows._spec import WorkflowSpec

__all__ = ["Claim", "Clocks", "begin", "is_held", "new_row", "reopen"]

_UNDO = ":compensate"


@dataclass(frozen=True, slots=True, kw_only=True)
class Clocks:
    """Who claims, and when.

    Attributes:
        claimant: This process.
        boot: Of the machine.
        clock: The time in seconds since the epoch, for people.
        monotonic: The time of leases, in seconds, the same for all processes of the machine.
        lease_seconds: How long a lease lasts that is not renewed.
        is_run_here: Whether a run is being run with this store.
    """

    claimant: Claimant
    boot: str
    clock: Callable[[], float]
    monotonic: Callable[[], float]
    lease_seconds: float
    is_run_here: Callable[[str], bool]


@dataclass(frozen=True, slots=True, kw_only=True)
class Claim:
    """A run that is ours now.

    Attributes:
        wanted: The run; its definition is the one it goes on with.
        token: Proves that it is ours.
        until: When the lease ends, on the monotonic clock.
        started_at: When it began first.
        committed: Unit → result, in the order they ended.
        generations: Unit or node → how often it was asked for anew.
        place: Of the last node that ended.
        undoing: Why it failed, where it is being undone.
    """

    wanted: Wanted
    token: int
    until: float
    started_at: float
    committed: Mapping[str, Any]
    generations: Mapping[str, int]
    place: int
    undoing: str | None


def is_held(row: Row, clocks: Clocks) -> Claimant | None:
    """Return who runs a run now, or None: by the lease, and by whether its owner is known to have ended."""
    if row.lease_owner is None or row.lease_until is None or row.lease_boot != clocks.boot:
        return None
    owner = Claimant.from_text(row.lease_owner)
    if owner is None or row.lease_until <= clocks.monotonic() or owner.is_gone():
        return None
    if owner == clocks.claimant and not clocks.is_run_here(row.run_id):
        return None  # it ended here, and that could not be written down
    return owner


def begin(database: Database, wanted: Wanted, clocks: Clocks) -> Claim | None:
    """Claim a run, a new one or one to go on with; None where there is nothing to go on with.

    Raises:
        CheckpointError: It is another one, somebody runs it, or its definition has changed.
    """
    row = the_row_or_none(database, wanted.run_id)
    context = json.dumps(wanted.context, sort_keys=True)
    if row is None:
        keep_definition(database, wanted.spec)
        insert_run(database, new_row(wanted, context, clocks, status="running"))
        row = the_row(database, wanted.run_id)
        return _claimed(database, row, wanted, clocks, {})
    if (row.workflow_key, row.context) != (wanted.spec.key, context):
        raise CheckpointError(
            f"run {wanted.run_id!r} is one of workflow {row.workflow_key!r}, begun with another context",
            "another run id",
            "state",
        )
    if row.status == "completed" or (row.status == "cancelled" and wanted.parent is None):
        return None
    return _go_on(database, row, wanted.spec, clocks, (wanted.on_change, None))


def new_row(wanted: Wanted, context: str, clocks: Clocks, *, status: str) -> Row:
    """Return the row of a run that is new."""
    return Row(
        run_id=wanted.run_id,
        workflow_key=wanted.spec.key,
        status=status,
        queued_at=clocks.clock() if status == "queued" else None,
        definition=wanted.spec.digest,
        context=context,
        parent=wanted.parent,
    )


def reopen(
    database: Database,
    run_id: str,
    specs: Mapping[str, WorkflowSpec],
    clocks: Clocks,
    choice: tuple[OnChange, str | None],
) -> Claim | None:
    """Claim a run that has begun before; None where it has completed, and no node of it is to run again.

    Args:
        database: The store.
        run_id: The run.
        specs: Key → the definition that holds now.
        clocks: Who claims.
        choice: What to do about a changed definition, and the node to run from, or None.

    Raises:
        RunNotFoundError: There is none.
        CandidateNotFoundError: Its workflow is gone.
        CheckpointError: Somebody runs it, its definition has changed, it is a part of another run, or there is no
            such node.
    """
    on_change, from_node = choice
    row = the_row(database, run_id)
    if row.parent is not None:
        raise CheckpointError(f"run {run_id!r} is a part of run {row.parent!r}", f"resume {row.parent}", "state")
    if row.status == "completed" and from_node is None:
        return None
    spec = specs.get(row.workflow_key)
    if spec is None:
        if on_change != "stored":
            raise CandidateNotFoundError("workflow", row.workflow_key, f"run {run_id} is one of it")
        spec = stored_spec(database, row.definition)
    return _go_on(database, row, spec, clocks, choice)


def _go_on(
    database: Database,
    row: Row,
    spec: WorkflowSpec,
    clocks: Clocks,
    choice: tuple[OnChange, str | None],
) -> Claim:
    on_change, from_node = choice
    owner = is_held(row, clocks)
    if owner is not None and not _is_part_of_ours(database, row, clocks):
        left = max(0.0, (row.lease_until or 0.0) - clocks.monotonic())
        raise CheckpointError(
            f"run {row.run_id!r} is being run by {owner.told()}, whose lease lasts another {left:.0f} s",
            "wait for its end, or cancel it",
            "held",
        )
    if row.definition != spec.digest:
        # What has not begun yet may as well begin with what holds now.
        spec = _chosen(database, row, spec, "current" if row.status == "queued" else on_change)
    if from_node is not None and from_node not in {node.id for node in spec.nodes}:
        raise CheckpointError(f"workflow {spec.key!r} has no node {from_node!r}", None, "state")
    generations = parsed(row.generations, f"run {row.run_id!r}")
    _forget(database, row, spec, from_node, generations)
    context = parsed(row.context, f"the context of run {row.run_id!r}")
    wanted = Wanted(run_id=row.run_id, spec=spec, context=context, parent=row.parent, on_change=on_change)
    return _claimed(database, row, wanted, clocks, generations)


def _is_part_of_ours(database: Database, row: Row, clocks: Clocks) -> bool:
    """Say whether a run is a sub-workflow of one that is ours: who takes a run over takes over all of it."""
    above = None if row.parent is None else the_row_or_none(database, row.parent)
    return above is not None and above.lease_owner == clocks.claimant.text()


def _chosen(database: Database, row: Row, spec: WorkflowSpec, on_change: OnChange) -> WorkflowSpec:
    """Return the definition that a run goes on with whose own is not the one that holds now."""
    before = stored_spec(database, row.definition)
    if on_change == "refuse":
        raise CheckpointError(
            f"workflow {spec.key!r} has changed since run {row.run_id!r} began: {first_difference(before, spec)}",
            "on_change='stored' for the definition it began with, or 'current'",
            "changed",
        )
    if on_change == "stored":
        return before
    keep_definition(database, spec)
    return spec


def _forget(
    database: Database, row: Row, spec: WorkflowSpec, from_node: str | None, generations: dict[str, int]
) -> None:
    """Forget what is to be done again: from a node on, and where what was done has been undone."""
    keys = [
        (str(key), str(status))
        for key, status in database.execute(
            "SELECT node_key, status FROM workflow_execution_nodes WHERE run_id = ?", (row.run_id,)
        )
    ]
    gone = {key for key, status in keys if status != "completed"}
    if from_node is not None:
        again = below(spec, [from_node])
        for node in again:
            generations[node] = generations.get(node, 0) + 1
        gone |= {key for key, _ in keys if _node_of(key) in again}
    if row.undoing is None or row.status == "failed":
        undone = {key.removesuffix(_UNDO) for key, status in keys if key.endswith(_UNDO) and status == "completed"}
        for unit in undone - gone:
            generations[unit] = generations.get(unit, 0) + 1
        nodes = {_node_of(unit) for unit in undone}
        after = below(spec, nodes & {node.id for node in spec.nodes}) - nodes
        gone |= undone | {key for key, _ in keys if key.endswith(_UNDO) or _node_of(key) in after}
        database.execute("UPDATE workflow_executions SET undoing = NULL WHERE run_id = ?", (row.run_id,))
    database.execute_many(
        "DELETE FROM workflow_execution_nodes WHERE run_id = ? AND node_key = ?", [(row.run_id, key) for key in gone]
    )


def _node_of(key: str) -> str:
    return key.removesuffix(_UNDO).partition("[")[0]


def _claimed(database: Database, row: Row, wanted: Wanted, clocks: Clocks, generations: Mapping[str, int]) -> Claim:
    until = clocks.monotonic() + clocks.lease_seconds
    now = clocks.clock()
    token = take(
        database,
        row.run_id,
        {
            "owner": clocks.claimant.text(),
            "boot": clocks.boot,
            "until": until,
            "now": now,
            "definition": wanted.spec.digest,
            "generations": json.dumps(generations),
        },
    )
    kept = database.execute(
        """SELECT node_key, result, place FROM workflow_execution_nodes
           WHERE run_id = ? AND status = 'completed' ORDER BY place""",
        (row.run_id,),
    )
    after = the_row(database, row.run_id)
    return Claim(
        wanted=wanted,
        token=token,
        until=until,
        started_at=after.started_at or now,
        committed={
            str(key): parsed(result, f"the result of node {key!r} of run {row.run_id!r}") if result else None
            for key, result, _ in kept
        },
        generations=generations,
        place=max((int(place) for *_, place in kept), default=0),
        undoing=after.undoing,
    )
