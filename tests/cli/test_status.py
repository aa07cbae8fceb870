"""oneiric status and health: the running system, else what is configured, what was written and what really starts."""

import json
import os
import select
import signal
import subprocess
import time
from collections.abc import Callable, Iterator
from itertools import islice
from pathlib import Path
from typing import Any

import pytest
from tests.cli.documents import check
from tests.cli.systems import command, system
from tests.integration.processes import PARTS, Orchestrator

from oneiric.cli._running import Place

CONFIG = ("--config", "settings.yml")
STATE = Path(".oneiric_cache")
ONE_OFF = """
plugins: {imports: [parts_of_test]}
services: {selections: {greeter: one}, provider_settings: {two: {sick: sick}, one: {sick: sick, note: steps}}}
"""


@pytest.fixture(scope="module")
def running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Orchestrator]:
    with system(tmp_path_factory.mktemp("running")) as orchestrator:
        yield orchestrator


@pytest.fixture
def asked(running: Orchestrator, oneiric: Callable[..., Any], monkeypatch: pytest.MonkeyPatch) -> Any:
    monkeypatch.chdir(running.home)
    return lambda *arguments: oneiric(*arguments, *CONFIG)


@pytest.mark.xdist_group("processes")
def test_status_is_that_of_the_running_system(running: Orchestrator, asked: Any) -> None:
    running.call("pause", domain="service", key="line")
    running.call("swap", domain="service", key="greeter", provider="two")
    document = check("status", asked("status", "--json").out)
    told = asked("status").out
    running.call("resume", domain="service", key="line")
    running.call("swap", domain="service", key="greeter", provider="one")

    keys = {f"{each['domain']}:{each['key']}": each for each in document["keys"]}
    assert (document["running"], document["system"]["pid"]) == (True, running.process.pid)
    assert (keys["service:greeter"]["active"], keys["service:greeter"]["configured_provider"]) == ("two", "two")
    assert "swap by" in keys["service:greeter"]["configured_by"]
    assert keys["service:greeter"]["lifecycle"]["state"] == "ready"
    assert keys["service:line"]["activity"]["paused"]
    assert keys["adapter:cache"]["active"] is None
    assert told.startswith(f"running   yes: oneiric, pid {running.process.pid}, ready, since ")


@pytest.mark.xdist_group("processes")
def test_status_is_narrowed_to_a_domain_or_a_key(asked: Any) -> None:
    def names(*options: str) -> set[str]:
        found = check("status", asked("status", *options, "--json").out)["keys"]
        return {f"{each['domain']}:{each['key']}" for each in found}

    assert names("--key", "greeter") == names("--key", "service:greeter") == {"service:greeter"}
    assert names("--domain", "service") == {f"service:{key}" for key in ("caller", "greeter", "line", "second")}
    assert asked("status", "--key", "greter").code == 4


@pytest.mark.xdist_group("processes")
def test_a_refused_configuration_is_in_the_status(running: Orchestrator, asked: Any) -> None:
    good = running.settings_file.read_text()
    running.settings_file.write_text("services: {selections: {greeter: three}}\n" + good)
    assert not running.call("config_apply")["accepted"]
    running.settings_file.write_text(good)

    told = asked("status").out

    assert "\nrefused   " in told
    assert check("status", asked("status", "--json").out)["system"]["config"]["refused"]["reason"]
    running.call("config_apply")


@pytest.mark.xdist_group("processes")
@pytest.mark.parametrize("name", ["status", "health", "activity", "supervisor-info"])
def test_settings_that_cannot_be_read_do_not_hide_what_runs(name: str, running: Orchestrator, asked: Any) -> None:
    good = running.settings_file.read_text()
    running.settings_file.write_text("http: {port: x}\n")
    try:
        looked, changed = asked(name), asked("pause", "greeter")
    finally:
        running.settings_file.write_text(good)

    assert looked.code == 0
    assert "yes" in looked.out.splitlines()[0]
    assert looked.err.startswith("note: the settings given here are wrong, and this is the system in .oneiric_cache")
    assert changed.code == 2  # it may be another system that was meant


@pytest.mark.xdist_group("processes")
def test_health_is_seen_or_asked_for(asked: Any) -> None:
    seen = check("health", asked("health", "--json").out)
    probed = asked("health", "--probe", "--key", "greeter", "--json")

    document = check("health", probed.out)
    assert (seen["running"], seen["scope"], seen["healthy"], seen["ready"]) == (True, "running", True, True)
    assert (probed.code, document["probed"]) == (0, True)
    assert [(slot["key"], slot["health"]) for slot in document["slots"]] == [("greeter", "healthy")]
    assert document["slots"][0]["duration_ms"] is not None


