"""``oneiric workflow enqueue``: have a run begun by whoever works off the queue."""

from collections.abc import Iterator
from typing import TYPE_CHECKING, Annotated, Any, Final

import typer

from oneiric.cli._output import Result, Style, printable
from oneiric.cli._parameters import RunCheckpoints, RunContext, Workflow, WorkflowOption
from oneiric.cli._plain import object_from
from oneiric.cli._questions import checked
from oneiric.cli._runs import checkpoint_settings, workflow_of
from oneiric.cli._view import options_of
from oneiric.core.errors import ConfigurationError

if TYPE_CHECKING:
    from oneiric.app import App

__all__ = ["command"]

#: The key of the queue adapter where nobody names one.
_QUEUE: Final = "queue"


def command(  # noqa: PLR0917 - typer's way to declare options; the published ones
    context: typer.Context,
    key: Workflow = None,
    workflow: WorkflowOption = None,
    given: RunContext = None,
    run_id: Annotated[str | None, typer.Option("--run-id", metavar="RUN", help="By default a new one.")] = None,
    queue: Annotated[
        str | None, typer.Option("--queue-category", "--queue", metavar="KEY", help="The queue adapter's key.")
    ] = None,
    provider: Annotated[
        str | None, typer.Option("--provider", "-p", metavar="NAME", help="The provider of the queue.")
    ] = None,
    metadata: Annotated[str | None, typer.Option(metavar="JSON", help="Goes along with the message.")] = None,
    checkpoints: RunCheckpoints = None,
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
        settings[f"adapters.selections.{queue or _QUEUE}"] = provider
    app = app_here(options_of(context), settings)

    async def enqueue(app: "App") -> dict[str, Any]:
        category = _category(app, name, queue, provider)
        info = await app.workflows.enqueue(name, stated, run_id=run_id, metadata=along)
        serving = app.lifecycle.get_status("adapter", category).current_provider
        told = {"run_id": info.run_id, "queue_provider": serving, "queued_at": info.queued_at}
        return {"queue_category": category, **told}

    document = {"scope": "one-off", "workflow": name, **done_here(app, enqueue)}
    return Result(document=document, text=lambda style: _text(document, style))


def _category(app: "App", name: str, queue: str | None, provider: str | None) -> str:
    """Return the queue that a workflow goes to: its own, else the one that was said, else the application's.

    Raises:
        CandidateNotFoundError: There is no such workflow.
        ConfigurationError: Another one was said than it states, or the provider of another one.
    """
    own = app.workflows.spec(name).queue_category
    if own is not None and queue not in {None, own}:
        raise ConfigurationError(
            f"--queue is {queue!r}, and the definition of workflow {name!r} states queue_category {own!r}",
            "leave --queue out, or change the definition",
        )
    category: str = own or queue or app.tasks.queue.key  # type: ignore[union-attr]  # an App's has one
    if provider is not None and category != (queue or _QUEUE):
        raise ConfigurationError(
            f"--provider {provider!r} is of queue {_QUEUE!r}, and workflow {name!r} goes to queue {category!r}",
            f"--queue {category} --provider {provider}",
        )
    return category


def _text(document: dict[str, Any], style: Style) -> Iterator[str]:
    queue = printable(document["queue_category"])
    where = f"{document['queue_category']} ({document['queue_provider']})"
    yield f"{style('bold', printable(document['workflow']))}  run {printable(document['run_id'])}  queued"
    worker = "oneiric worker" if document["queue_category"] == _QUEUE else f"oneiric worker --queue {queue}"
    yield f"  queue   {printable(where)}; `{worker}` works it off"
