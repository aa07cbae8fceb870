"""The settings in force, for people: every value, and all there is to know about one of them."""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import asdict, dataclass
from functools import cache
from typing import Any

from pydantic import BaseModel

from oneiric.core.errors import ConfigurationError, LoadError
from oneiric.core.resolution import Candidate
from oneiric.core.security import load_factory
from oneiric.runtime.settings._fields import SettingField, plain_default, setting_fields, type_in_words
from oneiric.runtime.settings._interpolation import is_provider_setting
from oneiric.runtime.settings._loaded import LoadedSettings
from oneiric.runtime.settings._masking import masked
from oneiric.runtime.settings._meant import meant
from oneiric.runtime.settings._model import OneiricSettings
from oneiric.runtime.settings._origin import DEFAULT, Path, dotted
from oneiric.runtime.settings._schema import annotation_at, is_model, members, nearest, unknown_names
from oneiric.runtime.settings._section import section_path
from oneiric.runtime.settings._text import variables_of

__all__ = ["SettingExplanation", "SettingRow", "describe", "explain_setting"]


@dataclass(frozen=True, slots=True, kw_only=True)
class SettingRow:
    """One value in force.

    Attributes:
        key: The dotted key.
        value: Plain JSON; ``***`` for what must not be seen.
        origin: Where it came from, in words.
    """

    key: str
    value: Any
    origin: str

    def as_dict(self) -> dict[str, Any]:
        """Return the row as plain JSON."""
        return asdict(self)


@dataclass(frozen=True, slots=True, kw_only=True)
class SettingExplanation:
    """All there is to know about one setting.

    Attributes:
        key: The dotted key.
        value: What is in force, as plain JSON; ``***`` for what must not be seen.
        origin: Where that came from, in words.
        overridden: The weaker sources that set it too, strongest first.
        default: What it is when nobody sets it.
        description: What it means.
        type: What it takes, in words.
        allowed: The values it takes, where those are few.
        variables: Environment variables that set it, the strongest first.
        meant: What the key may have been meant to be, where it is a name that nobody set or offers; else None.
    """

    key: str
    value: Any
    origin: str
    overridden: tuple[str, ...]
    default: Any
    description: str
    type: str
    allowed: tuple[str, ...]
    variables: tuple[str, ...]
    meant: str | None

    @property
    def variable(self) -> str:
        """The environment variable that is stronger than all others."""
        return self.variables[0]

    def as_dict(self) -> dict[str, Any]:
        """Return the explanation as plain JSON."""
        return asdict(self) | {"variable": self.variable}


def describe(
    loaded: LoadedSettings, *, show_defaults: bool = False, candidates: Iterable[Candidate] = ()
) -> list[SettingRow]:
    """Return every value in force, in the order of the sections.

    Of what providers are configured with, numbers and booleans are shown, and texts only where the
    provider's model is known and says that they are no secret.

    Args:
        loaded: The settings.
        show_defaults: Also what nobody set.
        candidates: Whose models say which of their settings are secret; their modules are imported.
    """
    models = _models(loaded, candidates)
    rows = []
    for path, value, annotation in _values(loaded.settings, OneiricSettings, ()):
        origin = loaded.origins.get(path, DEFAULT)
        if show_defaults or origin is not DEFAULT:
            shown = _shown(path, value, _annotation(path, annotation, models))
            rows.append(SettingRow(key=dotted(path), value=shown, origin=str(origin)))
    return rows


def explain_setting(loaded: LoadedSettings, key: str, *, candidates: Iterable[Candidate] = ()) -> SettingExplanation:
    """Return all there is to know about a setting, or about a table of them.

    Args:
        loaded: The settings.
        key: The dotted key, by any of its names: a field, a section, or a key within a table.
        candidates: As for `describe`.

    Raises:
        ConfigurationError: There is no such setting, or the provider's model has none of that name; the nearest one is
            suggested.
    """
    path = loaded.path_of(key)
    origin = loaded.origin_of(path)
    candidates = tuple(candidates)
    models = _models(loaded, candidates) if is_provider_setting(path) else {}
    _check_provider_setting(path, models)
    annotation = _annotation(path, annotation_at(OneiricSettings, path) or str, models)
    field = _field_at(path)
    is_field = field is not None and len(field.path) == len(path)
    place = field.path.index("*") if field is not None and "*" in field.path else len(path)
    return SettingExplanation(
        key=dotted(path),
        value=_shown(path, _value_at(loaded.settings, path), annotation),
        origin=str(origin),
        overridden=tuple(str(weaker) for weaker in loaded.overridden.get(path, ())),
        default=field.default if field is not None and is_field else _default_at(path),
        description=field.description if field is not None else _description(annotation),
        type=field.type if field is not None and is_field else type_in_words(annotation).replace("tables", "table"),
        allowed=field.allowed if field is not None and is_field else (),
        variables=variables_of(path[:place]),  # of a list as a whole: its parts have none
        meant=None if path in loaded.origins else meant(loaded.settings, path, candidates),
    )


