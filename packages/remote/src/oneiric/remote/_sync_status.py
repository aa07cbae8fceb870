"""``remote_status.json``: how remote delivery stands, for readers outside the process."""

from collections.abc import Iterable, Mapping
from datetime import UTC, datetime
from itertools import islice
from typing import Any, Final

from oneiric.core.errors import SchemaError
from oneiric.remote._sync_delivery import Delivery
from oneiric.remote._sync_values import RevokedInUse, SyncFailed, SyncReport, Verdict
from oneiric.remote._timestamps import format_time, parse_time
from oneiric.remote.trust import TrustedManifests

__all__ = ["STATUS_FILE", "RemoteStatus"]

STATUS_FILE: Final = "remote_status.json"
_SCHEMA: Final = 1
_LONGEST: Final = 500
#: How many entries that were left out are named; ``last_skipped`` counts them all.
_MOST_SKIPPED: Final = 100
#: What is carried over from the file of the process before.
_CARRIED: Final = {
    "last_success_at": str,
    "last_failure_at": str,
    "consecutive_failures": int,
    "last_error": str,
    "last_refusal": dict,
}


class RemoteStatus:
    """What is known of remote delivery.

    Args:
        latency_budget_ms: How long a sync may take before it counts as slow; 0 never does.
        before: The document of the process before, if there is one.
    """

    def __init__(self, *, latency_budget_ms: float = 0.0, before: object = None) -> None:
        self._budget = latency_budget_ms
        self._facts: dict[str, Any] = {
            "last_success_at": None,
            "last_failure_at": None,
            "consecutive_failures": 0,
            "last_error": None,
            "last_source": None,
            "last_registered": None,
            "last_duration_ms": None,
            "last_digest_checks": None,
            "last_per_domain": {},
            "last_skipped": None,
            "last_outcome": None,
            "last_refusal": None,
        }
        if isinstance(before, Mapping):
            self._facts |= {name: before[name] for name, kind in _CARRIED.items() if type(before.get(name)) is kind}
        self._in_force: dict[str, Any] | None = None
        self._trust: dict[str, Any] = {"root_version": None, "root_expires": None, "freshness_version": None}
        self._trust |= {"freshness_expires": None}
        self._problems: tuple[str, ...] = ()
        self._skipped: tuple[Verdict, ...] = ()
        if isinstance(before, Mapping):
            # What this process has not looked at yet is as it was, and not applied here.
            if isinstance(about := before.get("manifest"), Mapping) and _is_time(about.get("expires")):
                self._in_force = {**about, "applied": False}
            if isinstance(trust := before.get("trust"), Mapping):
                self._trust |= {name: trust.get(name) for name in self._trust if _is_stated(name, trust.get(name))}

    @property
    def consecutive_failures(self) -> int:
        """Syncs that failed since the last one that did not."""
        found: int = self._facts["consecutive_failures"]
        return found

    def trusted(self, trusted: TrustedManifests | None) -> None:
        """Note what is trusted."""
        if trusted is None:
            return
        root, freshness = trusted.root, trusted.freshness
        self._trust = {
            "root_version": root.version,
            "root_expires": None if root.expires is None else format_time(root.expires),
            "freshness_version": None if freshness is None else freshness.version,
            "freshness_expires": None if freshness is None else freshness.expires,
        }

    def in_force(self, delivery: Delivery, *, applied: bool) -> None:
        """Note which manifests are in force."""
        self._in_force = {**delivery.about(), "source": delivery.source, "applied": applied}
        self._in_force["publishers"] = {
            name: {"version": each.about().get("version"), "digest": each.digest}
            for name, each in delivery.manifests.items()
            if name
        }

    def succeeded(self, report: SyncReport, at: float) -> None:
        """Note a sync that was accepted."""
        self._problems = report.plan.problems
        refused = (each for each in report.plan.verdicts if each.outcome == "refused")
        self._skipped = tuple(islice(refused, _MOST_SKIPPED))
        if report.outcome != "restored":
            self._facts |= {"last_success_at": _iso(at), "consecutive_failures": 0, "last_error": None}
        self._facts |= {
            "last_source": report.plan.source,
            "last_registered": report.registered,
            "last_duration_ms": report.duration_ms,
            "last_digest_checks": report.digest_checks,
            "last_per_domain": dict(report.per_domain),
            "last_skipped": report.skipped,
            "last_outcome": report.outcome,
        }

    def failed(self, failure: SyncFailed, at: float) -> None:
        """Note a sync that was refused or broke off; what the last good one brought stays."""
        self._facts |= {
            "last_failure_at": _iso(at),
            "consecutive_failures": self.consecutive_failures + 1,
            "last_error": failure.reason[:_LONGEST],
            "last_source": failure.source,
            "last_duration_ms": failure.duration_ms,
            "last_outcome": "failed" if failure.step == "fetch" else "refused",
        }
        if failure.step != "fetch":
            self._facts["last_refusal"] = {**failure.as_dict(), "reason": failure.reason[:_LONGEST], "at": _iso(at)}

    def stale_reasons(self, now: float) -> list[str]:
        """Return why what is in force is older than it should be; empty when it is not."""
        about = self._in_force or {}
        expiries = {
            "the manifest": about.get("expires"),
            "what says what is current": self._trust["freshness_expires"],
            "the root": self._trust["root_expires"],
        }
        return [f"{name} expired at {at}" for name, at in expiries.items() if at is not None and parse_time(at) <= now]

    def as_dict(self, now: float, revoked: Iterable[RevokedInUse] = ()) -> dict[str, Any]:
        """Return the document as it is at *now*, in seconds since the epoch, while *revoked* serves."""
        stale, took = self.stale_reasons(now), self._facts["last_duration_ms"]
        return {
            "schema": _SCHEMA,
            "updated_at": _iso(now),
            **self._facts,
            "latency_budget_ms": self._budget,
            "within_latency_budget": None if took is None or not self._budget else took <= self._budget,
            "manifest": self._in_force,
            "trust": dict(self._trust),
            "stale": bool(stale),
            "stale_reasons": stale,
            "revoked": [each.as_dict() for each in revoked],
            "problems": list(self._problems),
            "skipped": [
                {"name": each.name, "publisher": each.publisher, "reason": (each.reason or "")[:_LONGEST]}
                for each in self._skipped
            ],
        }


def _is_stated(name: str, value: object) -> bool:
    """Tell whether a file of a process before says something that can be of what is trusted: a version or a time."""
    return _is_time(value) if name.endswith("_expires") else value is None or type(value) is int


def _is_time(value: object) -> bool:
    if value is None:
        return True
    try:
        return isinstance(value, str) and parse_time(value) > 0
    except SchemaError:
        return False


def _iso(seconds: float) -> str:
    return datetime.fromtimestamp(seconds, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
