"""oneiric orchestrate: the published options become settings, and what is declared is shown without running it."""

import http.client
import json
import os
import signal
import subprocess
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from tests.cli.documents import check
from tests.cli.systems import command

from oneiric.runtime.control import ControlClient, control_socket_path

GOLDEN = Path(__file__).parent / "golden"
MODULE = """
from oneiric.core import Candidate

def register(resolver):
    resolver.register(Candidate(
        domain="workflow", key="ship", provider="mine", factory=dict,
        metadata={"dag": {"nodes": [
            {"id": "pack", "task": "pack"},
            {"id": "label", "task": "print", "depends_on": ["pack"], "timeout_seconds": 5},
            {"id": "send", "task": "hand-over", "depends_on": ["pack", "label"], "retry_policy": {"attempts": 3}},
        ]}},
    ))
    resolver.register(Candidate(
        domain="event", key="paid", provider="mine", factory=dict,
        metadata={"topics": ["shop.*.paid"], "event_priority": 5, "max_concurrency": 2, "fanout_policy": "exclusive",
                  "filters": [{"path": "payload.total", "exists": True}]},
    ))
"""
UNSOUND = """
from oneiric.core import Candidate

def register(resolver):
    resolver.register(Candidate(
        domain="workflow", key="round", provider="mine", factory=dict,
        metadata={"dag": {"nodes": [{"id": "a", "task": "t", "depends_on": ["b"]},
                                    {"id": "b", "task": "t", "depends_on": ["a"]}]}},
    ))
    resolver.register(Candidate(
        domain="event", key="odd", provider="mine", factory=dict, metadata={"filters": [{"path": "topic"}]},
    ))
"""


@pytest.fixture
def modules(site: Any) -> None:
    (site.path / "shipping_parts.py").write_text(MODULE)
    (site.path / "unsound_parts.py").write_text(UNSOUND)


INSPECTED = {"print-dag": ["--print-dag"], "events": ["--events"], "inspect": ["--print-dag", "--events"]}


@pytest.mark.usefixtures("modules")
@pytest.mark.parametrize("name", INSPECTED)
def test_what_is_declared_is_shown_and_nothing_runs(name: str, oneiric: Callable[..., Any]) -> None:
    arguments = ["orchestrate", "--import", "shipping_parts", "--demo", *INSPECTED[name]]

    told, data = oneiric(*arguments), oneiric(*arguments, "--json")

    assert (told.code, told.err) == (0, "")
    assert told.out == (GOLDEN / f"orchestrate-{name}.txt").read_text(encoding="utf-8")
    assert check("orchestrate", data.out).keys() <= {"workflows", "events"}
    assert list(Path.cwd().iterdir()) == []


@pytest.mark.usefixtures("modules")
def test_inspect_json_is_one_document_of_both(oneiric: Callable[..., Any]) -> None:
    document = check("orchestrate", oneiric("orchestrate", "--import", "shipping_parts", "--inspect-json").out)

    assert document["workflows"]["summary"]["ship"]["edge_count"] == 3
    (handler,) = document["events"]["handlers"]
    assert (handler["name"], handler["topics"], handler["max_concurrency"]) == ("paid:mine", ["shop.*.paid"], 2)


@pytest.mark.usefixtures("modules")
def test_workflows_are_chosen_by_key_and_a_missing_one_is_not_found(oneiric: Callable[..., Any]) -> None:
    def shown(*keys: str) -> tuple[int, set[str], list[str]]:
        options = [word for key in keys for word in ("--workflow", key)]
        done = oneiric("orchestrate", "--demo", "--import", "shipping_parts", *options, "--json")
        workflows = check("orchestrate", done.out)["workflows"]
        return done.code, set(workflows["summary"]), workflows["missing"]

    assert shown("ship") == (0, {"ship"}, [])
    assert shown("all") == shown("*") == (0, {"demo-workflow", "ship"}, [])
    assert shown("ship", "nope") == (4, {"ship"}, ["nope"])


