"""Ask a model what stands at a path: fields, their types, and what a misspelt one was meant to be."""

from collections.abc import Mapping
from difflib import get_close_matches
from types import NoneType, UnionType
from typing import Annotated, Any, TypeAliasType, Union, get_args, get_origin

from pydantic import AliasChoices, AliasPath, BaseModel
from pydantic.fields import FieldInfo

from oneiric.runtime.settings._origin import Path, dotted

__all__ = [
    "annotation_at",
    "field_named",
    "is_list",
    "is_table",
    "members",
    "names_of",
    "nearest",
    "preferred",
    "unknown_names",
]


def members(annotation: Any) -> tuple[Any, ...]:
    """Return the alternatives of a type: without ``Annotated`` and aliases, a union's members one by one."""
    origin = get_origin(annotation)
    if origin is Annotated:
        return members(get_args(annotation)[0])
    if isinstance(annotation, TypeAliasType):
        return members(annotation.__value__)
    if origin in {Union, UnionType}:
        return tuple(member for argument in get_args(annotation) for member in members(argument))
    return (annotation,)


def is_model(annotation: Any) -> bool:
    """Tell whether a type is a pydantic model."""
    return isinstance(annotation, type) and issubclass(annotation, BaseModel)


def is_table(annotation: Any) -> bool:
    """Tell whether a type is written as a table of settings."""
    kind = get_origin(annotation) or annotation
    return is_model(annotation) or (isinstance(kind, type) and issubclass(kind, Mapping))


def is_list(annotation: Any) -> bool:
    """Tell whether a type is written as a list."""
    kind = get_origin(annotation) or annotation
    return isinstance(kind, type) and issubclass(kind, list | tuple | set | frozenset)


def names_of(name: str, field: FieldInfo) -> tuple[str, ...]:
    """Return every name a field is accepted under, its own or its alias first."""
    alias = field.validation_alias
    if alias is None:
        return (name,)
    choices = alias.choices if isinstance(alias, AliasChoices) else [alias]
    names = tuple(str(choice.path[0] if isinstance(choice, AliasPath) else choice) for choice in choices)
    return names if name in names else (*names, name)


def field_named(model: type[BaseModel], name: str) -> tuple[str, FieldInfo] | None:
    """Return the name to write and the field for any of its names."""
    for own, field in model.model_fields.items():
        names = names_of(own, field)
        if name in names:
            return names[0], field
    return None


def annotation_at(annotation: Any, path: Path) -> Any:
    """Return the type at a path below a type: ``Any`` below what is untyped, None where nothing can stand."""
    if not path:
        return annotation
    for member in members(annotation):
        below: Any = None
        if member is Any:
            return Any
        if is_model(member):
            found = field_named(member, str(path[0]))
            below = found[1].annotation if found else None
        elif is_table(member):
            below = (*get_args(member), Any, Any)[1]
        elif is_list(member):
            below = (*get_args(member), Any)[0]
        if below is not None:
            return annotation_at(below, path[1:])
    return None


def preferred(annotation: Any, path: Path) -> Path:
    """Return a path with every name in the spelling that its model prefers; what is unknown stays as it is."""
    if not path:
        return ()
    models = [member for member in members(annotation) if is_model(member)]
    found = field_named(models[0], str(path[0])) if models else None
    name = found[0] if found else path[0]
    return (name, *preferred(annotation_at(annotation, (name,)), path[1:]))


def unknown_names(annotation: Any, value: Any, path: Path = ()) -> list[Path]:
    """Return the paths in *value* that no field of the models in *annotation* stands for.

    A model that says ``extra="allow"`` knows every name. One that says nothing would drop them in silence.
    """
    models = [member for member in members(annotation) if is_model(member)]
    if len(models) != 1 or not isinstance(value, dict):
        return []
    model: type[BaseModel] = models[0]
    unknown: list[Path] = []
    for name, below in value.items():
        found = field_named(model, name)
        if found is not None:
            unknown += unknown_names(found[1].annotation, below, (*path, name))
        elif model.model_config.get("extra") != "allow":
            unknown.append((*path, name))
    return unknown


def nearest(annotation: Any, path: Path, base: Path = ()) -> str | None:
    """Return what an unknown path was meant to be, as a dotted path.

    Where nothing is near, it is all names that can stand there, and below a value that value.

    Args:
        annotation: The type the path begins in.
        path: Holds an unknown name, or several.
        base: What to put before the path in the answer.
    """
    spelt: Path = ()
    for part in path:
        name, below = part, annotation_at(annotation, (part,))
        if below is None:
            models = [member for member in members(annotation) if is_model(member)]
            known = [names_of(own, field)[0] for model in models for own, field in model.model_fields.items()]
            near = get_close_matches(str(part)[:200], known, n=1)
            if not near and known:
                return f"one of {', '.join(sorted(known))}"
            if not near:
                break
            name, below = near[0], annotation_at(annotation, (near[0],))
        spelt, annotation = (*spelt, name), below
    return dotted((*base, *spelt)) if spelt else None


def takes_none(annotation: Any) -> bool:
    """Tell whether a type admits null."""
    return any(member in {None, NoneType} for member in members(annotation))
