"""Workflows from the command line: planned, run, interrupted, resumed, cancelled, retried, in real processes."""

import contextlib
import os
import pty
import signal
import subprocess
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from tests.cli.documents import check
from tests.cli.shop import Project, project_in

pytestmark = pytest.mark.xdist_group("processes")


@pytest.fixture
def project(tmp_path: Path) -> Project:
    return project_in(tmp_path / "shop")


def held(project: Project, *arguments: str) -> "subprocess.Popen[str]":
    """Begin a run whose second node waits while the file ``held`` is there, and return once it does."""
    (project.home / "held").touch()
    process = project.begin(*arguments)
    deadline = time.monotonic() + 60
    while "second" not in project.lines():
        assert process.poll() is None, process.communicate()
        assert time.monotonic() < deadline
        time.sleep(0.02)  # polls another process, which tells nobody
    return process


def release(project: Project) -> None:
    (project.home / "held").unlink()


def test_a_plan_is_drawn_and_runs_nothing(project: Project) -> None:
    document = check("workflow-plan", project.run("workflow", "plan", "steps", "--json").stdout)

    assert [node["id"] for node in document["nodes"]] == ["one", "two", "three"]
    assert document["provider"] == "more"
    assert "two (task:second)  ← one" in project.run("workflow", "plan", "--workflow", "steps").stdout
    assert project.run("workflow", "plan", "steps", "--mermaid").stdout.startswith("flowchart TD\n")
    assert project.lines() == []
    assert not project.state.exists()


def test_a_run_is_one_document_and_its_progress_is_kept(project: Project) -> None:
    (project.home / "context.json").write_text('{"tea": "green"}')

    done = project.run(
        "workflow", "run", "--workflow", "steps", "--context", "@context.json", "--run-id", "R1", "--json"
    )

    document = check("workflow-run", done.stdout)
    assert (done.returncode, done.stderr) == (0, "")
    assert (document["scope"], document["run_id"], document["status"]) == ("one-off", "R1", "completed")
    assert document["results"] == {"one": {"got": {"tea": "green"}}, "two": 2, "three": {"got": {}}}
    kept = check("workflow-show", project.run("workflow", "show", "R1", "--json").stdout)
    assert [node["node"] for node in kept["nodes"]] == ["one", "two", "three"]
    (listed,) = check("workflow-runs", project.run("workflow", "runs", "steps", "--json").stdout)["runs"]
    assert (listed["run_id"], listed["status"]) == ("R1", "completed")
    assert not {"lifecycle_status.json", "orchestrator.lock"} & {file.name for file in project.state.iterdir()}


def test_a_run_that_fails_is_exit_code_1_and_resuming_it_runs_nothing_again_that_is_committed(project: Project) -> None:
    (project.home / "broken").touch()

    failed = project.run("workflow", "run", "steps", "--run-id", "R1")

    assert failed.returncode == 1
    assert "node 'two' of workflow 'steps' failed in run 'R1': RuntimeError: no tea today" in failed.stdout
    assert "oneiric workflow resume R1" in failed.stderr
    (project.home / "broken").unlink()
    resumed = project.run("workflow", "resume", "R1", "--json")
    assert (resumed.returncode, check("workflow-resume", resumed.stdout)["status"]) == (0, "completed")
    assert project.lines() == ["first", "second", "second", "first"]

    nothing = project.run("workflow", "retry", "R1")
    assert (nothing.returncode, "has completed" in nothing.stderr) == (1, True)
    again = project.run("workflow", "retry", "R1", "--from-node", "three", "--json")
    assert (again.returncode, check("workflow-retry", again.stdout)["status"]) == (0, "completed")
    assert project.lines() == ["first", "second", "second", "first", "first"]


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_what_is_interrupted_says_how_to_go_on_and_goes_on(project: Project, number: signal.Signals) -> None:
    run = held(project, "workflow", "run", "steps", "--run-id", "R1", "--json")

    run.send_signal(number)
    out, err = run.communicate(timeout=30)

    assert (run.returncode, check("workflow-run", out)["status"]) == (130, "interrupted")
    assert "oneiric workflow resume R1" in err
    assert "Traceback" not in err
    release(project)
    assert project.run("workflow", "run", "steps", "--resume-checkpoint").returncode == 0
    assert project.lines() == ["first", "second", "second", "first"]
    (kept,) = check("workflow-runs", project.run("workflow", "runs", "--json").stdout)["runs"]
    assert (kept["run_id"], kept["status"]) == ("R1", "completed")


