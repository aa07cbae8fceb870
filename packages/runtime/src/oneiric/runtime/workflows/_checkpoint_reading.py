"""Reading checkpoints: runs as they are told to people and programs."""

from typing import Any, cast

from oneiric.runtime._store_database import Database
from oneiric.runtime.workflows._checkpoint_table import Row, parsed, the_row
from oneiric.runtime.workflows._claims import Clocks, is_held
from oneiric.runtime.workflows._results import NodeInfo, NodeStatus, RunInfo, RunStatus

__all__ = ["listed", "shown"]


def shown(database: Database, run_id: str, clocks: Clocks) -> RunInfo:
    """Return a run with its nodes, in the order they ended.

    Raises:
        RunNotFoundError: There is none.
    """
    row = the_row(database, run_id)
    found = database.execute(
        """SELECT node_key, status, attempts, started_at, ended_at, error, idempotency_key, result
           FROM workflow_execution_nodes WHERE run_id = ? ORDER BY place, node_key""",
        (run_id,),
    )
    return _info(row, clocks, tuple(_node(*each) for each in found))


def listed(database: Database, workflow: str | None, status: str | None, limit: int, clocks: Clocks) -> list[RunInfo]:
    """Return runs that are no part of others, the newest first."""
    kept = {"interrupted": "running"}.get(status or "", status)
    names = database.execute(
        """SELECT run_id FROM workflow_executions
           WHERE parent IS NULL AND (?1 IS NULL OR workflow_key = ?1) AND (?2 IS NULL OR status = ?2)
           ORDER BY coalesce(started_at, queued_at) DESC, rowid DESC LIMIT ?3""",
        (workflow, kept, -1 if status in {"running", "interrupted"} else limit),
    )
    runs = (_info(the_row(database, str(run_id)), clocks) for (run_id,) in names)
    return [run for run in runs if status in {None, run.status}][:limit]


def _info(row: Row, clocks: Clocks, nodes: tuple[NodeInfo, ...] = ()) -> RunInfo:
    owner = is_held(row, clocks) if row.status == "running" else None
    status = "interrupted" if row.status == "running" and owner is None else row.status
    return RunInfo(
        run_id=row.run_id,
        workflow=row.workflow_key,
        status=cast("RunStatus", status),
        queued_at=row.queued_at,
        started_at=row.started_at,
        ended_at=row.ended_at,
        error=row.error or row.undoing,
        definition=row.definition,
        parent=row.parent,
        owner=None if owner is None else owner.told(),
        context=parsed(row.context, f"the context of run {row.run_id!r}"),
        output=None if row.output is None else parsed(row.output, f"the output of run {row.run_id!r}"),
        nodes=nodes,
    )


def _node(node: str, status: str, attempts: int, started: float | None, ended: float | None, *rest: Any) -> NodeInfo:
    error, key, result = rest
    return NodeInfo(
        node=node,
        status=cast("NodeStatus", status),
        attempts=attempts,
        started_at=started,
        ended_at=ended,
        error=error,
        idempotency_key=key,
        result=None if result is None else parsed(result, f"the result of node {node!r}"),
    )
