"""``oneiric manifest export``: what is registered here, as a manifest to author from."""

from collections.abc import Iterator
from typing import Annotated, Any

import typer

from oneiric.cli._output import Result, Style, counted, json_text, printable
from oneiric.cli._publishing import needs_remote, whole_number, write_file, written
from oneiric.cli._view import view_of
from oneiric.core.errors import ConfigurationError

__all__ = ["command"]


def command(  # noqa: PLR0917 - typer's way to declare options
    context: typer.Context,
    output: Annotated[
        str, typer.Option("--output", "-o", metavar="FILE", help="Where it goes.")
    ] = "build/manifest.yaml",
    product: Annotated[str, typer.Option(metavar="NAME", help="Whose manifest it is to be.")] = "oneiric",
    number: Annotated[str, typer.Option("--version-number", metavar="N", help="Its version.")] = "1",
    domain: Annotated[
        list[str] | None, typer.Option(metavar="NAME", help="Only these domains; may be repeated.")
    ] = None,
    form: Annotated[str, typer.Option("--format", metavar="yaml|json", help="How it is written.")] = "yaml",
) -> Result:
    """Write a manifest of what is registered here; factories that are no text are left out."""
    needs_remote()
    from oneiric.remote.authoring import exported  # noqa: PLC0415 - a distribution of its own

    if form not in {"yaml", "json"}:
        raise ConfigurationError(f"--format is yaml or json, not {form[:40]!r}", "--format yaml")
    view = view_of(context)
    wanted = [each for each in view.resolver.candidates() if domain is None or not domain or each.domain in domain]
    entries, left_out = exported(wanted)
    document = {"product": product, "version": whole_number(number, "--version-number"), "entries": entries}
    data = (json_text(document) if form == "json" else _yaml(document)).encode()
    write_file(output, data)
    answer = {**written(output, data), "entries": len(entries), "left_out": left_out}
    return Result(document=answer, text=lambda style: _text(answer, style), notes=view.notes)


def _yaml(document: dict[str, Any]) -> str:
    import yaml  # noqa: PLC0415 - only where YAML is written

    return str(yaml.safe_dump(document, sort_keys=False, allow_unicode=True))


def _text(document: dict[str, Any], style: Style) -> Iterator[str]:
    entries = counted(document["entries"], "entry", "entries")
    yield f"{style('bold', 'exported')}  {printable(document['path'])}: {entries}"
    for name in document["left_out"]:
        yield f"          left out: {printable(name)} (its factory is no text, or it is stated twice)"
