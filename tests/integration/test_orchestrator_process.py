"""A real orchestrator: started, asked, changed, stopped, killed."""

import asyncio
import json
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.integration.processes import SETTINGS, Orchestrator, replace, with_settings

from oneiric.core.errors import (
    CandidateNotFoundError,
    ConfigurationError,
    LifecycleError,
    StoreError,
    SwapError,
    UnavailableError,
)
from oneiric.runtime.activity import DomainActivity, DomainActivityStore
from oneiric.runtime.control import ControlClient

pytestmark = pytest.mark.xdist_group("processes")


@pytest.fixture
def running(tmp_path: Path) -> Iterator[Orchestrator]:
    with Orchestrator(tmp_path) as orchestrator:
        yield orchestrator.until_ready()


def test_it_serves_answers_and_stops_with_zero(running: Orchestrator) -> None:
    status = running.call("status")
    assert [(slot["key"], slot["current_provider"], slot["state"]) for slot in status["slots"]] == [
        ("greeter", "one", "ready")
    ]
    assert {part["state"] for part in status["parts"]} == {"running"}
    assert status["problems"] == []
    assert running.end() == 0
    assert running.process.stdout is not None
    assert running.process.stdout.read() == b""
    assert not (running.state / "control.sock").exists()
    assert json.loads((running.state / "runtime_health.json").read_text())["orchestrator_pid"] is None


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_stops_it_in_reverse_and_cleans_up(tmp_path: Path, number: signal.Signals) -> None:
    note = tmp_path / "steps"
    with Orchestrator(tmp_path, settings=with_settings(note=str(note))) as orchestrator:
        orchestrator.until_ready()
        assert orchestrator.end(number) == 0
    assert note.read_text().splitlines()[-1] == "one cleanup"


def test_an_operator_swaps_explains_and_asks_for_the_past(running: Orchestrator) -> None:
    swapped = running.call("swap", domain="service", key="greeter", provider="two", by="ops")
    assert (swapped["previous"], swapped["status"]["current_provider"]) == ("one", "two")
    explained = running.call("explain", domain="service", key="greeter")
    assert (explained["active"], explained["selection"]["by"]) == ("two", "ops")
    decisions = running.call("decisions", domain="service", key="greeter", kind="bound")["decisions"]
    assert [decision["provider"] for decision in decisions] == ["one", "two"]
    with pytest.raises(CandidateNotFoundError):
        running.call("swap", domain="service", key="greter")


def test_a_pause_is_stored_and_survives_a_restart(tmp_path: Path) -> None:
    with Orchestrator(tmp_path) as first:
        first.until_ready().call("pause", domain="service", key="second", note="new disks", owner="ops")
        assert first.end(signal.SIGKILL) == -signal.SIGKILL
    with Orchestrator(tmp_path) as second:
        state = second.until_ready().call("activity")["activity"]
        assert [(each["key"], each["paused"], each["note"], each["owner"]) for each in state] == [
            ("second", True, "new disks", "ops")
        ]
        assert second.call("resume", domain="service", key="second")["paused"] is False
        assert second.call("activity")["activity"] == []


def test_a_changed_file_is_applied_and_a_broken_one_is_refused_while_the_last_good_serves(
    running: Orchestrator,
) -> None:
    def versions() -> tuple[int, bool]:
        config = running.call("status")["config"]
        return config["applied"]["version"], config["refused"] is not None

    replace(running.settings_file, SETTINGS.replace("greeter: one", "greeter: two"))
    running.until(lambda: versions() == (2, False))
    assert running.call("status")["slots"][0]["current_provider"] == "two"
    replace(running.settings_file, "services: {selections: {greeter: [")
    running.until(lambda: versions() == (2, True))
    assert running.call("status")["slots"][0]["current_provider"] == "two"
    replace(running.settings_file, SETTINGS)
    running.until(lambda: versions() == (3, False))
    assert running.call("status")["slots"][0]["current_provider"] == "one"


def supervised(orchestrator: Orchestrator) -> list[tuple[str, str]]:
    return [(child["name"], child["state"]) for child in orchestrator.call("supervisor_info")["children"]]


def test_services_that_a_reload_selects_are_supervised_and_others_are_let_go(running: Orchestrator) -> None:
    replace(running.settings_file, SETTINGS.replace("greeter: one", "second: two"))
    running.until(lambda: supervised(running) == [("service:second", "running")])
    slots = {slot["key"]: slot for slot in running.call("status")["slots"]}
    assert (slots["second"]["current_provider"], slots["second"]["state"]) == ("two", "ready")
    running.until(lambda: running.call("status")["slots"][0]["state"] == "inactive")
    replace(running.settings_file, SETTINGS.replace("greeter: one", "greeter: two, second: two"))
    running.until(lambda: ("service:greeter", "running") in supervised(running))
    assert running.end() == 0


