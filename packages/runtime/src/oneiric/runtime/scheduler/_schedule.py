"""Schedule: when something is to be done, and what holds when that cannot be kept."""

import hashlib
import math
import re
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, fields
from datetime import UTC, datetime
from itertools import islice
from typing import Any, Final, Literal, Self

from oneiric.core.errors import ConfigurationError
from oneiric.runtime.scheduler._cron import cron_slots, zone_named

__all__ = ["Overlap", "Schedule", "Slot"]

type Overlap = Literal["skip", "buffer_one", "allow"]

_NAME: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,127}\Z")
_OVERLAPS: Final = ("skip", "buffer_one", "allow")
_SHORTEST_SECONDS: Final = 0.1
#: The year 2200: no schedule is meant to reach beyond, and what a wrong unit makes of a time does.
_LATEST: Final = 7_258_118_400.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Slot:
    """One time at which a schedule fires.

    Attributes:
        schedule: The schedule's name.
        at: The time its rule names, in seconds since the epoch.
        due: When it fires: *at*, and its jitter.
        key: The idempotency key; the same whoever fires the slot, and however often it is tried.
    """

    schedule: str
    at: float
    due: float
    key: str

    def as_dict(self) -> dict[str, Any]:
        """Return plain data."""
        return {"schedule": self.schedule, "at": _iso(self.at), "due": _iso(self.due), "idempotency_key": self.key}


@dataclass(frozen=True, slots=True, kw_only=True)
class Schedule:
    """When something is to be done: by exactly one of *cron*, *every_seconds* and *at*.

    Attributes:
        name: Its own; letters, digits, dots, dashes and underscores.
        target: What is to be done, in the words of who does it, such as ``"workflow:nightly"``.
        payload: What that is given; plain data.
        cron: A cron expression: five fields, or six with seconds first, or ``@daily`` and its like.
        every_seconds: An interval, counted from *start*.
        at: One time, in seconds since the epoch.
        time_zone: Whose clock *cron* speaks of.
        start: Where the intervals are counted from, in seconds since the epoch.
        overlap: What happens to a slot while an earlier one is still being done: ``"skip"`` it; ``"buffer_one"``, do
            it afterwards, but no more than one; ``"allow"`` both at the same time.
        catch_up_seconds: How late a slot may fire that nobody was there for; None for the scheduler's own.
        jitter_seconds: Slots fire up to so much later, each by an amount of its own that never changes.

    Raises:
        ConfigurationError: A value is malformed or out of range.
    """

    name: str
    target: str
    payload: Mapping[str, Any] = field(default_factory=dict)
    cron: str | None = None
    every_seconds: float | None = None
    at: float | None = None
    time_zone: str = "UTC"
    start: float = 0.0
    overlap: Overlap = "skip"
    catch_up_seconds: float | None = None
    jitter_seconds: float = 0.0

    def __post_init__(self) -> None:
        if not _NAME.match(self.name):
            raise ConfigurationError(f"{self.name[:60]!r} cannot name a schedule", "letters, digits, . - and _")
        rules = [rule for rule in (self.cron, self.every_seconds, self.at) if rule is not None]
        if len(rules) != 1:
            raise self._wrong(f"states {len(rules)} rules", "one of cron, every_seconds and at")
        if not self.target:
            raise self._wrong("has no target", "target: workflow:nightly")
        if self.overlap not in _OVERLAPS:
            raise self._wrong(f"states overlap {self.overlap!r}", ", ".join(_OVERLAPS))
        self._check_number("every_seconds", _SHORTEST_SECONDS, 366 * 86_400)
        self._check_number("at", 0, _LATEST)
        self._check_number("start", 0, _LATEST)
        self._check_number("jitter_seconds", 0, 86_400)
        self._check_number("catch_up_seconds", 0, 366 * 86_400)
        zone = zone_named(self.time_zone)
        if self.cron is not None:
            cron_slots(self.cron, zone, 0.0)

    def _check_number(self, name: str, least: float, most: float) -> None:
        value = getattr(self, name)
        if value is None:
            return
        if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
            raise self._wrong(f"states {name} {value!r}", "a number")
        if not least <= value <= most:
            raise self._wrong(f"states {name} {value!r}", f"{least:g} to {most:g}")

    def _wrong(self, what: str, hint: str) -> ConfigurationError:
        return ConfigurationError(f"schedule {self.name!r} {what}", hint)

    def slots(self, after: float) -> Iterator[Slot]:
        """Return its slots, beginning with the first one later than *after*; they need not ever end."""
        return map(self.slot_at, self._times(after))

    def slot_at(self, at: float) -> Slot:
        """Return its slot of a time that its rule names."""
        return Slot(schedule=self.name, at=at, due=at + self._jitter(at), key=self._key(at))

    def preview(self, count: int = 10, after: float | None = None) -> list[Slot]:
        """Return its next slots: what fires then, unless it is paused or an earlier slot is still being done.

        Args:
            count: How many, at most.
            after: By default now.
        """
        return list(islice(self.slots(time.time() if after is None else after), count))

    def _times(self, after: float) -> Iterator[float]:
        if self.cron is not None:
            yield from cron_slots(self.cron, zone_named(self.time_zone), after)
        elif self.at is not None:
            if self.at > after:
                yield self.at
        elif self.every_seconds is not None:
            every, start = self.every_seconds, self.start
            # Each is worked out from the start anew: sums of fractions would drift apart from process to process.
            number = max(0, math.floor((after - start) / every) - 1)
            while (at := start + number * every) <= _LATEST:
                if at > after:
                    yield at
                number += 1

    def _jitter(self, at: float) -> float:
        if not self.jitter_seconds:
            return 0.0
        digest = hashlib.sha256(f"{self.name}\0{at:.6f}".encode()).digest()
        return self.jitter_seconds * int.from_bytes(digest[:8]) / 2**64

    def _key(self, at: float) -> str:
        return f"schedule:{self.name}:{_iso(at)}"

    def as_dict(self) -> dict[str, Any]:
        """Return plain data, which `from_mapping` reads; what is not stated is left out."""
        stated = {each.name: getattr(self, each.name) for each in fields(self)}
        return {
            name: dict(value) if name == "payload" else value for name, value in stated.items() if value is not None
        }

    @classmethod
    def from_mapping(cls, stated: Mapping[str, Any]) -> Self:
        """Read a schedule as settings, manifests and commands write it.

        Raises:
            ConfigurationError: A name is not known, or a value is malformed.
        """
        known = {each.name for each in fields(cls)}
        unknown = [str(name) for name in stated if name not in known]
        if unknown:
            raise ConfigurationError(f"a schedule has no {unknown[0][:60]!r}", ", ".join(sorted(known)))
        for name in ("name", "target"):
            if not isinstance(stated.get(name), str):
                raise ConfigurationError(f"a schedule's {name} is no text: {stated.get(name)!r}", f"{name}: nightly")
        return cls(**stated)


def _iso(at: float) -> str:
    return datetime.fromtimestamp(at, UTC).isoformat().replace("+00:00", "Z")
