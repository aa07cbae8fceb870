"""Settings: what may be configured, where it is read from, and where every value came from.

`load_settings` reads one file or one directory, the environment and the command line, in that order of
rising strength, and answers with a `LoadedSettings`: the checked `OneiricSettings` and the origin of each
value. Every refusal is a `ConfigurationError` that names file, line (where it is known for certain) and
dotted key, and never a value: a value may be a secret.

Nothing here reads the environment or a file at import.
"""

from oneiric.runtime.settings._describe import SettingExplanation, SettingRow, describe, explain_setting
from oneiric.runtime.settings._fields import SettingField, setting_fields
from oneiric.runtime.settings._findings import problems_of
from oneiric.runtime.settings._load import load_problems, load_settings
from oneiric.runtime.settings._loaded import LoadedSettings
from oneiric.runtime.settings._model import OneiricSettings
from oneiric.runtime.settings._origin import Origin
from oneiric.runtime.settings._policy import policy_from, selections_of
from oneiric.runtime.settings._provider import ProviderSettings
from oneiric.runtime.settings._remote import RemoteAuthSettings, RemoteSettings
from oneiric.runtime.settings._running import (
    EngineSettings,
    HttpAuthSettings,
    HttpSettings,
    SchedulerSettings,
    SecretsSettings,
    SupervisorSettings,
)
from oneiric.runtime.settings._secrets import SecretLookup, resolve_secrets, secret_ids_of
from oneiric.runtime.settings._sections import (
    AppSettings,
    DomainSettings,
    LifecycleSettings,
    LoggingSettings,
    LoggingSinkSettings,
    PluginSettings,
    ProfileSettings,
    RuntimePathsSettings,
)
from oneiric.runtime.settings._template import SecretTemplate

__all__ = [
    "AppSettings",
    "DomainSettings",
    "EngineSettings",
    "HttpAuthSettings",
    "HttpSettings",
    "LifecycleSettings",
    "LoadedSettings",
    "LoggingSettings",
    "LoggingSinkSettings",
    "OneiricSettings",
    "Origin",
    "PluginSettings",
    "ProfileSettings",
    "ProviderSettings",
    "RemoteAuthSettings",
    "RemoteSettings",
    "RuntimePathsSettings",
    "SchedulerSettings",
    "SecretLookup",
    "SecretTemplate",
    "SecretsSettings",
    "SettingExplanation",
    "SettingField",
    "SettingRow",
    "SupervisorSettings",
    "describe",
    "explain_setting",
    "load_problems",
    "load_settings",
    "policy_from",
    "problems_of",
    "resolve_secrets",
    "secret_ids_of",
    "selections_of",
    "setting_fields",
]
