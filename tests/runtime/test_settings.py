"""Where settings come from, which source wins, and what is said of a wrong one."""

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from oneiric.core.errors import ConfigurationError
from oneiric.runtime import settings
from oneiric.runtime.settings import LoadedSettings, OneiricSettings, load_settings, policy_from

CANARY = "S3CR3T-77aa"


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path


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


def test_without_any_source_everything_is_default() -> None:
    loaded = load()
    assert loaded.settings == OneiricSettings()
    assert loaded.path is None
    assert loaded.origin("app.name") == "default"
    assert loaded.origin("adapters.selections.cache") == "default"


def test_the_published_deadlines_are_the_defaults() -> None:
    lifecycle = OneiricSettings().lifecycle
    seconds = [lifecycle.activation_seconds, lifecycle.health_seconds, lifecycle.hook_seconds]
    assert [*seconds, lifecycle.drain_seconds, lifecycle.cleanup_seconds] == [30, 5, 5, 30, 10]


def test_nothing_is_read_that_nobody_named(here: Path) -> None:
    write({"oneiric.toml": "[app]\nname = 'x'\n", "settings/app.yml": "name: y\n"})
    assert load().settings.app.name == "oneiric"


def test_oneiric_config_names_the_configuration_and_a_path_is_stronger(here: Path) -> None:
    write({"a.toml": "app.name = 'a'\n", "b.json": '{"app": {"name": "b"}}'})
    assert load(environ={"ONEIRIC_CONFIG": "a.toml"}).origin("app.name") == "a.toml:1"
    assert load("b.json", {"ONEIRIC_CONFIG": "a.toml"}).settings.app.name == "b"
    assert load(environ={"ONEIRIC_CONFIG": ""}).path is None


def test_the_stronger_source_wins_and_each_value_knows_its_own(here: Path) -> None:
    write(
        {
            "settings/adapters.yml": "selections:\n  queue: nats\n  cache: redis\n",
            "settings/oneiric.toml": "app.name = 'x'\n",
        }
    )
    environ = {"ONEIRIC_ADAPTERS__SELECTIONS__QUEUE": "memory", "ONEIRIC_APP__ENVIRONMENT": "prod"}
    loaded = load("settings", environ, overrides=["app.environment=test"])
    assert loaded.settings.adapters.selections == {"queue": "memory", "cache": "redis"}
    assert loaded.settings.app.environment == "test"
    assert loaded.origin("adapters.selections.cache") == "settings/adapters.yml:3"
    assert loaded.origin("adapters.selections.queue") == "environment ONEIRIC_ADAPTERS__SELECTIONS__QUEUE"
    assert loaded.origin("app.environment") == "command line"
    assert loaded.origin("app.name") == "settings/oneiric.toml:1"
    assert loaded.origin("app.debug") == "default"


def test_asking_for_the_origin_of_no_setting_suggests_the_nearest() -> None:
    with pytest.raises(ConfigurationError) as caught:
        load().origin("adapters.selektions.cache")
    assert caught.value.key == "adapters.selektions.cache"
    with pytest.raises(ConfigurationError, match=r"Try: app\.name"):
        load().origin("app.nam")


@pytest.mark.parametrize("suffix", ["yml", "yaml", "toml", "json"])
def test_a_directory_takes_section_files_of_any_format(here: Path, suffix: str) -> None:
    text = {"toml": "selections = {cache = 'redis'}\n", "json": '{"selections": {"cache": "redis"}}'}
    write({f"settings/adapters.{suffix}": text.get(suffix, "selections: {cache: redis}\n")})
    loaded = load("settings")
    assert loaded.settings.adapters.selections == {"cache": "redis"}
    assert loaded.origin("adapters.selections.cache") == f"settings/adapters.{suffix}:1"


