"""The distributions as built: what they hold, and what installing one brings."""

from __future__ import annotations

from itertools import combinations
from typing import TYPE_CHECKING

import pytest
from packaging.requirements import Requirement

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from tests.workspace.conftest import Environment, Member, Wheel

pytestmark = pytest.mark.xdist_group("wheels")


def test_every_member_and_the_bundle_build_a_wheel(
    wheels: dict[str, Wheel], members: list[Member], bundle: Member
) -> None:
    assert set(wheels) == {member.name for member in [*members, bundle]}


def test_wheels_are_pairwise_disjoint(wheels: dict[str, Wheel]) -> None:
    shared = {
        (one.name, other.name): sorted(one.files & other.files)
        for one, other in combinations(wheels.values(), 2)
        if one.files & other.files
    }

    assert shared == {}, "uninstalling one of them would break the other"


def test_a_wheel_holds_every_file_of_its_source(wheels: dict[str, Wheel], members: list[Member]) -> None:
    for member in members:
        source = member.directory / "src"
        files = {
            path.relative_to(source).as_posix()
            for path in source.rglob("*")
            if path.is_file() and path.suffix != ".pyc"
        }

        assert wheels[member.name].modules == files


def test_the_namespace_holds_no_file_in_any_wheel(wheels: dict[str, Wheel]) -> None:
    stray = [
        (wheel.name, name)
        for wheel in wheels.values()
        for name in wheel.modules
        if name.rpartition("/")[0] in {"", "oneiric", "oneiric/adapters"}
    ]

    assert stray == []


def test_the_bundle_is_metadata_only(wheels: dict[str, Wheel], bundle: Member) -> None:
    assert wheels[bundle.name].modules == frozenset()


def test_every_wheel_carries_the_licence(wheels: dict[str, Wheel], bundle: Member) -> None:
    text = (bundle.directory / "LICENSE").read_bytes()

    for wheel in wheels.values():
        (name,) = (name for name in wheel.files if name.endswith("/licenses/LICENSE"))
        assert wheel.read(name) == text, wheel.name


def test_no_wheel_depends_on_a_path_or_an_address(wheels: dict[str, Wheel]) -> None:
    direct = [
        (wheel.name, line)
        for wheel in wheels.values()
        for line in wheel.metadata.get_all("Requires-Dist", [])
        if Requirement(line).url
    ]

    assert direct == []


def test_installing_core_brings_one_distribution(installed: Callable[[Sequence[str]], Environment]) -> None:
    environment = installed(["oneiric-core"])

    assert environment.distributions == {"oneiric-core"}
    assert environment.run("-W", "error", "-c", "from oneiric.core import *").returncode == 0


def test_a_serverless_image_holds_no_command_line_and_no_cloud_sdk(
    installed: Callable[[Sequence[str]], Environment],
) -> None:
    environment = installed(["oneiric-runtime", "oneiric-adapters-cache"])

    assert {"oneiric-core", "oneiric-runtime", "oneiric-adapters-cache", "pydantic"} <= environment.distributions
    assert (
        environment.distributions & {"oneiric-cli", "typer", "click", "rich", "boto3", "botocore", "pynacl", "redis"}
        == set()
    )
    for module in ("oneiric.runtime", "oneiric.domains", "oneiric.app", "oneiric.adapters.cache"):
        done = environment.run("-W", "error", "-c", f"import {module}")
        assert done.returncode == 0, done.stderr


def test_every_wheel_installs_and_imports_alone(
    installed: Callable[[Sequence[str]], Environment], members: list[Member]
) -> None:
    for member in members:
        environment = installed([member.name])
        for portion in member.portions:
            module = portion.relative_to(member.directory / "src").as_posix().replace("/", ".")
            done = environment.run("-W", "error", "-c", f"import {module}")
            assert done.returncode == 0, f"{member.name} alone: import {module}\n{done.stderr}"
