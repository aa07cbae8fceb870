"""What `oneiric status` reports: the running system, or configuration and stores where none runs. Plain data."""

from typing import Any

from oneiric.cli._activity import store_path, stored
from oneiric.cli._questions import domain_among, keys_asked, why_of
from oneiric.cli._running import Place
from oneiric.cli._stored import add_stored
from oneiric.cli._view import View
from oneiric.core.resolution import Explanation
from oneiric.runtime.state_files import read_lifecycle

__all__ = ["running_status", "stored_status"]

_OF_SYSTEM = ("name", "pid", "version", "started_at", "ready", "config", "revision", "parts", "stale", "remote")


def running_status(place: Place, domain: str | None, key: str | None) -> dict[str, Any] | None:
    """Return what the running system holds; None when nothing runs.

    Raises:
        ResolutionError: The domain or key asked for does not exist.
        OneiricError: What the running system answered, or that it does not.
    """
    told, components = place.ask_if_running("status"), place.ask_if_running("components", domain=domain)
    if components is not None and key is not None:
        domain = domain or domain_among(((each["domain"], each["key"]) for each in components["keys"]), key)
        components = place.ask_if_running("components", domain=domain, key=key)
    if told is None or components is None:  # it may end between two questions
        return None
    listed = components["keys"]
    base = {(slot["domain"], slot["key"]): slot for slot in told["slots"] if _is_base(slot)}
    asked = {(each["domain"], each["key"]) for each in listed}
    activity = {(row["domain"], row["key"]): row for row in told["activity"]}
    return {
        "running": True,
        "settings": None,
        "profile": told["profile"],
        "system": {name: told[name] for name in _OF_SYSTEM} | {"problems": told["problems"]},
        "keys": [_component(each, base, activity) for each in listed],
        "other_slots": [slot for slot in told["slots"] if _is_other(slot, asked, domain, key)],
        "snapshot": {"path": None, "error": None},
        "store": {"path": str(store_path(place)), "problem": None},
        "problems": [],
        "stored": None,
    }


def _is_other(slot: dict[str, Any], asked: set[tuple[str, str]], domain: str | None, key: str | None) -> bool:
    """Tell whether a slot is told beside the keys: a tenant's, one opened beside, or what has no candidate any more."""
    is_listed = (slot["domain"], slot["key"]) in asked
    is_wanted = domain in {None, slot["domain"]} and key in {None, slot["key"]}
    if not _is_base(slot):
        return is_listed or (domain is None and key is None)
    return not is_listed and is_wanted and slot["withdrawn"] and slot["current_provider"] is not None


def _is_base(slot: dict[str, Any]) -> bool:
    return slot["tenant"] is None and not slot["beside"]


def _component(
    each: dict[str, Any], slots: dict[tuple[str, str], Any], activity: dict[tuple[str, str], Any]
) -> dict[str, Any]:
    name = (each["domain"], each["key"])
    first = each["ordered"][0] if each["provider"] is not None and each["ordered"] else None
    is_selected = first is not None and bool(first["score"][0])
    return {
        "domain": each["domain"],
        "key": each["key"],
        "configured_provider": each["provider"] if is_selected else None,
        "configured_by": first["origins"].get("selection") if first is not None and is_selected else None,
        "provider": each["provider"],
        "active": each["active"],
        "state": "unresolved" if each["provider"] is None else "resolved",
        "why": each["why"],
        "shadowed": max(0, len(each["ordered"]) - (first is not None)),
        "set_aside": len(each["filtered"]),
        "activity": activity.get(name),
        "lifecycle": slots.get(name),
    }


def stored_status(view: View, place: Place, domain: str | None, key: str | None) -> dict[str, Any]:
    """Return what is configured, and what the last system left in its files; makes none."""
    reading = read_lifecycle(place.state_dir)
    recorded = {
        (each.get("domain"), each.get("key")): each
        for each in reading.document or ()
        if each.get("tenant") is None and not each.get("beside")
    }
    rows, problem = stored(place)
    delivered = add_stored(view.resolver, place.loaded.settings)
    activity = {(row["domain"], row["key"]): row for row in rows}
    asked = keys_asked(view.resolver, domain, key)
    is_there = reading.document is not None or reading.problem is not None
    return {
        "running": False,
        "settings": place.loaded.path,
        "profile": place.loaded.settings.profile.name,
        "system": None,
        "keys": [
            _entry(view, view.resolver.explain(*name), recorded.get(name)) | {"activity": activity.get(name)}
            for name in asked
        ],
        "other_slots": [],
        "snapshot": {"path": str(reading.path) if is_there else None, "error": reading.problem},
        "store": {"path": str(store_path(place)), "problem": problem},
        "problems": view.problems,
        "stored": None if delivered is None else delivered.as_dict(),
    }


def _entry(view: View, explanation: Explanation, lifecycle: dict[str, Any] | None) -> dict[str, Any]:
    selection = view.resolver.policy.selection_for(explanation.domain, explanation.key)
    return {
        "domain": explanation.domain,
        "key": explanation.key,
        "configured_provider": None if selection is None else selection.provider,
        "configured_by": None if selection is None else str(selection),
        "provider": explanation.selected,
        "active": None,
        "state": "unresolved" if explanation.winner is None else "resolved",
        "why": why_of(explanation),
        "shadowed": len(explanation.shadowed),
        "set_aside": len(explanation.filtered),
        "activity": None,
        "lifecycle": lifecycle,
    }
