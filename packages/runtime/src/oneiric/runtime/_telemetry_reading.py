"""Reading state files back: a document, or a sentence that says why there is none, never an exception."""

import json
import os
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from importlib import resources
from pathlib import Path
from typing import Any, Final

from oneiric.core.snapshot import read_json

__all__ = [
    "HEALTH_FILE",
    "LIFECYCLE_FILE",
    "MOST_BYTES",
    "SCHEMA",
    "TELEMETRY_FILE",
    "StateReading",
    "is_telemetry",
    "iso",
    "json_schema",
    "read_health",
    "read_lifecycle",
    "read_state",
    "read_telemetry",
]

HEALTH_FILE: Final = "runtime_health.json"
TELEMETRY_FILE: Final = "runtime_telemetry.json"
LIFECYCLE_FILE: Final = "lifecycle_status.json"
#: Number of the shape of the first two; it grows when a reader of the old shape would misread the new one.
SCHEMA: Final = 1
#: The longest file that is written or read back: well above what their bounds can make.
MOST_BYTES: Final = 32 * 1024 * 1024


@dataclass(frozen=True, slots=True, kw_only=True)
class StateReading:
    """What was found where a state file should be.

    Attributes:
        path: The file.
        document: What it says; None where it is missing or cannot be trusted.
        problem: Why it cannot be trusted, in a sentence; None for a good file and for none at all.
    """

    path: Path
    document: Any
    problem: str | None = None


def read_health(state_dir: str | os.PathLike[str], *, path: str | os.PathLike[str] | None = None) -> StateReading:
    """Return what ``runtime_health.json`` says; *path* names the file where it lies elsewhere."""
    return read_state(Path(state_dir) / HEALTH_FILE if path is None else Path(path), _is_health)


def read_telemetry(state_dir: str | os.PathLike[str]) -> StateReading:
    """Return what ``runtime_telemetry.json`` says."""
    return read_state(Path(state_dir) / TELEMETRY_FILE, is_telemetry)


def read_lifecycle(state_dir: str | os.PathLike[str]) -> StateReading:
    """Return what ``lifecycle_status.json`` says: a list, a status each."""
    return read_state(Path(state_dir) / LIFECYCLE_FILE, _is_lifecycle)


def json_schema(file: str) -> dict[str, Any]:
    """Return the JSON Schema of `HEALTH_FILE`, `TELEMETRY_FILE` or `LIFECYCLE_FILE`."""
    found: dict[str, Any] = json.loads(resources.files("oneiric.runtime").joinpath("schemas", file).read_text("utf-8"))
    return found


def read_state(path: Path, is_right: Callable[[Any], bool]) -> StateReading:
    """Read a state file whose document must be right by its shape."""
    try:
        document = read_json(path, max_bytes=MOST_BYTES)
    except (OSError, ValueError) as error:
        return StateReading(path=path, document=None, problem=f"{path} cannot be read: {error}")
    if document is None and not path.exists():
        return StateReading(path=path, document=None)
    schema = document.get("schema", SCHEMA) if isinstance(document, dict) else SCHEMA
    if isinstance(schema, int) and schema > SCHEMA:
        problem = f"{path} has schema {schema} and this version reads {SCHEMA}: a newer Oneiric wrote it"
        return StateReading(path=path, document=None, problem=problem)
    if not is_right(document):
        problem = f"{path} is JSON, but not what belongs there; it is written anew at the next change"
        return StateReading(path=path, document=None, problem=problem)
    return StateReading(path=path, document=document)


def _is_health(document: Any) -> bool:
    if not isinstance(document, dict):
        return False
    tables = (document.get("lifecycle_state"), document.get("activity_state", {}))
    return all(
        isinstance(table, dict) and all(isinstance(entries, dict) for entries in table.values()) for table in tables
    )


def is_telemetry(document: Any) -> bool:
    """Tell whether a document is one of a recorder, as far as a reader relies on it."""
    if not isinstance(document, dict) or not isinstance(document.get("history"), dict):
        return False
    lists = document["history"].values()
    lasts = (document.get("last_event"), document.get("last_workflow"))
    return all(isinstance(each, dict | None) for each in lasts) and all(
        isinstance(entries, list) and all(isinstance(entry, dict) for entry in entries) for entries in lists
    )


def _is_lifecycle(document: Any) -> bool:
    return isinstance(document, list) and all(isinstance(status, dict) for status in document)


def iso(at: float) -> str:
    """Return seconds since the epoch as ISO 8601 in UTC."""
    return datetime.fromtimestamp(at, UTC).isoformat()
