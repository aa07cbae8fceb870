"""Profiles: sets of defaults, weaker than anything that is configured."""

from collections.abc import Mapping
from typing import Any, Final

from oneiric.runtime.settings._origin import Layer, Origin, Path

__all__ = ["profile_layer"]

#: A container that is started for a request and frozen after it has nothing that polls, watches or fetches.
_PROFILES: Final[Mapping[str, Mapping[Path, Any]]] = {
    "serverless": {
        ("profile", "watchers_enabled"): False,
        ("profile", "remote_enabled"): False,
        ("profile", "supervisor_enabled"): True,
        ("profile", "inline_manifest_only"): True,
        ("remote", "enabled"): False,
        ("remote", "refresh_interval"): None,
    }
}


def profile_layer(configured: Mapping[str, Any]) -> Layer:
    """Return the defaults of the profile that the settings name; none for ``default`` and unknown names.

    Args:
        configured: The settings read from everywhere else.
    """
    section = configured.get("profile")
    name = section.get("name") if isinstance(section, dict) else None
    layer = Layer()
    if not isinstance(name, str):
        return layer  # whatever it is, the model says what is wrong with it
    origin = Origin("profile", name)
    for path, value in _PROFILES.get(name, {}).items():
        layer.put(path, value, lambda _: origin)
    return layer
