"""``oneiric`` and ``oneiric.adapters`` are namespaces: one stray file in them hides every other distribution."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pathlib import Path

    from tests.workspace.conftest import Member


def test_namespace_directories_hold_directories_only(members: list[Member]) -> None:
    stray = [
        str(path)
        for member in members
        for namespace in ("src", "src/oneiric", "src/oneiric/adapters")
        for path in (member.directory / namespace).glob("*")
        if not path.is_dir() and not path.name.endswith(".egg-info")
    ]

    assert stray == [], "a file here turns the namespace into one package's own, and hides the others"


def test_every_member_puts_a_package_into_the_namespace(members: list[Member]) -> None:
    assert [member.name for member in members if not member.portions] == []


def test_every_portion_is_a_typed_package(members: list[Member]) -> None:
    missing = [
        str(portion / name)
        for member in members
        for portion in member.portions
        for name in ("__init__.py", "py.typed")
        if not (portion / name).is_file()
    ]

    assert missing == []


def test_portions_belong_to_one_member_each(members: list[Member]) -> None:
    owners: dict[str, list[str]] = {}
    for member in members:
        for portion in member.portions:
            owners.setdefault(portion.relative_to(member.directory / "src").as_posix(), []).append(member.name)

    assert {portion: names for portion, names in owners.items() if len(names) > 1} == {}


def test_a_familys_member_holds_that_family_alone(members: list[Member]) -> None:
    wrong = {
        member.name: [portion.name for portion in member.portions]
        for member in members
        if member.family and [portion.name for portion in member.portions] != [member.family]
    }

    assert wrong == {}


def test_test_directories_are_not_packages(root: Path) -> None:
    assert sorted(map(str, (root / "tests").rglob("__init__.py"))) == [], "pytest imports by path: importlib mode"


def test_every_member_has_tests(root: Path, members: list[Member]) -> None:
    missing = [
        member.name
        for member in members
        if not any((root / "tests" / member.directory.name.replace("adapters-", "adapters/", 1)).rglob("test_*.py"))
    ]

    assert missing == []
