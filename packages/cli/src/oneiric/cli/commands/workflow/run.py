"""``oneiric workflow run``: run a workflow in this process, and keep its progress where the system's is kept."""

from typing import TYPE_CHECKING, Annotated, Any

import typer

from oneiric.cli._output import Result
from oneiric.cli._parameters import RunCheckpoints, RunContext, Workflow, WorkflowOption
from oneiric.cli._plain import object_from
from oneiric.cli._runs import checkpoint_settings, workflow_of
from oneiric.cli._view import options_of
from oneiric.core.errors import ConfigurationError

if TYPE_CHECKING:
    from oneiric.app import App
    from oneiric.runtime.workflows import RunInfo

__all__ = ["command"]


def command(  # noqa: PLR0917 - typer's way to declare options; the published ones
    context: typer.Context,
    key: Workflow = None,
    workflow: WorkflowOption = None,
    given: RunContext = None,
    run_id: Annotated[
        str | None, typer.Option("--run-id", metavar="RUN", help="By default a new one; a known one goes on.")
    ] = None,
    checkpoints: RunCheckpoints = None,
    no_checkpoints: Annotated[bool, typer.Option("--no-workflow-checkpoints", help="Do not keep it.")] = False,  # noqa: FBT002
    resume_checkpoint: Annotated[  # noqa: FBT002 - an option
        bool,
        typer.Option("--resume-checkpoint", help="Go on with the newest run of it that failed or was interrupted."),
    ] = False,
) -> Result:
    """Run a workflow in this process; interrupted, it can be resumed."""
    from oneiric.cli._following import follow  # noqa: PLC0415 - loads the runtime

    name = workflow_of(key, workflow)
    settings = checkpoint_settings(checkpoints, off=no_checkpoints)
    if resume_checkpoint and (no_checkpoints or run_id is not None):
        other = "--no-workflow-checkpoints" if no_checkpoints else "--run-id"
        raise ConfigurationError(
            f"--resume-checkpoint and {other} contradict each other", "oneiric workflow run --help"
        )
    stated = object_from("--context", given)

    async def begin(app: "App") -> "RunInfo":
        app.workflows.spec(name)
        unfinished = await _unfinished(app, name) if resume_checkpoint else None
        if unfinished is None:
            return await app.workflows.start(name, stated, run_id=run_id)
        _refuse_another(unfinished, stated)
        return await app.workflows.engine.resume(unfinished.run_id)

    return follow(options_of(context), settings, begin)


async def _unfinished(app: "App", name: str) -> "RunInfo | None":
    runs = await app.workflows.runs(name)
    return next((run for run in runs if run.status in {"interrupted", "failed"}), None)


def _refuse_another(run: "RunInfo", stated: Any) -> None:
    if stated is not None and stated != run.context:
        raise ConfigurationError(
            f"run {run.run_id!r} was begun with another context", f"oneiric workflow resume {run.run_id}"
        )
