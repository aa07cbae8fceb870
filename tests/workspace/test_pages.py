"""What a page shows, works: its Python runs, its commands exist and its links lead somewhere."""

from __future__ import annotations

import importlib.util
import os
import re
import shlex
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from packaging.requirements import Requirement

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.workspace.conftest import Member

ROOT = Path(__file__).resolve().parents[2]
RUNNER = Path(__file__).with_name("pages.py")
READMES = [ROOT / "README.md", *sorted(ROOT.glob("packages/*/README.md"))]
PAGES = sorted({*READMES, *ROOT.glob("*.md"), *ROOT.glob("docs/**/*.md")})
WITH_COMMANDS = [*READMES, *ROOT.glob("docs/getting-started.md")]
# They would start this very run again, install system packages, or take their time.
NOT_RUN = {"scripts/test", "scripts/services", "scripts/soak", ".ci/run", "git", "pytest", "."}


def name(path: Path) -> str:
    return path.relative_to(ROOT).as_posix()


def load_pages() -> Any:
    spec = importlib.util.spec_from_file_location("pages", RUNNER)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules["pages"] = module  # a dataclass looks its module up
    spec.loader.exec_module(module)
    return module


pages = load_pages()


def environment() -> dict[str, str]:
    """This interpreter's commands first, and nothing of the caller's Oneiric."""
    kept = {key: value for key, value in os.environ.items() if not key.startswith("ONEIRIC_")}
    return kept | {"PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}"}


def commands(page: Path) -> Iterator[list[str]]:
    """Every command of the page's shell blocks; in a console block a line that starts with a prompt."""
    for block in pages.blocks(page):
        if block.language not in {"sh", "console"} or not block.is_run:
            continue
        for line in block.body.replace("\\\n", " ").splitlines():
            if block.language == "console" and not line.startswith("$ "):
                continue
            words = shlex.split(line.removeprefix("$ "), comments=True)
            if words:
                yield words


def test_the_readme_is_short() -> None:
    assert len((ROOT / "README.md").read_text(encoding="utf-8").splitlines()) <= 150


def test_the_readme_names_the_two_commands_that_set_everything_up() -> None:
    assert {words[0] for words in commands(ROOT / "README.md")} >= {"scripts/demo", "scripts/test"}


@pytest.mark.parametrize(
    "page", [p for p in PAGES if any(b.language == "python" and b.is_run for b in pages.blocks(p))], ids=name
)
def test_the_python_of_a_page_runs(page: Path, tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-W", "error", RUNNER, page],
        cwd=tmp_path, env=environment(), capture_output=True, text=True, check=False, timeout=120,
    )  # fmt: skip

    assert done.returncode == 0, done.stderr
    assert int(done.stdout.split()[-1]) > 0


@pytest.mark.xdist_group("commands")
@pytest.mark.parametrize("page", [page for page in WITH_COMMANDS if any(commands(page))], ids=name)
def test_the_commands_of_a_page_run(page: Path, tmp_path: Path, members: list[Member], bundle: Member) -> None:
    pages.write_files(page, tmp_path)
    directory = tmp_path
    for words in commands(page):
        if words[0].startswith(("scripts/", ".ci/")):
            assert os.access(ROOT / words[0], os.X_OK), f"{words[0]} cannot be run"
        if words[:2] == ["pip", "install"]:
            assert_can_be_installed(words[2:], [*members, bundle])
        elif words[0] == "cd":
            directory /= words[1]
        elif words[0] not in NOT_RUN:
            assert_runs(words, ROOT if words[0].startswith("scripts/") else directory)


def assert_can_be_installed(words: list[str], known: list[Member]) -> None:
    extras = {member.name: set(member.extras) for member in known}
    for requirement in (Requirement(word) for word in words if not word.startswith("-")):
        assert requirement.name in extras, f"{requirement.name} is not a distribution of ours"
        assert requirement.extras <= extras[requirement.name], f"no such extra: {requirement}"


def assert_runs(words: list[str], directory: Path) -> None:
    if words[:2] == ["uv", "run"]:
        words = words[2:]  # this environment is the one it would run in
    done = subprocess.run(
        words, cwd=directory, env=environment(), capture_output=True, text=True, check=False, timeout=240
    )
    assert done.returncode == 0, f"{shlex.join(words)}\n{done.stdout[-2000:]}{done.stderr[-2000:]}"


LINK = re.compile(r"(?<!!)\[[^\]]+\]\((?!\w+:)([^)#\s]+)(?:#[^)]*)?\)")


@pytest.mark.parametrize("page", PAGES, ids=name)
def test_the_links_of_a_page_stay_in_the_repository_and_lead_somewhere(page: Path) -> None:
    targets = [(page.parent / link).resolve() for link in LINK.findall(page.read_text(encoding="utf-8"))]

    assert [str(target) for target in targets if not target.exists() or ROOT not in target.parents] == []
