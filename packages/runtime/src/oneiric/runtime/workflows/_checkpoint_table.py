"""Checkpoints in SQL: the tables, and the statements that change them. Each function runs inside one transaction.

``workflow_executions`` and ``workflow_execution_nodes`` have the published names and columns, and more of their own.
"""

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, Final

from oneiric.core.errors import CheckpointError, RunNotFoundError
from oneiric.runtime._store_database import Database
from oneiric.runtime._store_open import Migration
from oneiric.runtime.workflows._spec import WorkflowSpec

__all__ = [
    "APPLICATION_ID",
    "MIGRATIONS",
    "TABLE",
    "NodeRow",
    "Row",
    "fenced",
    "insert_run",
    "keep_definition",
    "keep_nodes",
    "let_go",
    "parsed",
    "stored_spec",
    "take",
    "the_row",
    "the_row_or_none",
]

APPLICATION_ID: Final = 0x4F4E5746  # "ONWF"
TABLE: Final = "workflow_executions"
_EARLIER: Final = ("workflow_executions", "workflow_execution_nodes", "workflow_checkpoints")
_COLUMNS: Final = (
    "run_id", "workflow_key", "status", "queued_at", "started_at", "ended_at", "error", "definition", "context",
    "output", "parent", "undoing", "cancel_requested", "lease_token", "lease_owner", "lease_boot", "lease_until",
    "generations",
)  # fmt: skip

#: node_key, status, started_at, ended_at, attempts, error, result, idempotency_key, place
type NodeRow = tuple[str, str, float | None, float | None, int, str | None, str | None, str | None, int]


def _create(database: Database) -> None:
    """Make the tables; those of an earlier release cannot be resumed from, and are kept under another name."""
    there = {str(row[0]) for row in database.execute("SELECT name FROM sqlite_schema WHERE type = 'table'")}
    for name in _EARLIER:
        if name in there:
            database.execute(f"ALTER TABLE {name} RENAME TO earlier_{name}")
    database.execute(
        """CREATE TABLE workflow_definitions (
               digest TEXT PRIMARY KEY, workflow_key TEXT NOT NULL, spec TEXT NOT NULL) WITHOUT ROWID"""
    )
    database.execute(
        """CREATE TABLE workflow_executions (
               run_id TEXT PRIMARY KEY, workflow_key TEXT NOT NULL, status TEXT NOT NULL,
               queued_at REAL, started_at REAL, ended_at REAL, error TEXT,
               definition TEXT NOT NULL, context TEXT NOT NULL, output TEXT, parent TEXT, undoing TEXT,
               cancel_requested INTEGER NOT NULL DEFAULT 0,
               lease_token INTEGER NOT NULL DEFAULT 0, lease_owner TEXT, lease_boot TEXT, lease_until REAL,
               generations TEXT NOT NULL DEFAULT '{}')"""
    )
    database.execute("CREATE INDEX workflow_executions_status ON workflow_executions (status)")
    database.execute("CREATE INDEX workflow_executions_parent ON workflow_executions (parent)")
    database.execute(
        """CREATE TABLE workflow_execution_nodes (
               run_id TEXT NOT NULL, node_key TEXT NOT NULL, status TEXT NOT NULL,
               started_at REAL, ended_at REAL, attempts INTEGER NOT NULL DEFAULT 0, error TEXT,
               result TEXT, idempotency_key TEXT, place INTEGER NOT NULL,
               PRIMARY KEY (run_id, node_key)) WITHOUT ROWID"""
    )


MIGRATIONS: Final[tuple[Migration, ...]] = (_create,)


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """One run as it is kept."""

    run_id: str
    workflow_key: str
    status: str
    queued_at: float | None = None
    started_at: float | None = None
    ended_at: float | None = None
    error: str | None = None
    definition: str = ""
    context: str = "null"
    output: str | None = None
    parent: str | None = None
    undoing: str | None = None
    cancel_requested: int = 0
    lease_token: int = 0
    lease_owner: str | None = None
    lease_boot: str | None = None
    lease_until: float | None = None
    generations: str = field(default="{}")


def the_row_or_none(database: Database, run_id: str) -> Row | None:
    """Return a run, or None."""
    found = database.execute(
        f"SELECT {', '.join(_COLUMNS)} FROM workflow_executions WHERE run_id = ?",  # noqa: S608 - our own words
        (run_id,),
    )
    return Row(**dict(zip(_COLUMNS, found[0], strict=True))) if found else None