def test_a_selected_service_that_does_not_start_refuses_the_reload_and_is_not_supervised(running: Orchestrator) -> None:
    failing = SETTINGS.replace(
        "services: {selections: {", "services: {provider_settings: {two: {fail: init}}, selections: {"
    )
    replace(running.settings_file, failing.replace("greeter: one", "greeter: one, second: two"))
    running.until(lambda: running.call("status")["config"]["refused"] is not None)
    status = running.call("status")
    assert "init failed" in status["config"]["refused"]["reason"]
    assert status["config"]["applied"]["version"] == 1
    assert supervised(running) == [("service:greeter", "running")]


@pytest.mark.parametrize("supervise", ["true", "false"])
def test_a_pause_in_another_process_is_noticed_whether_or_not_anything_is_supervised(
    tmp_path: Path, supervise: str
) -> None:
    settings = f"{SETTINGS}runtime_supervisor: {{enabled: {supervise}, poll_interval: 0.1}}\n"
    with Orchestrator(tmp_path, settings=settings) as orchestrator:
        orchestrator.until_ready()

        async def pause() -> None:
            async with DomainActivityStore(orchestrator.state / "domain_activity.sqlite") as store:
                await store.set("service", "greeter", DomainActivity(paused=True))

        asyncio.run(pause())
        orchestrator.until(lambda: orchestrator.call("activity")["activity"])
        (noticed,) = orchestrator.call("activity")["activity"]
        assert (noticed["domain"], noticed["key"], noticed["paused"]) == ("service", "greeter", True)


def test_an_inline_secret_that_nothing_refers_to_can_be_taken_away(running: Orchestrator) -> None:
    replace(running.settings_file, f"{SETTINGS}secrets: {{inline: {{old: 'not used any more'}}}}\n")
    running.until(lambda: running.call("status")["config"]["applied"]["version"] == 2)
    replace(running.settings_file, SETTINGS)
    running.until(lambda: running.call("status")["config"]["applied"]["version"] == 3)
    assert running.call("status")["config"]["refused"] is None


def test_sighup_reloads_where_nothing_watches(tmp_path: Path) -> None:
    quiet = f"{SETTINGS}profile: {{watchers_enabled: false}}\n"
    with Orchestrator(tmp_path, settings=quiet) as orchestrator:
        orchestrator.until_ready()
        orchestrator.settings_file.write_text(quiet.replace("greeter: one", "greeter: two"))
        orchestrator.process.send_signal(signal.SIGHUP)
        orchestrator.until(lambda: orchestrator.call("status")["config"]["applied"]["version"] == 2)
        assert orchestrator.call("status")["slots"][0]["current_provider"] == "two"
        assert orchestrator.lines("config-applied")[-1]["by"] == "SIGHUP"


def test_a_plan_tells_what_applying_does_and_a_digest_holds_it_to_that(running: Orchestrator) -> None:
    running.call("pause", domain="service", key="second")
    plan = running.call("config_plan")
    assert plan["plan"]["changes"] == []
    with pytest.raises(ConfigurationError, match="changed since it was planned"):
        running.call("config_apply", digest="0" * 64)
    assert running.call("config_apply", digest=plan["digest"], by="ops")["accepted"]


def test_a_second_orchestrator_is_refused_and_the_first_goes_on(running: Orchestrator) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "oneiric.app", "--config", "settings.yml"],
        cwd=running.home,
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )
    assert done.returncode == 1
    assert done.stderr.splitlines()[-1].startswith(
        f"error: role did not start: another orchestrator (pid {running.process.pid}) runs on .oneiric_cache. Try: "
    )
    assert running.call("status")["ready"]


def test_a_port_that_is_taken_is_a_sentence_and_nothing_is_left_running(running: Orchestrator, tmp_path: Path) -> None:
    other = tmp_path / "other"
    other.mkdir()
    with Orchestrator(tmp_path / "other", settings=SETTINGS.replace("port: 0", f"port: {port(running)}")) as second:
        assert second.process.wait(60) == 1
        assert "is taken by another process" in second.log.splitlines()[-1]
        assert "Traceback" not in second.log


