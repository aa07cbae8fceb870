"""``oneiric orchestrate``: run the application as a process of its own, or show what it would run."""

import sys
from typing import Annotated, Any, Final

import typer

from oneiric.cli._options import RootOptions
from oneiric.cli._output import Printed, Result, Style, json_line, printable, write
from oneiric.cli._view import load_demo, options_of, view_of
from oneiric.core.errors import ConfigurationError

__all__ = ["command"]

_NOT_FOUND: Final = 4
_FAILED: Final = 1


def command(  # noqa: PLR0913, PLR0917 - typer's way to declare options; the published ones
    context: typer.Context,
    manifest: Annotated[
        str | None, typer.Option(metavar="URL", help="Apply this remote manifest: remote.manifest_url.")
    ] = None,
    refresh_interval: Annotated[
        str | None, typer.Option(metavar="SECONDS", help="How often it is fetched again: remote.refresh_interval.")
    ] = None,
    no_remote: Annotated[bool, typer.Option("--no-remote", help="Fetch no manifest.")] = False,  # noqa: FBT002
    http_host: Annotated[str | None, typer.Option(metavar="HOST", help="Address to listen on: http.host.")] = None,
    http_port: Annotated[str | None, typer.Option(metavar="PORT", help="Port; 0 takes a free one: http.port.")] = None,
    no_http: Annotated[bool, typer.Option("--no-http", help="Listen on the control socket only.")] = False,  # noqa: FBT002
    health_path: Annotated[
        str | None, typer.Option(metavar="FILE", help="Where runtime_health.json is: runtime_paths.health_path.")
    ] = None,
    workflow_checkpoints: Annotated[
        str | None, typer.Option(metavar="FILE", help="Where the progress of workflows is kept.")
    ] = None,
    no_workflow_checkpoints: Annotated[  # noqa: FBT002 - an option
        bool, typer.Option("--no-workflow-checkpoints", help="Do not keep it.")
    ] = False,
    print_dag: Annotated[bool, typer.Option("--print-dag", help="Show the active workflows, and exit.")] = False,  # noqa: FBT002
    workflow: Annotated[
        list[str] | None, typer.Option(metavar="KEY", help="Show only this workflow; may be repeated; all or *.")
    ] = None,
    events: Annotated[bool, typer.Option("--events", help="Show the active event handlers, and exit.")] = False,  # noqa: FBT002
    inspect_json: Annotated[  # noqa: FBT002 - an option
        bool, typer.Option("--inspect-json", help="Show both as one JSON document, and exit.")
    ] = False,
) -> Result | Printed:
    """Run until SIGTERM or SIGINT; SIGHUP reloads the settings."""
    options = options_of(context)
    if print_dag or events or inspect_json or workflow:
        shown = {"workflows": print_dag or inspect_json or bool(workflow), "events": events or inspect_json}
        return _inspected(context, shown, workflow or [], as_json=inspect_json)
    if manifest is not None and no_remote:
        raise ConfigurationError("--manifest and --no-remote contradict each other", "oneiric orchestrate --help")
    said: dict[str, Any] = {
        "remote.manifest_url": manifest,
        "remote.enabled": True if manifest is not None else None,
        "remote.refresh_interval": refresh_interval,
        "http.host": http_host,
        "http.port": http_port,
        "http.enabled": True if http_port is not None else None,
        "runtime_paths.health_path": health_path,
        "runtime_paths.workflow_checkpoints_path": workflow_checkpoints,
        "runtime_paths.workflow_checkpoints_enabled": True if workflow_checkpoints is not None else None,
    }
    overrides = {name: value for name, value in said.items() if value is not None}
    if no_remote:
        overrides |= {"remote.enabled": False, "profile.remote_enabled": False}
    if no_http:
        overrides["http.enabled"] = False
    if no_workflow_checkpoints:
        overrides["runtime_paths.workflow_checkpoints_enabled"] = False
    return Printed(_run(options, overrides))


def _inspected(context: typer.Context, shown: dict[str, bool], keys: list[str], *, as_json: bool) -> Result:
    """Return what is declared; a workflow that is missing is not found, one that is unsound a failure."""
    from oneiric.cli._declared import declared_events, declared_text, declared_workflows  # noqa: PLC0415 - not to run

    view = view_of(context, needs_settings=True, with_stored=True)
    document: dict[str, Any] = {}
    if shown["workflows"]:
        document["workflows"] = declared_workflows(view.resolver, keys)
    if shown["events"]:
        document["events"] = declared_events(view.resolver)
    is_missing = shown["workflows"] and bool(document["workflows"]["missing"])
    is_wrong = any(section["problems"] for section in document.values())
    return Result(
        document=document,
        text=lambda style: declared_text(document, style),
        notes=view.notes,
        exit_code=_NOT_FOUND if is_missing else _FAILED if is_wrong else 0,
        as_json=as_json,
    )


def _run(options: RootOptions, overrides: dict[str, Any]) -> int:
    from oneiric.app import OrchestrateOptions, orchestrate  # noqa: PLC0415 - loads the runtime; not to inspect

    if options.imports:
        overrides["plugins.imports"] = [*_configured_imports(options), *options.imports]
    if options.quiet or options.debug:
        overrides["logging.level"] = "DEBUG" if options.debug else "WARNING"

    def extend(app: Any) -> tuple[()]:
        if options.demo:
            load_demo(app.resolver)
        return ()

    def ready(system: Any) -> None:
        if not options.quiet or options.json:
            _say_ready(system, as_json=options.json)

    return orchestrate(
        options.config,
        profile=options.profile,
        overrides=overrides,
        options=OrchestrateOptions(extend=(extend,), on_ready=ready),
    )


def _configured_imports(options: RootOptions) -> tuple[str, ...]:
    from oneiric.runtime.settings import load_settings  # noqa: PLC0415 - as above

    return load_settings(options.config, profile=options.profile).settings.plugins.imports


def _say_ready(system: Any, *, as_json: bool) -> None:
    """Print one document, or one line, once it takes work: where it listens, and which process it is."""
    import os  # noqa: PLC0415 - as above

    settings = system.loaded.settings
    listens = settings.http.enabled and system.http is not None
    address = {"host": settings.http.host, "port": system.http.port} if listens else None
    document = {"ready": True, "pid": os.getpid(), "http": address, "state_dir": str(settings.state_dir)}
    if as_json:
        write(sys.stdout, [json_line(document)])
        return
    where = f"http://{address['host']}:{address['port']}" if address else "no HTTP"
    style = Style.of(sys.stdout)
    write(
        sys.stdout,
        [f"{style('green', 'ready')}  {printable(where)}  {printable(document['state_dir'])}  {os.getpid()}"],
    )