def the_row(database: Database, run_id: str) -> Row:
    """Return a run.

    Raises:
        RunNotFoundError: There is none.
    """
    row = the_row_or_none(database, run_id)
    if row is None:
        raise RunNotFoundError(f"there is no run {run_id!r}", "oneiric workflow runs")
    return row


def parsed(text: str, what: str) -> Any:
    """Return kept JSON as what it is.

    Raises:
        CheckpointError: It was damaged in a way that no check of SQLite's sees.
    """
    try:
        return json.loads(text)
    except (ValueError, TypeError, RecursionError) as error:
        raise CheckpointError(
            f"{what} is damaged in the store: {error}", "resume from a node before it", "store"
        ) from error


def insert_run(database: Database, row: Row) -> None:
    """Write a new run down."""
    marks = ", ".join(f":{name}" for name in _COLUMNS)
    database.execute(
        f"INSERT INTO workflow_executions ({', '.join(_COLUMNS)}) VALUES ({marks})",  # noqa: S608 - our own words
        {name: getattr(row, name) for name in _COLUMNS},
    )


def keep_definition(database: Database, spec: WorkflowSpec) -> None:
    """Keep a definition that a run begins with."""
    database.execute(
        "INSERT OR IGNORE INTO workflow_definitions VALUES (?, ?, ?)",
        (spec.digest, spec.key, spec.text),
    )


def stored_spec(database: Database, digest: str) -> WorkflowSpec:
    """Return a definition that a run began with.

    Raises:
        CheckpointError: It is not there.
    """
    found = database.execute("SELECT workflow_key, spec FROM workflow_definitions WHERE digest = ?", (digest,))
    if not found:
        raise CheckpointError(f"the definition {digest[:12]} is not in the store", "on_change='current'", "changed")
    return WorkflowSpec.from_mapping(str(found[0][0]), parsed(found[0][1], f"the definition {digest[:12]}"))


def take(database: Database, run_id: str, lease: Mapping[str, Any]) -> int:
    """Make a run that nobody runs ours, and return the token that proves it.

    Args:
        database: The store.
        run_id: The run.
        lease: ``owner boot until now definition generations``.
    """
    database.execute(
        """UPDATE workflow_executions SET status = 'running', started_at = coalesce(started_at, :now), ended_at = NULL,
               error = NULL, cancel_requested = 0, lease_token = lease_token + 1, lease_owner = :owner,
               lease_boot = :boot, lease_until = :until, definition = :definition, generations = :generations
           WHERE run_id = :run_id""",
        {"run_id": run_id, **lease},
    )
    return int(database.execute("SELECT lease_token FROM workflow_executions WHERE run_id = ?", (run_id,))[0][0])


def let_go(database: Database, run_id: str, token: int) -> None:
    """Let others run a run that was taken and not begun with, unless somebody has taken it over."""
    database.execute(
        """UPDATE workflow_executions SET lease_owner = NULL, lease_boot = NULL, lease_until = NULL
           WHERE run_id = ? AND lease_token = ?""",
        (run_id, token),
    )


def fenced(database: Database, run_id: str, token: int) -> bool:
    """Make sure that a run is still ours, in the transaction that relies on it; return whether it is to be cancelled.

    Raises:
        CheckpointError: Somebody else has taken it over, or it is gone.
    """
    found = database.execute(
        "SELECT lease_token, cancel_requested FROM workflow_executions WHERE run_id = ?", (run_id,)
    )
    if not found:
        raise CheckpointError(f"run {run_id!r} is no longer in the store", "whether the store was set aside", "lost")
    if found[0][0] != token:
        raise CheckpointError(f"run {run_id!r} was taken over by another process; nothing of it is kept", None, "lost")
    return bool(found[0][1])


def keep_nodes(database: Database, run_id: str, rows: Iterable[NodeRow]) -> None:
    """Write down what became of nodes."""
    database.execute_many(
        """INSERT OR REPLACE INTO workflow_execution_nodes
               (run_id, node_key, status, started_at, ended_at, attempts, error, result, idempotency_key, place)
           VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?)""",
        ((run_id, *row) for row in rows),
    )
