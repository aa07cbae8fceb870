"""The workflows follow the tree, and run nobody's moving branch."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
import yaml

WORKFLOWS = sorted((Path(__file__).resolve().parents[2] / ".github" / "workflows").glob("*.yml"))
RELEASE = re.compile(r"v?\d+(\.\d+)*(/.*)?")


def load(path: Path) -> dict[str, Any]:
    text: dict[str, Any] = yaml.safe_load(path.read_text(encoding="utf-8"))
    return text


def steps(path: Path) -> list[dict[str, Any]]:
    return [step for job in load(path)["jobs"].values() for step in job.get("steps", [])]


def test_there_are_workflows_for_checks_and_for_releases() -> None:
    assert {path.name for path in WORKFLOWS} == {"ci.yml", "release.yml"}


@pytest.mark.parametrize("path", WORKFLOWS, ids=lambda path: path.name)
def test_actions_are_pinned_to_release_tags(path: Path) -> None:
    used = [step["uses"] for step in steps(path) if "uses" in step]

    assert used
    assert [name for name in used if not RELEASE.fullmatch(re.split("[@:]", name)[-1])] == []


@pytest.mark.parametrize("path", WORKFLOWS, ids=lambda path: path.name)
def test_a_workflow_may_read_and_nothing_more_unless_a_job_says_so(path: Path) -> None:
    assert load(path)["permissions"] == {"contents": "read"}


@pytest.mark.parametrize("path", WORKFLOWS, ids=lambda path: path.name)
def test_no_workflow_lists_packages_by_hand(path: Path) -> None:
    assert re.findall(r"oneiric-(?:core|runtime|cli|adapters)\b(?!-v)", path.read_text(encoding="utf-8")) == []


def test_a_release_is_published_without_a_stored_secret() -> None:
    text = next(path for path in WORKFLOWS if path.name == "release.yml").read_text(encoding="utf-8")

    assert "secrets." not in text
    assert any(job.get("permissions", {}).get("id-token") == "write" for job in yaml.safe_load(text)["jobs"].values())
