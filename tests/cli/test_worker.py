"""The worker from the command line: beside a running orchestrator, stopped in order, killed and started again."""

import json
import signal
from pathlib import Path

import pytest
from tests.cli.documents import check
from tests.cli.processes import held_until, until
from tests.cli.shop import Project, project_in

pytestmark = pytest.mark.xdist_group("processes")


@pytest.fixture
def project(tmp_path: Path) -> Project:
    return project_in(tmp_path / "shop")


def effects(project: Project) -> list[str]:
    log = project.state / "effects.log"
    return [line.rpartition(" ")[0] for line in log.read_text().splitlines()] if log.exists() else []


def enqueue(project: Project, order: str) -> None:
    context = json.dumps({"order": order, "items": ["tea"]})
    queued = project.run("workflow", "enqueue", "fulfil", "--run-id", order, "--context", context, "--json")
    document = check("workflow-enqueue", queued.stdout)
    assert (document["run_id"], document["queue_category"], document["queue_provider"]) == (order, "queue", "sqlite")


def test_a_worker_does_what_was_enqueued_beside_a_running_orchestrator(project: Project) -> None:
    with held_until(project.begin("orchestrate", "--no-http", "--json")) as orchestrator:
        orchestrator.stdout.readline()  # type: ignore[union-attr]  # a pipe
        before = json.loads((project.state / "runtime_health.json").read_text())
        with held_until(project.begin("worker", "--concurrency", "2", "--json")) as worker:
            told = check("worker", worker.stdout.readline())  # type: ignore[union-attr]  # a pipe
            assert (told["queue"], told["concurrency"], told["pid"]) == ("queue", 2, worker.pid)
            enqueue(project, "A-1")
            until(lambda: "shipped A-1" in effects(project), worker)
        after = json.loads((project.state / "runtime_health.json").read_text())
        assert before["orchestrator_pid"] == after["orchestrator_pid"] == orchestrator.pid
        assert json.loads(project.run("status", "--json").stdout)["system"]["pid"] == orchestrator.pid

    assert effects(project) == ["reserved A-1", "charged A-1 10", "shipped A-1"]


def test_a_worker_that_is_killed_is_started_again_and_nothing_is_done_twice(project: Project) -> None:
    enqueue(project, "A-2")
    (project.state / "crash-once").touch()

    died = project.begin("worker")
    died.communicate(timeout=60)

    assert (died.returncode, effects(project)) == (9, ["reserved A-2", "charged A-2 10"])
    with held_until(project.begin("worker")) as worker:
        until(lambda: "shipped A-2" in effects(project), worker, seconds=60)
    assert effects(project) == ["reserved A-2", "charged A-2 10", "shipped A-2"]
    assert check("workflow-show", project.run("workflow", "show", "A-2", "--json").stdout)["status"] == "completed"


def test_a_stopping_worker_finishes_what_it_is_at(project: Project) -> None:
    (project.home / "held").touch()
    assert project.run("workflow", "enqueue", "steps", "--run-id", "S").returncode == 0

    with held_until(project.begin("worker")) as worker:
        until(lambda: "second" in project.lines(), worker)
        worker.send_signal(signal.SIGTERM)
        (project.home / "held").unlink()
        worker.communicate(timeout=30)

    assert worker.returncode == 0
    assert project.lines() == ["first", "second", "first"]


def test_a_worker_starts_no_service_and_needs_no_port(project: Project) -> None:
    settings = project.home / "settings" / "oneiric.toml"
    settings.write_text(settings.read_text() + '\n[services.selections]\ntill = "more"\n')

    with held_until(project.begin("worker", "--json")) as worker:
        worker.stdout.readline()  # type: ignore[union-attr]  # a pipe
    assert project.lines() == []
    assert not (project.state / "control.sock").exists()
    with held_until(project.begin("orchestrate", "--no-http", "--json")) as orchestrator:
        orchestrator.stdout.readline()  # type: ignore[union-attr]  # a pipe
    assert project.lines() == ["till opened"]


def test_an_unknown_queue_is_not_found(project: Project) -> None:
    done = project.run("worker", "--queue", "quue")

    assert (done.returncode, done.stdout) == (4, "")
    assert "did you mean 'queue'?" in done.stderr


def test_concurrency_is_a_number(project: Project) -> None:
    assert project.run("worker", "--concurrency", "none").returncode == 2
