"""What may stand in a file under version control: nothing of the machine it was written on, one package index."""

from __future__ import annotations

import re
import tomllib
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

INDEX = "https://pypi.org/simple"
FILES = "files.pythonhosted.org"
# Written so that this file does not hold what it looks for.
MACHINE = re.compile(r"(?<![\w.])/(?:work|root|home/\w+|Users/\w+|tmp/bash\w*|opt/\w+)/")
REGISTRY = re.compile(r"pythonhosted\.[o]rg|pypi\.org/[s]imple|registry\.npmjs\.[o]rg|(?:extra-)?index[-_]url\s*=")


def lines(tracked: list[Path]) -> Iterator[tuple[Path, int, str]]:
    for path in tracked:
        try:
            text = path.read_text(encoding="utf-8")
        except UnicodeDecodeError:
            continue
        for number, line in enumerate(text.splitlines(), start=1):
            yield path, number, line


def test_no_file_names_a_path_of_the_machine_it_was_written_on(tracked: list[Path]) -> None:
    assert [f"{path}:{number}: {line}" for path, number, line in lines(tracked) if MACHINE.search(line)] == []


def test_only_the_lock_names_a_package_index(tracked: list[Path]) -> None:
    found = [
        f"{path}:{number}: {line}"
        for path, number, line in lines(tracked)
        if path.name not in {"uv.lock", "test_hygiene.py"} and REGISTRY.search(line)
    ]

    assert found == []


def test_the_lock_names_the_public_index_only(root: Path) -> None:
    lock = tomllib.loads((root / "uv.lock").read_text(encoding="utf-8"))
    foreign = {
        f"{package['name']}: {package['source']}"
        for package in lock["package"]
        if not package["source"].keys() & {"editable", "virtual"} and package["source"] != {"registry": INDEX}
    }
    hosts = {
        urlsplit(archive["url"]).hostname
        for package in lock["package"]
        for archive in [*package.get("wheels", []), *filter(None, [package.get("sdist")])]
        if "url" in archive
    }

    assert foreign == set()
    assert hosts == {FILES}


def test_only_members_of_the_workspace_come_from_the_tree(root: Path) -> None:
    lock = tomllib.loads((root / "uv.lock").read_text(encoding="utf-8"))
    local = {package["name"] for package in lock["package"] if package["source"].keys() & {"editable", "virtual"}}

    assert local == set(lock["manifest"]["members"])


def test_nothing_generated_is_tracked(tracked: list[Path], root: Path) -> None:
    generated = re.compile(r"(?:^|/)(?:__pycache__|dist|build|\.venv[^/]*|\.(?:hypothesis|\w+_cache))(?:/|$)")

    assert [str(path) for path in tracked if generated.search(path.relative_to(root).as_posix())] == []
