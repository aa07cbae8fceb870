"""``oneiric manifest freshness``: say which manifest is current, for a day at most."""

from pathlib import Path
from typing import Annotated

import typer

from oneiric.cli._output import Result
from oneiric.cli._publishing import lifetime_seconds, needs_remote, now, private_keys, read_file, write_file, written
from oneiric.cli.commands.manifest.sign import signed_text
from oneiric.core.errors import ConfigurationError

__all__ = ["command"]


def command(
    source: Annotated[str, typer.Option("--input", "-i", metavar="FILE", help="The signed manifest.")],
    key: Annotated[list[str] | None, typer.Option("--key", "-k", metavar="KEYFILE", help="May be repeated.")] = None,
    output: Annotated[
        str | None,
        typer.Option("--output", "-o", metavar="FILE", help="By default freshness.json beside the manifest."),
    ] = None,
    publisher: Annotated[
        list[str] | None, typer.Option(metavar="NAME=FILE", help="A delegated publisher's signed manifest.")
    ] = None,
    expires_in: Annotated[str, typer.Option(metavar="24h", help="How long it is valid, a day at most.")] = "24h",
) -> Result:
    """Sign which manifest is current; the version goes up from the document that is there."""
    needs_remote()
    from oneiric.remote.envelope import FRESHNESS_TYPE  # noqa: PLC0415 - a distribution of its own
    from oneiric.remote.publish import freshness_after, freshness_body, signed  # noqa: PLC0415 - as above

    keys = private_keys(key or ())
    target = output or str(Path(source).parent / "freshness.json")
    before = read_file(target) if Path(target).exists() else None
    body = freshness_body(
        read_file(source),
        now=now(),
        lifetime_seconds=lifetime_seconds(expires_in),
        publishers={name: read_file(path) for name, path in map(_named, publisher or ())},
        after=None if before is None else freshness_after(before, target),
    )
    envelope = signed(body, FRESHNESS_TYPE, keys)
    write_file(target, envelope)
    document = {**written(target, envelope), "signed_by": [each.public.key_id for each in keys]}
    return Result(document=document, text=lambda style: signed_text(document, style))


def _named(text: str) -> tuple[str, str]:
    name, equals, path = text.partition("=")
    if not (name and equals and path):
        raise ConfigurationError(f"--publisher must read NAME=FILE, not {text[:80]!r}", "--publisher acme=acme.json")
    return name, path
