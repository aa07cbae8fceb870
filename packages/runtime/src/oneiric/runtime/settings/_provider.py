"""Settings of providers: found for a candidate, checked with its own model, before its factory runs."""

from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, is_dataclass
from typing import Any, Final

from pydantic import BaseModel, TypeAdapter, ValidationError
from pydantic_core import ErrorDetails

from oneiric.core import Secret
from oneiric.core.errors import ConfigurationError
from oneiric.core.resolution import Candidate, CandidateSource
from oneiric.core.security import load_factory
from oneiric.runtime._secret_redaction import REDACTOR
from oneiric.runtime.settings._loaded import LoadedSettings
from oneiric.runtime.settings._model import OneiricSettings
from oneiric.runtime.settings._origin import DEFAULT, Origin, Path, dotted, refuse
from oneiric.runtime.settings._problems import AUTHORED, first_of, located, problems_in
from oneiric.runtime.settings._schema import annotation_at, members, nearest, unknown_names
from oneiric.runtime.settings._secrets import SecretLookup, fetched, rendered, templates_in
from oneiric.runtime.settings._section import section_path
from oneiric.runtime.settings._sections import DomainSettings
from oneiric.runtime.settings._text import typed

__all__ = ["ProviderSettings"]

#: What stands in for a secret where settings are checked without fetching any.
_PLACEHOLDER: Final = "placeholder"


@dataclass(frozen=True, slots=True, kw_only=True)
class _Written:
    """What is configured for a candidate.

    Attributes:
        base: Where it stands in the settings.
        raw: The settings as written, references to environment variables replaced.
    """

    base: Path
    raw: Mapping[str, Any]


