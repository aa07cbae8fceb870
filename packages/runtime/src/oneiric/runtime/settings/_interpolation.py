"""``${NAME}`` in the values of files: replaced once, after parsing, from a closed set of variables.

``${secret:ID}`` is only recognised here: nothing is fetched before somebody asks for the settings.
"""

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Final

from oneiric.core import Secret
from oneiric.core.errors import ConfigurationError
from oneiric.runtime.settings._model import OneiricSettings
from oneiric.runtime.settings._origin import Layer, Origin, Path, refuse, walk
from oneiric.runtime.settings._schema import annotation_at, members
from oneiric.runtime.settings._template import SecretTemplate

__all__ = ["SECRET_PREFIX", "interpolate", "is_provider_setting", "is_read"]

SECRET_PREFIX: Final = "ONEIRIC_SECRET_"  # noqa: S105 - the name's beginning, not a secret
_REFERENCE = re.compile(r"(\$?)\$\{([^}]*)(\}?)")
_TEMPLATE: Final = "secret:"
_ID = re.compile(r"[^\s{}$\x00-\x1f]{1,500}\Z")
_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]*\Z")


def interpolate(layer: Layer, environ: Mapping[str, str]) -> list[ConfigurationError]:
    """Replace the references in every scalar that came from a file; what is put in is never looked at again.

    A value inside ``provider_settings`` that takes in a secret becomes a `Secret`, so that printing the
    settings cannot show it. ``${secret:ID}``, there and wherever a secret is taken, becomes a
    `SecretTemplate`, whatever source it came from. ``$${`` stands for a literal ``${``.

    Args:
        layer: The settings; changed in place. ``app.allowed_env`` in them is heeded.
        environ: Where values come from.

    Returns:
        An error for each value that was left as it is: a reference in it is malformed, names a variable that
        is not allowed or not set, or it asks for a secret where none is taken.
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


@dataclass(frozen=True, slots=True, kw_only=True)
class _Put:
    """What a reference is replaced with."""

    text: str = ""
    is_secret: bool = False
    id: str | None = None  # of a secret that is fetched later


def _replaced(text: str, path: Path, layer: Layer, environ: Mapping[str, str], allowed: frozenset[str]) -> str | Secret:
    origin, position = layer.origin(path), 0
    literals, ids, holds_secret = [""], [], False
    for match in _REFERENCE.finditer(text):
        put = _put(match, path, origin, environ, allowed)
        literals[-1] += text[position : match.start()] + put.text
        position, holds_secret = match.end(), holds_secret or put.is_secret
        if put.id is not None:
            ids.append(put.id)
            literals.append("")
    literals[-1] += text[position:]
    if ids:
        return SecretTemplate(literals, ids)
    return Secret(literals[0]) if holds_secret and is_provider_setting(path) else literals[0]


def _put(match: re.Match[str], path: Path, origin: Origin, environ: Mapping[str, str], allowed: frozenset[str]) -> _Put:
    escaped, name, closed = match.groups()
    is_template = name.startswith(_TEMPLATE)
    if origin.kind != "file" and not is_template:
        return _Put(text=match[0])  # given from outside already, and a password may hold any character
    if escaped:
        return _Put(text=match[0][1:])
    if is_template and not (closed and _ID.match(name.removeprefix(_TEMPLATE))):
        raise refuse("holds a malformed ${secret:…}", "${secret:ID}, or $${ for a literal ${", path, origin)
    if is_template and not _takes_secrets(path):
        raise refuse("does not take ${secret:…}: it is no secret and no provider's setting", None, path, origin)
    if is_template:
        return _Put(id=name.removeprefix(_TEMPLATE))
    if not closed or not _NAME.match(name):
        raise refuse("holds a malformed ${…}", "${NAME}, or $${ for a literal ${", path, origin)
    if not name.startswith(SECRET_PREFIX) and name not in allowed:
        raise refuse(f"may not refer to ${{{name}}}", f"add {name} to app.allowed_env", path, origin)
    if name not in environ:
        raise refuse(f"refers to ${{{name}}}, which is not set", f"set {name} in the environment", path, origin)
    return _Put(text=environ[name], is_secret=name.startswith(SECRET_PREFIX))


def is_provider_setting(path: Path) -> bool:
    """Tell whether a path is that of a provider's own setting."""
    place = 2 if path[:1] == ("domains",) else 1
    return path[place : place + 1] == ("provider_settings",)


def _takes_secrets(path: Path) -> bool:
    # What is written inline is what ${secret:…} would be looked up in.
    is_inline = path[:2] == ("secrets", "inline")
    return is_provider_setting(path) or (Secret in members(annotation_at(OneiricSettings, path)) and not is_inline)


def _set(tree: Any, path: Path, value: Any) -> None:
    for part in path[:-1]:
        tree = tree[part]
    tree[path[-1]] = value
