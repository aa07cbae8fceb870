"""HealthFile: ``runtime_health.json``, what runs and the state of every slot."""

import os
import time
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any, Final, Protocol

from oneiric.core.snapshot import StateFile
from oneiric.runtime._ports import ActivityState
from oneiric.runtime._secret_redaction import REDACTOR
from oneiric.runtime._telemetry_reading import MOST_BYTES, SCHEMA, iso
from oneiric.runtime._telemetry_records import shortened

__all__ = ["HealthFile", "StatusLike"]

#: Health holds every slot's status: it is rendered in the event loop, so not more often than this.
_HEALTH_SECONDS: Final = 0.25

type Redact = Callable[[Any], Any]


class StatusLike(Protocol):
    """What is known of one slot, such as a `LifecycleStatus`."""

    @property
    def domain(self) -> str:
        """The domain."""

    @property
    def key(self) -> str:
        """The key."""

    @property
    def tenant(self) -> str | None:
        """Whose slot."""

    @property
    def beside(self) -> bool:
        """True for a provider opened beside the active one."""

    @property
    def current_provider(self) -> str | None:
        """The provider that serves."""

    def as_dict(self) -> dict[str, Any]:
        """Return plain data."""


class HealthFile:
    """Keep ``runtime_health.json``: what runs, what it was last told, and the state of every slot.

    A part of the orchestrator: `start` writes it, `stop` writes it a last time, without a process id. Between them
    it is written soon after each change (`changed` is an observer too).

    Args:
        path: The file.
        statuses: Returns the status of every slot, such as ``lifecycle.all_statuses``.
        activity: Returns domain → key → state of what is paused or drains, such as a store's snapshot.
        remote_enabled: Whether manifests are fetched.
        redact: Takes known secrets out of what is written; by default those the process knows of.
        clock: Seconds since the epoch.
    """

    __slots__ = ("_activity", "_clock", "_facts", "_file", "_is_running", "_redact", "_statuses")
    name = "health-file"

    def __init__(
        self,
        path: str | os.PathLike[str],
        *,
        statuses: Callable[[], Iterable[StatusLike]],
        activity: Callable[[], Mapping[str, Mapping[str, ActivityState]]] = dict,
        remote_enabled: bool = False,
        redact: Redact = REDACTOR.mask,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._statuses = statuses
        self._activity = activity
        self._redact = redact
        self._clock = clock
        self._is_running = False
        self._facts: dict[str, Any] = {
            "watchers_running": False,
            "remote_enabled": remote_enabled,
            "last_remote_sync_at": None,
            "last_remote_error": None,
            "last_remote_registered": None,
            "last_remote_per_domain": {},
            "last_remote_skipped": None,
            "last_remote_duration_ms": None,
        }
        self._file = StateFile(path, self.as_dict, coalesce_seconds=_HEALTH_SECONDS, max_bytes=MOST_BYTES)

    @property
    def path(self) -> Path:
        """The file."""
        return self._file.path

    @property
    def last_error(self) -> str | None:
        """Why the last write failed, or None."""
        return self._file.last_error

    async def start(self) -> None:
        """Write the file for the first time; from now on it names this process."""
        self._is_running = True
        await self._written()

    async def stop(self) -> None:
        """Write the file a last time, without a process id; safe twice."""
        if self._is_running:
            self._is_running = False
            self._facts["watchers_running"] = False
            await self._written()

    def changed(self, _event: object = None) -> None:
        """Note that what the file shows has changed; nothing is written while the part is stopped."""
        if self._is_running:
            self._file.mark()

    def watchers(self, *, running: bool) -> None:
        """Note whether the watchers run."""
        self._facts["watchers_running"] = running
        self.changed()

    def remote_synced(
        self,
        *,
        duration_ms: float,
        registered: int = 0,
        skipped: int = 0,
        per_domain: Mapping[str, int] | None = None,
        error: str | None = None,
    ) -> None:
        """Note a remote sync: what it registered, or why it failed (what the last good one brought stays)."""
        self._facts["last_remote_error"] = shortened(error)
        self._facts["last_remote_duration_ms"] = duration_ms
        if error is None:
            self._facts["last_remote_sync_at"] = iso(self._clock())
            self._facts["last_remote_registered"] = registered
            self._facts["last_remote_skipped"] = skipped
            self._facts["last_remote_per_domain"] = dict(per_domain or {})
        self.changed()

    def as_dict(self) -> dict[str, Any]:
        """Return the document as it is now."""
        document = {
            "schema": SCHEMA,
            "orchestrator_pid": os.getpid() if self._is_running else None,
            "updated_at": iso(self._clock()),
            **self._facts,
            "activity_state": {
                domain: {key: _activity(state) for key, state in keys.items()}
                for domain, keys in self._activity().items()
            },
            "lifecycle_state": _by_slot(self._statuses()),
        }
        redacted: dict[str, Any] = self._redact(document)
        return redacted

    async def _written(self) -> None:
        self._file.mark()
        await self._file.flush()


def _activity(state: ActivityState) -> dict[str, Any]:
    return {"paused": state.paused, "draining": state.draining, "note": shortened(state.note)}


def _by_slot(statuses: Iterable[StatusLike]) -> dict[str, dict[str, Any]]:
    """Return domain → slot → status; a tenant's slot is ``key@tenant``, one opened beside ``key+provider``."""
    found: dict[str, dict[str, Any]] = {}
    for status in statuses:
        slot = status.key if status.tenant is None else f"{status.key}@{status.tenant}"
        if status.beside:
            slot = f"{slot}+{status.current_provider}"
        found.setdefault(status.domain, {})[slot] = status.as_dict()
    return found
