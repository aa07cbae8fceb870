"""Installed code that a manifest names: only what its distribution recorded, unchanged, and never a stand-in."""

from __future__ import annotations

import base64
import hashlib
import sys
from pathlib import Path

import pytest

from oneiric.core.errors import DigestError, FactoryNotAllowedError, FactoryNotFoundError
from oneiric.remote._installed import InstalledModules
from oneiric.remote.artifacts import check_installed

CODE = {
    "fakeacme/__init__.py": "raise AssertionError('imported')\n",
    "fakeacme/cache.py": "raise AssertionError('imported')\n",
    "fakespace/inner/leaf.py": "raise AssertionError('imported')\n",
    "fakesingle.py": "raise AssertionError('imported')\n",
}
MODULES = ["fakeacme", "fakeacme.cache", "fakespace.inner.leaf", "fakesingle"]


def install(site: Path, name: str = "fake-acme", code: dict[str, str] | None = None) -> Path:
    """Lay out a distribution as an installer does."""
    lines = []
    for path, text in (CODE if code is None else code).items():
        file = site / path
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text)
        value = base64.urlsafe_b64encode(hashlib.sha256(text.encode()).digest()).decode().rstrip("=")
        lines.append(f"{path},sha256={value},{len(text)}")
    info = site / f"{name.replace('-', '_')}-1.dist-info"
    info.mkdir()
    (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: 1\n")
    (info / "RECORD").write_text("\n".join([*lines, f"{info.name}/METADATA,,", f"{info.name}/RECORD,,"]) + "\n")
    return site


@pytest.mark.parametrize("module", MODULES)
def test_what_was_recorded_and_is_unchanged_is_accepted_without_an_import(tmp_path: Path, module: str) -> None:
    check_installed(module, path=[str(install(tmp_path))])

    assert module.partition(".")[0] not in sys.modules


@pytest.mark.parametrize("module", MODULES)
def test_what_was_changed_is_refused(tmp_path: Path, module: str) -> None:
    install(tmp_path)
    for path in CODE:
        (tmp_path / path).write_text("import os\n")

    with pytest.raises(DigestError, match="not as it was installed"):
        check_installed(module, path=[str(tmp_path)])


def test_a_changed_package_above_the_module_is_refused(tmp_path: Path) -> None:
    install(tmp_path)
    (tmp_path / "fakeacme" / "__init__.py").write_text("import os\n")

    with pytest.raises(DigestError):
        check_installed("fakeacme.cache", path=[str(tmp_path)])


def test_a_stand_in_earlier_on_the_path_is_refused(tmp_path: Path) -> None:
    site, shadow = tmp_path / "site", tmp_path / "shadow"
    site.mkdir()
    install(site)
    (shadow / "fakeacme").mkdir(parents=True)
    for name in ("__init__.py", "cache.py"):
        (shadow / "fakeacme" / name).write_text(CODE["fakeacme/cache.py"])

    with pytest.raises(FactoryNotAllowedError, match="in no installed distribution's record"):
        check_installed("fakeacme.cache", path=[str(shadow), str(site)])


def test_a_file_that_nobody_installed_is_refused(tmp_path: Path) -> None:
    install(tmp_path)
    (tmp_path / "fakeacme" / "extra.py").write_text("")

    with pytest.raises(FactoryNotAllowedError):
        check_installed("fakeacme.extra", path=[str(tmp_path)])


def test_a_record_elsewhere_does_not_vouch_for_a_file_here(tmp_path: Path) -> None:
    one, other = tmp_path / "one", tmp_path / "other"
    one.mkdir()
    other.mkdir()
    install(one)
    (other / "fakesingle.py").write_text(CODE["fakesingle.py"])

    with pytest.raises(FactoryNotAllowedError):
        check_installed("fakesingle", path=[str(other), str(one)])


@pytest.mark.parametrize("module", ["nothing", "fakeacme.nothing", "fakespace.nothing", "fakesingle.x", "fakespace"])
def test_a_module_that_is_not_there_is_not_found(tmp_path: Path, module: str) -> None:
    with pytest.raises(FactoryNotFoundError):
        check_installed(module, path=[str(install(tmp_path))])


def test_records_are_read_once_for_many_modules(tmp_path: Path) -> None:
    installed = InstalledModules([str(install(tmp_path))])
    installed.check("fakeacme")
    (tmp_path / "fake_acme-1.dist-info" / "RECORD").unlink()

    installed.check("fakeacme.cache")
    with pytest.raises(FactoryNotAllowedError):
        check_installed("fakeacme.cache", path=[str(tmp_path)])


def test_a_link_to_where_it_was_installed_is_followed(tmp_path: Path) -> None:
    (tmp_path / "site").mkdir()
    (tmp_path / "link").symlink_to(install(tmp_path / "site"))

    check_installed("fakeacme.cache", path=[str(tmp_path / "link")])


def test_a_real_distribution_is_accepted() -> None:
    check_installed("pydantic.main")
