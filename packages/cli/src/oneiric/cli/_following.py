"""Following a run in this process from its begin to its end, or to the moment it is interrupted."""

import sys
import time
from collections.abc import Awaitable, Callable, Iterator
from dataclasses import replace
from typing import TYPE_CHECKING, Any, Final

from oneiric.cli._here import app_here, done_here
from oneiric.cli._options import RootOptions
from oneiric.cli._output import Result, Style
from oneiric.cli._progress import Progress, tree_lines
from oneiric.cli._runs import head_line, read_runs, tail_lines
from oneiric.core.errors import CheckpointError, OneiricError, WorkflowError

if TYPE_CHECKING:
    from oneiric.app import App
    from oneiric.runtime.workflows import PlannedNode, RunInfo

__all__ = ["follow"]

_EXIT_CODES: Final = {"completed": 0, "interrupted": 130}
_CHANGED: Final = "oneiric workflow resume RUN --on-change stored, for the definition it began with, or current"

type Begin = Callable[["App"], Awaitable["RunInfo"]]


def follow(options: RootOptions, settings: dict[str, Any], begin: Begin) -> Result:
    """Begin a run in this process, show how it goes on a terminal, and return what came of it.

    Interrupted, the run stops where it is and stays resumable, if its progress is kept.

    Args:
        options: The root options.
        settings: Settings that the command line says.
        begin: Begins it.

    Raises:
        OneiricError: It could not begin.
        KeyboardInterrupt: It was interrupted before it had begun.
    """
    app = app_here(options, settings)
    following = _Following(begin, is_live=sys.stdout.isatty() and not (options.json or options.quiet))
    try:
        info = done_here(app, following)
    except KeyboardInterrupt:
        if following.info is None:
            raise
        info = _interrupted(app, following.info)
    return following.result(info, is_kept=app.execution.checkpoints is not None)


def _interrupted(app: "App", info: "RunInfo") -> "RunInfo":
    """Return how the run stands now that the application was left; a run that ended just before did end."""
    store = app.execution.checkpoints
    if info.has_ended:
        return info
    kept = None if store is None else read_runs(store.path, lambda opened: opened.inspect(info.run_id))
    return replace(info, status="interrupted") if kept is None else kept


class _Following:
    """What is known of the run: while it goes on, and when it is over."""

    def __init__(self, begin: Begin, *, is_live: bool) -> None:
        self._begin, self._is_live = begin, is_live
        self._plan: tuple[PlannedNode, ...] = ()
        self._results: dict[str, Any] | None = None
        self.info: RunInfo | None = None

    async def __call__(self, app: "App") -> "RunInfo":
        self.info = info = await self._begun(app)
        self._plan = _plan_of(app, info.workflow)
        engine, run_id = app.workflows.engine, info.run_id
        try:
            if self._is_live:
                async with Progress(lambda: engine.inspect(run_id), self._plan, _head):
                    await self._wait(app, run_id)
            else:
                await self._wait(app, run_id)
        finally:
            self.info = info = await engine.inspect(run_id)
        return info

    async def _begun(self, app: "App") -> "RunInfo":
        try:
            return await self._begin(app)
        except CheckpointError as error:
            if error.kind != "changed":
                raise
            raise CheckpointError(error.message, _CHANGED, error.kind) from error

    async def _wait(self, app: "App", run_id: str) -> None:
        try:
            self._results = dict((await app.workflows.wait(run_id)).results)
        except WorkflowError:
            if not (await app.workflows.engine.inspect(run_id)).has_ended:
                raise  # it is not told by the run's own end, such as a store that failed

    def result(self, info: "RunInfo", *, is_kept: bool) -> Result:
        """Return the answer of the command."""
        results = self._results
        if results is None:
            results = {node.node: node.result for node in info.nodes if node.status == "completed"}
        document = {
            "scope": "one-off",
            **info.as_dict(),
            "results": results,
            "failed_nodes": [node.node for node in info.nodes if node.status == "failed"],
        }
        notes = []
        if info.status != "completed":
            notes.append(
                f"what is done of it is kept: oneiric workflow resume {info.run_id}"
                if is_kept
                else "nothing of it is kept: it begins anew the next time"
            )
        return Result(
            document=document,
            text=lambda style: self._text(info, document, style),
            notes=notes,
            exit_code=_EXIT_CODES.get(info.status, 1),
        )

    def _text(self, info: "RunInfo", document: dict[str, Any], style: Style) -> Iterator[str]:
        yield head_line(document, style)
        now = time.time() if info.ended_at is None else info.ended_at
        yield from tree_lines(self._plan, info.nodes, style, now=now, ended=info.status != "running")
        yield from tail_lines(document, style)


def _head(info: "RunInfo", style: Style) -> str:
    return head_line(info.as_dict(), style)


def _plan_of(app: "App", workflow: str) -> "tuple[PlannedNode, ...]":
    """Return the nodes of a workflow as it is defined now; a run of a definition that is gone is told without."""
    try:
        return app.workflows.plan(workflow).nodes
    except OneiricError:
        return ()
