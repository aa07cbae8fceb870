"""oneiric config: what is set, why, what is wrong with it, and what it would change."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from tests.cli.documents import check
from tests.integration.processes import SETTINGS, Orchestrator

GOLDEN = Path(__file__).parent / "golden"
SHOP = """
app: {name: shop}
http: {port: 8099}
domains: {shop: {selections: {pay: cash}}}
adapters: {provider_settings: {memory: {max_entries: 5}, redis: {password: hunter2}}}
"""
TRANSCRIPTS = {
    "config-show": ["config", "show"],
    "config-show-section": ["config", "show", "plugins", "--all"],
    "config-explain": ["config", "explain", "http.port"],
    "config-validate": ["config", "validate"],
    "config-plan": ["config", "plan"],
}


@pytest.mark.usefixtures("shop")
@pytest.mark.parametrize("name", TRANSCRIPTS)
def test_text_is_the_transcript(name: str, oneiric: Callable[..., Any], settings: Callable[..., str]) -> None:
    done = oneiric(*TRANSCRIPTS[name], "--config", settings(SHOP, "shop.yml"))

    assert (done.code, done.err) == (0, "")
    assert done.out == (GOLDEN / f"{name}.txt").read_text(encoding="utf-8")


@pytest.mark.usefixtures("shop")
@pytest.mark.parametrize("name", TRANSCRIPTS)
def test_json_is_one_document_of_the_published_schema(
    name: str, oneiric: Callable[..., Any], settings: Callable[..., str]
) -> None:
    done = oneiric(*TRANSCRIPTS[name], "--config", settings(SHOP, "shop.yml"), "--json")

    assert (done.code, done.err) == (0, "")
    check("-".join(name.split("-")[:2]), done.out)


def test_a_group_alone_prints_its_help(oneiric: Callable[..., Any]) -> None:
    bare, asked = oneiric("config"), oneiric("config", "--help")

    assert bare == asked
    assert bare.code == 0
    assert all(name in bare.out for name in ("show", "explain", "validate", "plan"))


def test_a_typo_in_a_group_is_a_usage_error_with_what_was_meant(oneiric: Callable[..., Any]) -> None:
    done = oneiric("config", "shwo")

    assert done.code == 2
    assert "Did you mean 'show'?" in done.err


@pytest.mark.parametrize("arguments", [["show", "http.prot"], ["explain", "http.prot"]])
def test_a_setting_that_does_not_exist_is_refused_with_what_was_meant(
    arguments: list[str], oneiric: Callable[..., Any]
) -> None:
    done = oneiric("config", *arguments)

    assert done.code == 2
    assert "http.prot: is not a known setting" in done.err
    assert "http.port" in done.err


def test_a_name_that_nobody_sets_is_explained_with_a_note_of_what_was_meant(
    oneiric: Callable[..., Any], settings: Callable[..., str]
) -> None:
    path = settings("adapters: {selections: {cache: memory}}\n", "shop.yml")
    done = oneiric("config", "explain", "adapters.selections.cach", "--config", path, "--json")
    known = oneiric("config", "explain", "adapters.selections.cache", "--config", path)

    assert (done.code, check("config-explain", done.out)["meant"]) == (0, "adapters.selections.cache")
    assert "did you mean 'adapters.selections.cache'?" in done.err
    assert known.err == ""


def test_a_secret_is_not_shown(oneiric: Callable[..., Any], settings: Callable[..., str]) -> None:
    path = settings(SHOP, "shop.yml")

    for arguments in (["show", "--all"], ["explain", "adapters.provider_settings.redis.password"], ["plan"]):
        told = oneiric("config", *arguments, "--config", path)
        assert "hunter2" not in told.out + told.err


def test_an_explanation_names_every_source_that_sets_it(
    oneiric: Callable[..., Any], settings: Callable[..., str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("ONEIRIC_HTTP__PORT", "8100")

    document = check(
        "config-explain",
        oneiric("config", "explain", "http.port", "--config", settings(SHOP, "shop.yml"), "--json").out,
    )

    assert (document["value"], document["origin"]) == (8100, "environment ONEIRIC_HTTP__PORT")
    assert document["overridden"] == ["shop.yml:3"]


WRONG = """
http: {port: x}
app: {nmae: shop}
"""
NOT_OFFERED = """
adapters:
  selections: {cache: memry}
  provider_settings: {memory: {max_entries: -5}}
