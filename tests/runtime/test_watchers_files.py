"""What is on disk: which files count, through which links, and whether their content differs."""

from __future__ import annotations

import os
import time
from pathlib import Path

import pytest

from oneiric.runtime._watch_files import Scanner

SUFFIXES = (".toml", ".yml")


def scanner(*paths: Path) -> Scanner:
    return Scanner(lambda: paths, SUFFIXES)


def digests(found: Scanner) -> dict[str, str | None]:
    return {Path(path).name: state.digest for path, state in found.look().files.items()}


def test_in_a_directory_the_files_that_look_like_settings_count(tmp_path: Path) -> None:
    for name in ("app.yml", "oneiric.toml", "APP.YML", ".app.yml.swp", "app.yml~", "4913", ".hidden.yml", "README"):
        (tmp_path / name).write_text("x")
    (tmp_path / "directory.yml").mkdir()

    assert set(digests(scanner(tmp_path))) == {"app.yml", "oneiric.toml", "APP.YML"}


def test_a_second_write_within_the_grain_of_the_clock_is_seen(tmp_path: Path) -> None:
    file, now = tmp_path / "app.yml", time.time_ns()

    def coarse(descriptor: int) -> os.stat_result:
        return os.stat_result(list(os.fstat(descriptor))[:10], {"st_mtime_ns": now, "st_ctime_ns": now})

    found = Scanner(lambda: [file], SUFFIXES, stat=coarse)
    file.write_text("a")
    before = digests(found)
    file.write_text("b")

    assert digests(found) != before


def test_a_file_that_is_as_it_was_long_ago_is_not_read_again(tmp_path: Path) -> None:
    file, then = tmp_path / "app.yml", time.time_ns() - 10_000_000_000

    def old(descriptor: int) -> os.stat_result:
        return os.stat_result(list(os.fstat(descriptor))[:10], {"st_mtime_ns": then, "st_ctime_ns": then})

    found = Scanner(lambda: [file], SUFFIXES, stat=old)
    file.write_text("a")
    before = digests(found)
    file.write_text("b")

    assert digests(found) == before
    file.write_text("longer")
    assert digests(found) != before


def test_missing_and_unreadable_files_are_told_apart_from_empty_ones(tmp_path: Path) -> None:
    (tmp_path / "empty.yml").touch()

    look = scanner(tmp_path / "none.yml", tmp_path / "empty.yml").look()

    assert look.files[str(tmp_path / "none.yml")].digest is None
    assert look.files[str(tmp_path / "empty.yml")].digest is not None


def test_every_directory_on_the_way_that_holds_a_link_is_watched(tmp_path: Path) -> None:
    (tmp_path / "mount" / "..one").mkdir(parents=True)
    (tmp_path / "mount" / "..one" / "app.yml").write_text("x")
    (tmp_path / "mount" / "..data").symlink_to("..one")
    (tmp_path / "mount" / "app.yml").symlink_to("..data/app.yml")
    (tmp_path / "etc").mkdir()
    (tmp_path / "etc" / "app.yml").symlink_to(tmp_path / "mount" / "app.yml")

    look = scanner(tmp_path / "etc" / "app.yml").look()

    watched = {tmp_path / "etc", tmp_path / "mount", tmp_path / "mount" / "..one"}
    assert {Path(path) for path in look.directories} == watched
    assert str(tmp_path / "mount" / "..data") in look.entries


@pytest.mark.parametrize("target", ["missing.yml", "app.yml"], ids=["dangling", "loop"])
def test_a_link_that_leads_nowhere_is_a_missing_file(tmp_path: Path, target: str) -> None:
    (tmp_path / "app.yml").symlink_to(target)

    look = scanner(tmp_path / "app.yml").look()

    assert look.files[str(tmp_path / "app.yml")].digest is None
    assert str(tmp_path) in look.directories


def test_of_a_missing_directory_the_nearest_above_it_is_watched(tmp_path: Path) -> None:
    look = scanner(tmp_path / "a" / "b" / "app.yml").look()

    assert set(look.directories) == {str(tmp_path)}
    assert str(tmp_path / "a") in look.entries


def test_only_what_can_matter_is_relevant(tmp_path: Path) -> None:
    (tmp_path / "app.yml").touch()
    found = scanner(tmp_path)
    look = found.look()

    assert found.is_relevant(look, str(tmp_path / "app.yml"))
    assert found.is_relevant(look, str(tmp_path / "services.yml")), "it may be made any time"
    assert not found.is_relevant(look, str(tmp_path / ".app.yml.swp"))
    assert not found.is_relevant(look, str(tmp_path / "log.txt"))
