"""RuntimeTelemetryRecorder: ``runtime_telemetry.json``, the last event and workflow and a bounded history."""

import os
import time
from collections import deque
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final

from oneiric.core import events
from oneiric.core.snapshot import StateFile
from oneiric.runtime._secret_redaction import REDACTOR
from oneiric.runtime._telemetry_reading import MOST_BYTES, SCHEMA, is_telemetry, iso, read_state
from oneiric.runtime._telemetry_records import EventRecord, WorkflowRecord, shortened
from oneiric.runtime._telemetry_spans import decision_id

__all__ = ["RuntimeTelemetryRecorder"]

_HISTORY: Final = 100

type Redact = Callable[[Any], Any]


class RuntimeTelemetryRecorder:
    """Keep ``runtime_telemetry.json``: the last event and workflow, and a bounded history of what happened.

    Told of swaps by being an observer of lifecycle events; of the rest by its methods. Each list of the history
    holds the last *history* entries, oldest first, and survives a restart of the process.

    Args:
        path: The file, ``runtime_telemetry.json`` in the state directory.
        history: Entries kept of events, workflows, swaps and reloads, each.
        redact: Takes known secrets out of what is written; by default those the process knows of.
        clock: Seconds since the epoch.
    """

    __slots__ = ("_clock", "_file", "_last_event", "_last_workflow", "_lists", "_redact", "problem")

    def __init__(
        self,
        path: str | os.PathLike[str],
        *,
        history: int = _HISTORY,
        redact: Redact = REDACTOR.mask,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._clock = clock
        self._redact = redact
        self._lists: dict[str, deque[dict[str, Any]]] = {
            name: deque(maxlen=history) for name in ("events", "workflows", "swaps", "reloads")
        }
        self._last_event: dict[str, Any] | None = None
        self._last_workflow: dict[str, Any] | None = None
        self._file = StateFile(path, self.as_dict, max_bytes=MOST_BYTES)
        #: Why the history of the process before could not be taken over, or None.
        self.problem = self._take_over()

    @property
    def path(self) -> Path:
        """The file."""
        return self._file.path

    @property
    def last_error(self) -> str | None:
        """Why the last write failed, or None."""
        return self._file.last_error

    def event(self, record: EventRecord) -> None:
        """Note an event that was dispatched."""
        self._last_event = self._redacted(record.as_dict())
        self._noted("events", record.summary())

    def workflow(self, record: WorkflowRecord) -> None:
        """Note a workflow run that ended, also one that failed."""
        self._last_workflow = self._redacted(record.as_dict())
        self._noted("workflows", record.summary())

    def reload(
        self,
        *,
        accepted: bool,
        version: int | None = None,
        digest: str | None = None,
        by: str | None = None,
        reason: str | None = None,
    ) -> None:
        """Note a configuration that was accepted or refused, and why."""
        entry = {"accepted": accepted, "version": version, "digest": digest, "by": by, "reason": shortened(reason)}
        self._noted("reloads", entry)

    def __call__(self, event: object) -> None:
        """Note a swap, or one that failed; an observer. Other events are left to others."""
        if not isinstance(event, events.Bound | events.SwapFailed):
            return
        entry: dict[str, Any] = {
            "domain": event.domain,
            "key": event.key,
            "tenant": event.tenant,
            "provider": event.provider,
            "generation": event.generation,
            "success": isinstance(event, events.Bound),
            "decision_id": decision_id(event.domain, event.key, event.tenant, event.revision),
            "revision": event.revision,
        }
        if isinstance(event, events.Bound):
            entry |= {"previous": event.previous, "duration_ms": event.duration_seconds * 1000}
        else:
            entry |= {"step": event.step, "reason": shortened(event.reason), "rolled_back": event.rolled_back}
        self._noted("swaps", entry, at=event.at)

    def as_dict(self) -> dict[str, Any]:
        """Return the document as it is now."""
        return {
            "schema": SCHEMA,
            "updated_at": iso(self._clock()),
            "last_event": self._last_event,
            "last_workflow": self._last_workflow,
            "history": {name: list(entries) for name, entries in self._lists.items()},
        }

    async def flush(self) -> None:
        """Write what is due now."""
        await self._file.flush()

    def _noted(self, name: str, entry: dict[str, Any], *, at: float | None = None) -> None:
        self._lists[name].append(self._redacted(entry, at=at))
        self._file.mark()

    def _redacted(self, entry: dict[str, Any], *, at: float | None = None) -> dict[str, Any]:
        entry["recorded_at"] = iso(self._clock() if at is None else at)
        redacted: dict[str, Any] = self._redact(entry)
        return redacted

    def _take_over(self) -> str | None:
        found = read_state(self._file.path, is_telemetry)
        if found.document is not None:
            for name, entries in self._lists.items():
                entries.extend(found.document["history"].get(name, ()))
            self._last_event = found.document.get("last_event")
            self._last_workflow = found.document.get("last_workflow")
        return found.problem
