"""Say which distributions the workspace holds, so that no list of them is kept by hand.

Prints one JSON array on standard output: the matrix of the workflows and of ``.ci/run``. It reads the tree only.
"""

from __future__ import annotations

import json
import tomllib
from dataclasses import asdict, dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent


@dataclass(frozen=True, slots=True, kw_only=True)
class Package:
    """One member of the workspace.

    Attributes:
        name: The distribution, such as ``oneiric-adapters-cache``.
        directory: Where it lies, relative to the root.
        tests: The tests that must pass with this distribution alone installed, relative to the root.
    """

    name: str
    directory: str
    tests: str


def packages(root: Path = ROOT) -> list[Package]:
    """Return every member below ``packages/``, by name of its directory."""
    return [_package(root, path.parent) for path in sorted(root.glob("packages/*/pyproject.toml"))]


def _package(root: Path, directory: Path) -> Package:
    project = tomllib.loads((directory / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    group, _, family = directory.name.partition("-")
    tests = f"tests/{group}/{family}" if group == "adapters" else f"tests/{directory.name}"
    return Package(name=project["name"], directory=directory.relative_to(root).as_posix(), tests=tests)


if __name__ == "__main__":
    print(json.dumps([asdict(package) for package in packages()]))
