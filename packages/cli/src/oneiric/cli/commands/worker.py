"""``oneiric worker``: do the tasks and workflows of a queue until SIGTERM, beside whatever system runs."""

import sys
from typing import TYPE_CHECKING, Annotated, Any, Final

import typer

from oneiric.cli._numbers import number_from
from oneiric.cli._output import Printed, Style, json_line, printable, write
from oneiric.cli._questions import checked
from oneiric.cli._view import load_demo, options_of
from oneiric.core.errors import LifecycleError, ResolutionError

if TYPE_CHECKING:
    from oneiric.app import App, PlannedPart, RunningSystem

__all__ = ["command"]

_MOST: Final = 10_000


def command(
    context: typer.Context,
    queue: Annotated[str | None, typer.Option(metavar="KEY", help="The queue adapter's key.")] = None,
    concurrency: Annotated[str, typer.Option(metavar="N", help="Jobs at once.")] = "10",
) -> Printed:
    """Do the tasks and workflows of a queue until SIGTERM or SIGINT; what is at work then is finished first."""
    from oneiric.app import OrchestrateOptions, PlannedPart, orchestrate  # noqa: PLC0415 - loads the runtime

    checked(queue=queue)
    at_once = number_from("--concurrency", concurrency, most=_MOST)
    options = options_of(context)
    overrides: dict[str, Any] = {"http.enabled": False}
    if options.quiet or options.debug:
        overrides["logging.level"] = "DEBUG" if options.debug else "WARNING"
    if options.imports:
        from oneiric.runtime.settings import load_settings  # noqa: PLC0415 - as above

        configured = load_settings(options.config, profile=options.profile).settings.plugins.imports
        overrides["plugins.imports"] = [*configured, *options.imports]

    def extend(app: "App") -> "list[PlannedPart]":
        if options.demo:
            load_demo(app.resolver)
        app.resolver.resolve("adapter", queue or app.tasks.queue.key)  # type: ignore[union-attr]  # an App's has one
        return [PlannedPart(part=app.worker(queue, concurrency=at_once))]

    def ready(system: "RunningSystem") -> None:
        if system.system is not None and (options.json or not options.quiet):
            _say_ready(system.system.app, queue, at_once, as_json=options.json)

    wanted = OrchestrateOptions(extend=(extend,), on_ready=ready, beside=True)
    try:
        return Printed(orchestrate(options.config, profile=options.profile, overrides=overrides, options=wanted))
    except LifecycleError as error:
        if isinstance(error.__cause__, ResolutionError):
            raise error.__cause__ from error  # there is no such queue: that is said by itself
        raise


def _say_ready(app: "App", queue: str | None, concurrency: int, *, as_json: bool) -> None:
    """Print one document, or one line, once it takes jobs."""
    import os  # noqa: PLC0415 - as above

    key = queue or app.tasks.queue.key  # type: ignore[union-attr]  # an App's has one
    document = {
        "ready": True,
        "pid": os.getpid(),
        "queue": key,
        "concurrency": concurrency,
        "state_dir": str(app.settings.state_dir),
    }
    style = Style.of(sys.stdout)
    line = f"{style('green', 'ready')}  queue {printable(key)}, {concurrency} at once  {document['pid']}"
    write(sys.stdout, [json_line(document) if as_json else line])
