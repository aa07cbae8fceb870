"""``${NAME}`` in the values of files: replaced once, after parsing, from a closed set of variables."""

import re
from collections.abc import Iterable, Mapping
from typing import Any, Final

from oneiric.core import Secret
from oneiric.core.errors import ConfigurationError
from oneiric.runtime.settings._origin import Layer, Path, refuse, walk

__all__ = ["SECRET_PREFIX", "interpolate", "is_read"]

SECRET_PREFIX: Final = "ONEIRIC_SECRET_"  # noqa: S105 - the name's beginning, not a secret
_REFERENCE = re.compile(r"(\$?)\$\{([^}]*)(\}?)")
_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]*\Z")


def interpolate(layer: Layer, environ: Mapping[str, str]) -> list[ConfigurationError]:
    """Replace the references in every scalar that came from a file; what is put in is never looked at again.

    A value inside ``provider_settings`` that takes in a secret becomes a `Secret`, so that printing the
    settings cannot show it. ``$${`` stands for a literal ``${``.

    Args:
        layer: The settings; changed in place. ``app.allowed_env`` in them is heeded.
        environ: Where values come from.

    Returns:
        An error for each value that was left as it is: a reference in it is malformed, names a variable that
        is not allowed or not set, or asks for the secret of a provider, which this release cannot fetch.
    """
    allowed = _allowed(layer)
    problems = []
    for path, value in list(walk(layer.data)):
        if isinstance(value, str) and "${" in value:
            try:
                replaced = _replaced(value, path, layer, environ, allowed)
            except ConfigurationError as error:
                problems.append(error)
            else:
                _set(layer.data, path, replaced)
    return problems


def is_read(variable: str, layer: Layer) -> bool:
    """Tell whether a variable that is no secret may be referred to."""
    return variable in _allowed(layer) and not variable.startswith(SECRET_PREFIX)


def _allowed(layer: Layer) -> frozenset[str]:
    app = layer.data.get("app")
    names = app.get("allowed_env") if isinstance(app, dict) else None
    return frozenset(name for name in names if isinstance(name, str)) if isinstance(names, Iterable) else frozenset()


def _replaced(text: str, path: Path, layer: Layer, environ: Mapping[str, str], allowed: frozenset[str]) -> str | Secret:
    origin = layer.origin(path)
    holds_secret = False

    def value_of(match: re.Match[str]) -> str:
        nonlocal holds_secret
        escaped, name, closed = match.groups()
        if escaped:
            return match[0][1:]
        if name.startswith("secret:"):
            raise _refused("asks for ${secret:…}, which this release cannot fetch", "${ONEIRIC_SECRET_…}")
        if origin.kind != "file":
            return match[0]  # given from outside already, and a password may hold any character
        if not closed or not _NAME.match(name):
            raise _refused("holds a malformed ${…}", "${NAME}, or $${ for a literal ${")
        if not name.startswith(SECRET_PREFIX) and name not in allowed:
            raise _refused(f"may not refer to ${{{name}}}", f"add {name} to app.allowed_env")
        if name not in environ:
            raise _refused(f"refers to ${{{name}}}, which is not set", f"set {name} in the environment")
        holds_secret = holds_secret or name.startswith(SECRET_PREFIX)
        return environ[name]

    def _refused(problem: str, hint: str) -> ConfigurationError:
        return refuse(problem, hint, path, origin)

    replaced = _REFERENCE.sub(value_of, text)
    return Secret(replaced) if holds_secret and "provider_settings" in path[:3] else replaced


def _set(tree: Any, path: Path, value: Any) -> None:
    for part in path[:-1]:
        tree = tree[part]
    tree[path[-1]] = value
