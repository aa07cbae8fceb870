"""What the distributions say of one another, and the lists at the root that have to name them all."""

from __future__ import annotations

import tomllib
from typing import TYPE_CHECKING, Any

import pytest
from packaging.requirements import Requirement
from packaging.version import Version

if TYPE_CHECKING:
    from pathlib import Path

    from tests.workspace.conftest import Member

NEVER_IN_THE_BUNDLE = {"testing"}  # a contract suite is for who writes a provider, not for who uses one


@pytest.fixture
def tools(bundle: Member) -> dict[str, Any]:
    return dict(bundle.pyproject["tool"])


def sources(members: list[Member], root: Path) -> list[str]:
    return [f"{member.directory.relative_to(root).as_posix()}/src" for member in members]


def importable(members: list[Member]) -> list[str]:
    return [
        portion.relative_to(member.directory / "src").as_posix().replace("/", ".")
        for member in members
        for portion in member.portions
    ]


def test_core_has_no_dependencies(members: list[Member]) -> None:
    (core,) = (member for member in members if member.name == "oneiric-core")

    assert list(core.requirements) == []


def test_a_range_on_a_sibling_accepts_the_siblings_version(members: list[Member], bundle: Member) -> None:
    versions = {member.name: Version(member.project["version"]) for member in [*members, bundle]}
    refused = [
        f"{member.name}: {requirement} refuses {versions[requirement.name]}"
        for member in [*members, bundle]
        for requirement in member.requirements
        if requirement.name in versions and not requirement.specifier.contains(versions[requirement.name])
    ]

    assert refused == []


def test_a_range_on_a_sibling_ends_before_its_next_breaking_version(members: list[Member], bundle: Member) -> None:
    versions = {member.name: Version(member.project["version"]) for member in [*members, bundle]}
    open_ended = []
    for member in [*members, bundle]:
        for requirement in member.requirements:
            if requirement.name in versions:
                have = versions[requirement.name]
                following = f"{have.major}.{have.minor + 1}" if have.major == 0 else str(have.major + 1)
                if not requirement.specifier or requirement.specifier.contains(following):
                    open_ended.append(f"{member.name}: {requirement} accepts {following}")

    assert open_ended == []


def test_an_extra_asked_of_a_sibling_exists(members: list[Member], bundle: Member) -> None:
    extras = {member.name: set(member.extras) for member in [*members, bundle]}
    unknown = [
        f"{member.name}: {requirement}"
        for member in [*members, bundle]
        for requirement in member.requirements
        if requirement.name in extras and not requirement.extras <= extras[requirement.name]
    ]

    assert unknown == []


def test_licences_are_identical(members: list[Member], bundle: Member) -> None:
    text = (bundle.directory / "LICENSE").read_bytes()

    assert text
    for member in members:
        assert not (member.directory / "LICENSE").is_symlink(), "a symlink breaks the source archive"
        assert (member.directory / "LICENSE").read_bytes() == text, member.name
        assert member.project["license"] == bundle.project["license"] == "BSD-3-Clause"
        assert member.project["license-files"] == ["LICENSE"]


def test_one_range_of_python_for_all(members: list[Member], bundle: Member) -> None:
    assert {member.project["requires-python"] for member in [*members, bundle]} == {">=3.13"}


def test_every_member_has_a_readme_and_a_changelog(members: list[Member]) -> None:
    missing = [
        str(member.directory / name)
        for member in members
        for name in ("README.md", "CHANGELOG.md")
        if not (member.directory / name).is_file() or not (member.directory / name).read_text().strip()
    ]

    assert missing == []


def test_every_member_is_a_source_of_the_workspace(tools: dict[str, Any], members: list[Member]) -> None:
    assert set(tools["uv"]["sources"]) == {member.name for member in members}
    assert all(source == {"workspace": True} for source in tools["uv"]["sources"].values())


def test_the_type_checker_sees_every_member(tools: dict[str, Any], members: list[Member], root: Path) -> None:
    assert sorted(tools["mypy"]["mypy_path"]) == sorted(sources(members, root))
    assert sorted(tools["mypy"]["packages"]) == sorted(importable(members))


def test_the_linter_sees_every_member(tools: dict[str, Any], members: list[Member], root: Path) -> None:
    assert set(sources(members, root)) <= set(tools["ruff"]["src"])


def test_the_lock_holds_every_member(root: Path, members: list[Member], bundle: Member) -> None:
    lock = tomllib.loads((root / "uv.lock").read_text(encoding="utf-8"))

    assert set(lock["manifest"]["members"]) == {member.name for member in [*members, bundle]}


def test_the_bundle_offers_every_family_and_each_of_its_providers(members: list[Member], bundle: Member) -> None:
    offered = {extra: [Requirement(line) for line in lines] for extra, lines in bundle.extras.items()}
    families = [member for member in members if member.family]
    missing = [
        f"{extra}: {member.name}[{provider}]"
        for member in families
        for provider in sorted(set(member.extras) - NEVER_IN_THE_BUNDLE)
        for extra in (str(member.family), f"{member.family}-{provider}", "all")
        if not any(row.name == member.name and provider in row.extras for row in offered.get(extra, ()))
    ]

    assert missing == []
    assert [member.name for member in families if str(member.family) not in offered] == []


def test_the_layers_name_every_part(tools: dict[str, Any], members: list[Member]) -> None:
    layers = next(contract for contract in tools["importlinter"]["contracts"] if contract["type"] == "layers")
    named = [part.strip("() ") for layer in layers["layers"] for part in layer.replace(":", "|").split("|")]
    present = {module.split(".")[1] for module in importable(members)}

    assert layers["exhaustive"] is True
    assert sorted(named) == sorted(present)


def test_families_are_kept_apart(tools: dict[str, Any]) -> None:
    apart = [contract for contract in tools["importlinter"]["contracts"] if contract["type"] == "independence"]

    assert any("oneiric.adapters.*" in contract["modules"] for contract in apart)
