"""Settings of providers: found for a candidate, checked with its own model, before its factory runs."""

from collections.abc import Callable, Collection, Mapping
from dataclasses import is_dataclass
from typing import Any

from pydantic import BaseModel, TypeAdapter, ValidationError

from oneiric.core import Secret
from oneiric.core.errors import ConfigurationError
from oneiric.core.resolution import Candidate
from oneiric.core.security import load_factory
from oneiric.runtime.settings._loaded import LoadedSettings
from oneiric.runtime.settings._model import OneiricSettings
from oneiric.runtime.settings._origin import DEFAULT, Origin, Path, dotted, refuse
from oneiric.runtime.settings._problems import first_problem
from oneiric.runtime.settings._schema import annotation_at, members, nearest, unknown_names
from oneiric.runtime.settings._section import section_path
from oneiric.runtime.settings._sections import DomainSettings
from oneiric.runtime.settings._text import typed

__all__ = ["ProviderSettings"]


class ProviderSettings:
    """Give each candidate the settings its factory takes; for ``LifecycleManager(settings_for=…)``.

    What a provider is configured with stands under ``provider_settings`` of its domain's section, by the
    provider's name, or by ``key/provider`` where two keys have a provider of that name: ``cache/sqlite`` is
    used before ``sqlite``.

    Args:
        loaded: The settings; by default the defaults, with sections to be set by `update`.
    """

    def __init__(self, loaded: LoadedSettings | None = None) -> None:
        self._loaded = loaded or LoadedSettings(settings=OneiricSettings())
        self._sections: dict[str, DomainSettings] = {}

    def update(self, domain: str, section: DomainSettings) -> None:
        """Use *section* for a domain from now on: the next activation or swap sees it."""
        if section != self._section(domain):
            self._sections[domain] = section

    def reload(self, loaded: LoadedSettings, *, keep: Collection[str] = ()) -> Callable[[], None]:
        """Use *loaded* for all domains from now on.

        Args:
            loaded: The settings.
            keep: Domains whose section, if `update` gave one, stays.

        Returns:
            The call that puts back what was in force before.
        """
        before, sections = self._loaded, self._sections
        self._loaded = loaded
        self._sections = {domain: section for domain, section in sections.items() if domain in keep}

        def put_back() -> None:
            self._loaded, self._sections = before, sections

        return put_back

    def __call__(self, candidate: Candidate, tenant: str | None = None) -> Any:  # noqa: ARG002 - a port
        """Return the settings of a candidate, checked with its model; None when it has no model.

        Args:
            candidate: Whose settings.
            tenant: Accepted because the lifecycle tells it; tenants share the settings of a provider.

        Raises:
            ConfigurationError: A setting is unknown, missing or wrong; file, line and key are named, no
                value is.
            LoadError: The model cannot be imported.
        """
        name, raw = self._raw(candidate)
        base: Path = (*section_path(candidate.domain), "provider_settings", name)
        if candidate.settings_model is None:
            return None
        model = load_factory(candidate.settings_model)
        return self._checked(model, _typed(raw, model, base, self._origin), base)

    def _section(self, domain: str) -> DomainSettings:
        return self._sections.get(domain) or self._loaded.settings.section(domain)

    def _raw(self, candidate: Candidate) -> tuple[str, Mapping[str, Any]]:
        section = self._section(candidate.domain)
        qualified = f"{candidate.key}/{candidate.provider}"
        name = qualified if qualified in section.provider_settings else candidate.provider
        return name, section.provider_settings.get(name, {})

    def _origin(self, path: Path) -> Origin:
        """Return the origin of a setting, or of the nearest one above it."""
        replaced = [section_path(domain) for domain in self._sections]
        if any(path[: len(section)] == section for section in replaced):
            return DEFAULT  # given in code, with nothing to say where
        for length in range(len(path), 0, -1):
            if path[:length] in self._loaded.origins:
                return self._loaded.origins[path[:length]]
        return DEFAULT

    def _checked(self, model: Any, data: dict[str, Any], base: Path) -> Any:
        unknown = unknown_names(model, data)
        if unknown:
            path, more = unknown[0], f" (and {len(unknown) - 1} more)" if len(unknown) > 1 else ""
            problem = f"is not a setting of {_name(model)}{more}"
            raise refuse(problem, nearest(model, path, base), (*base, *path), self._origin((*base, *path)))
        if not isinstance(model, type) or not (issubclass(model, BaseModel) or is_dataclass(model)):
            problem = f"cannot be checked: {_name(model)} is neither a pydantic model nor a dataclass"
            raise ConfigurationError(problem, key=dotted(base))
        adapter = TypeAdapter(model)
        try:
            return adapter.validate_python(data)
        except ValidationError as error:
            details = error.errors(include_input=False, include_url=False)
        # Raised out here: pydantic's error keeps the values it refused, and one of them may be a secret.
        raise first_problem(details, annotation=model, data=data, base=base, origin_of=self._origin)


def _typed(value: Any, annotation: Any, path: Path, origin_of: Any) -> Any:
    """Copy raw settings: text gets the shape the model wants, secrets are handed over as it takes them."""
    if isinstance(value, Mapping):
        return {
            name: _typed(below, annotation_at(annotation, (name,)), (*path, name), origin_of)
            for name, below in value.items()
        }
    if isinstance(value, list):
        inner = annotation_at(annotation, (0,))
        return [_typed(below, inner, (*path, place), origin_of) for place, below in enumerate(value)]
    if isinstance(value, Secret) and Secret not in members(annotation):
        value = value.reveal()
    if isinstance(value, str) and annotation is not None and origin_of(path).is_text:
        return typed(value, annotation, path, origin_of(path))
    return value


def _name(model: Any) -> str:
    return str(getattr(model, "__name__", model))
