"""Events from the command line: given to real handlers, explained, kept where nobody took them, and replayed."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from tests.cli.documents import check
from tests.cli.shop import Project, project_in

pytestmark = pytest.mark.xdist_group("processes")
GREEN = json.dumps({"kind": "green"})


@pytest.fixture
def project(tmp_path: Path) -> Project:
    return project_in(tmp_path / "shop")


def test_an_event_runs_the_handlers_it_concerns_and_says_what_came_of_each(project: Project) -> None:
    done = project.run("event", "emit", "tea.made", "--payload", GREEN, "--header", "tenant=acme", "--json")

    document = check("event-emit", done.stdout)
    assert (done.returncode, document["scope"], document["matched_handlers"]) == (0, "one-off", 2)
    assert [each["handler"] for each in document["results"]] == ["picky:more", "calm:more"]
    assert document["results"][0]["value"] == {"seen": {"kind": "green"}}
    assert project.lines() == ["picky {'kind': 'green'} {'tenant': 'acme'}", "calm"]


def test_topic_payload_and_headers_are_taken_by_name_from_files_and_from_stdin(project: Project) -> None:
    (project.home / "tea.json").write_text(GREEN)

    named = project.run("event", "emit", "--topic", "tea.made", "--payload", "@tea.json", "--headers", '{"a": "b"}')
    piped = project.run("event", "emit", "tea.made", "--payload", "-", stdin=GREEN)

    assert (named.returncode, piped.returncode) == (0, 0)
    assert project.lines() == ["picky {'kind': 'green'} {'a': 'b'}", "calm", "picky {'kind': 'green'} {}", "calm"]
    assert "picky:more" in named.stdout


def test_a_handler_that_fails_is_exit_code_1_and_its_letter_is_replayed_once_it_can_be_taken(project: Project) -> None:
    (project.home / "broken").touch()

    failed = project.run("event", "emit", "tea.made", "--payload", GREEN)

    assert failed.returncode == 1
    assert "RuntimeError: no tea today" in failed.stdout
    assert project.lines() == ["calm"]
    (letter,) = check("event-dead-letters", project.run("event", "dead-letters", "--json").stdout)["letters"]
    assert (letter["subject"], letter["handler"], letter["reason"]) == ("tea.made", "picky:more", "failed")
    assert "no tea today" in project.run("event", "dead-letters", letter["id"]).stdout

    again = project.run("event", "replay", letter["id"], "--json")
    (told,) = check("event-replay", again.stdout)["replayed"]
    assert (again.returncode, told["success"], told["error"]) == (1, False, "RuntimeError: no tea today")

    (project.home / "broken").unlink()
    taken = project.run("event", "replay", "--all", "--json")
    assert taken.returncode == 0
    assert check("event-replay", taken.stdout)["failures"] == 0
    assert project.lines() == ["calm", "picky {'kind': 'green'} {}"]
    assert "There are no dead letters." in project.run("event", "dead-letters").stdout


def test_explaining_runs_nothing_makes_nothing_and_says_what_keeps_an_event_out(project: Project) -> None:
    before = sorted(project.home.iterdir())

    done = project.run("event", "explain", "tea.made", "--payload", '{"kind": "black"}', "--json")

    document = check("event-explain", done.stdout)
    assert {each["handler"]: each["reason"] for each in document["handlers"]} == {
        "picky:more": "filter",
        "calm:more": "matched",
        "order-created:shop": "topic",
    }
    assert project.lines() == []
    assert [each for each in sorted(project.home.iterdir()) if each.name != "__pycache__"] == before


def test_a_paused_handler_is_explained_from_the_store(project: Project) -> None:
    assert project.run("pause", "event:calm", "--note", "tea break").returncode == 0

    told = project.run("event", "explain", "tea.made").stdout

    assert "paused" in told
    assert "tea break" in told


@pytest.mark.parametrize(
    ("arguments", "code", "sentence"),
    [
        (["event", "emit"], 2, "no topic was said"),
        (["event", "emit", "a", "--topic", "b"], 2, "not both"),
        (["event", "emit", "a", "--payload", "{"], 2, "--payload is no JSON"),
        (["event", "emit", "a", "--payload", "NaN"], 2, "NaN is no number of JSON"),
        (["event", "emit", "a", "--payload", "@none.json"], 2, "cannot be read"),
        (["event", "emit", "a", "--header", "x"], 2, "NAME=VALUE"),
        (["event", "emit", "a", "--headers", '{"x": 1}'], 2, "must be text"),
        (["event", "emit", "a..b"], 1, "topic"),
        (["event", "dead-letters", "nope"], 4, "there is no dead letter 'nope'"),
        (["event", "dead-letters", "--limit", "0"], 2, "--limit"),
        (["event", "replay"], 2, "neither was said"),
    ],
    ids=lambda value: " ".join(value[1:]) if isinstance(value, list) else "",
)
def test_what_is_asked_wrongly_is_a_sentence(
    oneiric: Callable[..., Any], arguments: list[str], code: int, sentence: str
) -> None:
    done = oneiric(*arguments)

    assert (done.code, done.out) == (code, "")
    assert sentence in done.err
    assert "Traceback" not in done.err


def test_a_one_off_leaves_the_files_alone_that_describe_the_running_system(project: Project) -> None:
    project.run("event", "emit", "tea.made", "--payload", GREEN)

    assert not {"lifecycle_status.json", "orchestrator.lock", "runtime_health.json"} & {
        file.name for file in project.state.iterdir()
    }
