"""Text from the environment and the command line: where it belongs, and what type the model gives it."""

import re
from collections.abc import Iterable, Mapping
from functools import partial
from typing import Any, Final

from pydantic import SecretStr

from oneiric.core import Secret
from oneiric.core.errors import ConfigurationError
from oneiric.runtime.settings._interpolation import SECRET_PREFIX
from oneiric.runtime.settings._json import parse_json_value
from oneiric.runtime.settings._model import OneiricSettings
from oneiric.runtime.settings._origin import Layer, Origin, Path, refuse
from oneiric.runtime.settings._schema import (
    annotation_at,
    field_named,
    is_list,
    is_model,
    is_table,
    members,
    takes_none,
)
from oneiric.runtime.settings._unknown import unknown_setting

__all__ = ["NAMED_VARIABLES", "environment_layer", "is_setting", "override_layer", "typed", "variables_of"]

_PREFIX: Final = "ONEIRIC_"
#: Variables with a name of their own → the setting they are. A ``__`` variable of the same setting is
#: stronger.
NAMED_VARIABLES: Final[dict[str, Path]] = {
    "LOG_LEVEL": ("logging", "level"),
    "ONEIRIC_ACTIVITY_STORE": ("runtime_paths", "activity_store"),
    "ONEIRIC_PROFILE": ("profile", "name"),
    "OTEL_SERVICE_NAME": ("logging", "service_name"),
    "PORT": ("http", "port"),
}
#: Types that take any text as it is.
_TEXT_KINDS: Final = frozenset({Any, str, Secret, SecretStr})
_SEGMENT = re.compile(r'"([^"]*)"|([^".]+)')


def environment_layer(environ: Mapping[str, str], known: Mapping[str, Any]) -> Layer:
    """Read the settings among environment variables.

    ``ONEIRIC_ADAPTERS__SELECTIONS__CACHE`` is ``adapters.selections.cache``. A segment that names a key of
    *known* reaches it whatever its case, hyphens and dots, which a variable's name cannot have.

    Args:
        environ: The variables.
        known: The settings read so far.

    Raises:
        ConfigurationError: A variable names no setting, or its text is not what the setting takes.
    """
    found: list[tuple[Path, Any, Origin]] = []
    for variable, text in environ.items():
        origin = Origin("environment", variable)
        if variable in NAMED_VARIABLES and text.strip():
            found.append((NAMED_VARIABLES[variable], text.strip(), origin))
        elif variable not in NAMED_VARIABLES and is_setting(variable):
            segments = [_lowered(part) for part in variable.removeprefix(_PREFIX).split("__")]
            path = _placed(segments, origin, known)
            found.append((path, typed(text, annotation_at(OneiricSettings, path), path, origin), origin))
    # Named variables first, then the shorter path before the longer: the more specific one has the last word.
    found.sort(key=lambda entry: (entry[2].name not in NAMED_VARIABLES, len(entry[0]), entry[2].name))
    return _layered(found)


def is_setting(variable: str) -> bool:
    """Tell whether a variable is meant as a setting, whether or not there is such a one."""
    is_nested = variable.startswith(_PREFIX) and "__" in variable and not variable.startswith(SECRET_PREFIX)
    return is_nested or variable in NAMED_VARIABLES


def variables_of(path: Path) -> tuple[str, ...]:
    """Return the environment variables of a setting, ``ONEIRIC_APP__NAME`` for ``("app", "name")`` first."""
    own = _PREFIX + "__".join(_folded(str(part)).upper() for part in path)
    return own, *(variable for variable, target in NAMED_VARIABLES.items() if target == path)


def override_layer(overrides: Iterable[str] | Mapping[str, Any], known: Mapping[str, Any]) -> Layer:
    """Read ``key=value`` texts, or a mapping of dotted keys to values.

    Raises:
        ConfigurationError: An entry is malformed, names no setting, or its text is not what the setting
            takes.
    """
    is_mapping = isinstance(overrides, Mapping)
    origin = Origin("argument") if is_mapping else Origin("command line")
    entries = overrides.items() if isinstance(overrides, Mapping) else (_split(entry) for entry in overrides)
    found: list[tuple[Path, Any, Origin]] = []
    for key, value in entries:
        segments = [quoted or bare for quoted, bare in _SEGMENT.findall(key)]
        path = _placed(segments, origin, known)
        is_text = isinstance(value, str) and not is_mapping
        wanted = annotation_at(OneiricSettings, path)
        found.append((path, typed(value, wanted, path, origin) if is_text else value, origin))
    return _layered(found)


