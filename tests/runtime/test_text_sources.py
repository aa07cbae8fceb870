"""Text from the environment and the command line: where it belongs, and what type it becomes."""

from pathlib import Path
from typing import Any

import pytest

from oneiric.core.errors import ConfigurationError
from oneiric.runtime.settings import LoadedSettings, OneiricSettings, load_settings

CANARY = "S3CR3T-77ab"


def write(files: dict[str, str]) -> None:
    for name, text in files.items():
        path = Path(name)
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)


def load(path: str | None = None, environ: dict[str, str] | None = None, **more: Any) -> LoadedSettings:
    return load_settings(path, environ=environ or {}, **more)


def refusal(path: str | None = None, environ: dict[str, str] | None = None, **more: Any) -> ConfigurationError:
    with pytest.raises(ConfigurationError) as caught:
        load(path, environ, **more)
    return caught.value


@pytest.mark.parametrize(
    ("variable", "text", "key", "value"),
    [
        ("ONEIRIC_APP__NAME", "12345", ("app", "name"), "12345"),
        ("ONEIRIC_APP__NAME", "true", ("app", "name"), "true"),
        ("ONEIRIC_APP__NAME", "a,b", ("app", "name"), "a,b"),
        ("ONEIRIC_APP__NAME", "null", ("app", "name"), "null"),
        ("ONEIRIC_APP__DEBUG", "true", ("app", "debug"), True),
        ("ONEIRIC_APP__DEBUG", " 0 ", ("app", "debug"), False),
        ("ONEIRIC_APP__ALLOWED_ENV", "HOME", ("app", "allowed_env"), ("HOME",)),
        ("ONEIRIC_APP__ALLOWED_ENV", "HOME, USER", ("app", "allowed_env"), ("HOME", "USER")),
        ("ONEIRIC_APP__ALLOWED_ENV", '["A,B"]', ("app", "allowed_env"), ("A,B",)),
        ("ONEIRIC_APP__ALLOWED_ENV", "", ("app", "allowed_env"), ()),
        ("ONEIRIC_LIFECYCLE__HEALTH_SECONDS", "2.5", ("lifecycle", "health_seconds"), 2.5),
        ("ONEIRIC_LOGGING__EMIT_JSON", "null", ("logging", "emit_json"), None),
        ("ONEIRIC_LOGGING__SERVICE_NAME", "null", ("logging", "service_name"), "null"),
        ("ONEIRIC_LOGGING__LEVEL", "warn", ("logging", "level"), "WARNING"),
        ("ONEIRIC_RUNTIME_PATHS__CACHE_DIR", "/x", ("runtime_paths", "cache_dir"), Path("/x")),
        ("ONEIRIC_ADAPTERS__SELECTIONS", '{"a-B": "x"}', ("adapters", "selections"), {"a-B": "x"}),
        ("ONEIRIC_TASKS__SELECTIONS__A__B", "x", ("tasks", "selections"), {"a.b": "x"}),
        ("ONEIRIC_TENANTS__ACME__ADAPTER__CACHE", "x", ("tenants",), {"acme": {"adapter": {"cache": "x"}}}),
        ("LOG_LEVEL", "debug", ("logging", "level"), "DEBUG"),
        ("ONEIRIC_PROFILE", "serverless", ("profile", "name"), "serverless"),
    ],
)
def test_text_from_the_environment_has_the_type_the_model_says(
    variable: str, text: str, key: tuple[str, ...], value: object
) -> None:
    loaded = load(environ={variable: text})
    found: Any = loaded.settings
    for part in key:
        found = getattr(found, part)
    assert found == value
    if text and isinstance(value, str | bool | float):
        assert loaded.origin(".".join(key)) == f"environment {variable}"


