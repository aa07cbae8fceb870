"""What came of a dispatch."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

__all__ = ["DispatchReport", "HandlerResult", "Outcome", "failures_of", "results_of"]

#: What the dispatcher writes down per handler while it is busy: (name, value, error, attempts, ended at).
type Outcome = tuple[str, Any, BaseException | None, int, float]


@dataclass(frozen=True, slots=True, kw_only=True)
class HandlerResult:
    """What came of one handler.

    Attributes:
        handler: Its name.
        success: Whether it returned.
        duration_seconds: From its turn to its end, retries and waiting included.
        value: What it returned, or None.
        error: What it raised in the last attempt, or None.
        attempts: How often it was called.
    """

    handler: str
    success: bool
    duration_seconds: float
    value: Any = None
    error: BaseException | None = None
    attempts: int = 1

    def as_dict(self) -> dict[str, Any]:
        """Return plain data; the value is left out, because it may be anything."""
        return {
            "handler": self.handler,
            "success": self.success,
            "duration_ms": self.duration_seconds * 1000,
            "attempts": self.attempts,
            "error": None if self.error is None else f"{type(self.error).__name__}: {self.error}",
        }


class DispatchReport:
    """What came of one event.

    Attributes:
        topic: The event's topic.
        matched: How many handlers it was given to.
        failures: What came of those that failed, in the order of their turns.
    """

    __slots__ = ("_ordered", "_outcomes", "_results", "_started", "failures", "matched", "topic")

    def __init__(
        self,
        topic: str,
        matched: int,
        failures: tuple[HandlerResult, ...] = (),
        outcomes: Sequence[Outcome] = (),
        started: float = 0.0,
        *,
        ordered: bool = True,
    ) -> None:
        self.topic = topic
        self.matched = matched
        self.failures = failures
        self._outcomes = outcomes
        self._started = started
        self._ordered = ordered
        self._results: tuple[HandlerResult, ...] | None = None

    @property
    def success(self) -> bool:
        """Whether no handler failed."""
        return not self.failures

    @property
    def results(self) -> tuple[HandlerResult, ...]:
        """What came of each handler, in the order of their turns; empty unless results were asked for."""
        if self._results is None:
            self._results = tuple(results_of(self._outcomes, self._started, ordered=self._ordered))
        return self._results

    @property
    def duration_seconds(self) -> float:
        """From the first turn to the last end; 0 unless results were asked for."""
        return max((outcome[4] for outcome in self._outcomes), default=self._started) - self._started

    def as_dict(self) -> dict[str, Any]:
        """Return plain data."""
        return {
            "topic": self.topic,
            "matched_handlers": self.matched,
            "failures": len(self.failures),
            "total_duration_ms": self.duration_seconds * 1000,
            "handlers": [result.as_dict() for result in self.results or self.failures],
        }

    def __repr__(self) -> str:
        return f"<DispatchReport {self.topic}: {self.matched} handlers, {len(self.failures)} failed>"


def results_of(outcomes: Sequence[Outcome], started: float, *, ordered: bool) -> list[HandlerResult]:
    """Spell out what was written down; in ordered fan-out one handler's end is the next one's turn."""
    results = []
    turn = started
    for name, value, error, attempts, ended in outcomes:
        results.append(
            HandlerResult(
                handler=name,
                success=error is None,
                duration_seconds=ended - turn,
                value=value,
                error=error,
                attempts=attempts,
            )
        )
        if ordered:
            turn = ended
    return results


def failures_of(outcomes: Sequence[Outcome], started: float, *, ordered: bool) -> tuple[HandlerResult, ...]:
    """Spell out what was written down of those that failed."""
    return tuple(result for result in results_of(outcomes, started, ordered=ordered) if not result.success)
