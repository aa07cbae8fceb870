"""``oneiric demo``: an order service whose cache is swapped while it serves, and the count of what was lost."""

import asyncio
import logging
import sys
import tempfile
import uuid
from collections.abc import Iterable
from pathlib import Path
from typing import Annotated, Any

import typer

from oneiric.cli._options import RootOptions
from oneiric.cli._output import Result, Style, table, write
from oneiric.cli._questions import why_of
from oneiric.cli._view import load_extras, options_of
from oneiric.cli.commands.explain import explanation_text
from oneiric.core.errors import ConfigurationError, MissingExtraError

__all__ = ["command"]

_EMBEDDED = ("sqlite", "memory")
_FAILING = "flaky"


def command(
    context: typer.Context,
    provider: Annotated[
        list[str] | None,
        typer.Option(metavar="PROVIDER", help="Another provider in the rotation, such as redis; may be repeated."),
    ] = None,
    swaps: Annotated[str, typer.Option(metavar="N", help="Swaps to make.")] = "60",
    customers: Annotated[str, typer.Option(metavar="N", help="Orders at once.")] = "32",
) -> Result:
    """Swap a cache under load."""
    try:
        from oneiric.cli.demo.swaps import Plan  # noqa: PLC0415 - a part of the [standard] extra
    except ModuleNotFoundError as error:
        raise MissingExtraError("demo", "oneiric-cli[standard]", error.name) from error
    options = options_of(context)
    added = [name for name in dict.fromkeys(provider or ()) if name not in _EMBEDDED]
    if _FAILING in added:
        raise ConfigurationError(f"--provider {_FAILING}: it never serves, and is tried in any case", "oneiric demo")
    plan = Plan(
        rotation=(*added, *_EMBEDDED),
        failing=_FAILING,
        swaps=_number("--swaps", swaps, 1, 10_000),
        customers=_number("--customers", customers, 1, 1_000),
    )
    show = _Progress(shown=not (options.json or options.quiet))
    with tempfile.TemporaryDirectory(prefix="oneiric-demo-") as directory:
        figures = asyncio.run(_run(options, plan, Path(directory), show))
    from oneiric.cli.demo.figures import verdict_of  # noqa: PLC0415 - as above

    verdict = verdict_of(figures)
    return Result(
        document=figures | {"ok": verdict is None, "verdict": verdict},
        text=lambda style: _text(figures, verdict, style),
        exit_code=0 if verdict is None else 1,
    )


def _number(option: str, text: str, low: int, high: int) -> int:
    # Not typer's: its coercion would load what a listing of commands must not wait for.
    number = int(text) if text.isdecimal() else None
    if number is None or not low <= number <= high:
        raise ConfigurationError(f"{option} must be a number from {low} to {high}, not {text[:40]!r}", "oneiric demo")
    return number


class _Progress:
    """What is printed while the demo runs; nothing with ``--json`` or ``--quiet``."""

    def __init__(self, *, shown: bool) -> None:
        self._shown = shown
        self.style = Style.of(sys.stdout)
        self._live = shown and sys.stdout.isatty()

    def lines(self, lines: Iterable[str]) -> None:
        if self._shown:
            write(sys.stdout, lines)

    def count(self, outcome: Any) -> None:
        """Keep one line up to date on a terminal."""
        if self._live:
            lost = sum(call.lost is not None for call in outcome.calls)
            made = f"{len(outcome.bound)} swaps, {outcome.rollbacks} rollbacks"
            sys.stdout.write(f"\r  {len(outcome.calls)} calls, {lost} lost, {made} ")
            sys.stdout.flush()

    def clear(self) -> None:
        if self._live:
            sys.stdout.write("\r\x1b[K")
            sys.stdout.flush()