@pytest.mark.xdist_group("processes")
@pytest.mark.parametrize("options", [[], ["--probe"]], ids=["seen", "probed"])
@pytest.mark.parametrize("key", ["service:greter", "greter"])
def test_what_does_not_exist_is_not_healthy(key: str, options: list[str], asked: Any) -> None:
    done = asked("health", "--key", key, *options)

    assert done.code == 4
    assert "did you mean 'greeter'?" in done.err


@pytest.mark.xdist_group("processes")
def test_what_is_unhealthy_in_the_running_system_exits_with_three(
    tmp_path: Path, oneiric: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    off = "runtime_supervisor: {enabled: false}\nhttp: {enabled: false}\n"
    with system(tmp_path / "sick", ONE_OFF.replace("note: steps", "note: ''") + off) as sick:
        monkeypatch.chdir(sick.home)
        sick.call("swap", domain="service", key="greeter")
        (sick.home / "sick").touch()

        probed = oneiric("health", "--probe", *CONFIG)
        remembered = oneiric("health", *CONFIG, "--json")

    assert (probed.code, remembered.code) == (3, 3)
    assert "unhealthy" in probed.out
    assert check("health", remembered.out)["healthy"] is False


@pytest.fixture
def here(settings: Callable[..., str]) -> Path:
    """Settings of a service that nobody runs."""
    Path("parts_of_test.py").write_text(PARTS)
    settings(ONE_OFF, "settings.yml")
    return Path.cwd()


def test_without_a_system_health_says_nothing_of_now(here: Path, oneiric: Callable[..., Any]) -> None:
    done = oneiric("health", *CONFIG, "--json")

    document = check("health", done.out)
    assert (done.code, document["scope"], document["healthy"], document["slots"]) == (0, "stores", None, [])
    assert {path.name for path in here.iterdir()} <= {"parts_of_test.py", "settings.yml", "__pycache__"}


def run(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(command(*arguments), capture_output=True, text=True, check=False, timeout=60)


@pytest.mark.usefixtures("here")
def test_a_probe_without_a_system_really_starts_what_is_selected_and_cleans_up() -> None:
    done = run("health", "--probe", *CONFIG, "--json")

    document = check("health", done.stdout)
    assert (done.returncode, document["running"], document["scope"]) == (0, False, "one-off")
    assert [(slot["key"], slot["provider"]) for slot in document["slots"]] == [("greeter", "one")]
    steps = [line.split()[1] for line in Path("steps").read_text().splitlines()]
    assert (steps[0], steps[-1]) == ("make", "cleanup")
    assert "health" in steps
    assert not STATE.exists()


@pytest.mark.usefixtures("here")
def test_a_probe_without_a_system_exits_with_three_when_something_is_unhealthy() -> None:
    Path("sick").touch()

    done = run("health", "--probe", *CONFIG)

    assert done.returncode == 3
    assert "healthy  no" in done.stdout
    assert done.stdout.startswith("running  no: started in this process, asked, and cleaned up\n")
    assert done.stderr == ""


@pytest.mark.usefixtures("here")
def test_a_deep_probe_starts_all_that_resolves() -> None:
    document = check("health", run("health", "--probe", "--deep", *CONFIG, "--domain", "service", "--json").stdout)

    assert {slot["key"] for slot in document["slots"]} == {"greeter", "second"}


WRONG = {
    "manifest": (["--probe", "--manifest", "m.json"], "cannot be probed before it is applied"),
    "deep": (["--deep"], "--deep and --manifest say what --probe asks"),
}


@pytest.mark.parametrize("case", WRONG)
def test_what_cannot_be_asked_is_refused(case: str, oneiric: Callable[..., Any]) -> None:
    arguments, sentence = WRONG[case]

    done = oneiric("health", *arguments)

    assert done.code == 2
    assert sentence in done.err


@pytest.mark.parametrize("name", ["lifecycle_status.json", "runtime_health.json", "domain_activity.json"])
@pytest.mark.parametrize("content", ["{", "[1]", '{"schema": 99}', ""])
def test_a_corrupt_state_file_is_reported_and_the_rest_shown(
    name: str, content: str, oneiric: Callable[..., Any]
) -> None:
    STATE.mkdir()
    (STATE / name).write_text(content)

    status, health = oneiric("status", "--json"), oneiric("health", "--json")

    document = check("status", status.out)
    assert (status.code, health.code) == (0, 0)
    assert any(each["key"] == "cache" for each in document["keys"])
    told = [document["snapshot"]["error"], document["store"]["problem"], *check("health", health.out)["problems"]]
    assert name in " ".join(filter(None, told))
    assert (STATE / name).read_text() == content


def test_what_was_paused_is_in_the_status_of_a_system_that_does_not_run(oneiric: Callable[..., Any]) -> None:
    oneiric("pause", "cache")

    told = oneiric("status")
    (entry,) = check("status", oneiric("status", "--key", "cache", "--json").out)["keys"]

    assert entry["activity"]["paused"]
    assert "ACTIVITY" in told.out


def watching(*arguments: str, **more: Any) -> subprocess.Popen[Any]:
    return subprocess.Popen(command("status", "--watch", "--interval", "0.1", *arguments), **more)


def until_said(watched: "subprocess.Popen[str]", holds: Callable[[dict[str, Any]], bool]) -> dict[str, Any]:
    """Return the first document of which something holds; those before it may be of an earlier moment."""
    assert watched.stdout is not None
    for line in islice(watched.stdout, 1000):
        document: dict[str, Any] = json.loads(line)
        if holds(document):
            return document
    raise AssertionError("it was never said")


@pytest.mark.parametrize("how", ["json", "text"])
def test_watching_goes_on_until_it_is_interrupted(how: str) -> None:
    options = ["--json"] if how == "json" else []
    with watching(*options, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as watched:
        assert watched.stdout is not None
        lines = [watched.stdout.readline() for _ in range(3 if how == "json" else 40)]
        watched.send_signal(signal.SIGINT)
        rest, err = watched.communicate(timeout=60)

    assert (watched.returncode, err) == (130, "")
    if how == "json":
        assert all(check("status", line)["running"] is False for line in [*lines, *rest.splitlines()])
    else:
        assert sum(line.startswith("running   no") for line in lines) >= 2
    assert not STATE.exists()


def test_watching_on_a_terminal_keeps_the_table_in_place() -> None:
    outer, inner = os.openpty()
    with watching(stdout=inner, stderr=subprocess.PIPE, env=os.environ | {"TERM": "xterm"}) as watched:
        os.close(inner)
        printed = ""
        deadline = time.monotonic() + 60
        while printed.count("\x1b[J") < 3 and time.monotonic() < deadline:
            if select.select([outer], [], [], 0.1)[0]:
                printed += os.read(outer, 65536).decode()
        watched.send_signal(signal.SIGINT)
        assert watched.wait(60) == 130
    os.close(outer)

    assert printed.startswith("\x1b[2J\x1b[H")
    assert printed.count("\x1b[2J") == 1
    assert printed.count("running") >= 3


@pytest.mark.xdist_group("processes")
def test_watching_sees_a_system_end_and_goes_on(tmp_path: Path) -> None:
    with (
        system(tmp_path / "watched") as seen,
        watching(*CONFIG, "--json", cwd=seen.home, stdout=subprocess.PIPE, text=True) as watched,
    ):
        assert watched.stdout is not None
        first = check("status", watched.stdout.readline())
        seen.end()
        ended = until_said(watched, lambda document: document.get("running") is False)
        watched.send_signal(signal.SIGINT)
        watched.communicate(timeout=60)

    assert first["running"]
    assert ended["running"] is False
    assert watched.returncode == 130


@pytest.mark.xdist_group("processes")
def test_a_system_that_ends_between_two_questions_does_not_run(
    tmp_path: Path, oneiric: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    with system(tmp_path / "ending") as seen:
        monkeypatch.chdir(seen.home)
        ask = Place.ask_if_running

        def and_end(place: Place, operation: str, **fields: Any) -> dict[str, Any] | None:
            answer = ask(place, operation, **fields)
            if operation == "status":
                seen.end()
            return answer

        monkeypatch.setattr(Place, "ask_if_running", and_end)
        done = oneiric("status", "--json", *CONFIG)

    assert check("status", done.out)["running"] is False
    assert done.code == 0


def test_watching_shows_what_fails_meanwhile_and_goes_on(settings: Callable[..., str]) -> None:
    path = settings("app: {name: shop}\n", "shop.yml")
    with watching("--config", path, "--json", stdout=subprocess.PIPE, text=True) as watched:
        assert watched.stdout is not None
        assert "running" in json.loads(watched.stdout.readline())
        settings("app: {nmae: shop}\n", "shop.yml")
        until_said(watched, lambda document: "error" in document)
        settings("app: {name: shop}\n", "shop.yml")
        until_said(watched, lambda document: "running" in document)
        watched.send_signal(signal.SIGINT)
        watched.communicate(timeout=60)

    assert watched.returncode == 130


def test_watching_ends_at_once_when_the_first_look_fails(oneiric: Callable[..., Any]) -> None:
    done = oneiric("status", "--watch", "--config", "missing.yml")

    assert done.code == 2
    assert "missing.yml" in done.err


@pytest.mark.parametrize("interval", ["0", "never", "2d"])
def test_an_interval_that_makes_no_sense_is_refused(interval: str, oneiric: Callable[..., Any]) -> None:
    done = oneiric("status", "--watch", "--interval", interval)

    assert done.code == 2
    assert "--interval must be a length of time" in done.err
