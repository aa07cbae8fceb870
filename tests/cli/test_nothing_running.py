"""Commands where nothing runs: which of them refuse, which use the store, and what they make of broken files."""

import socket
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from tests.cli.documents import check

STATE = Path(".oneiric_cache")
GOLDEN = Path(__file__).parent / "golden"
TRANSCRIPTS = {
    "activity": ["activity"],
    "health": ["health"],
    "supervisor-info": ["supervisor-info"],
    "pause": ["pause", "cache", "--owner", "ops", "--note", "moving house", "--until", "2090-01-31T18:00Z"],
    "drain": ["drain", "adapter:cache", "--owner", "ops"],
}
NEED_A_SYSTEM = [
    ["swap", "adapter:cache"],
    ["swap", "cache"],
    ["retire", "adapter:cache"],
    ["secrets", "rotate", "--all"],
    ["decisions"],
    ["events"],
    ["drain", "adapter:cache", "--wait"],
]


@pytest.mark.parametrize("name", TRANSCRIPTS)
def test_text_is_the_transcript(name: str, oneiric: Callable[..., Any]) -> None:
    done, data = oneiric(*TRANSCRIPTS[name]), oneiric(*TRANSCRIPTS[name], "--json")

    assert (done.code, done.err) == (0, "")
    assert done.out == (GOLDEN / f"{name}.txt").read_text(encoding="utf-8")
    check(name, data.out)


@pytest.mark.parametrize("arguments", NEED_A_SYSTEM, ids=" ".join)
def test_what_changes_a_running_system_needs_one(arguments: list[str], oneiric: Callable[..., Any]) -> None:
    told, data = oneiric(*arguments), oneiric(*arguments, "--json")

    assert (told.code, data.code) == (6, 6)
    assert told.err == "error: nothing is running: nobody listens in .oneiric_cache\nTry: oneiric orchestrate\n"
    assert check("error", data.out)["error"]["type"] == "InactiveError"
    assert list(Path.cwd().iterdir()) == []


@pytest.mark.parametrize("arguments", [["activity"], ["supervisor-info"], ["config", "plan"]], ids=" ".join)
def test_what_only_reports_makes_no_file(arguments: list[str], oneiric: Callable[..., Any]) -> None:
    done = oneiric(*arguments)

    assert done.code == 0
    assert done.out.startswith("running   no")
    assert list(Path.cwd().iterdir()) == []


def test_a_stale_socket_is_nothing_running(oneiric: Callable[..., Any]) -> None:
    STATE.mkdir()
    with socket.socket(socket.AF_UNIX) as left_behind:
        left_behind.bind(str(STATE / "control.sock"))
        left_behind.listen()

    assert oneiric("swap", "adapter:cache").code == 6
    assert oneiric("activity").out.startswith("running   no")


def test_a_pause_is_written_to_the_store_and_says_so(oneiric: Callable[..., Any]) -> None:
    done = oneiric("pause", "cache", "--note", "moving house", "--until", "2090-01-31T18:00Z", "--json")
    document = check("pause", done.out)
    told = oneiric("activity")
    rows = check("activity", oneiric("activity", "--json").out)

    assert (done.code, document["running"], document["scope"]) == (0, False, "store")
    assert document["store"] == ".oneiric_cache/domain_activity.sqlite"
    assert document["until"] == 3_789_568_800
    assert (rows["running"], rows["counts"]) == (False, {"paused": 1, "draining": 0})
    assert rows["activity"][0]["note"] == "moving house"
    assert "adapter:cache  paused" in told.out
    assert STATE.stat().st_mode & 0o777 == 0o700


def test_activity_is_narrowed_to_a_domain_a_key_and_a_state(oneiric: Callable[..., Any]) -> None:
    oneiric("pause", "cache")
    oneiric("drain", "adapter:queue")

    def listed(*narrowed: str) -> list[str]:
        document = check("activity", oneiric("activity", *narrowed, "--json").out)
        assert sum(document["counts"].values()) == len(document["activity"])
        return [row["key"] for row in document["activity"]]

    assert listed() == listed("--domain", "adapter") == ["cache", "queue"]
    assert listed("cache") == listed("adapter:cache") == listed("--key", "cache") == ["cache"]
    assert listed("--state", "draining") == listed("queue", "--state", "draining") == ["queue"]
    assert listed("cache", "--state", "draining") == listed("--domain", "service") == []
    assert oneiric("activity", "--state", "paused", "queue").out.endswith("\nNothing that was asked for is paused.\n")


