"""What a command looks at: a resolver filled by discovery, with the settings applied if there are any.

Without settings neither pydantic nor asyncio is loaded: only the core's resolution and its catalogues.
"""

import os
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import typer

from oneiric.cli._options import RootOptions
from oneiric.cli._output import Style, printable, write
from oneiric.core.catalog import DiscoveryReport, discover, read_catalog, register_modules
from oneiric.core.resolution import Resolver

if TYPE_CHECKING:
    from oneiric.cli._stored import StoredManifest
    from oneiric.runtime.settings import LoadedSettings

__all__ = ["DEMO_ORIGIN", "View", "is_configured", "load_demo", "load_extras", "options_of", "view_of"]

DEMO_ORIGIN = "oneiric.cli.demo"
_NAMED_VARIABLES = ("ONEIRIC_CONFIG", "ONEIRIC_PROFILE")
_SECRET_PREFIX = "ONEIRIC_SECRET_"  # noqa: S105 - the name of a family of variables


@dataclass(frozen=True, slots=True)
class View:
    """A resolver, and how it came to hold what it holds.

    Attributes:
        options: The root options.
        resolver: Filled by discovery.
        report: What discovery registered, and what it left out.
        loaded: The settings; None when nothing is configured.
        stored: What remote delivery has stored; None when that is nothing, or nobody asked.
    """

    options: RootOptions
    resolver: Resolver
    report: DiscoveryReport
    loaded: "LoadedSettings | None"
    stored: "StoredManifest | None" = None

    @property
    def settings(self) -> "LoadedSettings":
        """The settings, for a command that asked for them.

        Raises:
            LookupError: It did not.
        """
        if self.loaded is None:
            raise LookupError("this command did not ask for settings")
        return self.loaded

    @property
    def notes(self) -> tuple[str, ...]:
        """What is worth knowing beside any answer: that something was left out."""
        left_out = len(self.report.errors)
        if not left_out:
            return ()
        what = "1 catalogue or plugin was" if left_out == 1 else f"{left_out} catalogues or plugins were"
        return (f"{what} left out; `oneiric plugins` says why",)

    @property
    def problems(self) -> list[dict[str, Any]]:
        """What was left out, as plain data."""
        found: list[dict[str, Any]] = self.report.as_dict()["errors"]
        return found


def options_of(context: typer.Context) -> RootOptions:
    """Return the root options of a call, wherever they stood."""
    options: RootOptions = context.find_root().ensure_object(RootOptions)
    return options


def view_of(
    context: typer.Context, *, load_plugins: bool = False, needs_settings: bool = False, with_stored: bool = False
) -> View:
    """Discover what is installed and apply what is configured.

    Args:
        context: The call.
        load_plugins: Also load plugins written as code, whatever the settings say.
        needs_settings: Load the settings also where nothing is configured, so that `View.settings` is there.
        with_stored: Also what remote delivery has stored, as a start would have it; what is wrong with that goes to
            stderr.

    Raises:
        ConfigurationError: The settings, or ``ONEIRIC_STACK_ORDER``, are wrong.
        LoadError: A module of ``--import`` cannot be imported.
    """
    options = options_of(context)
    is_wanted = needs_settings or is_configured(options, os.environ)
    loaded = _load_settings(options) if is_wanted else None
    if loaded is None:
        resolver = Resolver()
        report = discover(resolver, plugins=load_plugins)
    else:
        from oneiric.runtime.settings import policy_from  # noqa: PLC0415 - loaded by now

        resolver = Resolver(policy_from(loaded))
        plugins = loaded.settings.plugins
        report = discover(
            resolver,
            plugins=load_plugins or plugins.auto_load,
            allowed_distributions=plugins.allowed_distributions,
        )
        register_modules(resolver, plugins.imports, named_by="plugins.imports")
    load_extras(options, resolver)
    return View(options, resolver, report, loaded, _stored(resolver, loaded) if with_stored else None)


def _stored(resolver: Resolver, loaded: "LoadedSettings | None") -> "StoredManifest | None":
    if loaded is None:
        return None
    from oneiric.cli._stored import add_stored  # noqa: PLC0415 - only where something is configured

    stored = add_stored(resolver, loaded.settings)
    if stored is not None:
        # At once: what is missing now may be what the command fails for.
        style = Style.of(sys.stderr)
        write(sys.stderr, [f"{style('yellow', 'warning:')} {printable(each)}" for each in stored.problems])
    return stored


def load_extras(options: RootOptions, resolver: Resolver) -> None:
    """Register what ``--demo`` and ``--import`` bring.

    Raises:
        LoadError: A module cannot be imported, or what it registers is refused by itself.
    """
    if options.demo:
        load_demo(resolver)
    if options.imports:
        register_modules(resolver, options.imports, named_by="--import")


def load_demo(resolver: Resolver) -> None:
    """Register the demo's catalogue."""
    catalog = Path(__file__).parent / "demo" / "catalog.toml"
    resolver.apply(add=read_catalog(catalog, DEMO_ORIGIN))


def is_configured(options: RootOptions, environ: Mapping[str, str]) -> bool:
    """Tell whether settings are named or set anywhere, so that they have to be loaded."""
    if options.config is not None or options.profile is not None or any(map(environ.get, _NAMED_VARIABLES)):
        return True
    return any(name.startswith("ONEIRIC_") and "__" in name and not name.startswith(_SECRET_PREFIX) for name in environ)


def _load_settings(options: RootOptions) -> "LoadedSettings":
    from oneiric.runtime.settings import load_settings  # noqa: PLC0415 - loads pydantic; only where configured

    return load_settings(options.config, profile=options.profile)
