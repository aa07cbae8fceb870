"""``oneiric config validate``: everything that is wrong with the settings, at once."""

from collections.abc import Iterator
from typing import Any

import typer

from oneiric.cli._output import Result, Style, printable
from oneiric.cli._view import options_of, view_of
from oneiric.core.errors import ConfigurationError
from oneiric.runtime.settings import ProviderSettings, load_problems, problems_of

__all__ = ["command"]

_WRONG = 2


def command(context: typer.Context) -> Result:
    """Check the settings, and those of every provider that is configured."""
    options = options_of(context)
    problems = load_problems(options.config, profile=options.profile)
    path: str | None = None
    notes: tuple[str, ...] = ()
    if not problems:
        view = view_of(context, needs_settings=True)
        path, notes = view.settings.path, view.notes
        problems = problems_of(view.settings, view.resolver.candidates(), ProviderSettings(view.settings))
    document = {
        "valid": not problems,
        "settings": path if path is not None else options.config,
        "problems": [_as_dict(problem) for problem in problems],
    }
    return Result(
        document=document,
        text=lambda style: _text(document, style),
        notes=notes,
        exit_code=_WRONG if problems else 0,
    )


def _as_dict(problem: ConfigurationError) -> dict[str, Any]:
    return {
        "message": problem.message,
        "hint": problem.hint,
        "file": problem.file,
        "line": problem.line,
        "key": problem.key,
    }


def _text(document: dict[str, Any], style: Style) -> Iterator[str]:
    where = printable(document["settings"] or "the environment and the defaults")
    count = len(document["problems"])
    if not count:
        yield style("green", f"{where}: valid")
        return
    for problem in document["problems"]:
        yield f"{style('red', 'wrong:')} {printable(problem['message'])}"
        if problem["hint"]:
            yield f"  Try: {printable(problem['hint'])}"
    yield f"{where}: {count} {'problem' if count == 1 else 'problems'}"
