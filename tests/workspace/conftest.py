"""What the fences look at: the tree, its members and the wheels built from it. Nothing here keeps a list by hand."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tomllib
import zipfile
from dataclasses import dataclass
from email.parser import Parser
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

ROOT = Path(__file__).resolve().parents[2]


@dataclass(frozen=True)
class Member:
    """One distribution of the workspace, as its pyproject.toml describes it."""

    directory: Path

    @cached_property
    def pyproject(self) -> dict[str, Any]:
        return tomllib.loads((self.directory / "pyproject.toml").read_text(encoding="utf-8"))

    @property
    def project(self) -> dict[str, Any]:
        return dict(self.pyproject["project"])

    @property
    def name(self) -> str:
        return str(self.project["name"])

    @property
    def extras(self) -> dict[str, list[str]]:
        return dict(self.project.get("optional-dependencies", {}))

    @property
    def family(self) -> str | None:
        """The family it serves, such as ``cache``, or None for a part of the base."""
        return self.name.removeprefix("oneiric-adapters-") if self.name.startswith("oneiric-adapters-") else None

    @property
    def requirements(self) -> Iterator[Requirement]:
        for line in [
            *self.project.get("dependencies", []),
            *(line for extra in self.extras.values() for line in extra),
        ]:
            yield Requirement(line)

    @property
    def portions(self) -> list[Path]:
        """The packages it puts into the namespace, such as ``src/oneiric/core``."""
        below = [path for path in sorted((self.directory / "src" / "oneiric").glob("*")) if path.name != "adapters"]
        return below + sorted((self.directory / "src" / "oneiric" / "adapters").glob("*"))


@dataclass(frozen=True)
class Wheel:
    """One built distribution."""

    path: Path

    @cached_property
    def files(self) -> frozenset[str]:
        with zipfile.ZipFile(self.path) as archive:
            return frozenset(name for name in archive.namelist() if not name.endswith("/"))

    def read(self, name: str) -> bytes:
        with zipfile.ZipFile(self.path) as archive:
            return archive.read(name)

    @cached_property
    def metadata(self) -> Any:
        (name,) = (name for name in self.files if name.endswith(".dist-info/METADATA"))
        return Parser().parsestr(self.read(name).decode())

    @property
    def name(self) -> str:
        return canonicalize_name(self.metadata["Name"])

    @property
    def modules(self) -> frozenset[str]:
        """What it installs for import, without its metadata."""
        return frozenset(name for name in self.files if ".dist-info/" not in name)


@dataclass(frozen=True)
class Environment:
    """A virtual environment that holds wheels only."""

    python: Path

    def run(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run([self.python, "-I", *arguments], capture_output=True, text=True, check=False, timeout=120)

    @property
    def distributions(self) -> set[str]:
        names = "from importlib.metadata import distributions; print(*(d.metadata['Name'] for d in distributions()))"
        return {canonicalize_name(name) for name in self.run("-c", names).stdout.split()}


@pytest.fixture(scope="session")
def root() -> Path:
    return ROOT


@pytest.fixture(scope="session")
def members() -> list[Member]:
    return [Member(path.parent) for path in sorted(ROOT.glob("packages/*/pyproject.toml"))]


@pytest.fixture(scope="session")
def bundle() -> Member:
    return Member(ROOT)


@pytest.fixture(scope="session")
def tracked() -> list[Path]:
    """Every file under version control; a source archive has none to look at."""
    git = shutil.which("git")
    if git is None or not (ROOT / ".git").exists():
        pytest.skip("not a git checkout")
    listing = subprocess.run([git, "ls-files", "-z"], cwd=ROOT, capture_output=True, text=True, check=True)
    return [ROOT / name for name in listing.stdout.split("\0") if name and (ROOT / name).is_file()]


@pytest.fixture(scope="session")
def uv() -> Callable[..., str]:
    """Return a function that runs uv with the given arguments and returns what it printed."""
    # `uv run` names itself; a bare PATH may hold a version manager's shim that does not run.
    executable = os.environ.get("UV") or shutil.which("uv")
    assert executable, "uv is needed to build wheels: run the tests by scripts/test"

    def call(*arguments: str | Path) -> str:
        done = subprocess.run(
            [executable, *map(str, arguments)], cwd=ROOT, capture_output=True, text=True, check=False, timeout=300
        )
        assert done.returncode == 0, f"uv {' '.join(map(str, arguments))}\n{done.stderr}"
        return done.stdout

    return call


@pytest.fixture(scope="session")
def wheels(uv: Callable[..., str], tmp_path_factory: pytest.TempPathFactory) -> dict[str, Wheel]:
    """Build every distribution once; the tests that want them share one xdist group."""
    out = tmp_path_factory.mktemp("dist")
    uv("build", "--quiet", "--all-packages", "--wheel", "--out-dir", out)
    built = [Wheel(path) for path in sorted(out.glob("*.whl"))]
    return {wheel.name: wheel for wheel in built}


@pytest.fixture(scope="session")
def locked(uv: Callable[..., str], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The locked versions of everything that is not ours, as constraints."""
    path = tmp_path_factory.mktemp("locked") / "constraints.txt"
    path.write_text(
        uv(
            "export",
            "--quiet",
            "--frozen",
            "--all-packages",
            "--all-extras",
            "--no-emit-workspace",
            "--no-hashes",
            "--no-header",
        )
    )
    return path


@pytest.fixture(scope="session")
def installed(
    uv: Callable[..., str], wheels: dict[str, Wheel], locked: Path, tmp_path_factory: pytest.TempPathFactory
) -> Callable[[Sequence[str]], Environment]:
    """Return a function that installs the named wheels, and the siblings they ask for, into a fresh environment."""

    def install(names: Sequence[str]) -> Environment:
        home = tmp_path_factory.mktemp("environment")
        uv("venv", "--quiet", "--python", sys.executable, home / "venv")
        python = home / "venv" / "bin" / "python"
        paths = [wheels[name].path for name in sorted(_with_siblings(names, wheels))]
        uv("pip", "install", "--quiet", "--python", python, "--constraint", locked, *paths)
        return Environment(python)

    return install


def _with_siblings(names: Sequence[str], wheels: dict[str, Wheel]) -> set[str]:
    # Named by path, so that nobody else's distribution of that name can answer from the index.
    found: set[str] = set()
    queue = list(names)
    while queue:
        name = queue.pop()
        if name in found:
            continue
        found.add(name)
        for line in wheels[name].metadata.get_all("Requires-Dist", []):
            requirement = Requirement(line)
            sibling = canonicalize_name(requirement.name)
            if sibling in wheels and (requirement.marker is None or requirement.marker.evaluate({"extra": ""})):
                queue.append(sibling)
    return found
