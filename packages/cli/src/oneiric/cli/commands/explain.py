"""``oneiric explain``: why a key resolves as it does, and what would have to change."""

from collections.abc import Iterator
from typing import Annotated, Any, NamedTuple

import typer

from oneiric.cli._output import Result, Style, printable, table
from oneiric.cli._questions import domain_among, domain_of, named
from oneiric.cli._running import Place, running_place
from oneiric.cli._stored import manifest_words, skipped_of, telling_skipped
from oneiric.cli._view import options_of, view_of
from oneiric.core.errors import ConfigurationError, SelectionNotFoundError
from oneiric.core.resolution import Explanation, Obstacle, WhyNot

__all__ = ["command", "explanation_text"]

_HEADINGS = ("", "PROVIDER", "SELECTED BY", "PRIORITY", "STACK", "REGISTERED", "SOURCE", "ORIGIN")


def command(  # noqa: PLR0917 - typer's way to declare options
    context: typer.Context,
    key: Annotated[str | None, typer.Argument(metavar="KEY", help="The key, such as cache.")] = None,
    domain: Annotated[
        str | None, typer.Option(metavar="NAME", help="Its domain; needed where several have the key.")
    ] = None,
    tenant: Annotated[str | None, typer.Option(metavar="NAME", help="Whose answer; by default the base one.")] = None,
    capability: Annotated[
        list[str] | None, typer.Option(metavar="NAME", help="A capability it must have; may be repeated.")
    ] = None,
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
    question = _Question(domain, asked, tenant, tuple(capability or ()))
    place = None if offline else running_place(options_of(context))
    found = _configured(context, question) if place is None else _running(place, question)
    explanation = found.explanation
    document = {"running": place is not None, **explanation.as_dict(), "stored": found.stored, "skipped": found.skipped}
    answer = None if why_not is None else _why_not(explanation, found.skipped, why_not)
    if answer is not None:
        document["why_not"] = answer.as_dict()
    return Result(
        document=document,
        text=lambda style: (
            *explanation_text(explanation, style, is_running=place is not None),
            *_skipped_text(found.skipped),
            *_why_not_text(answer),
        ),
        notes=found.notes,
    )


class _Question(NamedTuple):
    """What is asked; the domain is None where the key is to say it."""

    domain: str | None
    key: str
    tenant: str | None
    capabilities: tuple[str, ...]


class _Answer(NamedTuple):
    """An explanation, what a delivered manifest offered for the key and was left out, and what is stored."""

    explanation: Explanation
    skipped: list[dict[str, Any]]
    stored: dict[str, Any] | None = None
    notes: tuple[str, ...] = ()


def _configured(context: typer.Context, question: _Question) -> _Answer:
    view = view_of(context, with_stored=True)
    domain, key, tenant, capabilities = question
    skipped = [] if view.stored is None else skipped_of(view.stored.skipped, domain, key)
    with telling_skipped(skipped):
        domain = domain_of(view.resolver, key, domain)
        explanation = view.resolver.explain(domain, key, tenant=tenant, capabilities=capabilities)
    stored = None if view.stored is None else view.stored.as_dict()
    return _Answer(explanation, skipped_of(skipped, domain, key), stored, view.notes)


def _running(place: Place, question: _Question) -> _Answer:
    domain, key, tenant, capabilities = question
    remote = place.ask("status")["remote"] or {}
    named = remote.get("skipped", ())
    skipped = skipped_of(named, domain, key)
    with telling_skipped(skipped):
        if domain is None:
            # What serves and was withdrawn is no component any more, and may be what somebody asks about.
            known = [*place.ask("components", shadowed=False)["keys"], *place.ask("health")["slots"]]
            domain = domain_among(dict.fromkeys((each["domain"], each["key"]) for each in known), key)
        told = place.ask("explain", domain=domain, key=key, tenant=tenant, capabilities=list(capabilities))
    more = (remote.get("last_skipped") or 0) - len(named)
    notes = (f"{more} more entries of the manifest were left out than the system names",) if more > 0 else ()
    return _Answer(Explanation.from_dict(told), skipped_of(skipped, domain, key), notes=notes)


def _why_not(explanation: Explanation, skipped: list[dict[str, Any]], provider: str) -> WhyNot:
    """Return what keeps a provider from winning, also one that a manifest offered and that was left out.

    Raises:
        SelectionNotFoundError: The key has no such provider, and none was left out.
    """
    try:
        return explanation.why_not(provider)
    except SelectionNotFoundError:
        reasons = [each["reason"] for each in skipped if each["name"].rpartition("/")[2] == provider]
        if not reasons:
            raise
    obstacles = tuple(Obstacle("manifest", f"was left out of the manifest: {reason}") for reason in reasons)
    return WhyNot(provider, wins=False, obstacles=obstacles, changes={})


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
        signers = ", ".join(about.get("signed_by") or ()) or "nobody"
        yield ""
        which = "the stored manifest" if about.get("stored") else "manifest"
        yield f"  {printable(row.provider)} came with {which} {manifest_words(about)}"
        yield f"    sha256 {printable(about.get('digest'))}"
        yield f"    {printable(about.get('signature'))}, signed by {printable(signers)}"


def _skipped_text(skipped: list[dict[str, Any]]) -> Iterator[str]:
    if skipped:
        yield ""
        yield "  left out of the manifest:"
    for each in skipped:
        whose = f" of {each['publisher']}" if each["publisher"] else ""
        yield f"    {printable(each['name'].rpartition('/')[2] + whose)}"
        yield f"      {printable(each['reason'])}"


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
