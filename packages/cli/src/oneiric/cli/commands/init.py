"""``oneiric init``: a starter project that runs."""

import re
from collections.abc import Iterator
from importlib.resources import files
from pathlib import Path
from typing import Annotated, Any, Final

import typer

from oneiric.cli._output import Result, Style, printable
from oneiric.core.errors import ConfigurationError, StoreError

__all__ = ["command"]

#: Every file of the project; their texts lie in the package `oneiric.cli.starter`.
_FILES: Final = (
    "README.md",
    "components.py",
    "settings/app.yml",
    "settings/plugins.yml",
    "settings/adapters.yml",
    "settings/services.yml",
    "settings/workflows.yml",
    "tests/test_components.py",
    ".gitignore",
)


def command(
    context: typer.Context,  # noqa: ARG001 - every command's
    directory: Annotated[str, typer.Argument(metavar="[DIR]", help="Where; by default here.")] = ".",
    force: Annotated[bool, typer.Option("--force", help="Replace files that are there.")] = False,  # noqa: FBT002
) -> Result:
    """Write a commented starter project: settings, components, a test."""
    home = Path(directory)
    there = [name for name in _FILES if (home / name).exists()]
    if there and not force:
        more = f" and {len(there) - 1} more" if len(there) > 1 else ""
        raise ConfigurationError(f"{home / there[0]}{more} would be replaced", f"oneiric init {directory} --force")
    name = _name_of(home)
    try:
        for each in _FILES:
            _write(home / each, _text_of(each).replace("{{name}}", name))
    except OSError as error:
        raise StoreError(
            f"{error.filename or home} cannot be written: {error.strerror}", "another directory"
        ) from error
    document = {"directory": str(home), "name": name, "files": list(_FILES), "replaced": there}
    return Result(document=document, text=lambda style: _text(document, style))


def _name_of(home: Path) -> str:
    """Return the directory's name as one that may name a provider; ``shop`` where nothing is left of it."""
    name = re.sub(r"[^a-z0-9_-]+", "-", home.resolve().name.lower()).strip("-_")
    return name[:40] if re.match("[a-z]", name) else "shop"


def _text_of(name: str) -> str:
    return files("oneiric.cli.starter").joinpath(f"{name.removeprefix('.')}.in").read_text(encoding="utf-8")


def _write(path: Path, text: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text, encoding="utf-8")


def _text(document: dict[str, Any], style: Style) -> Iterator[str]:
    yield f"{style('bold', printable(document['name']))} in {printable(document['directory'])}"
    yield from (f"  {name}" for name in document["files"])
    yield ""
    there = "" if document["directory"] == "." else f"cd {printable(document['directory'])} && "
    yield f"Next: {there}oneiric --config settings list"
