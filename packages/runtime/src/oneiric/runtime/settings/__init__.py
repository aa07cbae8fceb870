"""Settings: what may be configured, where it is read from, and where every value came from.

`load_settings` reads one file or one directory, the environment and the command line, in that order of
rising strength, and answers with a `LoadedSettings`: the checked `OneiricSettings` and the origin of each
value. Every refusal is a `ConfigurationError` that names file, line (where it is known for certain) and
dotted key, and never a value: a value may be a secret.

Nothing here reads the environment or a file at import.
"""

from oneiric.runtime.settings._load import LoadedSettings, load_settings
from oneiric.runtime.settings._model import (
    AppSettings,
    DomainSettings,
    LifecycleSettings,
    LoggingSettings,
    OneiricSettings,
    PluginSettings,
    ProfileSettings,
    RuntimePathsSettings,
)
from oneiric.runtime.settings._origin import Origin
from oneiric.runtime.settings._policy import policy_from, selections_of
from oneiric.runtime.settings._provider import ProviderSettings

__all__ = [
    "AppSettings",
    "DomainSettings",
    "LifecycleSettings",
    "LoadedSettings",
    "LoggingSettings",
    "OneiricSettings",
    "Origin",
    "PluginSettings",
    "ProfileSettings",
    "ProviderSettings",
    "RuntimePathsSettings",
    "load_settings",
    "policy_from",
    "selections_of",
]