class ProviderSettings:
    """Give each candidate the settings its factory takes; for ``LifecycleManager(settings_for=…)``.

    What a provider is configured with stands under ``provider_settings`` of its domain's section, by the
    provider's name, or by ``key/provider`` where two keys have a provider of that name: ``cache/sqlite`` is
    used before ``sqlite``.

    ``${secret:ID}`` in a setting is fetched each time the settings are asked for. A field of type `Secret`
    gets it as a secret, any other field as text.

    Args:
        loaded: The settings; by default the defaults, with sections to be set by `update`.
        secrets: Where ``${secret:ID}`` is fetched from.

    Attributes:
        secrets: The same; may be set later, since what fetches secrets is a component itself.
    """

    def __init__(self, loaded: LoadedSettings | None = None, *, secrets: SecretLookup | None = None) -> None:
        self.secrets = secrets
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

        Returns:
            The settings, or an awaitable of them where secrets must be fetched first.

        Raises:
            ConfigurationError: A setting is unknown, missing or wrong; file, line and key are named, no
                value is.
            SecretNotFoundError: A secret that a setting refers to does not exist.
            LoadError: The model cannot be imported.
        """
        if candidate.settings_model is None:
            return None
        written = self._written(candidate)
        model = load_factory(
            candidate.settings_model, defined_there=candidate.source is CandidateSource.REMOTE_MANIFEST
        )
        if next(templates_in(written.raw), None) is None:
            return self._built(model, written)
        return self._completed(candidate, model, written)

    def raw(self, candidate: Candidate) -> Mapping[str, Any]:
        """Return what is configured for a candidate, unchecked; templates stand where secrets will."""
        return self._written(candidate).raw

    def secret_ids(self, candidate: Candidate) -> frozenset[str]:
        """Return the ids of the secrets that the settings of a candidate refer to."""
        templates = templates_in(self._written(candidate).raw)
        return frozenset(id_ for _, template in templates for id_ in template.ids)

    def check(self, candidate: Candidate) -> None:
        """Check the settings of a candidate as far as that is possible without fetching a secret.

        Raises:
            ConfigurationError: A setting is unknown, missing or wrong; the others that are, are named.
            LoadError: The model cannot be imported.
        """
        problems = self.problems(candidate)
        if problems:
            raise first_of(problems)

    def problems(self, candidate: Candidate) -> list[ConfigurationError]:
        """Return all that `check` finds, one error each.

        Raises:
            LoadError: The model cannot be imported.
        """
        written = self._written(candidate)
        if candidate.settings_model is None:
            return []
        model = load_factory(
            candidate.settings_model, defined_there=candidate.source is CandidateSource.REMOTE_MANIFEST
        )
        open_ = dict(templates_in(written.raw))
        if open_ and self._provides_secrets(candidate):
            return [self._circular(next(iter(open_)), written.base)]
        placeholders = dict.fromkeys((id_ for template in open_.values() for id_ in template.ids), Secret(_PLACEHOLDER))
        raw = _typed(rendered(written.raw, placeholders), model, written.base, self._origin)
        try:
            return self._problems(model, raw, written.base, frozenset(open_))[1]
        except Exception as error:  # noqa: BLE001 - the model is foreign code, and may raise anything
            if open_:
                return []  # a placeholder may be to blame
            problem = f"cannot be checked: {_name(model)} raised {type(error).__name__}"
            return [refuse(problem, None, written.base, self._origin(written.base))]

    def _section(self, domain: str) -> DomainSettings:
        return self._sections.get(domain) or self._loaded.settings.section(domain)

    def _written(self, candidate: Candidate) -> _Written:
        configured = self._section(candidate.domain).provider_settings
        qualified = f"{candidate.key}/{candidate.provider}"
        name = qualified if qualified in configured else candidate.provider
        base = (*section_path(candidate.domain), "provider_settings", name)
        return _Written(base=base, raw=configured.get(name, {}))

    def _origin(self, path: Path) -> Origin:
        """Return the origin of a setting, or of the nearest one above it."""
        replaced = [section_path(domain) for domain in self._sections]
        if any(path[: len(section)] == section for section in replaced):
            return DEFAULT  # given in code, with nothing to say where
        return self._loaded.origin_near(path)

    async def _completed(self, candidate: Candidate, model: Any, written: _Written) -> Any:
        templates = [((*written.base, *path), template) for path, template in templates_in(written.raw)]
        if self._provides_secrets(candidate):
            raise self._circular(templates[0][0], ())
        secrets = await fetched(templates, self.secrets, self._origin)
        return self._built(model, _Written(base=written.base, raw=rendered(written.raw, secrets)))

    def _provides_secrets(self, candidate: Candidate) -> bool:
        section = self._loaded.settings.secrets
        return (candidate.domain, candidate.key) == (section.domain, section.key)

    def _circular(self, path: Path, base: Path) -> ConfigurationError:
        problem = "asks for ${secret:…}, and is a setting of what secrets are fetched from"
        return refuse(problem, "${ONEIRIC_SECRET_…}", (*base, *path), self._origin((*base, *path)))

    def _built(self, model: Any, written: _Written) -> Any:
        data = _typed(written.raw, model, written.base, self._origin)
        settings, problems = self._problems(model, data, written.base)
        if problems:
            raise first_of(problems)
        REDACTOR.collect(settings, written.raw)
        return settings

    def _problems(
        self, model: Any, data: dict[str, Any], base: Path, open_: frozenset[Path] = frozenset()
    ) -> tuple[Any, list[ConfigurationError]]:
        """Return the settings, if the model accepts them, and what is wrong with them.

        Args:
            model: The provider's model.
            data: The settings.
            base: Where they stand.
            open_: Paths of placeholders, which nothing is held against.
        """
        if not isinstance(model, type) or not (issubclass(model, BaseModel) or is_dataclass(model)):
            problem = f"cannot be checked: {_name(model)} is neither a pydantic model nor a dataclass"
            return None, [ConfigurationError(problem, key=dotted(base))]
        unknown = [self._unknown(model, path, base) for path in unknown_names(model, data)]
        settings, details = None, []
        try:
            settings = TypeAdapter(model).validate_python(data)
        except ValidationError as error:
            details = error.errors(include_input=False, include_url=False)
        # Made out here: pydantic's error keeps the values it refused, and one of them may be a secret.
        blamed = [detail for detail in details if not _is_of_placeholder(detail, data, open_)]
        problems = problems_in(blamed, annotation=model, data=data, base=base, origin_of=self._origin)
        said = {problem.key for problem in unknown}
        return settings, [*unknown, *(problem for problem in problems if problem.key not in said)]

    def _unknown(self, model: Any, path: Path, base: Path) -> ConfigurationError:
        whole = (*base, *path)
        return refuse(f"is not a setting of {_name(model)}", nearest(model, path, base), whole, self._origin(whole))


def _is_of_placeholder(detail: ErrorDetails, data: Any, open_: frozenset[Path]) -> bool:
    """Tell whether a placeholder may be to blame: it stands there, or a rule over several settings saw it."""
    where = located(detail["loc"], data, detail["type"])
    if any(where[: len(path)] == path for path in open_):
        return True
    return detail["type"] in AUTHORED and any(path[: len(where)] == where for path in open_)


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
