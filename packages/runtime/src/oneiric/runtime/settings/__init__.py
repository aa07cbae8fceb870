"""Settings: what may be configured, where it is read from, and where every value came from.

`load_settings` reads one file or one directory, the environment and the command line, in that order of
rising strength, and answers with a `LoadedSettings`: the checked `OneiricSettings` and the origin of each
value. Every refusal is a `ConfigurationError` that names file, line (where it is known for certain) and
dotted key, and never a value: a value may be a secret.

Nothing here reads the environment or a file at import. What a command that only reads settings does without
is loaded when it is first touched.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any, Final

from oneiric.runtime.settings._load import load_problems, load_settings
from oneiric.runtime.settings._loaded import LoadedSettings
from oneiric.runtime.settings._model import OneiricSettings
from oneiric.runtime.settings._origin import Origin
from oneiric.runtime.settings._remote import RemoteAuthSettings, RemoteSettings
from oneiric.runtime.settings._running import (
    EngineSettings,
    HttpAuthSettings,
    HttpSettings,
    SchedulerSettings,
    SecretsSettings,
    SupervisorSettings,
)
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

if TYPE_CHECKING:
    from oneiric.runtime.settings._describe import SettingExplanation as SettingExplanation
    from oneiric.runtime.settings._describe import SettingRow as SettingRow
    from oneiric.runtime.settings._describe import describe as describe
    from oneiric.runtime.settings._describe import explain_setting as explain_setting
    from oneiric.runtime.settings._fields import SettingField as SettingField
    from oneiric.runtime.settings._fields import setting_fields as setting_fields
    from oneiric.runtime.settings._findings import problems_of as problems_of
    from oneiric.runtime.settings._policy import policy_from as policy_from
    from oneiric.runtime.settings._policy import selections_of as selections_of
    from oneiric.runtime.settings._provider import ProviderSettings as ProviderSettings
    from oneiric.runtime.settings._secrets import SecretLookup as SecretLookup
    from oneiric.runtime.settings._secrets import resolve_secrets as resolve_secrets
    from oneiric.runtime.settings._secrets import secret_ids_of as secret_ids_of

_HOMES: Final = {
    "ProviderSettings": "_provider",
    "SecretLookup": "_secrets",
    "SettingExplanation": "_describe",
    "SettingField": "_fields",
    "SettingRow": "_describe",
    "describe": "_describe",
    "explain_setting": "_describe",
    "policy_from": "_policy",
    "problems_of": "_findings",
    "resolve_secrets": "_secrets",
    "secret_ids_of": "_secrets",
    "selections_of": "_policy",
    "setting_fields": "_fields",
}

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


def __getattr__(name: str) -> Any:
    home = _HOMES.get(name)
    if home is None:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = getattr(import_module(f"{__name__}.{home}"), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
