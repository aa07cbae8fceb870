"""``oneiric root init``: the first root document, which clients are handed over with."""

from typing import Annotated

import typer

from oneiric.cli._output import Result
from oneiric.cli._publishing import lifetime_seconds, needs_remote, now
from oneiric.cli._roots import delegations_in, roles_given, root_written

__all__ = ["command"]


def command(  # noqa: PLR0917 - typer's way to declare options
    product: Annotated[str, typer.Option(metavar="NAME", help="Whose root it is.")],
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
    output: Annotated[str, typer.Option("--output", "-o", metavar="FILE", help="Where it goes.")] = "root/1.json",
    expires_in: Annotated[str, typer.Option(metavar="365d", help="How long it is valid, a year at most.")] = "365d",
) -> Result:
    """Write the first root document: whose keys are trusted, and how many of them."""
    needs_remote()
    from oneiric.remote.publish import root_body  # noqa: PLC0415 - a distribution of its own

    given = {"root": root_key, "manifest": manifest_key, "freshness": freshness_key}
    roles = roles_given(given, threshold or ())
    body = root_body(
        roles,
        now=now(),
        lifetime_seconds=lifetime_seconds(expires_in),
        product=product,
        delegations=delegations_in(delegations),
    )
    return root_written(body, output, key or ())
