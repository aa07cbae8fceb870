"""What several tests of the core share."""

import importlib
import sys
import sysconfig
from collections.abc import Iterator, Mapping
from pathlib import Path

import pytest

STANDARD_LIBRARY = [sysconfig.get_path("stdlib"), f"{sysconfig.get_path('platstdlib')}/lib-dynload"]


class Site:
    """A directory of installed distributions, built file by file.

    Attributes:
        root: The directory; it is on ``sys.path``.
    """

    def __init__(self, root: Path) -> None:
        self.root = root
        root.mkdir()

    def distribution(
        self, name: str, entry_points: Mapping[str, Mapping[str, str]] | None = None, *, version: str = "1.0"
    ) -> Path:
        """Write a distribution's ``.dist-info``; *entry_points* maps group → name → value."""
        directory = self.root / f"{name.replace('-', '_')}-{version}.dist-info"
        directory.mkdir()
        (directory / "METADATA").write_text(f"Metadata-Version: 2.4\nName: {name}\nVersion: {version}\n")
        lines = []
        for group, points in (entry_points or {}).items():
            lines += [f"[{group}]", *(f"{point} = {value}" for point, value in points.items()), ""]
        (directory / "entry_points.txt").write_text("\n".join(lines))
        return directory

    def package(self, name: str, *, code: str = "", catalog: str | None = None) -> Path:
        """Write a package with *code* as its ``__init__.py``, parents included, and perhaps a catalogue."""
        directory = self.root
        for segment in name.split("."):
            directory /= segment
            directory.mkdir(exist_ok=True)
            if not (directory / "__init__.py").exists():
                (directory / "__init__.py").write_text(code)
        if catalog is not None:
            (directory / "catalog.toml").write_text(catalog)
        return directory

    def module(self, name: str, code: str) -> None:
        """Write a top-level module."""
        (self.root / f"{name}.py").write_text(code)


@pytest.fixture
def site(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Site]:
    """An empty site directory, and nothing but it and the standard library on sys.path."""
    built = Site(tmp_path / "site")
    monkeypatch.setattr(sys, "path", [str(built.root), *STANDARD_LIBRARY])
    importlib.invalidate_caches()
    before = set(sys.modules)
    yield built
    for name in set(sys.modules) - before:
        if not name.startswith("oneiric"):
            del sys.modules[name]