def port(orchestrator: Orchestrator) -> int:
    (line,) = orchestrator.lines("ready")
    found: int = line["port"]
    return found


def test_an_address_outside_demands_authentication(tmp_path: Path) -> None:
    with Orchestrator(tmp_path, arguments=("--set", "http.host=0.0.0.0")) as orchestrator:
        assert orchestrator.process.wait(60) == 1
        assert "http.auth" in orchestrator.log.splitlines()[-1]


@pytest.mark.parametrize("step", ["make", "init", "health"])
def test_a_service_that_does_not_start_ends_the_start_with_its_reason(tmp_path: Path, step: str) -> None:
    with Orchestrator(tmp_path, settings=with_settings(fail=step)) as orchestrator:
        assert orchestrator.process.wait(60) == 1
        assert f"{step} failed" in orchestrator.log.splitlines()[-1]
        assert "Traceback" not in orchestrator.log


def test_a_swap_to_one_that_fails_leaves_the_old_one_serving(running: Orchestrator) -> None:
    replace(
        running.settings_file, SETTINGS.replace("services: {", "services: {provider_settings: {two: {fail: init}}, ")
    )
    running.until(lambda: running.call("status")["config"]["applied"]["version"] == 2)
    with pytest.raises(SwapError, match="the old one serves"):
        running.call("swap", domain="service", key="greeter", provider="two")
    assert running.call("status")["slots"][0]["current_provider"] == "one"


@pytest.mark.parametrize("step", ["make", "init", "health", "cleanup"])
def test_killed_at_a_step_of_a_swap_it_starts_again_with_what_is_configured(tmp_path: Path, step: str) -> None:
    provider = "one" if step == "cleanup" else "two"
    lethal = SETTINGS.replace("services: {", f"services: {{provider_settings: {{{provider}: {{kill: {step}}}}}, ")
    with Orchestrator(tmp_path, settings=lethal) as orchestrator:
        orchestrator.until_ready()
        with pytest.raises(UnavailableError):  # the answer never comes
            orchestrator.call("swap", domain="service", key="greeter", provider="two")
        assert orchestrator.process.wait(60) == -signal.SIGKILL
    with Orchestrator(tmp_path) as again:
        slots = again.until_ready().call("status")["slots"]
        assert [(slot["current_provider"], slot["state"]) for slot in slots] == [("one", "ready")]
        assert again.end() == 0
        for name in ("lifecycle_status.json", "runtime_health.json", "runtime_telemetry.json"):
            json.loads((again.state / name).read_text())


def test_a_sick_service_is_renewed_until_the_supervisor_gives_up_and_the_process_says_so(tmp_path: Path) -> None:
    sick = tmp_path / "sick"
    settings = with_settings(sick=str(sick)) + "runtime_supervisor: {poll_interval: 0.1, max_restarts: 1}\n"
    with Orchestrator(tmp_path, settings=settings) as orchestrator:
        orchestrator.until_ready()
        sick.touch()
        assert orchestrator.process.wait(60) == 1
        assert "supervisor" in orchestrator.log.splitlines()[-1]


def test_a_hanging_cleanup_does_not_hold_the_end_back(tmp_path: Path) -> None:
    settings = with_settings(hang="cleanup") + "lifecycle: {cleanup_timeout: 0.3}\n"
    with Orchestrator(tmp_path, settings=settings) as orchestrator:
        assert orchestrator.until_ready().end() == 0
        assert orchestrator.lines("swap-cleanup-failed")


def test_a_second_signal_forces_the_end(tmp_path: Path) -> None:
    with Orchestrator(tmp_path, settings=with_settings(hang="cleanup")) as orchestrator:
        orchestrator.until_ready().process.send_signal(signal.SIGTERM)
        orchestrator.until(lambda: orchestrator.call("health")["reasons"] == ["stopping"])
        assert orchestrator.end(signal.SIGINT) == 128 + signal.SIGINT


@pytest.mark.parametrize("damage", [b"", b"not a database at all", b"SQLite format 3\0" + b"\xff" * 8192])
def test_a_corrupt_activity_store_is_set_aside_and_what_was_paused_stays_so(tmp_path: Path, damage: bytes) -> None:
    with Orchestrator(tmp_path) as first:
        first.until_ready().call("pause", domain="service", key="second")
        assert first.end() == 0
    (tmp_path / ".oneiric_cache" / "domain_activity.sqlite").write_bytes(damage)
    with Orchestrator(tmp_path) as second:
        status = second.until_ready().call("status")
        assert [each["key"] for each in status["activity"]] == ["second"]
        assert any("put back" in problem for problem in status["problems"])


