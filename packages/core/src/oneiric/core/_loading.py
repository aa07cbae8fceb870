"""Turn a factory string into the object it names, and any failure into one sentence."""

import sys
from importlib import import_module
from types import ModuleType
from typing import Any

from oneiric.core.errors import FactoryNotAllowedError, FactoryNotFoundError, LoadError
from oneiric.core.security import check_factory

__all__ = ["MissingModuleError", "check_defined_there", "load_factory"]


class MissingModuleError(LoadError):
    """The module of a factory exists, but imports one that does not: ``MissingModuleError(factory, name)``.

    Whoever knows the candidate turns it into a `MissingExtraError`.

    Attributes:
        factory: The factory string.
        name: The module that is not installed, such as ``"redis"``.
    """

    def __init__(self, factory: str, name: str | None) -> None:
        Exception.__init__(self, factory, name)
        self.factory, self.name = factory, name

    @property
    def message(self) -> str:
        """Which factory lacks which module."""
        needs = f"it needs module {self.name!r}, which is not installed"
        return f"factory {self.factory!r} cannot be imported: {needs}"

    @property
    def hint(self) -> str | None:
        """Nothing: the module's name is not the name of what to install."""
        return None


def load_factory(text: str, *, defined_there: bool = False) -> Any:
    """Import the module of ``module:attr`` and return the attribute.

    The code is trusted: it runs with the rights of the process. `check_factory` with an allow-list comes
    first where the string was not written by the operator or an installed package.

    Args:
        text: A factory string.
        defined_there: Take a class or function that this very module defines, and nothing that it passes on.

    Raises:
        FactoryNotAllowedError: *text* breaks the grammar or names a blocked module, or *defined_there* refuses it.
        FactoryNotFoundError: The module or the attribute does not exist.
        MissingModuleError: The module imports another one that is not installed.
        LoadError: The module raised, or called ``sys.exit``, at import; the cause is in ``__cause__``.
    """
    module_name, _, attribute = check_factory(text).partition(":")
    module = _imported(text, module_name)
    if defined_there:
        # Read from the module's own names: a module-level __getattr__ is not asked.
        check_defined_there(module.__dict__.get(attribute), text)
    try:
        return module.__dict__[attribute] if attribute in module.__dict__ else getattr(module, attribute)
    except AttributeError as error:
        raise FactoryNotFoundError(
            f"factory {text!r} does not exist: module {module_name!r} has no attribute {attribute!r}",
            _suggestion(attribute, _public_names(module), f"{module_name}:"),
        ) from error
    except Exception as error:  # a module's own __getattr__ may raise anything
        raise LoadError(f"factory {text!r} cannot be read: {_described(error)}") from error


def _imported(text: str, module_name: str) -> ModuleType:
    """Import *module_name*; every failure but Ctrl-C becomes a `LoadError`."""
    try:
        return import_module(module_name)
    except ModuleNotFoundError as error:
        missing = error.name
        if missing is None or not (module_name == missing or module_name.startswith(f"{missing}.")):
            raise MissingModuleError(text, missing) from error
        parent, _, leaf = missing.rpartition(".")
        raise FactoryNotFoundError(
            f"factory {text!r} does not exist: there is no module {missing!r}",
            _suggestion(leaf, _modules_of(parent), f"{parent}." if parent else ""),
        ) from error
    except KeyboardInterrupt:
        raise
    except BaseException as error:  # importing runs foreign code: sys.exit in it must not end this process
        raise LoadError(f"factory {text!r} cannot be imported: {_described(error)}") from error


def check_defined_there(loaded: object, text: str) -> None:
    """Refuse an object that the module of *text* merely passes on: a re-export, a partial, an instance.

    For strings from outside, an allow-list of modules is worth nothing if ``good.module:system`` may be
    ``os.system``.

    Raises:
        FactoryNotAllowedError: *loaded* is not a class or function defined under that name in that module.
    """
    module_name, _, attribute = text.partition(":")
    defined = (getattr(loaded, "__module__", None), getattr(loaded, "__qualname__", None))
    if defined != (module_name, attribute) or not callable(loaded) or not _is_class_or_function(loaded):
        raise FactoryNotAllowedError(
            f"factory {text!r} is refused: it is not a class or function defined in {module_name!r}",
            "name the module that defines it",
        )


def _is_class_or_function(loaded: object) -> bool:
    return isinstance(loaded, type) or type(loaded) is type(_is_class_or_function)


def _described(error: BaseException) -> str:
    if isinstance(error, SystemExit):
        return f"it called sys.exit({error.code!r})"
    text = str(error)
    return f"{type(error).__name__}: {text[:200]}" if text else type(error).__name__


def _modules_of(parent: str) -> list[str]:
    """Names of the modules beside the one that is missing."""
    from pkgutil import iter_modules  # noqa: PLC0415 - only a failed import asks

    package = sys.modules.get(parent)
    if parent and package is None:
        return []
    path = list(getattr(package, "__path__", ())) if parent else None
    return [module.name for module in iter_modules(path)]


def _public_names(module: ModuleType) -> list[str]:
    return [name for name in dir(module) if not name.startswith("_")]


def _suggestion(name: str, candidates: list[str], prefix: str) -> str | None:
    from difflib import get_close_matches  # noqa: PLC0415 - only a failed import asks

    near = get_close_matches(name, candidates, n=3)
    return " or ".join(f"{prefix}{match}" for match in near) or None