@pytest.mark.parametrize(
    ("narrowed", "code", "sentence"),
    [
        (["cahce"], 4, "did you mean 'cache'?"),
        (["adapter:cahce"], 4, "did you mean 'cache'?"),
        (["--domain", "adaptr"], 4, "there is no domain 'adaptr'"),
        (["--state", "stopped"], 2, "--state must be paused or draining, not 'stopped'"),
        (["cache", "--key", "queue"], 2, "the key is 'cache' or 'queue', not both"),
        (["adapter:cache", "--domain", "service"], 2, "the domain is 'adapter' or 'service', not both"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)
def test_activity_of_what_does_not_exist_is_refused(
    narrowed: list[str], code: int, sentence: str, oneiric: Callable[..., Any]
) -> None:
    done = oneiric("activity", *narrowed)

    assert (done.code, done.out) == (code, "")
    assert sentence in done.err


def test_what_was_paused_in_the_store_is_resumed_there(oneiric: Callable[..., Any]) -> None:
    oneiric("pause", "cache")
    told = oneiric("pause", "adapter:cache", "--resume")

    assert told.out.startswith("adapter:cache takes work\n")
    assert "the store: nothing runs here" in told.out
    assert oneiric("activity").out.endswith("Every key takes work.\n")


def test_a_drain_in_the_store_is_cleared_unless_the_key_is_paused_too(oneiric: Callable[..., Any]) -> None:
    oneiric("drain", "cache")
    assert check("activity", oneiric("activity", "--json").out)["counts"] == {"paused": 0, "draining": 1}
    oneiric("pause", "cache")

    refused = oneiric("drain", "cache", "--clear")

    assert (refused.code, oneiric("pause", "cache", "--resume").code) == (1, 0)
    assert "adapter:cache is paused too" in refused.err


def test_the_store_of_the_settings_is_used(oneiric: Callable[..., Any], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ONEIRIC_ACTIVITY_STORE", "elsewhere/activity.sqlite")

    document = check("pause", oneiric("pause", "cache", "--json").out)

    assert document["store"] == "elsewhere/activity.sqlite"
    assert Path("elsewhere/activity.sqlite").exists()
    assert check("activity", oneiric("activity", "--json").out)["counts"]["paused"] == 1


WRONG = {
    "unknown key": (["pause", "adapter:cahce"], 4, "did you mean 'cache'?"),
    "unknown key of no domain": (["pause", "cahce"], 4, "did you mean 'cache'?"),
    "two domains": (["pause", "adapter:cache", "--domain", "service"], 2, "not both"),
    "no key": (["pause", "adapter:"], 2, "is no key"),
    "no time": (["pause", "cache", "--until", "tomorrow"], 2, "a length of time or a time in ISO 8601"),
    "past time": (["pause", "cache", "--until", "2001-01-31T18:00"], 2, "a time to come"),
    "no length": (["drain", "cache", "--timeout", "long"], 2, "--timeout must be a length of time"),
    "both": (["pause", "cache", "--resume", "--until", "5m"], 2, "--resume ends a pause"),
    "cleared and waited": (["drain", "cache", "--clear", "--wait"], 2, "--clear ends a drain"),
    "no secret": (["secrets", "rotate"], 2, "neither was said"),
    "all and some": (["secrets", "rotate", "--all", "--keys", "a"], 2, "not both"),
    "no limit": (["decisions", "--limit", "many"], 2, "--limit must be a number from 1"),
    "no kind": (["decisions", "--kind", "swapped"], 2, "--kind must be winner, bound or retired"),
    "no provider": (["swap", "adapter:cache", "--provider", "no way"], 2, "--provider must"),
    "no tenant": (["retire", "adapter:cache", "--tenant", "../acme"], 2, "--tenant must"),
    "no event": (["events", "--limit", "0"], 2, "--limit must be a number from 1"),
}


@pytest.mark.parametrize("case", WRONG)
def test_what_cannot_be_meant_is_refused_before_anything_is_written(case: str, oneiric: Callable[..., Any]) -> None:
    arguments, code, sentence = WRONG[case]

    done = oneiric(*arguments)

    assert done.code == code
    assert sentence in done.err
    assert len(done.err.splitlines()) == 2
    assert list(Path.cwd().iterdir()) == []


def test_a_corrupt_store_is_reported_and_left_as_it_is(oneiric: Callable[..., Any]) -> None:
    oneiric("pause", "cache")
    store = STATE / "domain_activity.sqlite"
    for each in STATE.glob("domain_activity.sqlite-*"):
        each.unlink()
    store.write_bytes(b"not a database, and longer than a header of one" * 40)

    done = oneiric("activity", "--json")

    document = check("activity", done.out)
    assert done.code == 0
    assert "domain_activity.sqlite" in document["problem"]
    assert document["counts"]["paused"] == 1  # the copy beside it tells
    assert store.read_bytes().startswith(b"not a database")


def test_a_corrupt_store_is_recovered_by_the_next_change(oneiric: Callable[..., Any]) -> None:
    oneiric("pause", "cache")
    for each in STATE.glob("domain_activity.sqlite-*"):
        each.unlink()
    (STATE / "domain_activity.sqlite").write_bytes(b"not a database, and longer than a header of one" * 40)

    done = oneiric("pause", "secrets")

    assert done.code == 0
    assert "note: " in done.err
    assert check("activity", oneiric("activity", "--json").out)["counts"]["paused"] == 2


def test_a_directory_that_cannot_be_written_is_an_error(
    oneiric: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("ONEIRIC_RUNTIME_PATHS__CACHE_DIR", "/dev/null/state")  # also for root

    told, reported = oneiric("pause", "cache"), oneiric("activity")

    assert (told.code, reported.code) == (1, 0)
    assert told.err.startswith("error: ")
    assert len(told.err.splitlines()) == 2
    assert "/dev/null/state" in told.err


def test_a_state_directory_that_is_a_file_is_an_error(oneiric: Callable[..., Any]) -> None:
    STATE.write_text("in the way")

    done = oneiric("pause", "cache")

    assert done.code == 1
    assert ".oneiric_cache" in done.err
    assert "Traceback" not in done.err
    assert STATE.read_text() == "in the way"


def test_supervision_is_described_from_the_settings(oneiric: Callable[..., Any], settings: Callable[..., str]) -> None:
    path = settings(
        "services: {selections: {pay: cash}}\ntenants: {acme: {service: {pay: card}}}\n"
        "runtime_supervisor: {strategy: one_for_all}\n",
        "shop.yml",
    )

    document = check("supervisor-info", oneiric("supervisor-info", "--config", path, "--json").out)

    assert (document["running"], document["enabled"], document["supervisor"]) == (False, True, None)
    assert document["configured"]["strategy"] == "one_for_all"
    assert document["configured"]["services"] == ["pay", "pay of acme"]
