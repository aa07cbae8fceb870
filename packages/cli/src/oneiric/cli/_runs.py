"""Runs of workflows as commands are told of them: where they are kept, and how they are shown."""

import asyncio
from collections.abc import Awaitable, Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from oneiric.cli._output import Style, compact, printable, table
from oneiric.cli._questions import named
from oneiric.cli._running import Place
from oneiric.cli._times import clock_time
from oneiric.core.errors import ConfigurationError, RunNotFoundError

if TYPE_CHECKING:
    from oneiric.runtime.workflows import WorkflowCheckpointStore

__all__ = [
    "checkpoint_settings",
    "checkpoints_path",
    "head_line",
    "on_change_from",
    "read_runs",
    "run_text",
    "tail_lines",
    "workflow_of",
]

_CHOICES: Final = ("refuse", "stored", "current")
_FILE: Final = "workflow_checkpoints.sqlite"
_COLOURS: Final = {"completed": "green", "failed": "red", "cancelled": "yellow", "interrupted": "yellow"}
_PATH: Final = "runtime_paths.workflow_checkpoints_path"
_ENABLED: Final = "runtime_paths.workflow_checkpoints_enabled"


def workflow_of(positional: str | None, named_one: str | None = None) -> str:
    """Return the key of the workflow that was said, in either place; ``workflow:KEY`` is taken too.

    Raises:
        ConfigurationError: None was said, or two, or it is of another domain.
    """
    if positional is not None and named_one not in {None, positional}:
        what = f"the workflow is {positional!r} or {named_one!r}, not both"
        raise ConfigurationError(what, "oneiric workflow run KEY")
    said = named_one if positional is None else positional
    if not said:
        raise ConfigurationError("no workflow was said", "oneiric list --domain workflow")
    return named(said, "workflow")[1]


def checkpoint_settings(path: str | None, *, off: bool) -> dict[str, Any]:
    """Return the settings that ``--workflow-checkpoints`` and ``--no-workflow-checkpoints`` say.

    Raises:
        ConfigurationError: Both were said.
    """
    if path is not None and off:
        what = "--workflow-checkpoints and --no-workflow-checkpoints contradict each other"
        raise ConfigurationError(what, "oneiric workflow run --help")
    if off:
        return {_ENABLED: False}
    return {} if path is None else {_PATH: path, _ENABLED: True}


def on_change_from(text: str) -> str:
    """Return what to do with a run whose definition has changed.

    Raises:
        ConfigurationError: It is none of the words for it.
    """
    if text not in _CHOICES:
        raise ConfigurationError(
            f"--on-change is one of {', '.join(_CHOICES)}, not {text[:40]!r}", "--on-change stored"
        )
    return text


def checkpoints_path(place: Place, said: str | None = None) -> Path:
    """Return where a system with these settings keeps the progress of runs."""
    if said is not None:
        return Path(said)
    return place.loaded.settings.runtime_paths.workflow_checkpoints_path or place.state_dir / _FILE


def read_runs[T](
    path: Path, work: Callable[["WorkflowCheckpointStore"], Awaitable[T]], *, run_id: str | None = None
) -> T | None:
    """Return what *work* reads; None where nothing was ever kept. Makes no file.

    Args:
        path: The store.
        work: Reads.
        run_id: The run it is about, which does not exist where nothing was kept.

    Raises:
        RunNotFoundError: There is no such run.
        StoreError: The file cannot be read.
    """
    if not path.exists():
        if run_id is not None:
            raise RunNotFoundError(f"there is no run {run_id!r}: nothing is kept in {path}", "oneiric workflow runs")
        return None
    from oneiric.runtime.workflows import WorkflowCheckpointStore  # noqa: PLC0415 - loads the runtime

    async def read() -> T:
        async with WorkflowCheckpointStore(path, readonly=True) as store:
            return await work(store)

    return asyncio.run(read())


def head_line(document: dict[str, Any], style: Style) -> str:
    """Return what run of what, and how it stands."""
    status = document["status"]
    state = style(_COLOURS[status], status) if status in _COLOURS else status
    began, ended = document["started_at"], document["ended_at"]
    took = f" in {_length(ended - began)}" if began is not None and ended is not None else ""
    return f"{style('bold', printable(document['workflow']))}  run {printable(document['run_id'])}  {state}{took}"


def tail_lines(document: dict[str, Any], style: Style) -> Iterator[str]:
    """Yield what a run failed with, or returned."""
    if document["error"]:
        yield f"  {style('red', 'error')}   {printable(document['error'])}"
    if document["output"] is not None:
        yield f"  output  {printable(compact(document['output']))}"


def run_text(document: dict[str, Any], style: Style) -> Iterator[str]:
    """Yield all that is known of a run."""
    yield head_line(document, style)
    told = [
        ("queued", clock_time(document["queued_at"])),
        ("began", clock_time(document["started_at"])),
        ("ended", clock_time(document["ended_at"])),
        ("run by", document["owner"]),
        ("part of", document["parent"]),
        ("context", None if document["context"] is None else compact(document["context"])),
    ]
    for name, value in told:
        if value is not None:
            yield f"  {name:<7} {printable(value)}"
    yield from tail_lines(document, style)
    rows = [
        (
            node["node"],
            node["status"],
            node["attempts"],
            None if node["duration_ms"] is None else round(node["duration_ms"], 1),
            node["error"] or (None if node["result"] is None else compact(node["result"])[:80]),
        )
        for node in document["nodes"]
    ]
    if rows:
        yield ""
        yield from table(("NODE", "STATE", "ATTEMPTS", "MS", "RESULT"), rows, style, "  ")


def _length(seconds: float) -> str:
    return f"{seconds * 1000:.0f} ms" if seconds < 1 else f"{seconds:.1f} s"
