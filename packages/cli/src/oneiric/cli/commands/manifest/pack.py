"""``oneiric manifest pack``: an authored manifest becomes the canonical bytes that are signed."""

from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Any

import typer

from oneiric.cli._output import Result, Style, counted, printable
from oneiric.cli._publishing import lifetime_seconds, needs_remote, now, read_file, whole_number, write_file, written

__all__ = ["command"]


def command(  # noqa: PLR0917 - typer's way to declare options
    source: Annotated[str, typer.Option("--input", "-i", metavar="FILE", help="The manifest, YAML or JSON.")],
    output: Annotated[str, typer.Option("--output", "-o", metavar="FILE", help="Where the body goes.")] = (
        "build/manifest.body.json"
    ),
    product: Annotated[str | None, typer.Option(metavar="NAME", help="Whose manifest it is.")] = None,
    channel: Annotated[str | None, typer.Option(metavar="NAME", help="Which line of it.")] = None,
    number: Annotated[str | None, typer.Option("--version-number", metavar="N", help="Its version.")] = None,
    after: Annotated[
        str | None, typer.Option(metavar="FILE", help="The signed manifest it follows: its version and one.")
    ] = None,
    expires_in: Annotated[str, typer.Option(metavar="30d", help="How long it is valid.")] = "30d",
    artifacts: Annotated[
        str | None, typer.Option(metavar="DIR", help="Where the files lie that entries name; digests are filled in.")
    ] = None,
    base: Annotated[str, typer.Option(metavar="URL", help="Put before the names of those files.")] = "",
) -> Result:
    """Write the canonical body of a manifest."""
    needs_remote()
    from oneiric.remote.envelope import MANIFEST_TYPE  # noqa: PLC0415 - a distribution of its own
    from oneiric.remote.manifest import parse_manifest, read_document  # noqa: PLC0415 - as above
    from oneiric.remote.publish import described_artifacts, manifest_body, payload_of  # noqa: PLC0415 - as above

    document = read_document(read_file(source), source)
    if artifacts is not None:
        document = described_artifacts(document, Path(artifacts), base=base)
    body = manifest_body(
        document,
        now=now(),
        lifetime_seconds=lifetime_seconds(expires_in),
        after=None if after is None else parse_manifest(payload_of(read_file(after), MANIFEST_TYPE, after), after),
        what=source,
        product=product,
        channel=channel,
        version=whole_number(number, "--version-number"),
    )
    write_file(output, body)
    parsed = parse_manifest(body)
    answer = {
        **written(output, body),
        "product": parsed.product,
        "channel": parsed.channel,
        "version": parsed.version,
        "issued": parsed.issued,
        "expires": parsed.expires,
        "entries": len(parsed.entries),
    }
    return Result(document=answer, text=lambda style: _text(answer, style))


def _text(document: dict[str, Any], style: Style) -> Iterator[str]:
    what = f"{document['product']} {document['channel']} version {document['version']}"
    entries = counted(document["entries"], "entry", "entries")
    yield f"{style('bold', 'packed')}  {printable(what)}: {entries}, until {document['expires']}"
    yield f"        {printable(document['path'])} (not signed yet)"
