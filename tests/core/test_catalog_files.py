"""Catalogue files: read within bounds, wrong ones named by file and entry."""

import os
from pathlib import Path

import pytest

from oneiric.core.catalog import read_catalog
from oneiric.core.errors import CatalogError, DuplicateCandidateError, RegistrationError
from oneiric.core.resolution import CandidateSource

ENTRY = """
[[entries]]
domain = "adapter"
key = "cache"
provider = "{provider}"
factory = "acme.cache:Cache"
"""
TWO = "schema = 1\n" + ENTRY.format(provider="memory") + ENTRY.format(provider="redis")


def test_a_catalogue_is_read_in_its_order(tmp_path: Path) -> None:
    file = tmp_path / "catalog.toml"
    file.write_text(TWO)
    for candidates in (read_catalog(file, "acme.cache"), read_catalog(TWO, "acme.cache")):
        assert [candidate.provider for candidate in candidates] == ["memory", "redis"]
        assert {candidate.origin for candidate in candidates} == {"acme.cache"}
        assert {candidate.source for candidate in candidates} == {CandidateSource.LOCAL_PKG}


def test_a_catalogue_may_be_empty() -> None:
    assert read_catalog("schema = 1\n", "acme") == ()


def test_a_wrong_entry_is_named_by_file_and_number(tmp_path: Path) -> None:
    file = tmp_path / "catalog.toml"
    file.write_text(TWO + 'provder = "x"\n')
    with pytest.raises(
        CatalogError, match=r"catalog\.toml entry 2 is wrong: .*'provder'.*did you mean 'provider'"
    ) as caught:
        read_catalog(file, "acme")
    assert str(file) in str(caught.value)


def test_one_identity_twice_in_a_catalogue_is_refused() -> None:
    with pytest.raises(DuplicateCandidateError, match="adapter:cache provider 'redis'"):
        read_catalog(TWO + ENTRY.format(provider="redis"), "acme")


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("schema = ", "is not TOML"),
        ("schema = 1\nschema = 1", "is not TOML"),
        ("", "states schema None"),
        ("schema = 2", "states schema 2"),
        ("schema = true", "states schema True"),
        ("schema = '1'", "states schema '1'"),
        ("schema = 1\n[entries]\n", "must be an array of tables"),
        ("schema = 1\nentries = 3\n", "must be an array of tables"),
        ("schema = 1\nentries = [3]\n", "entry 1 is wrong"),
        ("schema = 1\n[[entry]]\n", "unknown table or field 'entry'"),
        ("schema = 1\nx = " + "[" * 5000, "is nested too deeply"),
        ("schema = 1\nx = " + "{a=" * 5000, "is nested too deeply"),
        ("schema = 1\nx = " + "9" * 5000, "is not TOML"),
        ("#" * (1 << 20) + "\n", "is larger than"),
        ("schema = 1\n" + ENTRY.format(provider="a") + "metadata = {when = 2026-01-01}\n", "entry 1 is wrong"),
    ],
)
def test_a_broken_catalogue_says_what_is_wrong(text: str, said: str) -> None:
    with pytest.raises(CatalogError, match=said) as caught:
        read_catalog(text, "acme")
    assert "catalog.toml" in str(caught.value)
    assert len(str(caught.value)) < 400


def test_bytes_that_are_not_utf8_are_refused(tmp_path: Path) -> None:
    file = tmp_path / "catalog.toml"
    file.write_bytes(b"schema = 1 # \xff")
    with pytest.raises(CatalogError, match="not UTF-8"):
        read_catalog(file, "acme")


def test_a_missing_file_a_directory_and_a_pipe_are_refused_without_waiting(tmp_path: Path) -> None:
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    for path, said in ((tmp_path / "absent", "does not exist"), (tmp_path, "regular file"), (pipe, "regular file")):
        with pytest.raises(CatalogError, match=said):
            read_catalog(path, "acme")


def test_every_error_of_a_catalogue_is_a_registration_error() -> None:
    assert issubclass(CatalogError, RegistrationError)
    assert issubclass(DuplicateCandidateError, RegistrationError)
