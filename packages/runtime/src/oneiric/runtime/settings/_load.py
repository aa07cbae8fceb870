"""Read the settings of a process: file or directory, environment, command line; into one checked value."""

import hashlib
import json
import os
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path as FilePath
from typing import Any, Final

from pydantic import ValidationError

from oneiric.core.errors import ConfigurationError
from oneiric.runtime._secret_redaction import REDACTOR
from oneiric.runtime.settings._interpolation import interpolate, is_read
from oneiric.runtime.settings._loaded import LoadedSettings
from oneiric.runtime.settings._model import OneiricSettings
from oneiric.runtime.settings._names import name_problems
from oneiric.runtime.settings._origin import Layer
from oneiric.runtime.settings._problems import first_of, problems_in
from oneiric.runtime.settings._profile import profile_layer
from oneiric.runtime.settings._sources import Config, read_config
from oneiric.runtime.settings._text import environment_layer, is_setting, override_layer

__all__ = ["load_problems", "load_settings"]

_CONFIG_VARIABLE: Final = "ONEIRIC_CONFIG"
_STACK_ORDER_VARIABLE: Final = "ONEIRIC_STACK_ORDER"

type _Overrides = Iterable[str] | Mapping[str, Any]


def load_settings(
    path: str | os.PathLike[str] | None = None,
    *,
    environ: Mapping[str, str] | None = None,
    overrides: _Overrides = (),
    profile: str | None = None,
) -> LoadedSettings:
    """Read and check the settings of a process.

    Sources, strongest first: *profile* and *overrides*, the environment, the configuration at *path*, the
    defaults of the profile, defaults. Nothing is looked for that nobody named: without *path* and
    ``ONEIRIC_CONFIG`` there is no configuration file.

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
    read = _read(path, environ, overrides, profile)
    settings, problems = _checked(read)
    if settings is None or problems:
        raise first_of(problems)
    REDACTOR.collect(settings)
    return LoadedSettings(
        settings=settings,
        path=read.where,
        files=tuple(file for file, _ in read.config.files),
        digest=read.digest,
        origins=read.layer.origins,
        overridden={path: tuple(origins) for path, origins in read.layer.overridden.items()},
        stack_order=environ.get(_STACK_ORDER_VARIABLE, ""),
    )


def load_problems(
    path: str | os.PathLike[str] | None = None,
    *,
    environ: Mapping[str, str] | None = None,
    overrides: _Overrides = (),
    profile: str | None = None,
) -> list[ConfigurationError]:
    """Return everything that `load_settings` would refuse, one error each; none if it would load.

    A file that cannot be parsed, or a variable that names no setting, ends the search: what comes after it
    cannot be told.

    Args:
        path: As for `load_settings`.
        environ: As for `load_settings`.
        overrides: As for `load_settings`.
        profile: As for `load_settings`.
    """
    try:
        read = _read(path, os.environ if environ is None else environ, overrides, profile)
    except ConfigurationError as error:
        return [error]
    return _checked(read)[1]


@dataclass(slots=True, kw_only=True)
class _Read:
    """All sources, laid over one another.

    Attributes:
        layer: The settings.
        config: What came from disk.
        where: The file or directory.
        digest: Of everything.
        problems: References that could not be replaced.
    """

    layer: Layer
    config: Config
    where: str | None
    digest: str
    problems: list[ConfigurationError] = field(default_factory=list)


def _read(
    path: str | os.PathLike[str] | None, environ: Mapping[str, str], overrides: _Overrides, profile: str | None
) -> _Read:
    where = os.fspath(path) if path is not None else environ.get(_CONFIG_VARIABLE) or None
    overrides = overrides if isinstance(overrides, Mapping) else tuple(overrides)
    config = read_config(FilePath(where)) if where is not None else Config(layer=Layer())
    merged = config.layer
    merged.merge(environment_layer(environ, merged.data))
    merged.merge(override_layer(overrides, merged.data))
    if profile is not None:
        merged.merge(override_layer({"profile.name": profile}, merged.data))
    variables = {name: environ[name] for name in environ if _counts(name, merged)}
    digest = _digest(config, variables, overrides, profile)
    problems = interpolate(merged, environ)
    layer = profile_layer(merged.data)
    layer.merge(merged)
    return _Read(layer=layer, config=config, where=where, digest=digest, problems=problems)


def _counts(variable: str, layer: Layer) -> bool:
    """Tell whether a variable is part of what was read; secrets are not, since a digest lets them be guessed."""
    return is_setting(variable) or is_read(variable, layer) or variable == _STACK_ORDER_VARIABLE


def _digest(config: Config, variables: Mapping[str, str], overrides: _Overrides, profile: str | None) -> str:
    files = [[file.name, digest] for file, digest in config.files]
    # A Secret among overrides given in code is written as its mask.
    text = json.dumps([files, sorted(variables.items()), overrides, profile], sort_keys=True, default=str)
    return hashlib.sha256(text.encode()).hexdigest()


def _checked(read: _Read) -> tuple[OneiricSettings | None, list[ConfigurationError]]:
    """Return the settings, if the model accepts them, and everything that is wrong with them."""
    layer, details = read.layer, []
    settings: OneiricSettings | None = None
    try:
        settings = OneiricSettings.model_validate(layer.data)
    except ValidationError as error:
        details = error.errors(include_input=False, include_url=False)
    # Made out here: pydantic's error keeps the values it refused, and one of them may be a secret.
    found = problems_in(details, annotation=OneiricSettings, data=layer.data, origin_of=layer.origin)
    if settings is not None:
        found = list(name_problems(settings, layer))
    # What stands in for a reference that was not replaced is not what would be checked.
    unreplaced = {problem.key for problem in read.problems}
    return settings, [*read.problems, *(problem for problem in found if problem.key not in unreplaced)]
