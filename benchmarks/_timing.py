"""Timing: cases that run in turns, each judged by its fastest round.

Every round runs every case once, in a batch of about a millisecond, starting with another one each time. What the
machine does meanwhile hits all of them alike, and the fastest of many short batches is the one that nothing hit.
"""

import asyncio
import gc
import time
from collections.abc import Callable, Coroutine
from dataclasses import dataclass
from functools import partial
from itertools import repeat
from typing import Any, Literal

__all__ = ["Contest", "Figure", "Who"]

type Who = Literal["ours", "floor", "peer"]

#: Long enough that reading the clock is nothing, short enough that many batches are interrupted by nobody.
_BATCH_SECONDS = 0.001


@dataclass(frozen=True, slots=True, kw_only=True)
class Figure:
    """One measured number.

    Attributes:
        name: What `bars.toml` calls it: ``group.figure``.
        label: What was done, for people.
        who: Ours, the floor, or a peer.
        value: The ratio to *floor*; or a number of its own *unit*.
        unit: The sign of a ratio, or ``"B"``, ``"ms"``, ``"calls"``.
        seconds: One operation, in the fastest round; None where the figure is no time.
        floor: The name of the case it is a ratio to.
    """

    name: str
    label: str
    who: Who
    value: float
    unit: str = "×"
    seconds: float | None = None
    floor: str | None = None

    def as_dict(self) -> dict[str, Any]:
        """Return plain data."""
        return {name: getattr(self, name) for name in self.__slots__}


@dataclass(slots=True)
class _Case:
    name: str
    label: str
    who: Who
    floor: str
    operations: int
    run: Callable[[int], float]
    number: int = 0
    best: float = float("inf")


class Contest:
    """The cases of one group.

    Args:
        group: Prefix of the figures' names.
        rounds: How often each case runs.
    """

    def __init__(self, group: str, rounds: int) -> None:
        self._group = group
        self._rounds = rounds
        self._cases: dict[str, _Case] = {}
        self._loop: asyncio.AbstractEventLoop | None = None

    def add(
        self,
        name: str,
        statement: str,
        names: dict[str, Any],
        *,
        who: Who = "ours",
        floor: str = "floor",
        label: str | None = None,
        operations: int = 1,
    ) -> None:
        """Add a statement; *names* are its local variables, and ``await`` in it makes it run in the event loop.

        Args:
            name: Its name within the group.
            statement: What is timed, one line; run over and over.
            names: Name → object.
            who: Ours, the floor or a peer.
            floor: The name of the case it is compared with; its own name for a floor.
            label: What to print; by default the statement.
            operations: Operations that one run of the statement does.
        """
        run = _compiled(statement, names, awaited="await " in statement or "async " in statement)
        if asyncio.iscoroutinefunction(run):
            run = partial(self._in_loop, run)
        self.add_timed(name, run, who=who, floor=floor, label=label or statement, operations=operations)

    def add_timed(
        self,
        name: str,
        run: Callable[[int], float],
        *,
        label: str,
        who: Who = "ours",
        floor: str = "floor",
        operations: int = 1,
        number: int = 0,
    ) -> None:
        """Add a function that does something *number* times and returns the seconds it took; 0 finds the number."""
        self._cases[name] = _Case(name, label, who, floor, operations, run, number)

    def run(self) -> "Contest":
        """Run every case, in turns."""
        cases = list(self._cases.values())
        for case in cases:
            case.run(max(case.number, 1))
            while not case.number:
                case.number = _calibrated(case.run)
        gc.collect()
        gc.freeze()  # what was set up is no business of the collections the cases cause
        for turn in range(self._rounds):
            start = turn % len(cases)
            for case in cases[start:] + cases[:start]:
                case.best = min(case.best, case.run(case.number) / case.number / case.operations)
        gc.unfreeze()
        return self

    def seconds(self, name: str) -> float:
        """Return what one operation of a case took, in its fastest round."""
        return self._cases[name].best

    def figures(self) -> list[Figure]:
        """Return each case as a ratio to its floor."""
        return [
            Figure(
                name=f"{self._group}.{case.name}",
                label=case.label,
                who=case.who,
                value=case.best / self.seconds(case.floor),
                seconds=case.best,
                floor=f"{self._group}.{case.floor}",
            )
            for case in self._cases.values()
        ]

    def quotient(self, name: str, label: str, over: str, under: str) -> Figure:
        """Return one case's time over another's, as a figure of its own."""
        value = self.seconds(over) / self.seconds(under)
        return Figure(name=f"{self._group}.{name}", label=label, who="ours", value=value)

    def setup(self, coroutine: Coroutine[Any, Any, Any]) -> Any:
        """Run a coroutine in the loop that the awaited cases run in."""
        if self._loop is None:
            self._loop = asyncio.new_event_loop()
        return self._loop.run_until_complete(coroutine)

    def _in_loop(self, run: Callable[[int], Coroutine[Any, Any, float]], number: int) -> float:
        seconds: float = self.setup(run(number))
        return seconds

    def close(self) -> None:
        """Close the loop of the awaited cases."""
        if self._loop is not None:
            self._loop.close()


def _calibrated(run: Callable[[int], float]) -> int:
    number = 1
    while True:
        seconds = run(number)
        if seconds >= _BATCH_SECONDS / 2:
            return max(1, round(number * _BATCH_SECONDS / seconds))
        number *= 2


def _compiled(statement: str, names: dict[str, Any], *, awaited: bool) -> Any:
    """Compile a loop around a statement in which *names* are local variables, as they are in a caller's function."""
    source = (
        f"{'async ' if awaited else ''}def timed({', '.join([*names, 'number'])}):\n"
        "    turns = repeat(None, number)\n"
        "    started = clock()\n"
        "    for _ in turns:\n"
        f"        {statement}\n"
        "    return clock() - started\n"
    )
    space: dict[str, Any] = {"repeat": repeat, "clock": time.perf_counter}
    exec(source, space)  # noqa: S102 - the statement is ours; a function call around it would be timed too
    return partial(space["timed"], *names.values())
