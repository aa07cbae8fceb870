"""Modules of an application: imported because somebody named them, so that they register what they have."""

import os
import sys
from collections.abc import Iterable
from importlib import import_module
from typing import Any

from oneiric.core._resolver import Resolver
from oneiric.core.errors import ConfigurationError, LoadError

__all__ = ["register_modules"]


def register_modules(resolver: Resolver, names: Iterable[str], *, named_by: str) -> None:
    """Import modules, from the current directory too, and let each register what it has.

    Args:
        resolver: Handed to the ``register(resolver)`` of a module that has one.
        names: Dotted names.
        named_by: Who named them, for errors: an option or a setting.

    Raises:
        ConfigurationError: There is no such module.
        LoadError: It cannot be imported, or what it registers is refused by itself.
    """
    names = tuple(names)
    here = os.getcwd()  # noqa: PTH109 - as `python -m` does for modules of one's own
    if names and here not in sys.path:
        sys.path.insert(0, here)
    for name in names:
        register = getattr(_imported(name, named_by), "register", None)
        if callable(register):
            register(resolver)


def _imported(name: str, named_by: str) -> Any:
    try:
        return import_module(name)
    except ModuleNotFoundError as error:
        if error.name is None or not f"{name}.".startswith(f"{error.name}."):
            raise LoadError(f"{named_by} {name}: it needs module {error.name!r}, which is not installed") from error
        raise ConfigurationError(
            f"{named_by} {name}: there is no such module", "a dotted name, importable from the current directory"
        ) from error
    except Exception as error:  # importing runs the application's code, which may raise anything
        raise LoadError(f"{named_by} {name}: {type(error).__name__}: {error}", f"python -c 'import {name}'") from error