@pytest.mark.parametrize("name", ["lifecycle_status.json", "runtime_health.json", "runtime_telemetry.json"])
def test_a_corrupt_state_file_is_replaced(tmp_path: Path, name: str) -> None:
    state = tmp_path / ".oneiric_cache"
    state.mkdir(mode=0o700)
    (state / name).write_text('{"broken": [')
    with Orchestrator(tmp_path) as orchestrator:
        assert orchestrator.until_ready().end() == 0
    json.loads((state / name).read_text())


def on_disk(options: str) -> tuple[str, ...]:
    """A command that runs another with a file system of its own as state directory."""
    mount = f'mount -t tmpfs -o {options} tmpfs .oneiric_cache && exec "$@"'
    prefix = ("unshare", "--mount", "--map-root-user", "sh", "-c", mount, "sh")
    (home := Path(tempfile.mkdtemp())).joinpath(".oneiric_cache").mkdir()
    allowed = subprocess.run([*prefix, "true"], cwd=home, capture_output=True, check=False).returncode == 0
    shutil.rmtree(home)
    if not allowed:
        pytest.skip("this machine lets no test mount a file system of its own")
    return prefix


def test_a_state_directory_that_cannot_be_written_is_a_sentence(tmp_path: Path) -> None:
    (tmp_path / ".oneiric_cache").mkdir()
    with Orchestrator(tmp_path, prefix=on_disk("ro")) as orchestrator:
        assert orchestrator.process.wait(60) == 1
        assert "writable runtime_paths.cache_dir" in orchestrator.log.splitlines()[-1]
        assert "Traceback" not in orchestrator.log


def test_a_full_disk_is_told_and_nothing_that_serves_ends(tmp_path: Path) -> None:
    (tmp_path / ".oneiric_cache").mkdir()
    elsewhere = tmp_path / "socket"
    elsewhere.mkdir()
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    with Orchestrator(
        tmp_path,
        arguments=("--set", f"http.port={port}"),
        prefix=on_disk("size=16k,mode=0700"),
    ) as orchestrator:
        # Its file system is its own, and so is the socket on it: it is asked over TCP.
        orchestrator.client = ControlClient(f"http://127.0.0.1:{port}", timeout_seconds=60)
        status = orchestrator.until_ready().call("status")
        assert status["slots"][0]["state"] == "ready"
        assert any("full" in problem for problem in status["problems"])
        with pytest.raises(StoreError):
            orchestrator.call("pause", domain="service", key="second")
        assert orchestrator.call("activity")["activity"] == []
        assert orchestrator.call("swap", domain="service", key="greeter", provider="two")
        assert orchestrator.end() == 0


def test_a_state_directory_that_is_a_file_is_a_sentence(tmp_path: Path) -> None:
    (tmp_path / ".oneiric_cache").write_text("")
    with Orchestrator(tmp_path) as orchestrator:
        assert orchestrator.process.wait(60) == 1
        assert "writable runtime_paths.cache_dir" in orchestrator.log.splitlines()[-1]
        assert "Traceback" not in orchestrator.log


def test_unhealthy_is_told_by_a_probe(tmp_path: Path) -> None:
    sick = tmp_path / "sick"
    settings = with_settings(sick=str(sick)) + "profile: {supervisor_enabled: false}\n"
    with Orchestrator(tmp_path, settings=settings) as orchestrator:
        orchestrator.until_ready().call("swap", domain="service", key="greeter")
        assert orchestrator.call("probe")["healthy"]
        sick.touch()
        probed = orchestrator.call("probe")
        assert (probed["healthy"], probed["results"][0]["health"]) == (False, "unhealthy")
        with pytest.raises(LifecycleError):
            orchestrator.call("swap", domain="service", key="greeter")


def is_gone(directory: Path) -> bool:
    shutil.rmtree(directory)  # an OSError where somebody writes into it meanwhile
    return True


def test_a_state_directory_that_is_removed_comes_back_and_stays_one_orchestrator_s(running: Orchestrator) -> None:
    running.until(lambda: is_gone(running.state))
    running.until(lambda: running.call("status")["ready"])
    done = subprocess.run(
        [sys.executable, "-m", "oneiric.app", "--config", "settings.yml"],
        cwd=running.home,
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )
    assert (done.returncode, f"pid {running.process.pid}" in done.stderr) == (1, True)
    assert running.call("pause", domain="service", key="second")["paused"]
    assert running.end() == 0
