"""A shop whose catalogue is installed for one test, and the command run in this process as a shell would run it."""

import os
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from oneiric.cli import main

CATALOG = """
schema = 1

[[entries]]
domain = "shop"
key = "pay"
provider = "cash"
factory = "acme_shop:Cash"
priority = 0
stack_level = 0
capabilities = ["offline"]

[[entries]]
domain = "shop"
key = "pay"
provider = "card"
factory = "acme_shop:Card"
priority = 0
stack_level = 5
version = "2.1"
capabilities = ["refund"]

[[entries]]
domain = "shop"
key = "pay"
provider = "shells"
factory = "acme_shop:Shells"
priority = 90
requires_packages = ["no-such-till"]

[[entries]]
domain = "shop"
key = "pay"
provider = "bank"
factory = "acme_shop:Bank"
opt_in = true
capabilities = ["refund"]

[[entries]]
domain = "shop"
key = "gift"
provider = "voucher"
factory = "acme_shop:Voucher"
requires_packages = ["no-such-till"]
"""


@dataclass(frozen=True)
class Done:
    """What one run of the command left behind."""

    code: int
    out: str
    err: str


class Site:
    """A directory of installed distributions."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def install(self, name: str, entry_points: str, files: dict[str, str]) -> None:
        information = self.path / f"{name.replace('-', '_')}-1.0.dist-info"
        information.mkdir()
        (information / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: 1.0\n")
        (information / "entry_points.txt").write_text(entry_points)
        for file, text in files.items():
            target = self.path / file
            target.parent.mkdir(parents=True, exist_ok=True)
            target.write_text(text)


@pytest.fixture(autouse=True)
def clean_environment(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing of the developer's own configuration reaches a test."""
    for name in [name for name in os.environ if name.startswith("ONEIRIC_")]:
        monkeypatch.delenv(name)
    home = tmp_path / "home"
    home.mkdir()
    monkeypatch.chdir(home)


@pytest.fixture
def site(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Site]:
    directory = tmp_path / "site"
    directory.mkdir()
    monkeypatch.syspath_prepend(str(directory))
    before = set(sys.modules)
    yield Site(directory)
    for name in set(sys.modules) - before:
        if str(directory) in str(getattr(sys.modules[name], "__file__", "")):
            del sys.modules[name]


@pytest.fixture
def shop(site: Site) -> Site:
    code = "raise RuntimeError('imported')\n"
    files = {"acme_shop/__init__.py": code, "acme_shop/catalog.toml": CATALOG}
    site.install("acme-shop", "[oneiric.catalogs]\nacme-shop = acme_shop\n", files)
    return site


@pytest.fixture
def oneiric(capsys: pytest.CaptureFixture[str]) -> Callable[..., Done]:
    def run(*arguments: str) -> Done:
        capsys.readouterr()
        code = main(list(arguments))
        printed = capsys.readouterr()
        return Done(code, printed.out, printed.err)

    return run


@pytest.fixture
def settings(tmp_path: Path) -> Callable[[str], str]:
    def write(text: str, name: str = "oneiric.toml") -> str:
        path = tmp_path / "home" / name
        path.write_text(text)
        return name

    return write
