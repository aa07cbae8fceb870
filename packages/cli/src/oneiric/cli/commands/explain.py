"""``oneiric explain``: why a key resolves as it does, and what would have to change."""

from collections.abc import Iterator
from typing import Annotated, Any

import typer

from oneiric.cli._output import Result, Style, printable, table
from oneiric.cli._questions import domain_among, domain_of, named
from oneiric.cli._running import running_place
from oneiric.cli._view import options_of, view_of
from oneiric.core.errors import ConfigurationError
from oneiric.core.resolution import Explanation, WhyNot

__all__ = ["command", "explanation_text"]

_HEADINGS = ("", "PROVIDER", "SELECTED BY", "PRIORITY", "STACK", "REGISTERED", "SOURCE", "ORIGIN")


def command(  # noqa: PLR0917 - typer's way to declare options
    context: typer.Context,
    key: Annotated[str | None, typer.Argument(metavar="KEY", help="The key, such as cache.")] = None,
    domain: Annotated[str | None, typer.Option(help="Its domain; needed where several have the key.")] = None,
    tenant: Annotated[str | None, typer.Option(help="Whose answer; by default the base one.")] = None,
    capability: Annotated[list[str] | None, typer.Option(help="A capability it must have; may be repeated.")] = None,
    why_not: Annotated[
        str | None, typer.Option(metavar="PROVIDER", help="What keeps PROVIDER from winning, and what would change it.")
    ] = None,
    key_option: Annotated[str | None, typer.Option("--key", metavar="KEY", help="The same as the argument.")] = None,
    offline: Annotated[  # noqa: FBT002 - an option
        bool, typer.Option("--offline", help="Explain what is configured, also where a system runs.")
    ] = False,
) -> Result:
    """Explain why a key resolves as it does, in the running system where there is one."""
    domain, asked = named(_one_key(key, key_option), domain)
    capabilities = capability or []
    found = None if offline else _of_running(context, domain, asked, tenant, capabilities)
    is_running = found is not None
    notes: tuple[str, ...] = ()
    if found is None:
        view = view_of(context)
        domain, notes = domain_of(view.resolver, asked, domain), view.notes
        found = view.resolver.explain(domain, asked, tenant=tenant, capabilities=capabilities)
    explanation: Explanation = found
    document = {"running": is_running, **explanation.as_dict()}
    answer = None if why_not is None else explanation.why_not(why_not)
    if answer is not None:
        document["why_not"] = answer.as_dict()
    return Result(
        document=document,
        text=lambda style: (
            *explanation_text(explanation, style, is_running=is_running),
            *_why_not_text(answer),
        ),
        notes=notes,
        exit_code=0,
    )


def _of_running(
    context: typer.Context, domain: str | None, key: str, tenant: str | None, capabilities: list[str]
) -> Explanation | None:
    place = running_place(options_of(context))
    if place is None:
        return None
    if domain is None:
        listed = place.ask("components", shadowed=False)["keys"]
        domain = domain_among(((each["domain"], each["key"]) for each in listed), key)
    return Explanation.from_dict(place.ask("explain", domain=domain, key=key, tenant=tenant, capabilities=capabilities))


def _one_key(argument: str | None, option: str | None) -> str:
    if argument is not None and option is not None and argument != option:
        raise ConfigurationError(f"the key is {argument!r} or {option!r}, not both", "oneiric explain --help")
    key = argument if argument is not None else option
    if key is None:
        raise ConfigurationError("no key was named", "oneiric explain cache --domain adapter")
    return key


def explanation_text(explanation: Explanation, style: Style, *, is_running: bool = False) -> Iterator[str]:
    """Yield an explanation for people: the sentence, what serves, the ranking, what is set aside."""
    whose = f" (tenant {explanation.tenant})" if explanation.tenant else ""
    winner = explanation.selected or "nothing"
    name = f"{explanation.domain}:{explanation.key}{whose}"
    yield f"{style('bold', printable(name))} → {style('green' if explanation.selected else 'red', printable(winner))}"
    yield f"  {printable(explanation.why)}"
    if is_running:
        yield f"  serves now: {printable(explanation.active or 'nothing')}"
    if explanation.ordered:
        yield ""
        yield from table(_HEADINGS, [_ranked(row) for row in explanation.ordered], style, "  ")
        yield from _delivered_text(explanation)
    if explanation.filtered:
        yield ""
        yield "  set aside:"
        for row in explanation.filtered:
            yield f"    {printable(row.provider)}"
            for obstacle in row.obstacles:
                fix = f" (fix: {obstacle.fix})" if obstacle.fix else ""
                yield f"      {printable(obstacle.detail + fix)}"


def _delivered_text(explanation: Explanation) -> Iterator[str]:
    """Yield which manifest a component came with, and who signed that."""
    for row in explanation.ordered:
        about = row.candidate.metadata.get("manifest")
        if not about:
            continue
        stated = [str(about[name]) for name in ("product", "channel") if about.get(name)]
        version = [f"version {about['version']}"] if about.get("version") is not None else []
        signers = ", ".join(about.get("signed_by") or ()) or "nobody"
        yield ""
        yield f"  {printable(row.provider)} came with manifest {printable(' '.join([*stated, *version]))}"
        yield f"    sha256 {printable(about.get('digest'))}"
        yield f"    {printable(about.get('signature'))}, signed by {printable(signers)}"


def _ranked(row: Any) -> tuple[object, ...]:
    chosen, priority, stack_level, registration = row.score
    by = row.origins.get("selection", "the question") if chosen else None
    mark = "*" if row.selected else ""
    return (
        mark,
        row.provider,
        by,
        priority,
        stack_level,
        registration,
        row.candidate.source.value,
        row.candidate.origin,
    )


def _why_not_text(answer: WhyNot | None) -> Iterator[str]:
    if answer is None:
        return
    yield ""
    if answer.wins:
        yield f"  why not {printable(answer.provider)}? It wins."
        return
    yield f"  why not {printable(answer.provider)}?"
    for obstacle in answer.obstacles:
        yield f"    it {printable(obstacle.detail)}"
    if not answer.obstacles:
        yield "    it was ranked, and lost"
    if answer.changes is None:
        yield "    only the machine or the question could change that"
        return
    for change in answer.changes.values():
        yield f"    to make it win: {printable(change.how)}"
