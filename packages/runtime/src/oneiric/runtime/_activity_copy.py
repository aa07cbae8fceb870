"""The second copy of domain activity: a JSON file beside the store, by which a lost store is known to be lost.

It holds the store's id and revision. Writers compare them under a lock, so that of several processes the one that saw
the latest change has the last word.
"""

from pathlib import Path
from typing import Any

from oneiric.core.snapshot import read_json, write_json
from oneiric.runtime._activity_table import DomainActivity, Loaded
from oneiric.runtime._store_place import turn

__all__ = ["read_copy", "write_copy"]


def read_copy(path: Path) -> Loaded:
    """Return what a copy holds; nothing when there is none.

    Raises:
        OSError: It is there and cannot be read.
        ValueError: It is no copy of domain activity.
    """
    document = read_json(path)
    if document is None:
        return Loaded()
    try:
        return Loaded(
            store_id=_typed(document["store_id"], str),
            revision=_typed(document["revision"], int),
            rows={(_typed(row["domain"], str), _typed(row["key"], str)): _row(row) for row in document["activity"]},
        )
    except (KeyError, TypeError) as error:
        raise ValueError(f"{path} is no copy of domain activity") from error


def write_copy(path: Path, loaded: Loaded, wait_seconds: float) -> None:
    """Replace a copy, unless it is of the same store and as new.

    Raises:
        OSError: It cannot be written.
        StoreError: Another process held the lock for longer than *wait_seconds*.
    """
    with turn(path, wait_seconds):
        try:
            found = read_copy(path)
        except (OSError, ValueError):
            found = Loaded()  # to be replaced
        if found.store_id == loaded.store_id and found.revision >= loaded.revision:
            return
        rows = [{"domain": domain, "key": key} | row.as_dict() for (domain, key), row in sorted(loaded.rows.items())]
        write_json(path, {"store_id": loaded.store_id, "revision": loaded.revision, "activity": rows})


def _row(row: dict[str, Any]) -> DomainActivity:
    return DomainActivity(
        paused=_typed(row["paused"], bool),
        draining=_typed(row["draining"], bool),
        note=_typed(row.get("note"), str, type(None)),
        owner=_typed(row.get("owner"), str, type(None)),
        since=_typed(row.get("since"), float, int, type(None)),
        until=_typed(row.get("until"), float, int, type(None)),
    )


def _typed(value: Any, *kinds: type) -> Any:
    if not isinstance(value, kinds):
        raise TypeError(f"{value!r} is not what a copy holds")
    return value
