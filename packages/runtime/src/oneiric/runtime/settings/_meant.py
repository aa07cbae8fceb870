"""What a key that nobody set was meant to be: the nearest of those that are set, or that a component offers."""

from collections.abc import Iterable, Mapping
from difflib import get_close_matches
from typing import Any

from pydantic import BaseModel

from oneiric.core.resolution import Candidate
from oneiric.runtime.settings._model import OneiricSettings
from oneiric.runtime.settings._origin import Path, dotted
from oneiric.runtime.settings._schema import annotation_at
from oneiric.runtime.settings._section import SECTION_OF, section_path

__all__ = ["meant"]


def meant(settings: OneiricSettings, path: Path, candidates: Iterable[Candidate] = ()) -> str | None:
    """Return the dotted key that a path was meant to be; None where it is set or offered, or nothing is near.

    Only tables with keys of their own are looked through: a field that does not exist is an error, said elsewhere.

    Args:
        settings: What is set.
        path: A path that may exist.
        candidates: What is offered.
    """
    offered = tuple(candidates)
    spelt: Path = ()
    value: Any = settings
    rest = path
    while rest:
        name, rest = str(rest[0]), rest[1:]
        if isinstance(value, Mapping):
            if annotation_at(OneiricSettings, (*spelt, name)) is str:
                # Keys of a table of texts may hold dots: what is left of the path is one key.
                name, rest = ".".join((name, *map(str, rest))), ()
            known = {*map(str, value), *_offered(spelt, offered)}
            if name not in known:
                near = get_close_matches(name[:200], sorted(known), n=1)
                if not near:
                    return None
                name = near[0]
            value = value.get(name)
        else:
            value = getattr(value, name, None) if isinstance(value, BaseModel) else None
        spelt = (*spelt, name)
    return None if dotted(spelt) == dotted(path) else dotted(spelt)


def _offered(table: Path, candidates: tuple[Candidate, ...]) -> set[str]:
    """Return the names that candidates give to a table's keys."""
    match table:
        case ("domains",):
            return {each.domain for each in candidates if each.domain not in SECTION_OF}
        case ("tenants", _):
            return {each.domain for each in candidates}
        case ("tenants", _, domain):
            return {each.key for each in candidates if each.domain == domain}
        case (*section, "selections"):
            return {each.key for each in candidates if section_path(each.domain) == tuple(section)}
        case (*section, "provider_settings"):
            here = [each for each in candidates if section_path(each.domain) == tuple(section)]
            return {name for each in here for name in (each.provider, f"{each.key}/{each.provider}")}
    return set()