@pytest.mark.usefixtures("modules")
def test_what_is_unsound_is_named_and_fails(oneiric: Callable[..., Any]) -> None:
    done = oneiric("orchestrate", "--import", "unsound_parts", "--print-dag", "--events")

    assert done.code == 1
    assert "wrong: workflow:round: " in done.out
    assert "wrong: event:odd: " in done.out


WRONG = {
    "no port": (["--http-port", "x"], "http.port"),
    "no interval": (["--refresh-interval", "often"], "remote.refresh_interval"),
    "contradiction": (["--manifest", "https://example.org/m.json", "--no-remote"], "contradict"),
    "no module": (["--import", "no_such_module"], "no_such_module"),
    "open to all": (["--http-host", "0.0.0.0", "--http-port", "0"], "http.auth"),  # noqa: S104 - to be refused
}


@pytest.mark.xdist_group("processes")
@pytest.mark.parametrize("case", WRONG)
def test_what_cannot_run_is_refused_with_a_sentence(case: str) -> None:
    arguments, sentence = WRONG[case]

    done = subprocess.run(
        command("orchestrate", "--quiet", *arguments), capture_output=True, text=True, check=False, timeout=60
    )

    assert done.returncode in {1, 2}
    assert sentence in done.stderr
    assert "Traceback" not in done.stderr


@contextmanager
def orchestrating(*arguments: str, **environ: str) -> Iterator[dict[str, Any]]:
    """Run one in this directory; give what it says once it is ready."""
    with subprocess.Popen(
        command("orchestrate", *arguments, "--json"),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=os.environ | environ,
    ) as process:
        try:
            assert process.stdout is not None
            line = process.stdout.readline()
            assert line, process.communicate()[1]
            yield check("orchestrate", line) | {"process": process}
        finally:
            process.send_signal(signal.SIGTERM)
            process.communicate(timeout=30)


def asked(operation: str, **fields: Any) -> dict[str, Any]:
    return ControlClient(control_socket_path(".oneiric_cache")).call(operation, **fields)


@pytest.mark.xdist_group("processes")
def test_the_published_options_reach_the_running_system() -> None:
    Path("paid_parts.py").write_text(MODULE)
    Path("shop.yml").write_text("plugins: {imports: [configured_parts]}\n")
    Path("configured_parts.py").write_text("def register(resolver): pass\n")
    options = ["--config", "shop.yml", "--import", "paid_parts", "--demo", "--profile", "serverless"]
    options += [
        "--health-path",
        "elsewhere.json",
        "--no-workflow-checkpoints",
        "--no-remote",
        "--refresh-interval",
        "60",
    ]
    with orchestrating(*options, PORT="0") as ready:
        status = asked("status")
        keys = {(each["domain"], each["key"]) for each in asked("components", shadowed=False)["keys"]}
        connection = http.client.HTTPConnection(ready["http"]["host"], ready["http"]["port"], timeout=60)
        connection.request("GET", "/healthz")
        answered = connection.getresponse().status
        connection.close()
        health = json.loads(Path("elsewhere.json").read_text())

    assert (status["profile"], answered, health["orchestrator_pid"]) == ("serverless", 200, ready["pid"])
    assert {("workflow", "ship"), ("task", "demo-task")} <= keys
    assert ready["process"].returncode == 0


@pytest.mark.xdist_group("processes")
def test_without_http_there_is_the_control_socket_only() -> None:
    with orchestrating("--no-http") as ready:
        assert ready["http"] is None
        assert asked("status")["ready"]


@pytest.mark.xdist_group("processes")
def test_a_second_one_on_the_same_state_is_refused() -> None:
    with orchestrating("--no-http"):
        second = subprocess.run(
            command("orchestrate", "--no-http", "--quiet"), capture_output=True, text=True, check=False, timeout=60
        )

    assert second.returncode == 1
    assert second.stderr.startswith("error: ")
    assert "Traceback" not in second.stderr
