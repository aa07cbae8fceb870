"""``oneiric manifest sign``: put a packed manifest into an envelope, or add a signature to one."""

from collections.abc import Iterator
from typing import Annotated, Any

import typer

from oneiric.cli._output import Result, Style, printable
from oneiric.cli._publishing import needs_remote, private_keys, read_file, write_file, written

__all__ = ["command", "signed_text"]


def command(
    source: Annotated[str, typer.Option("--input", "-i", metavar="FILE", help="What pack wrote, or an envelope.")],
    key: Annotated[list[str] | None, typer.Option("--key", "-k", metavar="KEYFILE", help="May be repeated.")] = None,
    output: Annotated[
        str | None,
        typer.Option("--output", "-o", metavar="FILE", help="Where the envelope goes; an envelope: in place."),
    ] = None,
) -> Result:
    """Sign a packed manifest; a further signature goes beside those that are there."""
    needs_remote()
    from oneiric.core.errors import ConfigurationError  # noqa: PLC0415 - loaded by now
    from oneiric.remote.envelope import MANIFEST_TYPE  # noqa: PLC0415 - a distribution of its own
    from oneiric.remote.publish import countersigned, payload_of, signed  # noqa: PLC0415 - as above

    keys = private_keys(key or ())
    data = read_file(source)
    if b'"payloadType"' in data[:4096] or b'"payloadType"' in data[-4096:]:
        payload_of(data, MANIFEST_TYPE, source)
        envelope, target = countersigned(data, keys), output or source
    elif output is None:
        raise ConfigurationError("where the signed manifest goes was not said", "--output build/manifest.json")
    else:
        envelope, target = signed(data, MANIFEST_TYPE, keys), output
    write_file(target, envelope)
    document = {**written(target, envelope), "signed_by": [each.public.key_id for each in keys]}
    return Result(document=document, text=lambda style: signed_text(document, style))


def signed_text(document: dict[str, Any], style: Style) -> Iterator[str]:
    """Yield what was signed, for people."""
    yield f"{style('bold', 'signed')}  {printable(document['path'])}"
    yield f"        sha256 {document['sha256']}"
    for key_id in document["signed_by"]:
        yield f"        by {key_id}"
