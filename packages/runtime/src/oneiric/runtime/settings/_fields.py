"""Every setting there is, described: for the documentation, for ``config show`` and for ``config explain``."""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import PurePath
from types import NoneType
from typing import Any, Final, Literal, get_args, get_origin

from pydantic import BaseModel
from pydantic.fields import FieldInfo

from oneiric.core import Secret
from oneiric.runtime.settings._model import OneiricSettings
from oneiric.runtime.settings._origin import Path
from oneiric.runtime.settings._schema import is_list, is_model, is_table, members, names_of
from oneiric.runtime.settings._text import variables_of

__all__ = ["SettingField", "plain_default", "setting_fields", "type_in_words"]

_WORDS: Final[dict[Any, str]] = {
    bool: "true or false",
    int: "whole number",
    float: "number",
    str: "text",
    Secret: "secret",
    Any: "anything",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class SettingField:
    """One field of the settings.

    Attributes:
        path: Where it stands; ``*`` is the place in a list.
        type: What it takes, in words, its bounds included: ``"number, greater than 0"``.
        default: As JSON has it; a secret's is null.
        description: A sentence or two.
        allowed: The values it takes, where those are few; else empty.
        aliases: Published names that are accepted too.
        variables: Environment variables that set it, the strongest first.
    """

    path: Path
    type: str
    default: Any
    description: str
    allowed: tuple[str, ...] = ()
    aliases: tuple[str, ...] = ()
    variables: tuple[str, ...] = ()

    @property
    def key(self) -> str:
        """The dotted key; ``[]`` is the place in a list."""
        return ".".join(str(part) for part in self.path).replace(".*", "[]")


def setting_fields(model: type[BaseModel] = OneiricSettings, path: Path = ()) -> Iterator[SettingField]:
    """Yield every field below a section, in the order the models have them, tables before what is in them.

    Args:
        model: Where to begin.
        path: Where *model* stands in the settings.
    """
    for name, field in model.model_fields.items():
        own, *aliases = names_of(name, field)
        below = (*path, own)
        inner = [member for member in members(field.annotation) if is_model(member)]
        if inner:
            yield from setting_fields(inner[0], below)
            continue
        yield _described(field, below, tuple(aliases))
        for member in members(field.annotation):
            if is_list(member) and is_model(get_args(member)[0]):
                yield from setting_fields(get_args(member)[0], (*below, "*"))


def _described(field: FieldInfo, path: Path, aliases: tuple[str, ...]) -> SettingField:
    return SettingField(
        path=path,
        type=", ".join([type_in_words(field.annotation), *_bounds(field)]),
        default=plain_default(field.get_default(call_default_factory=True)),
        description=field.description or "",
        allowed=_allowed(field.annotation),
        aliases=aliases,
        variables=() if "*" in path else variables_of(path),
    )


def type_in_words(annotation: Any) -> str:
    """Return what a type takes, as an operator would say it."""
    return " or ".join(dict.fromkeys(_word(member) for member in members(annotation) if member is not NoneType))


def _word(member: Any) -> str:
    if get_origin(member) is Literal:
        return " or ".join(str(value) for value in get_args(member))
    if is_list(member):
        return f"list of {type_in_words(get_args(member)[0])}"
    if is_model(member):
        return "tables"
    if is_table(member):
        return f"table of {type_in_words((*get_args(member), Any, Any)[1])}".removesuffix(" of anything")
    if isinstance(member, type) and issubclass(member, PurePath):
        return "path"
    return _WORDS.get(member, str(getattr(member, "__name__", member)))


def _bounds(field: FieldInfo) -> Iterator[str]:
    for name, words in (("gt", "greater than"), ("ge", "at least"), ("le", "at most")):
        for rule in field.metadata:
            bound = getattr(rule, name, None)
            if bound is not None:
                yield f"{words} {bound:g}"


def _allowed(annotation: Any) -> tuple[str, ...]:
    literals = [member for member in members(annotation) if get_origin(member) is Literal]
    return tuple(str(value) for member in literals for value in get_args(member))


def plain_default(default: Any) -> Any:
    """Return a default as JSON has it."""
    if isinstance(default, PurePath):
        return str(default)
    if isinstance(default, tuple):
        return [plain_default(part) for part in default]
    if isinstance(default, BaseModel):
        return default.model_dump(mode="json", exclude_defaults=True)
    return dict(default) if isinstance(default, dict) else default