def _check_provider_setting(path: Path, models: Mapping[Path, Any]) -> None:
    """Refuse a setting that the model of a configured provider does not have.

    Raises:
        ConfigurationError: There is no such setting.
    """
    for base, model in models.items():
        below = path[len(base) :]
        if below and path[: len(base)] == base and unknown_names(model, _nested(below)):
            raise ConfigurationError("is not a known setting", nearest(model, below, base), key=dotted(path))


def _nested(path: Path) -> Any:
    """Return a table that holds a value at a path and nothing else."""
    value: Any = None
    for part in reversed(path):
        value = {str(part): value}
    return value


def _values(value: Any, annotation: Any, path: Path) -> Iterator[tuple[Path, Any, Any]]:
    """Yield each value that is not a table with content, with its path and type."""
    below: Iterable[tuple[str, Any]] = ()
    if isinstance(value, BaseModel):
        below = ((name, getattr(value, name)) for name in type(value).model_fields)
    elif isinstance(value, Mapping) and value:
        below = value.items()
    else:
        yield path, value, annotation
    for name, inner in below:
        yield from _values(inner, annotation_at(annotation, (name,)) or Any, (*path, name))


def _models(loaded: LoadedSettings, candidates: Iterable[Candidate]) -> dict[Path, Any]:
    """Return the models of what is configured: path of a provider's settings → model."""
    found: dict[Path, Any] = {}
    for candidate in candidates:
        configured = loaded.settings.section(candidate.domain).provider_settings
        for name in (candidate.provider, f"{candidate.key}/{candidate.provider}"):
            if name in configured and candidate.settings_model is not None:
                try:
                    model = load_factory(candidate.settings_model)
                except LoadError:
                    continue  # what it would say is not known, so that its texts are not shown
                found[(*section_path(candidate.domain), "provider_settings", name)] = model
    return found


def _annotation(path: Path, annotation: Any, models: Mapping[Path, Any]) -> Any:
    """Return the type of a value: of a provider's setting what its model says, and ``Any`` without a model."""
    if not is_provider_setting(path):
        return annotation
    for length in range(len(path), 0, -1):
        if path[:length] in models:
            return annotation_at(models[path[:length]], path[length:]) or Any
    return Any


def _shown(path: Path, value: Any, annotation: Any) -> Any:
    return masked(value, str(path[-1]), annotation, is_providers=is_provider_setting(path))


def _value_at(value: Any, path: Path) -> Any:
    for part in path:
        if isinstance(value, BaseModel):
            value = getattr(value, str(part))
        elif isinstance(value, Mapping):
            value = value.get(str(part))
        elif isinstance(value, list | tuple) and str(part).isdigit() and int(part) < len(value):
            value = value[int(part)]
        else:
            return None
    return value


def _default_at(path: Path) -> Any:
    """Return the default of a table; what stands in a table of free keys has none."""
    value = _value_at(OneiricSettings(), path)
    return masked(value, str(path[-1])) if isinstance(value, BaseModel) else plain_default(value)


@cache
def _fields() -> tuple[SettingField, ...]:
    return tuple(setting_fields())


def _field_at(path: Path) -> SettingField | None:
    """Return the field that a path leads to, or into: the most specific one."""
    found = None
    for field in _fields():
        is_inside = len(field.path) <= len(path) and all(
            own in {part, "*"} for own, part in zip(field.path, path, strict=False)
        )
        if is_inside and (found is None or len(field.path) > len(found.path)):
            found = field
    return found


def _description(annotation: Any) -> str:
    models = [member for member in members(annotation) if is_model(member)]
    return (models[0].__doc__ or "").partition("\n\n")[0] if models else ""
