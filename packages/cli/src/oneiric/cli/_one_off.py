"""Probing where no system runs: what is selected is really started in this process, asked, and cleaned up."""

import asyncio
import time
from typing import Any

from oneiric.app import App
from oneiric.cli._options import RootOptions
from oneiric.cli._questions import domain_of, keys_asked
from oneiric.cli._running import place_of
from oneiric.cli._stored import add_stored
from oneiric.cli._view import load_extras
from oneiric.core.errors import OneiricError, ResolutionError

__all__ = ["probe_here"]


def probe_here(options: RootOptions, domain: str | None, key: str | None, *, everything: bool) -> dict[str, Any]:
    """Start, ask and clean up, and return the document of ``health``.

    Args:
        options: The root options.
        domain: Only this domain.
        key: Only this key, selected or not.
        everything: All that resolves, and not only what the settings select.

    Raises:
        ResolutionError: The domain or key does not exist.
    """
    level = "DEBUG" if options.debug else "INFO" if options.verbose else "CRITICAL"
    overrides = {"logging.level": level, "runtime_paths.activity_store": None}
    app = App.open(options.config, profile=options.profile, overrides=overrides, keep_state=False)
    load_extras(options, app.resolver)
    stored = add_stored(app.resolver, app.settings)
    if key is not None:
        domain = domain_of(app.resolver, key, domain)
    asked = keys_asked(app.resolver, domain, key)
    if key is None:
        asked = [name for name in asked if _is_wanted(app, name, everything=everything)]
    rows = asyncio.run(_probed(app, asked))
    running = place_of(options).ask_if_running("health") is not None if everything else False
    return {
        "running": running,
        "scope": "one-off",
        "probed": True,
        "healthy": all(row["health"] != "unhealthy" for row in rows),
        "ready": None,
        "reasons": [],
        "degraded": [],
        "slots": rows,
        "runtime": None,
        "problems": [*map(str, app.report.errors), *(() if stored is None else stored.problems)],
    }


def _is_wanted(app: App, name: tuple[str, str], *, everything: bool) -> bool:
    if app.resolver.policy.selection_for(*name) is not None:
        return True
    if not everything:
        return False
    try:
        app.resolver.resolve(*name)
    except ResolutionError:
        return False  # nobody counts on it, and nothing can be started for it
    return True


async def _probed(app: App, names: list[tuple[str, str]]) -> list[dict[str, Any]]:
    async with app:
        return [await _probe(app, *name) for name in names]


async def _probe(app: App, domain: str, key: str) -> dict[str, Any]:
    begun = time.perf_counter()
    health, detail = "healthy", None
    try:
        await app.lifecycle.activate(domain, key)
        if await app.lifecycle.probe_instance_health(domain, key) is False:
            health, detail = "unhealthy", "it said so, raised, or missed its deadline"
    except OneiricError as error:
        health, detail = "unhealthy", error.message
    status = app.lifecycle.get_status(domain, key)
    return {
        "domain": domain,
        "key": key,
        "tenant": None,
        "provider": status.current_provider,
        "state": status.state,
        "health": health,
        "detail": detail,
        "last_health_at": status.as_dict()["last_health_at"],
        "duration_ms": round((time.perf_counter() - begun) * 1000, 3),
    }
