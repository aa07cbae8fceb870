"""``oneiric workflow enqueue``: have a run begun by whoever works off the queue."""

from collections.abc import Iterator
from typing import TYPE_CHECKING, Annotated, Any

import typer

from oneiric.cli._output import Result, Style, printable
from oneiric.cli._plain import object_from
from oneiric.cli._questions import checked
from oneiric.cli._runs import checkpoint_settings, workflow_of
from oneiric.cli._view import options_of
from oneiric.core.errors import ConfigurationError

if TYPE_CHECKING:
    from oneiric.app import App

__all__ = ["command"]


def command(  # noqa: PLR0917 - typer's way to declare options; the published ones
    context: typer.Context,
    key: Annotated[str | None, typer.Argument(metavar="KEY", help="The workflow.")] = None,
    workflow: Annotated[str | None, typer.Option(metavar="KEY", help="The same.")] = None,
    given: Annotated[
        str | None, typer.Option("--context", metavar="JSON", help="What its templates see: JSON, @FILE, or -.")
    ] = None,
    run_id: Annotated[str | None, typer.Option("--run-id", metavar="RUN", help="By default a new one.")] = None,
    queue: Annotated[
        str | None, typer.Option("--queue-category", "--queue", metavar="KEY", help="The queue adapter's key.")
    ] = None,
    provider: Annotated[
        str | None, typer.Option("--provider", "-p", metavar="NAME", help="The provider of the queue.")
    ] = None,
    metadata: Annotated[str | None, typer.Option(metavar="JSON", help="Goes along with the message.")] = None,
    checkpoints: Annotated[
        str | None, typer.Option("--workflow-checkpoints", metavar="FILE", help="Where the run is kept.")
    ] = None,
) -> Result:
    """Have a run begun by whoever works off the queue, such as `oneiric worker`."""
    from oneiric.cli._here import app_here, done_here  # noqa: PLC0415 - loads the runtime

    checked(queue=queue, provider=provider)
    name = workflow_of(key, workflow)
    settings = checkpoint_settings(checkpoints, off=False)
    if queue is not None:
        settings["workflows.options.queue_category"] = queue
    stated, along = object_from("--context", given), object_from("--metadata", metadata)
    if provider is not None:
        settings[f"adapters.selections.{queue or 'queue'}"] = provider
    app = app_here(options_of(context), settings)

    async def enqueue(app: "App") -> dict[str, Any]:
        category = _category(app, name, queue)
        info = await app.workflows.enqueue(name, stated, run_id=run_id, metadata=along)
        serving = app.lifecycle.get_status("adapter", category).current_provider
        told = {"run_id": info.run_id, "queue_provider": serving, "queued_at": info.queued_at}
        return {"queue_category": category, **told}

    document = {"scope": "one-off", "workflow": name, **done_here(app, enqueue)}
    return Result(document=document, text=lambda style: _text(document, style))


def _category(app: "App", name: str, queue: str | None) -> str:
    """Return the queue that a workflow goes to: its own, else the one that was said, else the application's.

    Raises:
        CandidateNotFoundError: There is no such workflow.
        ConfigurationError: Another one was said than it states.
    """
    own = app.workflows.spec(name).queue_category
    if own is not None and queue not in {None, own}:
        raise ConfigurationError(
            f"workflow {name!r} states the queue {own!r} itself", f"oneiric workflow enqueue {name}"
        )
    return own or queue or app.tasks.queue.key  # type: ignore[union-attr]  # an App's has one


def _text(document: dict[str, Any], style: Style) -> Iterator[str]:
    where = f"{document['queue_category']} ({document['queue_provider']})"
    yield f"{style('bold', printable(document['workflow']))}  run {printable(document['run_id'])}  queued"
    yield f"  queue   {printable(where)}; `oneiric worker` works it off"