def test_without_checkpoints_nothing_is_kept_and_it_says_so(project: Project) -> None:
    run = held(project, "workflow", "run", "steps", "--no-workflow-checkpoints")

    run.send_signal(signal.SIGINT)
    out, err = run.communicate(timeout=30)

    assert (run.returncode, "interrupted" in out) == (130, True)
    assert "nothing of it is kept" in err
    assert not (project.state / "workflow_checkpoints.sqlite").exists()


def test_two_processes_never_run_one_run(project: Project) -> None:
    run = held(project, "workflow", "run", "steps", "--run-id", "R1", "--json")

    for other in (["resume", "R1"], ["run", "steps", "--run-id", "R1"]):
        refused = project.run("workflow", *other)
        assert refused.returncode == 1, refused.stdout
        assert "R1" in refused.stderr
    assert check("workflow-show", project.run("workflow", "show", "R1", "--json").stdout)["owner"] is not None

    release(project)
    run.communicate(timeout=30)
    assert (run.returncode, project.lines()) == (0, ["first", "second", "first"])


def test_a_run_of_another_process_is_cancelled_before_its_next_node(project: Project) -> None:
    run = held(project, "workflow", "run", "steps", "--run-id", "R1", "--json")

    asked = project.run("workflow", "cancel", "R1", "--json")
    assert (asked.returncode, check("workflow-cancel", asked.stdout)["requested"]) == (0, True)
    assert "runs it" in asked.stderr

    release(project)
    out, _ = run.communicate(timeout=30)
    assert (run.returncode, check("workflow-run", out)["status"]) == (1, "cancelled")
    assert project.lines() == ["first", "second"]
    assert "was cancelled before" in project.run("workflow", "cancel", "R1").stderr


def test_a_changed_definition_is_refused_unless_it_is_said_which_one_holds(project: Project) -> None:
    (project.home / "broken").touch()
    project.run("workflow", "run", "steps", "--run-id", "R1")
    (project.home / "broken").unlink()
    (project.home / "changed").touch()

    refused = project.run("workflow", "resume", "R1")

    assert refused.returncode == 1
    assert "three" in refused.stderr
    assert "--on-change" in refused.stderr
    gone_on = project.run("workflow", "resume", "R1", "--on-change", "stored", "--json")
    assert check("workflow-resume", gone_on.stdout)["results"]["three"] == {"got": {}}


def test_progress_is_drawn_in_place_on_a_terminal(project: Project) -> None:
    (project.home / "held").touch()
    ours, theirs = pty.openpty()
    environment = project.environment | {"TERM": "xterm"}
    with subprocess.Popen(
        project.command("workflow", "run", "steps"), cwd=project.home, env=environment, stdout=theirs, stderr=theirs
    ) as run:
        os.close(theirs)
        seen = b""
        with contextlib.suppress(OSError):  # the end of a terminal whose other side was closed
            while block := os.read(ours, 65_536):
                seen += block
                if b"running" in seen:
                    (project.home / "held").unlink(missing_ok=True)
    os.close(ours)
    text = seen.decode()

    assert run.returncode == 0
    assert "waits" in text
    assert "\x1b[4F\x1b[J" in text  # the head and three nodes are drawn over
    assert text.rindex("completed") > text.rindex("running")


@pytest.mark.parametrize("arguments", [["runs"], ["show", "R1"], ["cancel", "R1"]], ids=" ".join)
def test_what_only_looks_makes_no_file(oneiric: Callable[..., Any], arguments: list[str]) -> None:
    done = oneiric("workflow", *arguments)

    assert done.code == (0 if arguments == ["runs"] else 4)
    assert list(Path.cwd().iterdir()) == []


