"""``oneiric pause``: refuse new work for a key, and take it again."""

from typing import Annotated

import typer

from oneiric.cli._activity import activity_text, apply_change, change_asked
from oneiric.cli._output import Result
from oneiric.cli._parameters import Domain, Key, Note, Owner, Until
from oneiric.core.errors import ConfigurationError

__all__ = ["command"]


def command(  # noqa: PLR0917 - typer's way to declare options
    context: typer.Context,
    key: Key,
    domain: Domain = None,
    note: Note = None,
    owner: Owner = None,
    until: Until = None,
    resume: Annotated[bool, typer.Option("--resume", help="Take work again.")] = False,  # noqa: FBT002 - an option
) -> Result:
    """Refuse new work for a key, at once."""
    if resume and until is not None:
        raise ConfigurationError("--resume ends a pause, and --until is for one that begins", "oneiric pause --help")
    change = change_asked("resume" if resume else "pause", key, domain, note=note, owner=owner, until=until)
    document, notes = apply_change(context, change)
    return Result(document=document, text=lambda style: activity_text(document, style), notes=notes)
