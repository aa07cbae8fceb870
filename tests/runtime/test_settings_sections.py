"""Every section there is: its published defaults, its rules, its names of old, and what a profile changes."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError

from oneiric.core import Secret
from oneiric.core.errors import ConfigurationError
from oneiric.runtime.settings import (
    HttpAuthSettings,
    HttpSettings,
    LoadedSettings,
    OneiricSettings,
    RemoteSettings,
    SettingField,
    load_problems,
    load_settings,
    setting_fields,
)

CANARY = "S3CR3T-31fe"
FIELDS = {field.key: field for field in setting_fields()}
DEFAULTS = OneiricSettings()

type Write = Callable[..., None]


def load(path: str | None = None, environ: dict[str, str] | None = None, **more: Any) -> LoadedSettings:
    return load_settings(path, environ=environ or {}, **more)


def refusal(path: str | None = None, environ: dict[str, str] | None = None, **more: Any) -> ConfigurationError:
    with pytest.raises(ConfigurationError) as caught:
        load(path, environ, **more)
    return caught.value


PUBLISHED: dict[str, object] = {
    "app.name": "oneiric", "app.environment": "dev", "app.debug": False,
    "adapters.selections": {}, "workflows.options": {}, "actions.provider_settings": {},
    "secrets.domain": "adapter", "secrets.key": "secrets", "secrets.provider": None, "secrets.inline": {},
    "secrets.cache_ttl_seconds": 600, "secrets.refresh_interval": None,
    "remote.enabled": False, "remote.manifest_url": None, "remote.cache_dir": ".oneiric_cache",
    "remote.verify_tls": True, "remote.auth.header_name": "Authorization", "remote.auth.secret_id": None,
    "remote.auth.token": None, "remote.signature_required": False, "remote.signature_threshold": 1,
    "remote.signature_max_age_seconds": None, "remote.signature_require_expiry": False,
    "remote.refresh_interval": 300, "remote.max_retries": 3, "remote.retry_base_delay": 1,
    "remote.retry_max_delay": 30, "remote.circuit_breaker_threshold": 5,
    "remote.circuit_breaker_reset": 60, "remote.allow_file_uris": False, "remote.allowed_file_uri_roots": [],
    "remote.latency_budget_ms": 5000, "remote.accept_embedded_signatures": False, "remote.allowed_hosts": [],
    "logging.include_trace_context": True, "logging.release": None, "logging.sinks[].max_bytes": 5 << 20,
    "logging.sinks[].backup_count": 5, "logging.sinks[].method": "POST", "logging.sinks[].path": "oneiric.log",
    "plugins.auto_load": False,
    "profile.name": "default", "profile.watchers_enabled": True, "profile.remote_enabled": True,
    "profile.supervisor_enabled": True, "profile.inline_manifest_only": False,
    "runtime_paths.workflow_checkpoints_enabled": True, "runtime_paths.workflow_checkpoints_path": None,
    "runtime_supervisor.enabled": True, "runtime_supervisor.poll_interval": 2.0,
}  # fmt: skip


@pytest.mark.parametrize(("key", "default"), PUBLISHED.items())
def test_a_published_field_keeps_its_name_and_default(key: str, default: object) -> None:
    assert FIELDS[key].default == default


def test_pauses_are_left_to_chance_as_a_whole() -> None:
    # Published as 0.25: clients that met the same fault would come back in the same quarter.
    assert FIELDS["remote.retry_jitter"].default == 1.0


def test_logs_go_to_stderr_unless_told_otherwise() -> None:
    assert [sink.target for sink in DEFAULTS.logging.sinks] == ["stderr"]


def test_the_http_server_is_bound_to_this_machine_and_bounded() -> None:
    http = DEFAULTS.http
    assert (http.host, http.port, http.auth.kind) == ("127.0.0.1", 8080, "none")
    assert (http.max_body_bytes, http.max_header_bytes, http.max_headers) == (1 << 20, 16 << 10, 100)
    assert (http.receive_seconds, http.max_connections, http.allowed_hosts) == (15, 512, ())


@pytest.mark.parametrize("field", FIELDS.values(), ids=lambda field: field.key)
def test_a_field_says_what_it_takes_and_what_it_means(field: SettingField) -> None:
    assert field.type
    assert field.description.endswith(".")
    assert field.variables or "[]" in field.key
    if field.path[-1] in {"refresh_interval", "poll_interval"} or str(field.path[-1]).endswith("_seconds"):
        assert field.description.endswith("In seconds.")


@pytest.mark.parametrize(
    ("override", "says"),
    [
        ("secrets.cache_ttl_seconds=-1", "must be at least 0"),
        ("secrets.refresh_interval=0.5", "must be at least 1"),
        ("remote.refresh_interval=0", "must be at least 1"),
        ("remote.retry_jitter=1.5", "must be at most 1"),
        ("remote.signature_threshold=0", "must be at least 1"),
        ("remote.max_retries=-1", "must be at least 0"),
        ("remote.retry_base_delay=inf", "must be a finite number"),
        ("runtime_supervisor.poll_interval=0.05", "must be at least 0.1"),
        ("runtime_supervisor.strategy=one", "must be 'one_for_one'"),
        ("runtime_supervisor.restart_window_seconds=0", "must be greater than 0"),
        ("http.port=65536", "must be at most 65535"),
        ("http.port=-1", "must be at least 0"),
        ("http.max_body_bytes=0", "must be at least 1"),
        ("http.auth.oidc_algorithms=HS256", "must be 'RS256'"),
        ("http.auth.oidc_algorithms=none", "must be 'RS256'"),
        ("http.auth.oidc_algorithms=", "must have at least 1 elements"),
        ("http.auth.kind=hmac", "needs at least one of hmac_keys"),
        ("http.auth.kind=oidc", "needs oidc_issuer and oidc_audience"),
        ('logging.sinks=[{"target": "http"}]', "needs an endpoint"),
        ('logging.sinks=[{"target": "pipe"}]', "must be 'stdout'"),
        ("logging.sinks=file", "must be a table of settings"),
        ("engine.max_parallel_nodes=0", "must be at least 1"),
        ("engine.durability=loose", "must be 'group' or 'strict'"),
        ("scheduler.catch_up_seconds=-1", "must be at least 0"),
    ],
)
def test_a_rule_that_is_broken_is_told_with_its_key(override: str, says: str) -> None:
    error = refusal(overrides=[override])
    assert says in error.message
    assert (error.key or "").startswith(override.partition("=")[0].rpartition(".")[0])


@pytest.mark.parametrize(
    ("key", "says"),
    [
        ("lifecycle.shield_tasks", "every step is shielded"),
        ("plugins.entry_points", "under the groups oneiric.adapters"),
        ("logging.environment", "app.environment names it"),
        ("logging.timestamper_format", "ISO 8601"),
        ("logging.extra_processors", "structlog"),
    ],
)
def test_a_setting_of_the_earlier_release_without_meaning_says_what_stands_in_for_it(
    write: Write, key: str, says: str
) -> None:
    section, _, name = key.partition(".")
    write(c_yml=f"{section}:\n  {name}: x\n")
    variable = f"ONEIRIC_{section.upper()}__{name.upper()}"
    for error in (refusal("c.yml"), refusal(overrides=[f"{key}=x"]), refusal(environ={variable: "x"})):
        assert error.key == key
        assert "is no setting any more" in error.message
        assert says in error.message


def test_the_state_directory_is_configured_twice_and_has_a_default() -> None:
    assert DEFAULTS.state_dir == Path(".oneiric_cache")
    assert not DEFAULTS.is_state_dir_configured
    remote = load(overrides=["remote.cache_dir=r"]).settings
    assert (remote.state_dir, remote.is_state_dir_configured) == (Path("r"), True)
    both = load(overrides=["remote.cache_dir=r", "runtime_paths.cache_dir=p"]).settings
    assert (both.state_dir, both.is_state_dir_configured) == (Path("p"), True)


@pytest.mark.parametrize(
    ("variable", "text", "key", "value"),
    [
        ("LOG_LEVEL", "error", "logging.level", "ERROR"),
        ("OTEL_SERVICE_NAME", "shop", "logging.service_name", "shop"),
        ("ONEIRIC_ACTIVITY_STORE", "a.sqlite", "runtime_paths.activity_store", Path("a.sqlite")),
        ("ONEIRIC_PROFILE", "serverless", "profile.name", "serverless"),
        ("PORT", "9000", "http.port", 9000),
    ],
)
def test_a_variable_with_a_name_of_its_own_is_stronger_than_files_and_weaker_than_the_full_name(
    write: Write, variable: str, text: str, key: str, value: object
) -> None:
    section, _, name = key.partition(".")
    others = {"logging.level": "INFO", "http.port": "1", "profile.name": "default"}
    write(c_yml=f"{section}:\n  {name}: {others.get(key, 'x')}\n")
    loaded = load("c.yml", {variable: text})
    assert getattr(getattr(loaded.settings, section), name) == value
    assert loaded.origin(key) == f"environment {variable}"
    full = f"ONEIRIC_{section.upper()}__{name.upper()}"
    both = load("c.yml", {variable: text, full: others.get(key, "x")})
    assert both.origin(key) == f"environment {full}"
    assert [str(origin) for origin in both.overridden[section, name]] == [f"environment {variable}", "c.yml:2"]


def test_the_port_of_a_container_leaves_the_address_alone() -> None:
    assert load(environ={"PORT": "9000"}).settings.http.host == "127.0.0.1"
    assert "must be a whole number (from environment PORT)" in refusal(environ={"PORT": "http"}).message


SERVERLESS: dict[str, object] = {
    "profile.watchers_enabled": False,
    "profile.remote_enabled": False,
    "profile.supervisor_enabled": True,
    "profile.inline_manifest_only": True,
    "remote.enabled": False,
    "remote.refresh_interval": None,
}


@pytest.mark.parametrize("source", ["file", "environment", "argument"])
def test_the_serverless_profile_is_a_layer_of_defaults(write: Write, source: str) -> None:
    write(c_yml="profile: {name: serverless}\n" if source == "file" else "")
    environ = {"ONEIRIC_PROFILE": "serverless"} if source == "environment" else {}
    loaded = load("c.yml", environ, profile="serverless" if source == "argument" else None)
    for key, value in SERVERLESS.items():
        section, _, name = key.partition(".")
        assert getattr(getattr(loaded.settings, section), name) == value
        assert loaded.origin(key) == "profile serverless"


def test_what_is_configured_is_stronger_than_the_profile(write: Write) -> None:
    write(c_yml="profile:\n  name: serverless\n  watchers_enabled: true\nremote: {refresh_interval: 60}\n")
    loaded = load("c.yml", {"ONEIRIC_REMOTE__ENABLED": "true"})
    assert loaded.settings.profile.watchers_enabled
    assert loaded.settings.remote.refresh_interval == 60
    assert loaded.settings.remote.enabled
    assert loaded.origin("profile.watchers_enabled") == "c.yml:3"
    assert [str(origin) for origin in loaded.overridden["remote", "enabled"]] == ["profile serverless"]


def test_the_default_profile_changes_nothing() -> None:
    assert load(profile="default").settings == OneiricSettings.model_validate({"profile": {"name": "default"}})


def test_files_and_a_digest_say_what_was_read(here: Path) -> None:
    (here / "s").mkdir()
    (here / "s/app.yml").write_text("name: x\n")
    (here / "s/oneiric.toml").write_text("")
    environ = {"ONEIRIC_APP__DEBUG": "true", "HOME": "/a", "ONEIRIC_SECRET_X": "1"}
    loaded = load("s", environ)
    assert loaded.files == (Path("s/oneiric.toml"), Path("s/app.yml"))
    assert len(bytes.fromhex(loaded.digest)) == 32
    assert load("s", environ).digest == loaded.digest
    assert load("s", environ | {"HOME": "/b", "ONEIRIC_SECRET_X": "2"}).digest == loaded.digest
    others = [
        load("s", environ | {"ONEIRIC_APP__DEBUG": "false"}),
        load("s", environ, overrides=["app.debug=true"]),
        load("s", environ, overrides=iter(["app.debug=false"])),
        load("s", environ, profile="serverless"),
        load("s"),
        load("s", environ | {"ONEIRIC_STACK_ORDER": "a:1"}),
    ]
    (here / "s/app.yml").write_text("name: x \n")
    others.append(load("s", environ))
    assert len({loaded.digest, *(other.digest for other in others)}) == len(others) + 1


def test_a_variable_that_a_file_may_refer_to_is_part_of_the_digest(write: Write) -> None:
    write(c_yml="app: {allowed_env: [REGION], name: '${REGION}'}\n")
    assert load("c.yml", {"REGION": "a"}).digest != load("c.yml", {"REGION": "b"}).digest


def test_every_problem_is_found_at_once(write: Write) -> None:
    write(
        c_yml="app: {debug: maybe, nam: x, name: '${HOME}'}\nhttp: {port: 99999}\n"
        "lifecycle: {shield_tasks: true}\nlogging: {service_name: '${ONEIRIC_SECRET_A'}\n"
    )
    problems = load_problems("c.yml", environ={})
    keys = ["app.name", "logging.service_name", "app.debug", "app.nam", "lifecycle.shield_tasks", "http.port"]
    assert sorted(problem.key or "" for problem in problems) == sorted(keys)
    assert all(problem.file == "c.yml" and problem.line for problem in problems)
    assert "(and 5 more:" in refusal("c.yml").message


def test_names_that_cannot_exist_are_all_found(write: Write) -> None:
    write(c_yml="adapters: {selections: {cache: a b, queue: c d}}\ndomains: {My: {}}\n")
    keys = [problem.key for problem in load_problems("c.yml", environ={})]
    assert keys == ["domains.My", "adapters.selections.cache", "adapters.selections.queue"]


def test_what_would_load_has_no_problems_and_what_cannot_be_parsed_has_one(write: Write) -> None:
    write(c_yml="app: {name: x}\n", d_yml="a: [")
    assert load_problems("c.yml", environ={}) == []
    assert [problem.file for problem in load_problems("d.yml", environ={})] == ["d.yml"]
    assert [problem.key for problem in load_problems(environ={"ONEIRIC_APP__NAM": "x"})] == ["app.nam"]


def test_secrets_in_the_settings_do_not_print(write: Write) -> None:
    write(
        c_yml=f"secrets: {{inline: {{db: {CANARY}}}}}\nremote: {{auth: {{token: {CANARY}}}}}\n"
        f"http: {{auth: {{kind: hmac, hmac_keys: {{a: {CANARY}}}}}}}\n"
    )
    settings = load("c.yml").settings
    assert settings.secrets.inline["db"] == Secret(CANARY)
    assert settings.http.auth.hmac_keys["a"].reveal() == CANARY
    assert CANARY not in repr(settings) + str(settings.model_dump()) + settings.model_dump_json()


def test_sections_made_in_code_follow_the_same_rules() -> None:
    assert HttpSettings(auth=HttpAuthSettings(kind="hmac", hmac_keys={"a": Secret("x")})).auth.kind == "hmac"
    assert RemoteSettings(refresh_interval=None).refresh_interval is None
    with pytest.raises(ValidationError, match="needs at least one of hmac_keys"):
        HttpAuthSettings(kind="hmac")