@pytest.mark.parametrize(
    ("arguments", "code", "sentence"),
    [
        (["run"], 2, "no workflow was said"),
        (["run", "a", "--workflow", "b"], 2, "not both"),
        (["run", "task:a"], 2, "not both"),
        (["run", "a", "--context", "[1]"], 2, "--context must be a JSON object"),
        (["run", "a", "--context", "{"], 2, "--context is no JSON"),
        (["run", "a", "--workflow-checkpoints", "f", "--no-workflow-checkpoints"], 2, "contradict"),
        (["run", "a", "--resume-checkpoint", "--run-id", "R"], 2, "contradict"),
        (["runs", "--status", "odd"], 2, "--status"),
        (["runs", "--limit", "many"], 2, "--limit"),
        (["resume", "R", "--on-change", "odd"], 2, "--on-change"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)
def test_what_is_asked_wrongly_is_a_sentence(
    oneiric: Callable[..., Any], arguments: list[str], code: int, sentence: str
) -> None:
    done = oneiric("workflow", *arguments)

    assert (done.code, done.out) == (code, "")
    assert sentence in done.err


def test_an_unknown_workflow_is_not_found_with_what_is_near(project: Project) -> None:
    for command in (["plan", "stepz"], ["run", "stepz"], ["enqueue", "stepz"]):
        done = project.run("workflow", *command)
        assert done.returncode == 4
        assert "did you mean 'steps'?" in done.stderr


def test_an_unknown_run_is_not_found(project: Project) -> None:
    project.run("workflow", "run", "steps")
    for command in (["show"], ["resume"], ["retry"], ["cancel"]):
        done = project.run("workflow", *command, "nope")
        assert (done.returncode, "'nope'" in done.stderr) == (4, True), done.stderr


def test_a_paused_workflow_is_not_run(project: Project) -> None:
    assert project.run("pause", "workflow:steps", "--note", "stocktaking").returncode == 0

    done = project.run("workflow", "run", "steps")

    assert (done.returncode, "stocktaking" in done.stderr) == (1, True)
    assert project.lines() == []


OWN_QUEUE = """
from oneiric.adapters.queue.sqlite import SQLiteQueueAdapter
from oneiric.core import Candidate


def register(resolver):
    for key in ("queue", "orders"):
        resolver.register(Candidate(
            domain="adapter", key=key, provider="table", factory=SQLiteQueueAdapter,
            settings_model="oneiric.adapters.queue.sqlite:SQLiteQueueSettings",
        ))
    resolver.register(Candidate(domain="task", key="pack", provider="shop", factory=dict))
    resolver.register(Candidate(
        domain="workflow", key="fulfil", provider="shop", factory=dict,
        metadata={"dag": {"nodes": [{"id": "pack", "task": "pack"}], "queue_category": "orders"}},
    ))
"""


def test_a_workflow_that_states_its_queue_is_enqueued_there_and_another_one_is_refused(
    oneiric: Callable[..., Any],
) -> None:
    Path("own_queue_of_test.py").write_text(OWN_QUEUE)
    enqueue = ("--import", "own_queue_of_test", "workflow", "enqueue", "fulfil")
    other = oneiric(*enqueue, "--queue", "queue")
    astray = oneiric(*enqueue, "--provider", "table")
    own = oneiric(*enqueue, "--queue", "orders", "--provider", "table")

    assert (other.code, other.out) == (2, "")
    assert "--queue is 'queue', and the definition of workflow 'fulfil' states queue_category 'orders'" in other.err
    assert "Try: leave --queue out, or change the definition" in other.err
    assert (astray.code, "Try: --queue orders --provider table" in astray.err) == (2, True)
    assert (own.code, own.err) == (0, "")
    assert "orders (table); `oneiric worker --queue orders` works it off" in own.out


def test_the_options_of_the_quick_start_work_as_they_are_written(oneiric: Callable[..., Any]) -> None:
    context = '{"lines": [{"quantity": 2, "price": 3}]}'
    arguments = ["--demo", "workflow", "run", "--workflow", "demo-workflow", "--context", context, "--json"]

    first = oneiric(*arguments, "--workflow-checkpoints", "runs.sqlite", "--resume-checkpoint")
    second = oneiric("--demo", "event", "emit", "--topic", "cli.event", "--payload", "{}", "--json")

    assert check("workflow-run", first.out)["results"] == {"demo-step": {"lines": 1, "total": 6}}
    assert Path("runs.sqlite").exists()
    assert check("event-emit", second.out)["results"][0]["value"] == {"topic": "cli.event", "seen": 1}
    assert oneiric("workflow", "plan", "demo-workflow", "--demo").code == 0
    assert oneiric("workflow", "enqueue", "demo-workflow", "--context", "{}", "-p", "sqlite", "--demo").code == 0
