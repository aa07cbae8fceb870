"""Commands that change and report a running system: a real one, in a process of its own."""

import json
import select
import signal
import socket
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from tests.cli.documents import check
from tests.cli.systems import command, keep_secret, system
from tests.integration.processes import Orchestrator

pytestmark = pytest.mark.xdist_group("processes")
CONFIG = ("--config", "settings.yml")


@pytest.fixture(scope="module")
def running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Orchestrator]:
    with system(tmp_path_factory.mktemp("running")) as orchestrator:
        yield orchestrator


@pytest.fixture
def asked(running: Orchestrator, oneiric: Callable[..., Any], monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    """Run a command where the system runs; what it paused is resumed afterwards."""
    monkeypatch.chdir(running.home)

    def run(*arguments: str) -> Any:
        return oneiric(*arguments, *CONFIG)

    yield run
    for row in running.call("activity")["activity"]:
        running.call("resume", domain=row["domain"], key=row["key"])


def test_a_pause_takes_effect_in_the_running_system(running: Orchestrator, asked: Any) -> None:
    before = time.time()
    done = asked("pause", "service:greeter", "--note", "upgrade", "--owner", "ops", "--until", "15m", "--json")

    document = check("pause", done.out)
    (row,) = running.call("activity")["activity"]
    assert (done.code, document["running"], document["scope"]) == (0, True, "running")
    assert (row["paused"], row["note"], row["owner"]) == (True, "upgrade", "ops")
    assert before + 900 <= row["until"] <= time.time() + 900
    assert check("activity", asked("activity", "--json").out)["activity"] == [row]
    assert "service:greeter" in asked("activity").out


def test_a_key_is_found_with_its_domain_said_in_any_way_or_not_at_all(asked: Any) -> None:
    for arguments in (
        ["service:line"],
        ["--domain", "service", "line"],
        ["line"],
        ["service:line", "--domain=service"],
    ):
        done = asked("pause", *arguments, "--json")
        assert (done.code, check("pause", done.out)["domain"]) == (0, "service")


def test_a_pause_is_resumed(running: Orchestrator, asked: Any) -> None:
    asked("pause", "greeter", "--note", "upgrade")

    document = check("pause", asked("pause", "greeter", "--resume", "--json").out)

    assert (document["paused"], document["note"]) == (False, None)
    assert running.call("activity")["activity"] == []


def test_the_user_owns_what_nobody_was_named_for(asked: Any) -> None:
    document = check("pause", asked("pause", "greeter", "--json").out)

    assert document["owner"]


def test_activity_of_the_running_system_is_narrowed(asked: Any) -> None:
    asked("pause", "greeter")
    asked("drain", "line")
    paused = check("activity", asked("activity", "--state", "paused", "--json").out)
    line = check("activity", asked("activity", "service:line", "--json").out)
    unknown = asked("activity", "greter")

    assert [row["key"] for row in paused["activity"]] == ["greeter"]
    assert (line["running"], [row["draining"] for row in line["activity"]]) == (True, [True])
    assert asked("activity", "caller").out.endswith("Nothing that was asked for is paused or draining.\n")
    assert (unknown.code, "'greter'" in unknown.err) == (4, True)


def test_a_drain_of_an_idle_key_is_empty_at_once(asked: Any) -> None:
    done = asked("drain", "greeter", "--wait", "--json")

    assert (done.code, check("drain", done.out)["in_flight"]) == (0, 0)


def test_a_drain_waits_for_what_is_in_flight(running: Orchestrator, asked: Any) -> None:
    busy = running.home / "busy"
    busy.touch()
    running.until(lambda: in_flight(running, "line"))
    try:
        waited = asked("drain", "line", "--wait", "--timeout", "0.1s", "--json")
    finally:
        busy.unlink()
    emptied = asked("drain", "line", "--wait", "--timeout", "20s", "--json")

    assert (waited.code, check("drain", waited.out)["in_flight"]) == (1, 1)
    assert "drains on" in waited.err
    assert (emptied.code, check("drain", emptied.out)["in_flight"]) == (0, 0)


def in_flight(running: Orchestrator, key: str) -> int:
    return sum(slot["in_flight"] for slot in running.call("status")["slots"] if slot["key"] == key)


def test_clearing_a_drain_leaves_a_pause_alone(running: Orchestrator, asked: Any) -> None:
    asked("drain", "greeter")
    asked("pause", "greeter")

    done = asked("drain", "greeter", "--clear")

    assert done.code == 1
    assert "service:greeter is paused too, and stays as it is" in done.err
    assert [row["paused"] for row in running.call("activity")["activity"]] == [True]
    assert asked("pause", "greeter", "--resume").code == 0
    assert asked("drain", "greeter").code == 0
    assert asked("drain", "greeter", "--clear").code == 0
    assert running.call("activity")["activity"] == []


def test_a_swap_replaces_what_serves(running: Orchestrator, asked: Any) -> None:
    there = check("swap", asked("swap", "greeter", "--provider", "two", "--json").out)
    told = asked("swap", "greeter", "--provider", "one")
    back = check("swap", asked("swap", "greeter", "--json").out)

    assert (there["previous"], there["provider"]) == ("one", "two")
    assert told.out.startswith("service:greeter two → one\n")
    assert (back["previous"], back["provider"]) == ("one", "one")
    assert back["status"]["generation"] > there["status"]["generation"]


def test_a_swap_is_in_the_journal_with_who_asked(asked: Any) -> None:
    asked("swap", "greeter", "--provider", "two")
    asked("swap", "greeter", "--provider", "one")

    document = check("decisions", asked("decisions", "--key", "greeter", "--since", "1h", "--json").out)
    told = asked("decisions", "--key", "service:greeter", "--kind", "bound", "--limit", "1")

    assert [each["provider"] for each in document["decisions"]][-2:] == ["one", "one"]
    assert "swap by" in document["decisions"][-1]["why"]
    assert len(told.out.splitlines()) == 2


def test_an_explanation_is_of_what_runs_and_offline_of_what_is_configured(running: Orchestrator, asked: Any) -> None:
    running.call("swap", domain="service", key="greeter", provider="two", by="ops")
    document = check("explain", asked("explain", "greeter", "--why-not", "one", "--json").out)
    assert (document["running"], document["selected"], document["active"]) == (True, "two", "two")
    assert document["selection"]["by"] == "ops"
    assert document["why_not"]["provider"] == "one"
    assert "serves now: two" in asked("explain", "service:greeter").out
    offline = check("explain", asked("explain", "greeter", "--offline", "--json").out)
    assert (offline["running"], offline["selected"], offline["active"]) == (False, "one", None)
    for key, sentence in (("greter", "no domain has a key 'greter'"), ("service:greter", "did you mean 'greeter'?")):
        done = asked("explain", key)
        assert (done.code, sentence in done.err) == (4, True), done.err
    running.call("swap", domain="service", key="greeter")


def test_a_failed_swap_leaves_the_old_one_serving_and_says_which_step(running: Orchestrator, asked: Any) -> None:
    before = running.call("status")["slots"]
    running.settings_file.write_text(running.settings_file.read_text().replace("{one: {", "{two: {fail: init}, one: {"))
    assert running.call("config_apply")["accepted"]

    done = asked("swap", "greeter", "--provider", "two", "--json")

    assert done.code == 1
    assert json.loads(done.out)["error"]["type"] == "SwapError"
    assert "init" in json.loads(done.out)["error"]["message"]
    after = running.call("status")["slots"]
    assert [slot["current_provider"] for slot in after] == [slot["current_provider"] for slot in before]


def test_a_retired_key_serves_nothing(running: Orchestrator, asked: Any) -> None:
    document = check("retire", asked("retire", "greeter", "--json").out)
    assert supervised(asked) == {"service:greeter": "retired", "service:caller": "running"}
    back = asked("swap", "greeter", "--provider", "one")

    assert (document["provider"], document["status"]["state"]) == (None, "retired")
    assert back.out.startswith("service:greeter nothing → one\n")
    assert supervised(asked) == {"service:greeter": "running", "service:caller": "running"}
    assert asked("retire", "line").out.startswith("service:line serves nothing\n")
    asked("swap", "line")


def supervised(asked: Any) -> dict[str, str]:
    document = check("supervisor-info", asked("supervisor-info", "--json").out)
    return {child["name"]: child["state"] for child in document["supervisor"]["children"]}


def test_a_rotated_secret_swaps_what_uses_it(running: Orchestrator, asked: Any) -> None:
    asked("swap", "greeter", "--provider", "one")
    keep_secret(running.home, "open barley")

    rotated = asked("secrets", "rotate", "--keys", "door", "--json")
    again = asked("secrets", "rotate", "--all")

    document = check("secrets-rotate", rotated.out)
    assert (document["rotated"], document["swapped"]) == (
        ["door"],
        [{"domain": "service", "key": "greeter", "tenant": None}],
    )
    assert again.out.startswith("No secret has changed.\n")
    assert "open barley" not in rotated.out + again.out


def test_a_secret_that_does_not_exist_is_named(asked: Any) -> None:
    done = asked("secrets", "rotate", "--keys", "cellar")

    assert done.code == 2
    assert "cellar" in done.err


def test_supervision_is_described(asked: Any) -> None:
    document = check("supervisor-info", asked("supervisor-info", "--json").out)
    told = asked("supervisor-info")

    assert document["running"]
    assert {child["name"] for child in document["supervisor"]["children"]} == {"service:greeter", "service:caller"}
    assert "one_for_one, 3 restarts in 30 s" in told.out


UNKNOWN = {
    "swap without a domain": (["swap", "greter"], "did you mean 'greeter'?"),
    "swap": (["swap", "service:greter"], "did you mean 'greeter'?"),
    "pause": (["pause", "service:greter"], "did you mean 'greeter'?"),
    "drain": (["drain", "greter"], "did you mean 'greeter'?"),
    "retire": (["retire", "service:greter"], "did you mean 'greeter'?"),
    "provider": (["swap", "greeter", "--provider", "three"], "has no provider 'three' (have: one, two)"),
}


@pytest.mark.parametrize("case", UNKNOWN)
def test_what_does_not_exist_is_not_found_and_what_was_meant_is_said(case: str, asked: Any) -> None:
    arguments, sentence = UNKNOWN[case]

    done = asked(*arguments)

    assert done.code == 4
    assert sentence in done.err
    assert len(done.err.splitlines()) == 2


def test_a_provider_that_is_not_open_is_no_sign_that_nothing_runs(asked: Any) -> None:
    done = asked("retire", "service:greeter", "--provider", "two")

    assert done.code == 1
    assert "'two' is not open" in done.err


@pytest.mark.parametrize("name", ["swap", "retire"])
def test_what_everybody_shares_is_not_changed_in_the_name_of_one_tenant(name: str, asked: Any) -> None:
    done = asked(name, "service:greeter", "--tenant", "acme")

    assert done.code == 1
    assert "tenant 'acme' has no instance of service:greeter of its own; the base one serves it" in done.err


def test_what_the_system_refuses_is_a_usage_error_of_the_command(asked: Any) -> None:
    done = asked("pause", "greeter", "--note", "x" * 2000)

    assert done.code == 2
    assert "note: String should have at most 1000 characters" in done.err
    assert done.err.endswith("Try: the same command with --help\n")


def test_a_note_cannot_move_the_terminals_cursor(asked: Any) -> None:
    asked("pause", "greeter", "--note", "\x1b[2Jcleared\nand more")

    assert "\\x1b[2Jcleared and more" in asked("activity").out
    assert "\x1b" not in asked("status").out


def test_events_are_followed_one_document_a_line(running: Orchestrator) -> None:
    """From the first one after its connection: what the command prints is what the system said."""
    with subprocess.Popen(
        command("events", "--key", "service:line", "--json", *CONFIG),
        cwd=running.home,
        stdout=subprocess.PIPE,
        text=True,
    ) as following:
        assert following.stdout is not None
        keep_swapping = True
        while keep_swapping:  # until it follows, it misses them
            running.call("swap", domain="service", key="line", provider="copper")
            keep_swapping = not readable(following.stdout, 0.2)
        document = check("events", following.stdout.readline())
        following.send_signal(signal.SIGINT)
        rest, _ = following.communicate(timeout=60)

    assert following.returncode == 130
    assert document["data"]["key"] == "line"
    assert all(check("events", line)["id"] for line in rest.splitlines())


def readable(stream: Any, seconds: float) -> bool:
    return bool(select.select([stream], [], [], seconds)[0])


def test_a_system_that_does_not_answer_is_an_error_and_not_nothing(running: Orchestrator, tmp_path: Path) -> None:
    """Somebody listens and closes: a command must not take that for nothing running, and write the store."""
    home = tmp_path / "deaf"
    state = home / ".oneiric_cache"
    state.mkdir(parents=True)
    with socket.socket(socket.AF_UNIX) as deaf:
        deaf.bind(str(state / "control.sock"))
        deaf.listen()
        with subprocess.Popen(
            command("pause", "adapter:cache"), cwd=home, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
        ) as pausing:
            deaf.accept()[0].close()
            _, told = pausing.communicate(timeout=60)

    assert pausing.returncode == 1
    assert "control.sock broke" in told
    assert [each.name for each in state.iterdir()] == ["control.sock"]
