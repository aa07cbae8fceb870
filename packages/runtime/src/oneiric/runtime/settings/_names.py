"""Domains, keys, providers and tenants that could not exist, found where they are written."""

from collections.abc import Iterator, Mapping

from oneiric.core import Key
from oneiric.core.errors import ConfigurationError, InvalidCandidateError
from oneiric.runtime.settings._model import OneiricSettings
from oneiric.runtime.settings._origin import Layer, Path, dotted, refuse
from oneiric.runtime.settings._section import SECTION_OF, section_path

__all__ = ["name_problems"]


def name_problems(settings: OneiricSettings, layer: Layer) -> Iterator[ConfigurationError]:
    """Yield an error for every name in the settings that breaks the grammar of names.

    Args:
        settings: What to look through.
        layer: What they were made from; tells where each name is written.
    """
    for domain in settings.domains:
        yield from _domain(domain, ("domains", domain), layer, is_custom=True)
    for domain in (*SECTION_OF, *settings.domains):
        yield from _selections(settings.section(domain).selections, (*section_path(domain), "selections"), layer)
    for tenant, domains in settings.tenants.items():
        yield from _name(tenant, ("tenants", tenant), layer)
        for domain, selections in domains.items():
            yield from _domain(domain, ("tenants", tenant, domain), layer, is_custom=False)
            yield from _selections(selections, ("tenants", tenant, domain), layer)


def _selections(selections: Mapping[str, str], path: Path, layer: Layer) -> Iterator[ConfigurationError]:
    for key, provider in selections.items():
        yield from _name(key, (*path, key), layer)
        yield from _name(provider, (*path, key), layer)


def _domain(domain: str, path: Path, layer: Layer, *, is_custom: bool) -> Iterator[ConfigurationError]:
    singular = {section: name for name, section in SECTION_OF.items()}.get(domain)
    if singular is not None:
        hint = domain if is_custom else dotted((*path[:-1], singular))
        yield refuse("is a section, not a domain", hint, path, layer.origin(path))
    elif is_custom and domain in SECTION_OF:
        yield refuse("is a built-in domain, with a section of its own", SECTION_OF[domain], path, layer.origin(path))
    else:
        yield from _checked(domain, "name", path, layer)


def _name(name: str, path: Path, layer: Layer) -> Iterator[ConfigurationError]:
    yield from _checked("adapter", name, path, layer)


def _checked(domain: str, name: str, path: Path, layer: Layer) -> Iterator[ConfigurationError]:
    try:
        Key(domain, name)
    except InvalidCandidateError as error:
        yield refuse(f"a name {error.problem}", None, path, layer.origin(path))
