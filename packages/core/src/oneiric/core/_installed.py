"""Whether a requirement is met by what is installed."""

import os
import sys
from typing import Final

from oneiric.core._distributions import Installed, find_installed
from oneiric.core._requirements import Requirement, normalized, parse_requirement

__all__ = ["is_met"]


def is_met(requirement: str) -> bool:
    """Say whether *requirement* is installed in a version that will do, with everything its extras declare.

    A requirement whose marker does not hold here asks for nothing and is met.

    Raises:
        ValueError: *requirement* is malformed; the message names it.
    """
    return _is_met(parse_requirement(requirement), frozenset())


def _is_met(requirement: Requirement, asked: frozenset[tuple[str, str]], *, extra: str = "") -> bool:
    if not requirement.applies(lambda variable: _value(variable, extra)):
        return True
    installed = find_installed(requirement.name)
    if installed is None or not requirement.accepts(installed.version):
        return False
    # An extra may name its own distribution ("all" = "pkg[redis]"): what is being asked is not asked anew.
    pending = [name for name in requirement.extras if (requirement.name, name) not in asked]
    asked |= {(requirement.name, name) for name in pending}
    return all(_is_extra_met(installed, name, asked) for name in pending)


def _is_extra_met(installed: Installed, extra: str, asked: frozenset[tuple[str, str]]) -> bool:
    if extra not in {normalized(name) for name in installed.header("Provides-Extra")}:
        return False
    declared = (_parsed(line) for line in installed.header("Requires-Dist"))
    return all(
        requirement is not None and _is_met(requirement, asked, extra=extra)
        for requirement in declared
        if requirement is None or requirement.asks_extra
    )


def _parsed(line: str) -> Requirement | None:
    try:
        return parse_requirement(line)
    except ValueError:
        return None  # someone else's metadata: what cannot be read cannot be called met


def _value(variable: str, extra: str) -> str:
    """Return a marker variable of this machine."""
    if variable == "extra":
        return extra
    if variable in _UNAME:
        return str(getattr(os.uname(), _UNAME[variable]))
    implementation = sys.implementation.name
    python = sys.version_info
    return {
        "implementation_name": implementation,
        "implementation_version": "{}.{}.{}".format(*sys.implementation.version),
        "os_name": os.name,
        "platform_python_implementation": {"cpython": "CPython", "pypy": "PyPy"}.get(implementation, implementation),
        "python_full_version": "{}.{}.{}".format(*python),
        "python_version": "{}.{}".format(*python),
        "sys_platform": sys.platform,
    }[variable]


_UNAME: Final = {
    "platform_machine": "machine",
    "platform_release": "release",
    "platform_system": "sysname",
    "platform_version": "version",
}
