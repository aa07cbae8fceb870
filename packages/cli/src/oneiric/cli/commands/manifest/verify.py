"""``oneiric manifest verify``: what a client that trusts this root, or these keys, would say to a manifest."""

from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Any

import typer

from oneiric.cli._output import Result, Style, counted, printable
from oneiric.cli._publishing import needs_remote, now, public_keys, read_file, whole_number
from oneiric.core.errors import ConfigurationError

__all__ = ["command"]


def command(  # noqa: PLR0917 - typer's way to declare options
    source: Annotated[str, typer.Argument(metavar="FILE", help="The signed manifest.")],
    root: Annotated[str | None, typer.Option(metavar="FILE", help="The pinned root.")] = None,
    root_sha256: Annotated[str | None, typer.Option(metavar="HEX", help="The digest the root must have.")] = None,
    key: Annotated[
        list[str] | None, typer.Option("--key", metavar="KEY", help="Instead of a root: base64, or a .pub file.")
    ] = None,
    threshold: Annotated[str | None, typer.Option(metavar="N", help="How many of the keys must sign.")] = None,
    channel: Annotated[str, typer.Option(metavar="NAME", help="Which line is taken.")] = "stable",
    audience: Annotated[str | None, typer.Option(metavar="NAME", help="Who the client is.")] = None,
    packed: Annotated[bool, typer.Option("--packed", help="As one that is shipped in an image: of any age.")] = False,  # noqa: FBT002
) -> Result:
    """Verify a manifest, with the roots and the freshness document that lie beside it."""
    needs_remote()
    from oneiric.remote.trust import ClientPolicy, TrustedManifests, TrustRoot  # noqa: PLC0415 - its own distribution

    if root is not None:
        start = TrustRoot.pinned(read_file(root), sha256=root_sha256, what=root)
    elif key:
        start = TrustRoot.from_keys(public_keys(key), threshold=whole_number(threshold, "--threshold") or 1)
    else:
        raise ConfigurationError("whom to trust was not said", "--root root.json, or --key FILE.pub")
    trusted = TrustedManifests(start, ClientPolicy(channel=channel, audience=audience, is_packed=packed), now=now())
    beside = Path(source).parent
    while start.root is not None and (following := beside / f"root/{trusted.root.version + 1}.json").exists():
        trusted.update_root(read_file(str(following)))
    if trusted.asks_what_is_current:
        hint = f"oneiric manifest freshness -i {source} -k KEYFILE; or --packed"
        trusted.update_freshness(read_file(str(beside / "freshness.json"), hint))
    manifest = trusted.update_manifest(read_file(source))
    body = manifest.body
    document = {
        **manifest.about(),
        "path": source,
        "expires": None if body is None else body.expires,
        "entries": len(manifest.entries),
        "root_version": trusted.root.version,
        "freshness_version": None if trusted.freshness is None else trusted.freshness.version,
    }
    return Result(document=document, text=lambda style: _text(document, style, packed=packed))


def _text(document: dict[str, Any], style: Style, *, packed: bool) -> Iterator[str]:
    what = f"{document['product']} {document['channel']} version {document['version']}"
    entries = counted(document["entries"], "entry", "entries")
    yield f"{style('green', 'verified')}  {printable(what)}: {entries}, until {document['expires']}"
    yield f"          sha256 {document['digest']}"
    for key_id in document["signed_by"]:
        yield f"          by {key_id}"
    if document["freshness_version"] is None:
        why = "it is packed" if packed else "keys were given, and no root"
        yield f"          nothing says whether it is current: {why}"
