"""``oneiric manifest keygen``: a new key, never over an old one."""

from collections.abc import Iterator
from typing import Annotated, Any

import typer

from oneiric.cli._output import Result, Style, printable
from oneiric.cli._publishing import needs_remote

__all__ = ["command"]


def command(
    path: Annotated[
        str, typer.Argument(metavar="FILE", help="Where the private key goes; its public half to FILE.pub.")
    ],
) -> Result:
    """Make a key to sign with."""
    needs_remote()
    from oneiric.remote.keys import keygen  # noqa: PLC0415 - a distribution of its own

    public = keygen(path)
    document = {
        "private_key": path,
        "public_key": f"{path}.pub",
        "base64": public.base64,
        "key_id": public.key_id,
    }
    return Result(document=document, text=lambda style: _text(document, style))


def _text(document: dict[str, Any], style: Style) -> Iterator[str]:
    yield f"{style('bold', 'private')}  {printable(document['private_key'])} (mode 0600; keep it from everybody)"
    yield f"{style('bold', 'public')}   {printable(document['public_key'])}"
    yield f"         {document['base64']}"
