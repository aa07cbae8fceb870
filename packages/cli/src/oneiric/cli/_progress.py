"""A run while it goes on: a tree of its nodes with states and times, drawn in place on a terminal."""

import asyncio
import shutil
import sys
import time
from collections.abc import Awaitable, Callable, Iterable, Sequence
from typing import TYPE_CHECKING, Final

from oneiric.cli._output import Style, printable

if TYPE_CHECKING:
    from oneiric.runtime.workflows import NodeInfo, PlannedNode, RunInfo

__all__ = ["Progress", "tree_lines"]

#: How often is looked at most; where looking takes long, it is done less often.
_LOOK_SECONDS: Final = 0.1
_SHARE: Final = 5.0
_WORDS: Final = {"completed": "done"}
_COLOURS: Final = {"done": "green", "running": "yellow", "failed": "red", "cancelled": "yellow", "waits": "dim"}


def tree_lines(
    plan: "Sequence[PlannedNode]", infos: "Iterable[NodeInfo]", style: Style, *, now: float, ended: bool
) -> list[str]:
    """Return a line for each node: further right the longer it waits; then what runs beside the plan.

    Args:
        plan: The nodes, in the order they could run in; may be empty.
        infos: What is known of them.
        style: How states look.
        now: The time in seconds since the epoch, for what still runs.
        ended: Whether the run has: what has no state then was not reached.
    """
    known: dict[str, list[NodeInfo]] = {}
    for info in infos:
        known.setdefault(info.node.partition("[")[0], []).append(info)
    rows = [
        (f"{'  ' * node.level}{node.id}", node.runs, *_state(known.pop(node.id, []), now, ended=ended)) for node in plan
    ]
    rows += [(name, "", *_state(found, now, ended=ended)) for name, found in known.items()]
    wide = [max((len(row[place]) for row in rows), default=0) for place in range(3)]
    return [
        f"  {printable(name).ljust(wide[0])}  {printable(runs).ljust(wide[1])}  "
        f"{_coloured(style, state, wide[2])}  {printable(more)}".rstrip()
        for name, runs, state, more in rows
    ]


def _state(found: "list[NodeInfo]", now: float, *, ended: bool) -> tuple[str, str]:
    """Return the state of a node, or of all items of a fan-out together, and what else there is to say."""
    if not found:
        return ("not reached" if ended else "waits"), ""
    if len(found) == 1 and "[" not in found[0].node:
        return _one(found[0], now)
    done = sum(info.status == "completed" for info in found)
    for status in ("failed", "running", "cancelled"):
        first = next((info for info in found if info.status == status), None)
        if first is not None:
            state, more = _one(first, now)
            return state, f"{done} of {len(found)} done; {first.node}: {more}"
    return "done", f"{done} of {len(found)} done"


def _one(info: "NodeInfo", now: float) -> tuple[str, str]:
    told = []
    if info.started_at is not None:
        told.append(_length((now if info.ended_at is None else info.ended_at) - info.started_at))
    if info.attempts > 1:
        told.append(f"attempt {info.attempts}")
    if info.error:
        told.append(info.error)
    return _WORDS.get(info.status, info.status), "  ".join(told)


def _coloured(style: Style, state: str, width: int) -> str:
    return (style(_COLOURS[state], state) if state in _COLOURS else state) + " " * (width - len(state))


def _length(seconds: float) -> str:
    seconds = max(0.0, seconds)
    return f"{seconds * 1000:.0f} ms" if seconds < 1 else f"{seconds:.1f} s"


class Progress:
    """Draws a run in place, again and again, until it is left; then nothing of it is there any more.

    Args:
        look: Returns what is known of the run.
        plan: Its nodes.
        head: Returns the line above them.
    """

    def __init__(
        self,
        look: "Callable[[], Awaitable[RunInfo]]",
        plan: "Sequence[PlannedNode]",
        head: "Callable[[RunInfo, Style], str]",
    ) -> None:
        self._look, self._plan, self._head = look, plan, head
        self._style = Style.of(sys.stdout)
        self._drawn = 0
        self._drawing: asyncio.Task[None] | None = None

    async def __aenter__(self) -> None:
        self._drawing = asyncio.create_task(self._keep_drawing(), name="draw the run")

    async def __aexit__(self, *_: object) -> None:
        if self._drawing is not None:
            self._drawing.cancel()
            await asyncio.gather(self._drawing, return_exceptions=True)  # a look that failed is the run's to tell
        self._draw([])

    async def _keep_drawing(self) -> None:
        while True:
            begun = time.monotonic()
            info = await self._look()
            nodes = tree_lines(self._plan, info.nodes, self._style, now=time.time(), ended=info.has_ended)
            self._draw([self._head(info, self._style), *nodes])
            await asyncio.sleep(max(_LOOK_SECONDS, _SHARE * (time.monotonic() - begun)))

    def _draw(self, lines: list[str]) -> None:
        size = shutil.get_terminal_size()
        if len(lines) > size.lines - 1:
            hidden = len(lines) - size.lines + 2
            lines = [*lines[: size.lines - 2], f"  … and {hidden} more"]
        back = f"\x1b[{self._drawn}F\x1b[J" if self._drawn else ""
        # A line that wraps would be two to go back over: the terminal is told not to.
        sys.stdout.write(f"{back}\x1b[?7l" + "".join(f"{line}\n" for line in lines) + "\x1b[?7h")
        sys.stdout.flush()
        self._drawn = len(lines)