async def _run(options: RootOptions, plan: Any, directory: Path, show: _Progress) -> dict[str, Any]:
    from oneiric.app import App  # noqa: PLC0415 - loads the runtime; a usage error comes before it
    from oneiric.cli.demo.figures import figures_of  # noqa: PLC0415 - as above
    from oneiric.cli.demo.orders import CACHE  # noqa: PLC0415 - as above
    from oneiric.cli.demo.swaps import swap_under_load  # noqa: PLC0415 - as above

    logging.getLogger("asyncio").setLevel(logging.CRITICAL)  # sockets that close under an interrupted demo
    level = "DEBUG" if options.debug else "INFO" if options.verbose else "CRITICAL"
    async with App.open(options.config, profile=options.profile, overrides={"logging.level": level}) as app:
        options.demo = True
        load_extras(options, app.resolver)
        _keep_to_ourselves(app, directory)
        for name in (*plan.rotation, plan.failing):
            app.resolver.resolve(CACHE, provider=name)  # before anything is served: a provider that is not on offer
        show.lines(_introduction(app, plan, show.style))
        outcome = await swap_under_load(app.lifecycle, plan, progress=show.count)
        show.clear()
        for name in plan.rotation[: -len(_EMBEDDED)]:
            async with app.lifecycle.lease(CACHE, provider=name) as cache:
                await cache.clear()
        return {
            **figures_of(outcome),
            "providers": list(plan.rotation),
            "explanation": app.resolver.explain(CACHE).as_dict(),
        }


def _keep_to_ourselves(app: Any, directory: Path) -> None:
    """Let the caches of the demo share nothing with those of the user: a file and a prefix of their own."""
    section = app.adapters.settings
    settings = dict(section.provider_settings)
    for name, own in (
        ("sqlite", {"path": str(directory / "cache.sqlite")}),
        ("redis", {"key_prefix": f"oneiric:demo:{uuid.uuid4().hex}:"}),
    ):
        place = f"cache/{name}" if f"cache/{name}" in settings else name
        settings[place] = {**settings.get(place, {}), **own}
    app.adapters.update_settings(section.model_copy(update={"provider_settings": settings}))


def _introduction(app: Any, plan: Any, style: Style) -> Iterable[str]:
    """Yield what was discovered, what is active and why, and what is about to happen."""
    from oneiric.cli.demo.orders import CACHE  # noqa: PLC0415 - as above

    yield style("bold", "Discovered")
    rows = [(each.package, each.distribution, each.registered) for each in app.report.catalogs]
    own = sum(1 for candidate in app.resolver.candidates() if candidate.origin == "oneiric.cli.demo")
    yield from table(
        ("CATALOGUE", "DISTRIBUTION", "CANDIDATES"), [*rows, ("oneiric.cli.demo", "oneiric-cli", own)], style, "  "
    )
    for problem in app.report.errors:
        yield f"  left out: {problem}"
    yield ""
    yield style("bold", "Active, and why")
    for domain in app.resolver.domains():
        for key in app.resolver.keys(domain):
            explanation = app.resolver.explain(domain, key)
            if (domain, key) != (CACHE.domain, CACHE.name):
                yield f"  {domain}:{key} → {explanation.selected or 'nothing'}: {why_of(explanation)}"
    yield ""
    yield from (f"  {line}" if line else "" for line in explanation_text(app.resolver.explain(CACHE), style))
    yield ""
    yield style("bold", "Serving")
    tour = " → ".join((*plan.rotation, plan.rotation[0]))
    yield f"  {plan.customers} customers order over a socket; each order holds a lease on the cache while it is paid."
    yield f"  Meanwhile the cache is swapped {plan.swaps} times: {tour} …"
    yield f"  {plan.failing} fails its health check: a swap to it must leave the old one serving."
    yield ""


def _text(figures: dict[str, Any], verdict: str | None, style: Style) -> Iterable[str]:
    lost, held = figures["lost_by"], figures["in_flight_at_bind"]
    added, steady = figures["added_latency_ms"], figures["latency_ms"]["steady"]
    detail = f"{lost['raised']} raised, {lost['unanswered']} unanswered, {lost['cleaned_up']} on a cleaned-up instance"
    to = ", ".join(f"{count} to {name}" for name, count in figures["swaps_to"].items())
    rows = [
        ("calls", figures["calls"], f"in {figures['seconds']} s"),
        ("lost", figures["lost"], detail),
        ("swaps", figures["swaps"], to),
        ("rollbacks", figures["rollbacks"], "failed health checks; the old one went on serving"),
        ("in flight at each bind", held["min"], f"at least; {held['mean']} on average, {held['max']} at most"),
        ("added latency p50, ms", added["p50"], f"over {steady['p50']} without a swap"),
        ("added latency p99, ms", added["p99"], f"over {steady['p99']} without a swap"),
    ]
    yield style("bold", "Result")
    yield from table(("", "", ""), rows, None, "  ")[1:]
    yield ""
    yield style("red", f"FAILED: {verdict}") if verdict else style("green", "Not a call was lost.")
