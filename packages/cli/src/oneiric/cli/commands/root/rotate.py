"""``oneiric root rotate``: the root that follows, signed under the keys before it and its own."""

from typing import Annotated

import typer

from oneiric.cli._output import Result
from oneiric.cli._publishing import lifetime_seconds, needs_remote, now, read_file
from oneiric.cli._roots import delegations_in, roles_given, root_written

__all__ = ["command"]


def command(  # noqa: PLR0917 - typer's way to declare options
    source: Annotated[str, typer.Option("--input", "-i", metavar="FILE", help="The root it follows.")],
    root_key: Annotated[list[str] | None, typer.Option(metavar="KEY", help="Base64 or a .pub file; repeat it.")] = None,
    manifest_key: Annotated[list[str] | None, typer.Option(metavar="KEY", help="Who signs manifests.")] = None,
    freshness_key: Annotated[list[str] | None, typer.Option(metavar="KEY", help="Who says what is current.")] = None,
    threshold: Annotated[
        list[str] | None, typer.Option(metavar="ROLE=N", help="How many keys of a role must sign; 1 where not said.")
    ] = None,
    delegations: Annotated[
        str | None, typer.Option(metavar="FILE", help="Who else may publish: a YAML or JSON list, as in the guide.")
    ] = None,
    key: Annotated[list[str] | None, typer.Option("--key", "-k", metavar="KEYFILE", help="What signs it.")] = None,
    output: Annotated[
        str | None, typer.Option("--output", "-o", metavar="FILE", help="By default N.json beside the one it follows.")
    ] = None,
    expires_in: Annotated[str, typer.Option(metavar="365d", help="How long it is valid, a year at most.")] = "365d",
) -> Result:
    """Write the next root document; roles that are not named keep their keys."""
    needs_remote()
    from pathlib import Path  # noqa: PLC0415 - only here

    from oneiric.remote.publish import root_after, root_body  # noqa: PLC0415 - a distribution of its own

    before = root_after(read_file(source), source)
    given = {"root": root_key, "manifest": manifest_key, "freshness": freshness_key}
    roles = roles_given(given, threshold or ())
    body = root_body(
        roles,
        now=now(),
        lifetime_seconds=lifetime_seconds(expires_in),
        after=before,
        delegations=delegations_in(delegations),
    )
    target = output or str(Path(source).parent / f"{before.version + 1}.json")
    return root_written(body, target, key or (), before=before)