def typed(text: str, annotation: Any, path: Path, origin: Origin) -> Any:
    """Give text the shape that the model wants at a path.

    Lists are JSON or comma-separated, tables are JSON, ``null`` is None where None is allowed and text is
    not; everything else stays text, which pydantic reads as the number, boolean or path that the field is.

    Raises:
        ConfigurationError: A table or list is not written as one.
    """
    kinds = members(annotation)
    if not _TEXT_KINDS.isdisjoint(kinds):
        return text
    stripped = text.strip()
    if stripped == "null" and takes_none(annotation):
        return None
    if any(is_list(kind) for kind in kinds) and not stripped.startswith("["):
        return [part.strip() for part in text.split(",") if part.strip()]
    if any(is_list(kind) or is_table(kind) for kind in kinds):
        return _json(stripped, path, origin, "a JSON array" if stripped.startswith("[") else "a JSON object")
    return stripped


def _json(text: str, path: Path, origin: Origin, what: str) -> Any:
    problem = ""
    try:
        value = parse_json_value(text)
    except ConfigurationError as error:
        problem = error.message
    if problem or not isinstance(value, dict | list):
        raise refuse(f"must be {what}", "one key or element per setting, or valid JSON", path, origin)
    return value


def _constant(origin: Origin, path: Path) -> Origin:  # noqa: ARG001 - the same wherever it is asked
    return origin


def _layered(found: list[tuple[Path, Any, Origin]]) -> Layer:
    layer = Layer()
    for path, value, origin in found:
        layer.put(path, value, partial(_constant, origin))
    return layer


def _split(entry: str) -> tuple[str, str]:
    key, equals, value = entry.partition("=")
    if not equals or not key.strip():
        raise ConfigurationError(
            "an override on the command line is not of the form key=value", "adapters.selections.cache=memory"
        )
    return key.strip(), value


def _lowered(segment: str) -> str:
    return segment.lower() if segment.isupper() else segment


def _folded(name: str) -> str:
    return re.sub(r"[^a-z0-9]", "_", name.lower())


def _placed(segments: list[str], origin: Origin, known: Any) -> Path:
    """Return the path that segments name: fields by any of their names, known keys in their own spelling."""
    annotation: Any = OneiricSettings
    path: Path = ()
    for place, segment in enumerate(segments):
        if not segment:
            raise refuse("has an empty part in its name", None, path, origin)
        tables = [member for member in members(annotation) if member is Any or is_table(member)]
        if not tables:
            raise refuse("holds no further settings", None, path, origin)
        if is_model(tables[0]):
            found = field_named(tables[0], segment)
            if found is None:
                problem, hint = unknown_setting((*path, segment))
                raise refuse(problem, hint, (*path, segment), origin)
            name = found[0]
        elif annotation_at(tables[0], ("",)) is str:
            # Text cannot have parts, so dots here belong to the key: tasks.selections.reports.nightly.
            return (*path, _known_name(".".join(segments[place:]), known, origin, path))
        else:
            name = _known_name(segment, known, origin, path)
        annotation = annotation_at(tables[0], (name,))
        known = known.get(name) if isinstance(known, dict) else None
        path = (*path, name)
    if not path:
        raise refuse("names no setting", "adapters.selections.cache=memory", path, origin)
    return path


def _known_name(name: str, known: Any, origin: Origin, path: Path) -> str:
    if not isinstance(known, dict) or name in known or origin.kind != "environment":
        return name
    alike = [key for key in known if _folded(key) == _folded(name)]
    if len(alike) > 1:
        hint = "a JSON object for all of them"
        raise refuse(f"could be any of {', '.join(sorted(alike))}", hint, (*path, name), origin)
    return alike[0] if alike else name
