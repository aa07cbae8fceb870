"""Read the settings of a process: file or directory, environment, command line; into one checked value."""

import os
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path as FilePath
from typing import Any, Final

from pydantic import ValidationError

from oneiric.core.errors import ConfigurationError, InvalidCandidateError
from oneiric.core.resolution import Key
from oneiric.runtime.settings._interpolation import interpolate
from oneiric.runtime.settings._model import SECTION_OF, OneiricSettings, section_path
from oneiric.runtime.settings._origin import DEFAULT, Layer, Origin, Path, dotted, refuse
from oneiric.runtime.settings._problems import first_problem
from oneiric.runtime.settings._schema import annotation_at, nearest
from oneiric.runtime.settings._sources import read_config
from oneiric.runtime.settings._text import environment_layer, override_layer

__all__ = ["CONFIG_VARIABLE", "LoadedSettings", "load_settings"]

CONFIG_VARIABLE: Final = "ONEIRIC_CONFIG"
_STACK_ORDER_VARIABLE: Final = "ONEIRIC_STACK_ORDER"


@dataclass(frozen=True, slots=True, kw_only=True)
class LoadedSettings:
    """Settings, and where each of their values came from.

    Attributes:
        settings: The checked settings.
        path: The file or directory they were read from, or None.
        origins: Path of a value → where it came from; what is not in it is a default.
        stack_order: The text of ``ONEIRIC_STACK_ORDER``.
    """

    settings: OneiricSettings
    path: str | None = None
    origins: Mapping[Path, Origin] = field(default_factory=dict, repr=False)
    stack_order: str = ""

    def origin(self, key: str | Path) -> str:
        """Return where a value came from.

        Args:
            key: A dotted key, such as ``"adapters.selections.cache"``, or the parts of one.

        Returns:
            ``"settings/adapters.yml:3"``, ``"environment ONEIRIC_APP__NAME"``, ``"command line"`` or
            ``"default"``.

        Raises:
            ConfigurationError: There is no such setting.
        """
        if isinstance(key, str):
            # Keys may hold dots themselves, so a known path is found by how it is written.
            spelt = {dotted(path): path for path in self.origins}
            key = spelt.get(key) or tuple(key.split("."))
        return str(self.origin_of(key))

    def origin_of(self, path: Path) -> Origin:
        """Return where a value came from, as a value.

        Raises:
            ConfigurationError: There is no such setting.
        """
        found = self.origins.get(path)
        if found is None and annotation_at(OneiricSettings, path) is None and not _is_text_key(path):
            raise ConfigurationError("is not a known setting", nearest(OneiricSettings, path), key=dotted(path))
        return found or DEFAULT


def _is_text_key(path: Path) -> bool:
    """Tell whether a path names a key with dots in a table of texts."""
    return any(annotation_at(OneiricSettings, path[:length]) is str for length in range(2, len(path)))


def load_settings(
    path: str | os.PathLike[str] | None = None,
    *,
    environ: Mapping[str, str] | None = None,
    overrides: Iterable[str] | Mapping[str, Any] = (),
    profile: str | None = None,
) -> LoadedSettings:
    """Read and check the settings of a process.

    Sources, strongest first: *profile* and *overrides*, the environment, the configuration at *path*,
    defaults. Nothing is looked for that nobody named: without *path* and ``ONEIRIC_CONFIG`` there is no
    configuration file.

    Args:
        path: A TOML, YAML or JSON file, or a directory of them named after sections; by default what
            ``ONEIRIC_CONFIG`` names.
        environ: Environment variables; by default those of the process.
        overrides: ``"adapters.selections.cache=memory"`` texts, or a mapping of dotted keys to values.
        profile: The profile's name; stronger than everything else that names one.

    Returns:
        The settings and the origin of each value.

    Raises:
        ConfigurationError: Something cannot be read, is not known or is not valid; file, line and key are
            named as far as they are known, and no value is.
    """
    environ = os.environ if environ is None else environ
    where = os.fspath(path) if path is not None else environ.get(CONFIG_VARIABLE) or None
    merged = read_config(FilePath(where)) if where is not None else Layer()
    merged.merge(environment_layer(environ, merged.data))
    merged.merge(override_layer(overrides, merged.data))
    if profile is not None:
        merged.merge(override_layer({"profile.name": profile}, merged.data))
    interpolate(merged, environ)
    settings = _validated(merged)
    _check_names(settings, merged)
    return LoadedSettings(
        settings=settings,
        path=where,
        origins=merged.origins,
        stack_order=environ.get(_STACK_ORDER_VARIABLE, ""),
    )


def _validated(layer: Layer) -> OneiricSettings:
    try:
        return OneiricSettings.model_validate(layer.data)
    except ValidationError as error:
        details = error.errors(include_input=False, include_url=False)
    # Raised out here: pydantic's error keeps the values it refused, and one of them may be a secret.
    raise first_problem(details, annotation=OneiricSettings, data=layer.data, origin_of=layer.origin)


def _check_names(settings: OneiricSettings, layer: Layer) -> None:
    """Refuse domains, keys, providers and tenants that could not exist, where they are written."""
    for domain in settings.domains:
        _check_domain(domain, ("domains", domain), layer, is_custom=True)
    for domain in (*SECTION_OF, *settings.domains):
        _check_selections(settings.section(domain).selections, (*section_path(domain), "selections"), layer)
    for tenant, domains in settings.tenants.items():
        _check_name(tenant, ("tenants", tenant), layer)
        for domain, selections in domains.items():
            _check_domain(domain, ("tenants", tenant, domain), layer, is_custom=False)
            _check_selections(selections, ("tenants", tenant, domain), layer)


def _check_selections(selections: Mapping[str, str], path: Path, layer: Layer) -> None:
    for key, provider in selections.items():
        _check_name(key, (*path, key), layer)
        _check_name(provider, (*path, key), layer)


def _check_domain(domain: str, path: Path, layer: Layer, *, is_custom: bool) -> None:
    singular = {section: name for name, section in SECTION_OF.items()}.get(domain)
    if singular is not None:
        hint = domain if is_custom else dotted((*path[:-1], singular))
        raise refuse("is a section, not a domain", hint, path, layer.origin(path))
    if is_custom and domain in SECTION_OF:
        raise refuse("is a built-in domain, with a section of its own", SECTION_OF[domain], path, layer.origin(path))
    _check(domain, "name", path, layer)


def _check_name(name: str, path: Path, layer: Layer) -> None:
    _check("adapter", name, path, layer)


def _check(domain: str, name: str, path: Path, layer: Layer) -> None:
    try:
        Key(domain, name)
    except InvalidCandidateError as error:
        raise refuse(f"a name {error.problem}", None, path, layer.origin(path)) from error
