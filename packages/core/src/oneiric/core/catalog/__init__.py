"""Catalogues: what can be listed, ranked and explained without importing a line of it.

Owned here: the schema of a catalogue row, catalogue files, discovery of what is installed, plugins written as
code, modules that are named, and the metadata classes for those who register in code. It reads local files and never
a network. Names are loaded when they are first touched, so that listing pays neither for plugins nor for metadata.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from oneiric.core._candidate import CheckedRow, candidates_of_checked
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
    "CheckedRow",
    "DiscoveredCatalog",
    "DiscoveredPlugin",
    "DiscoveryProblem",
    "DiscoveryReport",
    "candidate_from_row",
    "candidates_of_checked",
    "discover",
    "read_catalog",
    "register_action_metadata",
    "register_adapter_metadata",
    "register_modules",
]

_HOMES: Final = {
    "ActionMetadata": "catalog._metadata",
    "AdapterMetadata": "catalog._metadata",
    "CheckedRow": "_candidate",
    "DiscoveredCatalog": "catalog._report",
    "DiscoveredPlugin": "catalog._report",
    "DiscoveryProblem": "catalog._report",
    "DiscoveryReport": "catalog._report",
    "candidate_from_row": "catalog._rows",
    "candidates_of_checked": "_candidate",
    "discover": "catalog._discovery",
    "read_catalog": "catalog._files",
    "register_action_metadata": "catalog._metadata",
    "register_adapter_metadata": "catalog._metadata",
    "register_modules": "catalog._modules",
}


def __getattr__(name: str) -> Any:
    home = _HOMES.get(name)
    if home is None:
        raise AttributeError(f"module 'oneiric.core.catalog' has no attribute {name!r}")
    value = getattr(import_module(f"oneiric.core.{home}"), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