def test_a_section_file_is_stronger_than_oneiric_toml(here: Path) -> None:
    write(
        {
            "s/oneiric.toml": "app = {name = 'a', environment = 'e'}\n",
            "s/app.yml": "name: b\n",
            "s/tasks.yml": "",
        }
    )
    loaded = load("s")
    assert (loaded.settings.app.name, loaded.settings.app.environment) == ("b", "e")
    assert loaded.origin("app.name") == "s/app.yml:1"


def test_a_directory_may_hold_what_is_no_settings_file(here: Path) -> None:
    write(
        {
            "s/README.md": "#",
            "s/.app.yml.swp": "x",
            "s/.#app.yml": "[",
            "s/sub/app.yml": "[",
            "s/app.yml": "name: x",
        }
    )
    assert load("s").settings.app.name == "x"


@pytest.mark.parametrize(
    ("files", "says", "hint"),
    [
        ({"s/adpters.yml": "a: 1"}, "is not named after a section", "adapters.yml"),
        ({"s/zzz.json": "{}"}, "is not named after a section", "keep only"),
        ({"s/app.yml": "name: a", "s/app.toml": "name = 'b'"}, "repeats app.toml", "keep one"),
    ],
)
def test_a_settings_file_that_would_be_ignored_is_refused(
    here: Path, files: dict[str, str], says: str, hint: str
) -> None:
    write(files)
    error = refusal("s")
    assert says in error.message
    assert hint in (error.hint or "")


@pytest.mark.skipif(os.geteuid() == 0, reason="root reads everything")
def test_a_file_without_permission_is_refused(here: Path) -> None:
    write({"app.yml": "name: x"})
    Path("app.yml").chmod(0)
    assert "cannot be read: Permission denied" in refusal("app.yml").message


def test_a_link_that_leads_nowhere_is_refused(here: Path) -> None:
    Path("app.yml").symlink_to("app.yml")
    assert "cannot be read" in refusal("app.yml").message


def test_a_missing_configuration_is_refused(here: Path) -> None:
    error = refusal("absent.toml")
    assert "cannot be read: No such file" in error.message
    assert error.file == "absent.toml"


@pytest.mark.parametrize(
    ("name", "text", "line"),
    [
        ("c.yml", "app:\n  name: x\n  debg: true\n", 3),
        ("c.json", '{"app": {"name": "x",\n "debg": true}}', 2),
        ("c.toml", "[app]\nname = 'x'\ndebg = true\n", 3),
    ],
)
def test_an_unknown_key_is_refused_in_its_place_with_the_nearest_one(
    here: Path, name: str, text: str, line: int
) -> None:
    write({name: text})
    error = refusal(name)
    assert (error.file, error.line, error.key) == (name, line, "app.debg")
    assert "is not a known setting" in error.message
    assert error.hint == "app.debug"


def test_an_unknown_section_is_refused_with_the_nearest_one(here: Path) -> None:
    write({"c.yml": "adapter:\n  selections: {}\n"})
    error = refusal("c.yml")
    assert (error.line, error.key, error.hint) == (1, "adapter", "adapters")


@pytest.mark.parametrize(
    ("text", "key", "line", "says"),
    [
        ("lifecycle:\n  health_seconds: soon\n", "lifecycle.health_seconds", 2, "must be a number"),
        ("lifecycle:\n  health_seconds: 0\n", "lifecycle.health_seconds", 2, "must be greater than 0"),
        ("app:\n  debug: maybe\n", "app.debug", 2, "must be true or false"),
        ("adapters:\n  selections:\n    cache: 1.10\n", "adapters.selections.cache", 3, "must be text"),
        ("adapters:\n  selections: redis\n", "adapters.selections", 2, "must be a table of settings"),
        ("app: x\n", "app", 1, "must be a table of settings"),
        ("profile: {name: staging}\n", "profile.name", 1, "must be 'default' or 'serverless'"),
        ("logging: {level: loud}\n", "logging.level", 1, "must be 'DEBUG'"),
        ("app:\n  allowed_env: 7\n", "app.allowed_env", 2, "must be a list"),
        (
            "adapters:\n  selections: {cache: a b}\n",
            "adapters.selections.cache",
            2,
            "a name must be a letter or digit",
        ),
        ("tenants:\n  acme:\n    adapters: {}\n", "tenants.acme.adapters", 3, "is a section, not a domain"),
        ("domains:\n  adapter: {}\n", "domains.adapter", 2, "is a built-in domain"),
        ("domains:\n  My Domain: {}\n", "domains.My Domain", 2, "must be a lower-case letter"),
    ],
)
def test_a_wrong_value_is_refused_in_its_place(here: Path, text: str, key: str, line: int, says: str) -> None:
    write({"c.yml": text})
    error = refusal("c.yml")
    assert (error.file, error.line, error.key) == ("c.yml", line, key)
    assert says in error.message


