"""Schedules from the command line: kept, previewed, paused, and fired by the orchestrator that runs."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from tests.cli.documents import check
from tests.cli.processes import held_until, until
from tests.cli.shop import Project, project_in

pytestmark = pytest.mark.xdist_group("processes")


@pytest.fixture
def project(tmp_path: Path) -> Project:
    return project_in(tmp_path / "shop")


def test_a_schedule_is_kept_listed_previewed_paused_resumed_and_removed(oneiric: Callable[..., Any]) -> None:
    arguments = ["--cron", "30 2 * * MON-FRI", "--time-zone", "Europe/Berlin", "--jitter", "5m", "--catch-up", "1h"]
    added = check("schedule-add", oneiric("schedule", "add", "night", "event:tea.due", *arguments, "--json").out)
    assert (added["target"], added["jitter_seconds"], added["catch_up_seconds"]) == ("event:tea.due", 300.0, 3600.0)

    (listed,) = check("schedule-list", oneiric("schedule", "list", "--json").out)["schedules"]
    assert (listed["name"], listed["paused"], listed["last"]) == ("night", False, None)
    assert "30 2 * * MON-FRI Europe/Berlin" in oneiric("schedule", "list").out
    slots = check("schedule-preview", oneiric("schedule", "preview", "night", "--count", "3", "--json").out)["slots"]
    assert len({slot["idempotency_key"] for slot in slots}) == 3
    assert slots[0] == added["next"][0]

    paused = check("schedule-pause", oneiric("schedule", "pause", "night", "--note", "holidays", "--json").out)
    assert (paused["paused"], paused["note"], paused["next"]) == (True, "holidays", [])
    assert oneiric("schedule", "preview", "night").out == "It is paused.\n"
    assert check("schedule-resume", oneiric("schedule", "resume", "night", "--json").out)["paused"] is False

    assert oneiric("schedule", "add", "night", "event:tea.due", "--every", "1h").code == 2  # another one has the name
    assert oneiric("schedule", "add", "night", "event:tea.due", "--every", "1h", "--replace").code == 0
    assert check("schedule-remove", oneiric("schedule", "remove", "night", "--json").out)["removed"] == "night"
    assert oneiric("schedule", "list").out == "There are no schedules.\n"


def test_listing_makes_no_file(oneiric: Callable[..., Any]) -> None:
    assert oneiric("schedule", "list").code == 0
    assert oneiric("schedule", "preview", "night").code == 4
    assert list(Path.cwd().iterdir()) == []


@pytest.mark.parametrize(
    ("arguments", "code", "sentence"),
    [
        (["add", "n", "event:a"], 2, "one of --cron, --every and --at"),
        (["add", "n", "event:a", "--every", "1h", "--at", "1h"], 2, "one of --cron, --every and --at"),
        (["add", "n", "event:a", "--every", "soon"], 2, "--every"),
        (["add", "n", "event:a", "--cron", "61 * * * *"], 2, "61"),
        (["add", "n", "event:a", "--cron", "0 2 * * *", "--time-zone", "Nowhere"], 2, "Nowhere"),
        (["add", "n", "event:a", "--every", "1h", "--overlap", "odd"], 2, "overlap"),
        (["add", "n", "event:a", "--every", "1h", "--payload", "[]"], 2, "--payload must be a JSON object"),
        (["add", "a/b", "event:a", "--every", "1h"], 2, "cannot name a schedule"),
        (["add", "n", "tea", "--every", "1h"], 2, "nothing that can be done"),
        (["add", "n", "task:demo-tusk", "--every", "1h", "--demo"], 4, "did you mean 'demo-task'?"),
        (["pause", "n"], 4, "there is no schedule 'n'"),
        (["remove", "n"], 4, "there is no schedule 'n'"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)
def test_what_is_asked_wrongly_is_a_sentence_and_makes_no_file(
    oneiric: Callable[..., Any], arguments: list[str], code: int, sentence: str
) -> None:
    done = oneiric("schedule", *arguments)

    assert (done.code, done.out) == (code, "")
    assert sentence in done.err
    assert list(Path.cwd().iterdir()) == []


def test_the_orchestrator_fires_what_is_added_while_it_runs(project: Project) -> None:
    with held_until(project.begin("orchestrate", "--no-http", "--json")) as orchestrator:
        assert json.loads(orchestrator.stdout.readline())["ready"]  # type: ignore[union-attr]  # a pipe
        for name, target in (("w", "workflow:steps"), ("t", "task:first"), ("e", "event:tea.made")):
            project.run("schedule", "add", name, target, "--at", "1s", "--payload", '{"kind": "green"}')
        until(lambda: {"first", "second", "calm"} <= set(project.lines()), orchestrator)

    (run,) = check("workflow-runs", project.run("workflow", "runs", "--json").stdout)["runs"]
    assert (run["workflow"], run["context"]) == ("steps", {"kind": "green"})
    listed = check("schedule-list", project.run("schedule", "list", "--json").stdout)["schedules"]
    assert {each["name"]: each["last"]["state"] for each in listed} == {"e": "done", "t": "done", "w": "done"}


def test_nothing_is_fired_where_the_scheduler_is_off(project: Project) -> None:
    settings = project.home / "settings" / "oneiric.toml"
    settings.write_text(settings.read_text() + "\n[scheduler]\nenabled = false\n")

    with held_until(project.begin("orchestrate", "--no-http", "--json")) as orchestrator:
        orchestrator.stdout.readline()  # type: ignore[union-attr]  # a pipe
        parts = json.loads(project.run("status", "--json").stdout)["system"]["parts"]

    assert "scheduler" not in {part["name"] for part in parts}
    assert not (project.state / "schedules.sqlite").exists()


def test_a_ruined_store_keeps_nothing_else_from_starting_and_is_not_replaced(project: Project) -> None:
    project.state.mkdir(mode=0o700)
    store = project.state / "schedules.sqlite"
    store.write_bytes(b"no database" * 100)
    store.chmod(0o600)

    with held_until(project.begin("orchestrate", "--no-http", "--json")) as orchestrator:
        assert json.loads(orchestrator.stdout.readline())["ready"]  # type: ignore[union-attr]  # a pipe

    assert store.read_bytes() == b"no database" * 100
    assert project.run("schedule", "list").returncode == 1
