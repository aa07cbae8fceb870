"""Catalogues: what can be listed, ranked and explained without importing a line of it.

Owned here: the schema of a catalogue row, catalogue files, discovery of what is installed, plugins written as
code, modules that are named, and the metadata classes for those who register in code. It reads local files and never
a network. Names are loaded when they are first touched, so that listing pays neither for plugins nor for metadata.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from oneiric.core.catalog._discovery import discover
    from oneiric.core.catalog._files import read_catalog
    from oneiric.core.catalog._metadata import (
        ActionMetadata,
        AdapterMetadata,
        register_action_metadata,
        register_adapter_metadata,
    )
    from oneiric.core.catalog._modules import register_modules
    from oneiric.core.catalog._report import (
        DiscoveredCatalog,
        DiscoveredPlugin,
        DiscoveryProblem,
        DiscoveryReport,
    )
    from oneiric.core.catalog._rows import candidate_from_row

__all__ = [
    "ActionMetadata",
    "AdapterMetadata",
    "DiscoveredCatalog",
    "DiscoveredPlugin",
    "DiscoveryProblem",
    "DiscoveryReport",
    "candidate_from_row",
    "discover",
    "read_catalog",
    "register_action_metadata",
    "register_adapter_metadata",
    "register_modules",
]

_HOMES: Final = {
    "ActionMetadata": "_metadata",
    "AdapterMetadata": "_metadata",
    "DiscoveredCatalog": "_report",
    "DiscoveredPlugin": "_report",
    "DiscoveryProblem": "_report",
    "DiscoveryReport": "_report",
    "candidate_from_row": "_rows",
    "discover": "_discovery",
    "read_catalog": "_files",
    "register_action_metadata": "_metadata",
    "register_adapter_metadata": "_metadata",
    "register_modules": "_modules",
}


def __getattr__(name: str) -> Any:
    home = _HOMES.get(name)
    if home is None:
        raise AttributeError(f"module 'oneiric.core.catalog' has no attribute {name!r}")
    value = getattr(import_module(f"oneiric.core.catalog.{home}"), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