def test_several_problems_are_named_at_once(here: Path) -> None:
    write({"c.yml": "app: {debug: maybe, nam: x}\nlifecycle: {health_seconds: soon}\n"})
    message = refusal("c.yml").message
    assert all(key in message for key in ("app.debug", "app.nam", "lifecycle.health_seconds"))


@pytest.mark.parametrize("name", ["activation", "health", "hook", "cleanup", "drain"])
def test_published_names_of_deadlines_are_accepted_from_every_source(here: Path, name: str) -> None:
    write({"c.yml": f"lifecycle:\n  {name}_timeout: 2\n"})
    assert getattr(load("c.yml").settings.lifecycle, f"{name}_seconds") == 2
    assert load("c.yml").origin(f"lifecycle.{name}_seconds") == "c.yml:2"
    environ = {f"ONEIRIC_LIFECYCLE__{name.upper()}_TIMEOUT": "3"}
    assert getattr(load("c.yml", environ).settings.lifecycle, f"{name}_seconds") == 3
    overrides = [f"lifecycle.{name}_seconds=4"]
    assert getattr(load("c.yml", environ, overrides=overrides).settings.lifecycle, f"{name}_seconds") == 4


def test_one_setting_under_two_names_is_refused(here: Path) -> None:
    write({"c.yml": "lifecycle:\n  health_timeout: 2\n  health_seconds: 3\n"})
    error = refusal("c.yml")
    assert "is given twice" in error.message
    assert (error.line, error.key) == (3, "lifecycle.health_seconds")


def test_an_explicit_profile_is_the_strongest(here: Path) -> None:
    loaded = load(environ={"ONEIRIC_PROFILE": "default"}, profile="serverless")
    assert loaded.settings.profile.name == "serverless"


def test_references_are_replaced_once_and_never_read_again(here: Path) -> None:
    write(
        {
            "c.yml": "app:\n  name: 'a ${ONEIRIC_SECRET_A} $${X} $5 {y}'\n"
            "  environment: ${REGION}\n  allowed_env: [REGION]\n"
        }
    )
    environ = {
        "ONEIRIC_SECRET_A": "${ONEIRIC_SECRET_B}\ndebug: true",
        "ONEIRIC_SECRET_B": "b",
        "REGION": "eu",
    }
    app = load("c.yml", environ).settings.app
    assert app.name == "a ${ONEIRIC_SECRET_B}\ndebug: true ${X} $5 {y}"
    assert (app.environment, app.debug) == ("eu", False)


@pytest.mark.parametrize(
    ("reference", "says"),
    [
        ("${HOME}", "may not refer to ${HOME}"),
        ("${ONEIRIC_SECRET_ABSENT}", "refers to ${ONEIRIC_SECRET_ABSENT}, which is not set"),
        ("${ONEIRIC_SECRET_ABSENT", "malformed"),
        ("${}", "malformed"),
        ("${A:-b}", "malformed"),
        ("${secret:db}", "does not take ${secret:…}"),
    ],
)
def test_a_reference_that_cannot_be_replaced_is_refused_in_its_place(here: Path, reference: str, says: str) -> None:
    write({"c.yml": f"app:\n  name: '{reference}'\n"})
    error = refusal("c.yml", {"HOME": CANARY, "A": CANARY})
    assert says in error.message
    assert (error.line, error.key) == (2, "app.name")
    assert CANARY not in str(error)


