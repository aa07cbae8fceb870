"""``oneiric root sign``: add a signature to a root document, where its keys are kept apart."""

from typing import Annotated

import typer

from oneiric.cli._output import Result
from oneiric.cli._publishing import needs_remote, private_keys, read_file, write_file
from oneiric.cli._roots import root_result

__all__ = ["command"]


def command(
    source: Annotated[str, typer.Option("--input", "-i", metavar="FILE", help="The root document.")],
    key: Annotated[list[str] | None, typer.Option("--key", "-k", metavar="KEYFILE", help="May be repeated.")] = None,
    previous: Annotated[
        str | None, typer.Option(metavar="FILE", help="The root it follows, whose keys must have signed it too.")
    ] = None,
) -> Result:
    """Add signatures to a root document, in place."""
    needs_remote()
    from oneiric.remote.envelope import ROOT_TYPE  # noqa: PLC0415 - a distribution of its own
    from oneiric.remote.publish import countersigned, payload_of, root_after  # noqa: PLC0415 - as above

    data = read_file(source)
    payload_of(data, ROOT_TYPE, source)
    envelope = countersigned(data, private_keys(key or ()))
    write_file(source, envelope)
    return root_result(source, envelope, None if previous is None else root_after(read_file(previous), previous))
