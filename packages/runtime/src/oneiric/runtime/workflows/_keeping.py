"""What a scheduler asks of whoever keeps the results of its units, and what it remembers of each itself."""

from typing import Any, Protocol

from oneiric.runtime.workflows._calls import NodeCall
from oneiric.runtime.workflows._steps import Unit

__all__ = ["Ended", "Journal"]

#: Unit, when it began and ended on the performance counter, attempts, and what became of it: None or a reason.
type Ended = tuple[Unit, float, float, int, str | None]


class Journal(Protocol):
    """Keeps what has to survive. It answers through `Scheduler.acknowledged` and `Scheduler.stop`."""

    def may_start(self, unit: Unit) -> bool:
        """Say whether this run is still ours to go on with; False is followed by `Scheduler.go_on` or ``stop``."""

    def finished(self, unit: Unit, call: NodeCall, value: Any, started: float, ended: float) -> None:
        """Keep a result.

        Raises:
            WorkflowError: It cannot be kept.
        """

    def skipped(self, unit: Unit) -> None:
        """Note that a node does not run."""