def test_what_comes_from_outside_the_files_is_taken_literally_but_for_secret_references() -> None:
    assert load(environ={"ONEIRIC_APP__NAME": "pa${ss}"}).settings.app.name == "pa${ss}"
    assert "does not take ${secret:…}" in refusal(environ={"ONEIRIC_APP__NAME": "${secret:db}"}).message


def test_printing_settings_shows_no_provider_settings(here: Path) -> None:
    write(
        {"c.yml": f"adapters:\n  provider_settings:\n    a: {{p: {CANARY}}}\n    b: {{p: '${{ONEIRIC_SECRET_X}}'}}\n"}
    )
    loaded = load("c.yml", {"ONEIRIC_SECRET_X": f"{CANARY}2"})
    assert CANARY not in repr(loaded) + str(loaded.settings)
    assert f"{CANARY}2" not in repr(loaded.settings.adapters.provider_settings)


def test_a_validation_error_carries_no_value(here: Path) -> None:
    write(
        {
            "c.yml": f"app: {{debug: {CANARY}}}\nlogging: {{level: {CANARY}}}\n"
            f"adapters: {{provider_settings: {CANARY}}}\n"
        }
    )
    error = refusal("c.yml")
    assert CANARY not in str(error)
    assert error.__cause__ is None
    assert error.__context__ is None


def test_custom_domains_have_a_section_each(here: Path) -> None:
    write({"s/domains.yml": "ledger:\n  selections:\n    main: sqlite\n"})
    loaded = load("s")
    assert loaded.settings.section("ledger").selections == {"main": "sqlite"}
    assert loaded.settings.section("other").selections == {}
    selection = policy_from(loaded).selection_for("ledger", "main")
    assert selection is not None
    assert (selection.provider, selection.origin) == ("sqlite", "s/domains.yml:3")


def test_the_policy_knows_where_each_selection_was_made(here: Path) -> None:
    write({"c.toml": "[adapters.selections]\ncache = 'redis'\n[tenants.acme.adapter]\ncache = 'memcached'\n"})
    environ = {"ONEIRIC_SERVICES__SELECTIONS__PAY": "adyen", "ONEIRIC_STACK_ORDER": "sites:100,oneiric"}
    policy = policy_from(load("c.toml", environ))
    assert str(policy.selection_for("adapter", "cache")) == "c.toml:2"
    assert str(policy.selection_for("adapter", "cache", "acme")) == "c.toml:4"
    assert str(policy.selection_for("service", "pay")) == "environment ONEIRIC_SERVICES__SELECTIONS__PAY"
    assert dict(policy.stack_order) == {"sites": 100, "oneiric": 10}


def test_a_malformed_stack_order_is_a_configuration_error() -> None:
    with pytest.raises(ConfigurationError, match="ONEIRIC_STACK_ORDER: entry 'a:x' cannot be read"):
        policy_from(load(environ={"ONEIRIC_STACK_ORDER": "a:x"}))


def test_reading_settings_loads_neither_an_event_loop_nor_a_parser_nobody_asked_for() -> None:
    program = (
        "import sys; from oneiric.runtime.settings import load_settings; load_settings(environ={}); "
        "print(*({'asyncio', 'yaml', 'structlog', 'oneiric.runtime.settings._describe'} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == ""


def test_a_name_that_is_not_offered_is_an_attribute_error() -> None:
    with pytest.raises(AttributeError, match="has no attribute 'describ'"):
        settings.describ  # noqa: B018
    assert "describe" in dir(settings)