"""


@pytest.mark.parametrize(
    ("text", "lines"),
    [(WRONG, {2, 3}), (NOT_OFFERED, {3, 4}), ("http: {port: [\n", {2})],
    ids=["read", "offer", "parse"],
)
def test_every_problem_is_listed_at_once(
    text: str, lines: set[int], oneiric: Callable[..., Any], settings: Callable[..., str]
) -> None:
    path = settings(text, "wrong.yml")

    told = oneiric("config", "validate", "--config", path)
    done = oneiric("config", "validate", "--config", path, "--json")

    document = check("config-validate", done.out)
    assert (told.code, done.code, document["valid"]) == (2, 2, False)
    assert {problem["line"] for problem in document["problems"]} == lines
    assert all(problem["message"] in told.out for problem in document["problems"])


def test_a_plan_without_a_running_system_says_what_speaks_against_a_start(
    oneiric: Callable[..., Any], settings: Callable[..., str]
) -> None:
    done = oneiric("config", "plan", "--config", settings(NOT_OFFERED, "wrong.yml"), "--json")

    document = check("config-plan", done.out)
    assert (done.code, document["running"]) == (2, False)
    assert "has no provider 'memry'" in document["problems"][0]


def test_a_plan_of_a_start_lists_the_services_that_it_would_start(
    oneiric: Callable[..., Any], settings: Callable[..., str]
) -> None:
    path = settings("services: {selections: {greeter: one, second: two}}\n", "shop.yml")
    done = check("config-plan", oneiric("config", "plan", "--config", path, "--json").out)
    path = settings("runtime_supervisor: {enabled: false}\nservices: {selections: {greeter: one}}\n", "off.yml")
    off = check("config-plan", oneiric("config", "plan", "--config", path, "--json").out)

    assert [each["key"] for each in done["starts"]] == ["greeter", "second"]
    assert (off["starts"], off["stops"]) == ([], [])


@pytest.mark.xdist_group("processes")
def test_the_plan_of_a_reload_lists_the_services_that_it_would_start_and_stop(
    oneiric: Callable[..., Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    quiet = SETTINGS + "profile: {watchers_enabled: false}\n"
    with Orchestrator(tmp_path, settings=quiet).until_ready() as system:
        monkeypatch.chdir(tmp_path)
        system.settings_file.write_text(quiet.replace("greeter: one", "second: two"))

        done = check("config-plan", oneiric("config", "plan", "--config", "settings.yml", "--json").out)
        told = oneiric("config", "plan", "--config", "settings.yml").out
        applied = system.call("config_apply")
        system.until(lambda: serving(system) == {"second"})
        after = check("config-plan", oneiric("config", "plan", "--config", "settings.yml", "--json").out)

    second = [{"domain": "service", "key": "second", "tenant": None}]
    greeter = [{"domain": "service", "key": "greeter", "tenant": None}]
    assert (done["starts"], done["stops"]) == (second, greeter)
    assert "\nSTARTS          TENANT\nservice:second       -\n" in told
    assert "\nSTOPS            TENANT\nservice:greeter       -\n" in told
    assert (applied["plan"]["starts"], applied["plan"]["stops"]) == (second, greeter)
    assert (after["starts"], after["stops"], after["changes"]) == ([], [], [])


def serving(system: Orchestrator) -> set[str]:
    return {slot["key"] for slot in system.call("status")["slots"] if slot["current_provider"] is not None}


def test_reading_the_configuration_makes_no_file(oneiric: Callable[..., Any], settings: Callable[..., str]) -> None:
    path = settings(SHOP, "shop.yml")

    for command in ("show", "validate", "plan"):
        oneiric("config", command, "--config", path)

    assert [each.name for each in Path.cwd().iterdir()] == ["shop.yml"]


@pytest.mark.xdist_group("processes")
def test_the_plan_of_a_running_system_is_its_own(
    oneiric: Callable[..., Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    quiet = SETTINGS + "profile: {watchers_enabled: false}\n"
    with Orchestrator(tmp_path, settings=quiet).until_ready() as system:
        monkeypatch.chdir(tmp_path)
        system.settings_file.write_text(quiet.replace("greeter: one", "greeter: two"))

        done = oneiric("config", "plan", "--config", "settings.yml", "--json")
        document = check("config-plan", done.out)
        told = oneiric("config", "plan", "--config", "settings.yml")
        (tmp_path / "other.yml").write_text("app: {name: other}\n")
        other = oneiric("config", "plan", "--config", "other.yml")
        system.settings_file.write_text("http: {port: x}\n")
        refused = oneiric("config", "plan", "--json")  # the system's own settings are wrong, not those given here

    assert (done.code, done.err, document["running"]) == (0, "", True)
    assert [(swap["key"], swap["from"], swap["to"]) for swap in document["swaps"]] == [("greeter", "one", "two")]
    assert "service:greeter" in told.out
    assert (document["starts"], document["stops"]) == ([], []), "what serves is swapped"
    assert other.err.startswith("note: the system read its own configuration")
    assert refused.code == 2
    assert "settings.yml:1" in json.loads(refused.out)["error"]["message"]
