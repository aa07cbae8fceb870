"""Rules for what may be loaded and what may be fetched, shared by every part that does either.

Owned here: the grammar of factory strings, the modules no factory may name, and the allow-list of factory
prefixes. `load_factory` and `UrlPolicy` belong here too and are loaded when first touched. Judging opens no
connection and imports nothing of what it judges; only `load_factory` imports, and only what it was asked to.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from oneiric.core._errors_choosing import listed
from oneiric.core.errors import ConfigurationError, FactoryNotAllowedError

if TYPE_CHECKING:
    from oneiric.core._loading import MissingModuleError, check_defined_there, load_factory
    from oneiric.core._url_policy import UrlParts, UrlPolicy

__all__ = [
    "BLOCKED_MODULES",
    "FactoryAllowList",
    "MissingModuleError",
    "UrlParts",
    "UrlPolicy",
    "check_defined_there",
    "check_factory",
    "is_factory_string",
    "load_factory",
]

#: Longest factory string; real ones stay under 120 characters.
_MAX_FACTORY_LENGTH: Final = 300

_BLOCKED: Final = """
    __builtin__ atexit bdb builtins code codeop commands ctypes ensurepip faulthandler ftplib gc http imp
    importlib inspect io marshal mmap multiprocessing nt os pathlib pdb pickle pip pkgutil posix posixpath
    posixsubprocess pty pydoc runpy shelve shutil signal site smtplib socket socketserver subprocess sys
    tempfile timeit trace urllib venv webbrowser winreg zipimport
"""
#: Top-level modules no factory may name, whatever an allow-list says: they run commands, load code, open
#: files or connections, or reach the interpreter itself. A leading underscore (``_pickle``) does not help.
BLOCKED_MODULES: Final = frozenset(_BLOCKED.split())

_FACTORY = re.compile(r"[A-Za-z_][A-Za-z0-9_]*(?:\.[A-Za-z_][A-Za-z0-9_]*)*:[A-Za-z_][A-Za-z0-9_]*\Z")
_PREFIX = re.compile(r"[A-Za-z_][A-Za-z0-9_]*(?:\.[A-Za-z_][A-Za-z0-9_]*)*\Z")


def is_factory_string(text: object) -> bool:
    """Say whether *text* reads ``module:attr``: ASCII identifiers, one attribute, at most 300 characters."""
    return isinstance(text, str) and len(text) <= _MAX_FACTORY_LENGTH and _FACTORY.match(text) is not None


@dataclass(frozen=True, slots=True)
class FactoryAllowList:
    """Say which modules factories may come from.

    A prefix ends at a dot: ``oneiric`` permits ``oneiric`` and ``oneiric.x``, and not ``oneiricx``.

    Attributes:
        prefixes: Dotted module names; a trailing dot is dropped. Empty permits nothing.

    Raises:
        ConfigurationError: A prefix is not a dotted module name.
    """

    prefixes: tuple[str, ...] = ("oneiric",)

    def __post_init__(self) -> None:
        if isinstance(self.prefixes, str):
            raise ConfigurationError(f"the factory allow-list must be a sequence of prefixes, not {self.prefixes!r}")
        object.__setattr__(self, "prefixes", tuple(_prefix(prefix) for prefix in self.prefixes))

    @classmethod
    def from_environ(cls, environ: Mapping[str, str]) -> "FactoryAllowList":
        """Read ``ONEIRIC_FACTORY_ALLOWLIST``: comma-separated; empty denies all, absent is ``oneiric``.

        Raises:
            ConfigurationError: An entry is not a dotted module name.
        """
        value = environ.get("ONEIRIC_FACTORY_ALLOWLIST")
        if value is None:
            return cls()
        return cls(tuple(entry.strip() for entry in value.split(",") if entry.strip()))

    def permits(self, text: str) -> bool:
        """Say whether the module of *text* (a factory string or a module's name) lies under a prefix."""
        module = text.partition(":")[0]
        return any(module == prefix or module.startswith(f"{prefix}.") for prefix in self.prefixes)


def _prefix(text: object) -> str:
    if isinstance(text, str) and len(text) <= _MAX_FACTORY_LENGTH and _PREFIX.match(bare := text.removesuffix(".")):
        return bare
    shown = repr(text)[:80]
    raise ConfigurationError(
        f"factory allow-list entry {shown} is not a dotted module name",
        "ONEIRIC_FACTORY_ALLOWLIST=oneiric,yourpackage",
    )


def check_factory(text: object, allowed: FactoryAllowList | None = None) -> str:
    """Return *text* if it is a factory string that may be loaded; nothing is imported.

    Args:
        text: What claims to be ``module:attr``.
        allowed: Where it may come from; None permits every module that is not blocked.

    Raises:
        FactoryNotAllowedError: It breaks the grammar, names a blocked module, or is outside *allowed*.
    """
    if not isinstance(text, str) or not is_factory_string(text):
        found = repr(text) if len(repr(text)) <= 80 else f"{repr(text)[:80]}… ({len(repr(text))} characters)"
        raise FactoryNotAllowedError(f"factory must read 'module:attr', not {found}", "package.module:ClassName")
    top = text.partition(":")[0].partition(".")[0]
    if top in BLOCKED_MODULES or top.lstrip("_") in BLOCKED_MODULES:
        raise FactoryNotAllowedError(
            f"factory {text!r} is refused: no factory may come from module {top!r}",
            "wrap what you need in a function of your own package",
        )
    if allowed is not None and not allowed.permits(text):
        raise FactoryNotAllowedError(
            f"factory {text!r} is outside the allow-list (allowed: {listed(allowed.prefixes)})",
            f"ONEIRIC_FACTORY_ALLOWLIST={','.join((*allowed.prefixes, top))}",
        )
    return text


#: What is loaded when first touched → the private module that owns it.
_LAZY: Final = {
    "MissingModuleError": "_loading",
    "check_defined_there": "_loading",
    "load_factory": "_loading",
    "UrlParts": "_url_policy",
    "UrlPolicy": "_url_policy",
}


def __getattr__(name: str) -> Any:
    if name not in _LAZY:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from importlib import import_module  # noqa: PLC0415 - only whoever touches a lazy name pays for it

    value = getattr(import_module(f"oneiric.core.{_LAZY[name]}"), name)
    globals()[name] = value
    return value
