"""The scripts on machines as they come: a version manager's broken shim, no uv, no Python."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from tests.workspace.conftest import Member

ROOT = Path(__file__).resolve().parents[2]
POSIX = ["demo", "soak", "test", "_bootstrap.sh"]
PROBE = '. "$(dirname -- "$0")/_bootstrap.sh"\nprintf "%s\\n" "$UV" "$UV_PYTHON"\n'


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    """What the bootstrap needs of a checkout, with a script that only says what it found."""
    (tmp_path / "checkout" / "scripts").mkdir(parents=True)
    shutil.copy(ROOT / ".python-version", tmp_path / "checkout")
    shutil.copy(ROOT / "scripts" / "_bootstrap.sh", tmp_path / "checkout" / "scripts")
    (tmp_path / "checkout" / "scripts" / "probe").write_text(f"set -eu\n{PROBE}")
    return tmp_path / "checkout"


def command(directory: Path, name: str, text: str) -> Path:
    directory.mkdir(exist_ok=True)
    path = directory / name
    path.write_text(f"#!/bin/sh\n{text}\n")
    path.chmod(0o755)
    return path


def tools(directory: Path) -> Path:
    """A PATH of the standard tools and no Python at all."""
    directory.mkdir()
    for name in ("sh", "awk", "dirname", "tr"):
        found = shutil.which(name)
        assert found
        (directory / name).symlink_to(found)
    return directory


def probe(checkout: Path, *path: Path, **environ: str) -> subprocess.CompletedProcess[str]:
    home = checkout.parent / "home"
    home.mkdir(exist_ok=True)
    return subprocess.run(
        ["/bin/sh", checkout / "scripts" / "probe"],
        env={"PATH": ":".join(map(str, path)), "HOME": str(home), **environ},
        capture_output=True, text=True, check=False, timeout=60, stdin=subprocess.DEVNULL,
    )  # fmt: skip


@pytest.mark.parametrize("name", POSIX)
def test_a_setup_script_is_posix_shell(name: str) -> None:
    shell = shutil.which("dash") or "/bin/sh"

    done = subprocess.run([shell, "-n", ROOT / "scripts" / name], capture_output=True, text=True, check=False)

    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize("name", ["scripts/demo", "scripts/test", "scripts/soak", "scripts/services", ".ci/run"])
def test_a_command_is_executable(name: str) -> None:
    assert os.access(ROOT / name, os.X_OK)


def test_a_uv_that_does_not_run_is_passed_over(checkout: Path, tmp_path: Path) -> None:
    command(tmp_path / "shims", "uv", "echo 'the shim knows no such command' >&2; exit 127")
    working = command(tmp_path / "bin", "uv", "echo uv 0.13.0")

    done = probe(checkout, tmp_path / "shims", tmp_path / "bin", tools(tmp_path / "tools"), UV_PYTHON=sys.executable)

    assert done.stdout.splitlines() == [str(working), sys.executable], done.stderr


def test_a_uv_too_old_for_the_lock_is_passed_over(checkout: Path, tmp_path: Path) -> None:
    command(tmp_path / "old", "uv", "echo uv 0.4.30")
    working = command(tmp_path / "new", "uv", "echo 'uv 1.0.0 (x86_64)'")

    done = probe(checkout, tmp_path / "old", tmp_path / "new", tools(tmp_path / "tools"), UV_PYTHON=sys.executable)

    assert done.stdout.splitlines()[0] == str(working), done.stderr


def test_a_python_of_another_version_is_passed_over(checkout: Path, tmp_path: Path) -> None:
    command(tmp_path / "bin", "uv", "echo uv 0.13.0")
    command(tmp_path / "bin", "python3", "exit 1")
    versions = tmp_path / "home" / ".pyenv" / "versions" / "3.13.9" / "bin"
    versions.mkdir(parents=True)
    command(versions, "python3", f'exec "{sys.executable}" "$@"')
    (checkout / ".python-version").write_text("{}.{}\n".format(*sys.version_info))

    done = probe(checkout, tmp_path / "bin", tools(tmp_path / "tools"), PYENV_ROOT=str(tmp_path / "home" / ".pyenv"))

    assert done.stdout.splitlines() == [str(tmp_path / "bin" / "uv"), sys.executable], done.stderr


def test_without_a_python_and_without_uv_it_says_so_in_one_sentence(checkout: Path, tmp_path: Path) -> None:
    done = probe(checkout, tools(tmp_path / "tools"))

    assert done.returncode == 1
    assert done.stderr.splitlines()[-1].startswith("uv is missing and could not be installed: ")


def test_without_the_wanted_python_it_says_so_in_one_sentence(checkout: Path, tmp_path: Path) -> None:
    command(tmp_path / "bin", "uv", 'case "$1" in --version) echo uv 0.13.0 ;; *) exit 2 ;; esac')

    done = probe(checkout, tmp_path / "bin", tools(tmp_path / "tools"))

    assert done.returncode == 1
    assert [line.partition(":")[0] for line in done.stderr.splitlines()] == [
        "Python 3.13 is missing and uv could not install it"
    ]


def test_the_matrix_names_every_member_and_its_tests(members: list[Member]) -> None:
    done = subprocess.run(
        [sys.executable, ROOT / "scripts" / "packages.py"], capture_output=True, text=True, check=True
    )
    matrix = json.loads(done.stdout)

    assert {row["name"] for row in matrix} == {member.name for member in members}
    assert [row["tests"] for row in matrix if not (ROOT / row["tests"]).is_dir()] == []


def test_an_unknown_service_is_named(tmp_path: Path) -> None:
    done = subprocess.run([ROOT / "scripts" / "services", "nonesuch"], capture_output=True, text=True, check=False)

    assert done.returncode == 2
    assert "no service nonesuch" in done.stderr