@pytest.mark.parametrize(
    ("variable", "text", "says", "hint"),
    [
        ("ONEIRIC_ADAPTRS__SELECTIONS__CACHE", "x", "is not a known setting", "adapters"),
        ("ONEIRIC_APP__NAM", "x", "is not a known setting", "app.name"),
        ("ONEIRIC_APP__NAME__X", "x", "holds no further settings", None),
        ("ONEIRIC_APP____NAME", "x", "has an empty part in its name", None),
        ("ONEIRIC_APP__DEBUG", "maybe", "must be true or false", None),
        ("ONEIRIC_LIFECYCLE__HEALTH_SECONDS", "soon", "must be a number", None),
        ("ONEIRIC_ADAPTERS__SELECTIONS", "cache=x", "must be a JSON object", "one key"),
        ("ONEIRIC_APP__ALLOWED_ENV", "[", "must be a JSON array", "one key"),
        ("ONEIRIC_PROFILE", "staging", "must be 'default' or 'serverless'", None),
        ("LOG_LEVEL", "loud", "must be 'DEBUG'", None),
    ],
)
def test_a_wrong_variable_is_refused_by_its_name(variable: str, text: str, says: str, hint: str | None) -> None:
    error = refusal(environ={variable: text})
    assert says in error.message
    assert f"(from environment {variable})" in error.message
    assert (hint or "") in (error.hint or "")


@pytest.mark.parametrize(
    "variable", ["ONEIRIC_STACK_ORDER", "ONEIRIC_SECRET_DB__PASSWORD", "ONEIRIC_X", "OTHER__APP__X"]
)
def test_a_variable_that_is_no_setting_is_left_alone(variable: str) -> None:
    assert load(environ={variable: "a:1"}).settings == OneiricSettings()


def test_a_variable_reaches_a_configured_key_whatever_its_spelling(here: Path) -> None:
    write({"c.yml": "services:\n  selections:\n    Payment-processor: stripe\n"})
    loaded = load("c.yml", {"ONEIRIC_SERVICES__SELECTIONS__PAYMENT_PROCESSOR": "adyen"})
    assert loaded.settings.services.selections == {"Payment-processor": "adyen"}


def test_a_variable_that_could_mean_two_keys_is_refused(here: Path) -> None:
    write({"c.yml": "services:\n  selections: {a-b: x, A.b: y}\n"})
    assert "could be any of A.b, a-b" in refusal("c.yml", {"ONEIRIC_SERVICES__SELECTIONS__A_B": "z"}).message


def test_the_more_specific_variable_has_the_last_word() -> None:
    environ = {
        "ONEIRIC_ADAPTERS__SELECTIONS__CACHE": "memory",
        "ONEIRIC_ADAPTERS__SELECTIONS": '{"cache": "x", "q": "y"}',
    }
    assert load(environ=environ).settings.adapters.selections == {"cache": "memory", "q": "y"}
    both = {"LOG_LEVEL": "ERROR", "ONEIRIC_LOGGING__LEVEL": "INFO"}
    assert load(environ=both).settings.logging.level == "INFO"


def test_lists_are_replaced_whole(here: Path) -> None:
    write({"c.yml": "app:\n  allowed_env: [A, B, C]\n"})
    loaded = load("c.yml", overrides=["app.allowed_env=D"])
    assert loaded.settings.app.allowed_env == ("D",)
    assert loaded.origin("app.allowed_env.0") == "command line"
    assert loaded.origin("app.allowed_env.2") == "default"


@pytest.mark.parametrize(
    ("override", "selections"),
    [
        ("tasks.selections.reports.nightly=x", {"reports.nightly": "x"}),
        ('tasks.selections."a b.c".d=x', None),
        ("tasks.selections.a=b=c", None),
        ('tasks.selections={"a": "x"}', {"a": "x"}),
    ],
)
def test_command_line_keys_may_hold_dots_where_text_cannot_have_parts(
    override: str, selections: dict[str, str] | None
) -> None:
    if selections is None:
        assert "a name must be" in refusal(overrides=[override]).message
    else:
        assert load(overrides=[override]).settings.tasks.selections == selections


@pytest.mark.parametrize("override", ["app.name", "=x", "", ".=x", "nonsense=1", "app.nam=x"])
def test_a_malformed_override_is_a_configuration_error(override: str) -> None:
    refusal(overrides=[override])


def test_a_malformed_override_is_not_repeated() -> None:
    assert CANARY not in str(refusal(overrides=[CANARY]))


def test_overrides_from_code_keep_their_types_and_say_so() -> None:
    loaded = load(overrides={"app.debug": True, "adapters.provider_settings.memory.max_entries": 5})
    assert loaded.settings.app.debug is True
    assert loaded.settings.adapters.provider_settings == {"memory": {"max_entries": 5}}
    assert loaded.origin("app.debug") == "argument"
