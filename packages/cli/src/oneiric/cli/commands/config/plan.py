"""``oneiric config plan``: what a reload of the running system would change; else what a start would use."""

from collections.abc import Iterator
from typing import Any

import typer

from oneiric.cli._output import Result, Style, compact, printable, table
from oneiric.cli._running import Place, place_of
from oneiric.cli._view import View, options_of, view_of
from oneiric.core.lifecycle import LifecycleManager
from oneiric.core.resolution import Resolver
from oneiric.runtime.reload import ConfigReloader
from oneiric.runtime.settings import ProviderSettings, load_settings

__all__ = ["command"]

_WRONG = 2
_OWN = "the system read its own configuration: files, environment or options are not those given here"


def command(context: typer.Context) -> Result:
    """Show what a reload would change: settings, keys that it would swap, services that it would start or stop."""
    options = options_of(context)
    place = place_of(options)
    answer = place.ask_if_running("config_plan")
    if answer is not None:
        document = {"running": True, "settings": None, "digest": answer["digest"], **answer["plan"], "selected": None}
        notes: tuple[str, ...] = (
            (_OWN,) if options.config is not None and answer["digest"] != place.loaded.digest else ()
        )
    else:
        view = view_of(context, needs_settings=True, with_stored=True)
        document, notes = _for_a_start(view, place), view.notes
    return Result(
        document=document,
        text=lambda style: _text(document, style),
        notes=notes,
        exit_code=_WRONG if document["problems"] else 0,
    )


def _for_a_start(view: View, place: Place) -> dict[str, Any]:
    """Plan from the defaults: what is set, what that selects, and what speaks against it."""
    defaults = load_settings(None, environ={})
    resolver = Resolver()
    resolver.apply(add=view.resolver.candidates())
    planner = ConfigReloader(
        defaults,
        lambda: place.loaded,
        resolver=resolver,
        lifecycle=LifecycleManager(resolver),
        provider_settings=ProviderSettings(defaults),
    )
    plan = planner.plan().as_dict() | {"needs_restart": []}  # a start reads everything
    settings = place.loaded.settings
    return {
        "running": False,
        "settings": place.loaded.path,
        "digest": place.loaded.digest,
        **plan,
        "starts": [_slot(*slot) for slot in settings.supervised_services] if settings.supervises else [],
        "selected": [_selected(view, domain, key) for domain, key in _selections(view)],
    }


def _slot(domain: str, key: str, tenant: str | None) -> dict[str, Any]:
    return {"domain": domain, "key": key, "tenant": tenant}


def _selections(view: View) -> list[tuple[str, str]]:
    known = [(domain, key) for domain in view.resolver.domains() for key in view.resolver.keys(domain)]
    return [name for name in known if view.resolver.policy.selection_for(*name) is not None]


def _selected(view: View, domain: str, key: str) -> dict[str, Any]:
    explanation = view.resolver.explain(domain, key)
    return {"domain": domain, "key": key, "provider": explanation.selected, "why": explanation.why}


def _text(document: dict[str, Any], style: Style) -> Iterator[str]:
    if document["running"]:
        yield "running   yes: this is what a reload of it would do"
    else:
        yield "running   no: this is what a start would use"
        yield f"settings  {printable(document['settings'] or 'none')}"
    sections = (
        (("SETTING", "BEFORE", "AFTER", "FROM"), [_change(each) for each in document["changes"]]),
        (("SWAPS", "TENANT", "FROM", "TO", "BECAUSE OF"), [_swap(each) for each in document["swaps"]]),
        (("STARTS", "TENANT"), [_service(each) for each in document["starts"]]),
        (("STOPS", "TENANT"), [_service(each) for each in document["stops"]]),
        (("SELECTED", "PROVIDER", "WHY"), [_row(each) for each in document["selected"] or ()]),
        (("NEEDS A RESTART",), [(each,) for each in document["needs_restart"]]),
    )
    for headings, rows in sections:
        if rows:
            yield ""
            yield from table(headings, rows, style)
    if not any(document[name] for name in ("changes", "swaps", "starts", "stops", "needs_restart")):
        yield ""
        yield "Nothing changes." if document["running"] else "Everything is as it is by default."
    if document["problems"]:
        yield ""
    for problem in document["problems"]:
        yield f"{style('red', 'wrong:')} {printable(problem)}"


def _change(each: dict[str, Any]) -> tuple[object, ...]:
    return (each["key"], compact(each["before"]), compact(each["after"]), each["origin"])


def _swap(each: dict[str, Any]) -> tuple[object, ...]:
    return (f"{each['domain']}:{each['key']}", each["tenant"], each["from"], each["to"], each["reason"])


def _service(each: dict[str, Any]) -> tuple[object, ...]:
    return (f"{each['domain']}:{each['key']}", each["tenant"])


def _row(each: dict[str, Any]) -> tuple[object, ...]:
    return (f"{each['domain']}:{each['key']}", each["provider"], each["why"])
