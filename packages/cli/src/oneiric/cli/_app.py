"""The parser: root options, the table of commands, and the modules they live in, loaded when called."""

import sys
from collections.abc import Mapping
from importlib import import_module
from typing import Annotated, Any, Final, cast

import typer
import typer.core
import typer.main

from oneiric.cli._options import RootOptions
from oneiric.cli._table import COMMANDS, GROUPS

__all__ = ["command_line"]

_QUIET_TYPER: Final[dict[str, Any]] = {
    "pretty_exceptions_enable": False,
    "rich_markup_mode": None,
    "context_settings": {"help_option_names": ["-h", "--help"], "max_content_width": 100},
}


class _AsTyped:
    """Stands in for typer's coercion of text to text, which would load pydantic to do nothing."""

    @staticmethod
    def coerce(value: Any, param: Any, ctx: object) -> Any:  # noqa: ARG004 - typer's port
        if value is None and (param.multiple or param.nargs == -1):
            return ()
        return value


class _Text:
    """Mixed into a command: what is text already is taken as it was typed."""

    def get_params(self, ctx: Any) -> list[Any]:
        params: list[Any] = super().get_params(ctx)  # type: ignore[misc]  # a command's
        for param in params:
            described = getattr(param, "type_descriptor", None)  # older typers have none, and do not load pydantic
            if described is not None and described.annotation in (str, list[str], bool):
                param.get_runtime_param = _AsTyped
        return params


class _Command(_Text, typer.core.TyperCommand):
    """One command."""


def _keep(ctx: typer.Context, param: typer.CallbackParam, value: Any) -> Any:
    """Put a root option where every command finds it; one that was not said leaves what another place said."""
    options: RootOptions = ctx.find_root().ensure_object(RootOptions)
    if value and param.name:
        if param.name == "imports":
            options.imports.extend(value)
        else:
            setattr(options, param.name, value)
    return value


def _show_version(value: bool) -> None:  # noqa: FBT001 - typer's port
    if not value:
        return
    from importlib.metadata import version  # noqa: PLC0415 - only for who asks

    number = version("oneiric-cli")
    wants_json = "--json" in sys.argv
    sys.stdout.write(f'{{"version": "{number}"}}\n' if wants_json else f"oneiric {number}\n")
    raise typer.Exit


def _root_option(*names: str, metavar: str | None = None, help: str) -> Any:  # noqa: A002 - typer's word for it
    return typer.Option(*names, metavar=metavar, help=help, callback=_keep, expose_value=False)


def _root(  # noqa: PLR0917 - typer's way to declare options
    config: Annotated[str | None, _root_option("--config", metavar="PATH", help="Settings file or directory.")] = None,
    profile: Annotated[str | None, _root_option("--profile", metavar="NAME", help="default or serverless.")] = None,
    imports: Annotated[
        list[str] | None,
        _root_option("--import", metavar="MODULE", help="Import MODULE first; its register(resolver) is called."),
    ] = None,
    demo: Annotated[bool, _root_option("--demo", help="Also load the demo's catalogue.")] = False,  # noqa: FBT002
    json: Annotated[bool, _root_option("--json", help="Print one JSON document.")] = False,  # noqa: FBT002
    quiet: Annotated[bool, _root_option("--quiet", "-q", help="Print results only.")] = False,  # noqa: FBT002
    verbose: Annotated[bool, _root_option("--verbose", "-v", help="Log what happens.")] = False,  # noqa: FBT002
    debug: Annotated[bool, _root_option("--debug", help="Log everything; show tracebacks.")] = False,  # noqa: FBT002
    version: Annotated[  # noqa: FBT002
        bool, typer.Option("--version", help="Show the version.", callback=_show_version, expose_value=False)
    ] = False,
) -> None:
    """Know which implementation is active for a key, why that one, and change it without dropping a call."""


class _CommandTable(_Text, typer.core.TyperGroup):
    """A group that knows its commands by name and loads one when it is called."""

    #: Command → the line about it; and the package of their modules.
    table: Mapping[str, str] = COMMANDS
    package = "oneiric.cli.commands"

    def __init__(self, **attributes: Any) -> None:
        super().__init__(**attributes)
        self._root_params = list(self.params)
        self.commands = cast("Any", dict.fromkeys(self.table))  # names only: they are what a typo is held against

    def list_commands(self, ctx: Any) -> list[str]:  # noqa: ARG002 - typer's port
        return list(self.table)

    def get_command(self, ctx: Any, cmd_name: str) -> Any:  # noqa: ARG002 - typer's port
        if cmd_name not in self.table:
            return None
        if self.table is COMMANDS and cmd_name in GROUPS:
            return _Subcommands(cmd_name, self._root_params)
        module = import_module(f"{self.package}.{cmd_name.replace('-', '_')}")
        single = typer.Typer(add_completion=False, **_QUIET_TYPER)
        single.command(cmd_name, cls=_Command, help=self.table[cmd_name])(module.command)
        command = typer.main.get_command(single)
        command.params.extend(self._root_params)
        return command

    def format_commands(self, ctx: Any, formatter: Any) -> None:  # noqa: ARG002 - typer's port
        with formatter.section("Commands"):
            formatter.write_dl(list(self.table.items()))


class _Subcommands(_CommandTable):
    """The commands of a group, such as ``config``; called alone it prints its help."""

    def __init__(self, name: str, root_params: list[Any]) -> None:
        self.table = GROUPS[name]
        self.package = f"{_CommandTable.package}.{name}"
        settings = _QUIET_TYPER["context_settings"]
        super().__init__(
            name=name, help=COMMANDS[name], params=root_params, rich_markup_mode=None, context_settings=settings
        )

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        return super().parse_args(ctx, args or ["--help"])


def command_line() -> Any:
    """Return the parser of the whole command line; calling it runs a command and returns its result."""
    app = typer.Typer(name="oneiric", cls=_CommandTable, **_QUIET_TYPER)
    app.callback()(_root)
    return typer.main.get_command(app)
