"""Every row of a catalogue tells the truth about the code beside it. Listing never imports; so this does, once."""

from __future__ import annotations

import importlib
import importlib.metadata
import tomllib
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from packaging.requirements import Requirement

if TYPE_CHECKING:
    from tests.workspace.conftest import Member

ROOT = Path(__file__).resolve().parents[2]
# They need no server, account or key, and win where nothing is configured.
EMBEDDED = {"env", "local", "memory", "sqlite"}


@dataclass(frozen=True)
class Row:
    """One entry of one catalogue of ours."""

    path: Path
    entry: dict[str, Any]

    def __str__(self) -> str:
        entry = self.entry
        return f"{self.path.relative_to(ROOT)}: {entry.get('domain')}:{entry.get('key')} from {entry.get('provider')}"


def rows() -> list[Row]:
    return [
        Row(path, entry)
        for path in sorted(ROOT.glob("packages/*/src/**/catalog.toml"))
        for entry in tomllib.loads(path.read_text(encoding="utf-8")).get("entries", [])
    ]


def load(reference: str) -> Any:
    module, _, attribute = reference.partition(":")
    assert attribute, f"{reference!r} is not of the form module:attribute"
    return getattr(importlib.import_module(module), attribute)


def package_of(row: Row) -> str:
    return ".".join(row.path.parent.parts[row.path.parent.parts.index("src") + 1 :])


def test_there_are_catalogues() -> None:
    assert rows()


@pytest.mark.parametrize("row", rows(), ids=str)
def test_the_factory_of_a_row_can_be_called(row: Row) -> None:
    assert callable(load(row.entry["factory"]))


@pytest.mark.parametrize("row", [row for row in rows() if "settings_model" in row.entry], ids=str)
def test_the_settings_model_of_a_row_is_a_class(row: Row) -> None:
    assert isinstance(load(row.entry["settings_model"]), type)


@pytest.mark.parametrize("row", rows(), ids=str)
def test_a_row_names_code_of_its_own_package(row: Row) -> None:
    for field in ("factory", "settings_model"):
        module = row.entry.get(field, package_of(row)).partition(":")[0]
        assert f"{module}.".startswith(f"{package_of(row)}."), f"{field} points out of the package"


@pytest.mark.parametrize("row", [row for row in rows() if "requires_extra" in row.entry], ids=str)
def test_the_extra_of_a_row_is_one_its_own_distribution_declares(row: Row, members: list[Member]) -> None:
    requirement = Requirement(row.entry["requires_extra"])
    (owner,) = (member for member in members if member.directory in row.path.parents)

    assert requirement.name == owner.name
    assert len(requirement.extras) == 1
    assert requirement.extras <= set(owner.extras)


@pytest.mark.parametrize("row", rows(), ids=str)
def test_a_row_of_ours_yields_to_whatever_a_user_registers(row: Row) -> None:
    assert (row.entry.get("priority"), row.entry.get("stack_level")) == (0, 0)


@pytest.mark.parametrize("row", [row for row in rows() if row.entry["provider"] in EMBEDDED], ids=str)
def test_an_embedded_provider_needs_no_opting_in(row: Row) -> None:
    assert not row.entry.get("opt_in", False)


def test_every_family_has_a_catalogue_and_an_entry_point_for_it(members: list[Member]) -> None:
    for member in members:
        if member.family:
            points = member.project["entry-points"]["oneiric.catalogs"]
            assert list(points.values()) == [f"oneiric.adapters.{member.family}"]


def test_an_entry_point_names_a_package_with_a_catalogue(members: list[Member]) -> None:
    missing = [
        f"{member.name}: {package}"
        for member in members
        for package in member.project.get("entry-points", {}).get("oneiric.catalogs", {}).values()
        if not member.directory.joinpath("src", *package.split("."), "catalog.toml").is_file()
    ]

    assert missing == []


def test_the_installed_entry_points_are_the_declared_ones(members: list[Member]) -> None:
    declared = {
        (name, package)
        for member in members
        for name, package in member.project.get("entry-points", {}).get("oneiric.catalogs", {}).items()
    }

    assert {(p.name, p.value) for p in importlib.metadata.entry_points(group="oneiric.catalogs")} == declared
