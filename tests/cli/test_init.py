"""oneiric init: a project that lists, tests and runs as it is written."""

import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from tests.cli.documents import check
from tests.cli.systems import command


@pytest.fixture
def project(oneiric: Callable[..., Any]) -> Path:
    assert oneiric("init", "corner-shop").code == 0
    return Path("corner-shop").resolve()


def in_it(project: Path, words: list[str]) -> subprocess.CompletedProcess[str]:
    return subprocess.run(words, cwd=project, capture_output=True, text=True, check=False, timeout=60)


def test_what_is_written_is_said(oneiric: Callable[..., Any]) -> None:
    done = oneiric("init", "corner-shop", "--json")

    document = check("init", done.out)
    written = {path.relative_to("corner-shop").as_posix() for path in Path("corner-shop").rglob("*") if path.is_file()}
    assert (done.code, document["name"], set(document["files"])) == (0, "corner-shop", written)
    assert "{{" not in "".join((Path("corner-shop") / name).read_text() for name in written)


@pytest.mark.parametrize("existing", ["README.md", "settings/services.yml", ".gitignore"])
def test_nothing_is_replaced_unless_it_is_forced(existing: str, oneiric: Callable[..., Any]) -> None:
    there = Path("shop") / existing
    there.parent.mkdir(parents=True)
    there.write_text("mine")

    refused = oneiric("init", "shop")
    assert refused.code == 2
    assert existing in refused.err
    assert there.read_text() == "mine"
    assert [path for path in Path("shop").rglob("*") if path.is_file()] == [there]

    forced = check("init", oneiric("init", "shop", "--force", "--json").out)
    assert forced["replaced"] == [existing]
    assert there.read_text() != "mine"


def test_a_directory_that_cannot_be_written_is_an_error(oneiric: Callable[..., Any]) -> None:
    Path("shop").write_text("in the way")

    done = oneiric("init", "shop")

    assert done.code == 1
    assert "cannot be written" in done.err


@pytest.mark.parametrize(("directory", "name"), [("Corner Shop", "corner-shop"), ("4711", "shop"), ("_shop_", "shop")])
def test_the_name_is_one_that_may_be_used(directory: str, name: str, oneiric: Callable[..., Any]) -> None:
    assert check("init", oneiric("init", directory, "--json").out)["name"] == name


def test_the_project_lists_validates_and_shows_its_workflow(project: Path) -> None:
    listed = in_it(project, command("--config", "settings", "list", "--json"))
    valid = in_it(project, command("--config", "settings", "config", "validate"))
    drawn = in_it(project, command("--config", "settings", "orchestrate", "--print-dag", "--json"))

    names = {f"{each['domain']}:{each['key']}": each["provider"] for each in json.loads(listed.stdout)["keys"]}
    workflows = check("orchestrate", drawn.stdout)["workflows"]
    assert names["service:greeter"] == "polite"
    assert names["task:sign"] == names["workflow:welcome"] == "corner-shop"
    assert (valid.returncode, valid.stdout) == (0, "settings: valid\n")
    assert workflows["summary"]["welcome"]["entry_nodes"] == ["write"]


def test_the_tests_of_the_project_pass(project: Path) -> None:
    done = in_it(project, [sys.executable, "-W", "error", "-m", "pytest", "-q", "-p", "no:cacheprovider"])

    assert done.returncode == 0, done.stdout + done.stderr
    assert "3 passed" in done.stdout


def test_the_code_of_the_project_is_as_it_should_be(project: Path) -> None:
    """A type checker has nothing to say about it."""
    pytest.importorskip("mypy", reason="mypy is not beside this package")
    typed = in_it(project, [sys.executable, "-m", "mypy", "components.py", "--cache-dir", os.devnull])

    assert typed.returncode == 0, typed.stdout


@pytest.mark.xdist_group("processes")
def test_the_project_runs_and_stops_by_sigterm(project: Path) -> None:
    words = command("--config", "settings", "orchestrate", "--http-port", "0", "--json")
    with subprocess.Popen(words, cwd=project, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as running:
        assert running.stdout is not None
        ready = check("orchestrate", running.stdout.readline())
        swapped = in_it(project, command("--config", "settings", "swap", "greeter", "--provider", "loud"))
        running.send_signal(signal.SIGTERM)
        out, err = running.communicate(timeout=30)

    assert running.returncode == 0, err
    assert ready["pid"] == running.pid
    assert out == ""
    assert swapped.stdout.startswith("service:greeter polite → loud\n")
