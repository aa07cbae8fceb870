"""Artifacts: the store keeps verified bytes and believes its files no more than the network."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from tests.remote.archives import digest
from tests.remote.artifacts.shop import shop

from oneiric.core.errors import DigestError, StoreError, UnsafePathError
from oneiric.remote.artifacts import ArtifactStore


def test_artifacts_are_stored_read_only_in_a_private_directory(tmp_path: Path) -> None:
    before = os.umask(0)
    try:
        data = shop()
        path = ArtifactStore(tmp_path / "cache").put(data, sha256=digest(data), size=len(data))
    finally:
        os.umask(before)

    assert path == tmp_path / "cache" / "sha256" / digest(data)
    assert path.stat().st_mode & 0o777 == 0o444
    assert path.parent.stat().st_mode & 0o777 == path.parent.parent.stat().st_mode & 0o777 == 0o700
    assert ArtifactStore(tmp_path / "cache").get(digest(data), size=len(data)) == data
    assert [each.name for each in path.parent.iterdir()] == [digest(data)]


def test_other_bytes_are_never_stored(tmp_path: Path) -> None:
    data = shop()
    with pytest.raises(DigestError):
        ArtifactStore(tmp_path).put(data + b"x", sha256=digest(data), size=len(data))

    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("damage", ["changed", "short", "long", "link", "pipe", "directory"])
def test_what_was_stored_is_verified_again_and_a_damaged_copy_is_replaced(tmp_path: Path, damage: str) -> None:
    data, store = shop(), ArtifactStore(tmp_path)
    path = store.put(data, sha256=digest(data), size=len(data))
    path.unlink()
    match damage:
        case "changed":
            path.write_bytes(data[:-1] + b"x")
        case "short":
            path.write_bytes(data[:-1])
        case "long":
            path.write_bytes(data + b"x")
        case "link":
            (tmp_path / "real").write_bytes(data)
            path.symlink_to(tmp_path / "real")
        case "pipe":
            os.mkfifo(path)
        case "directory":
            path.mkdir()

    assert store.get(digest(data), size=len(data)) is None
    if damage == "directory":
        with pytest.raises(StoreError):
            store.put(data, sha256=digest(data), size=len(data))
        return
    assert store.put(data, sha256=digest(data), size=len(data)) == path
    assert store.get(digest(data), size=len(data)) == data


@pytest.mark.parametrize("name", ["../x", "", "ab", "z" * 64, "/" * 64, "ab" * 32 + "\n"])
def test_only_a_digest_names_an_artifact(tmp_path: Path, name: str) -> None:
    with pytest.raises(UnsafePathError):
        ArtifactStore(tmp_path).get(name, size=1)


def test_a_store_that_cannot_be_written_is_a_store_error(tmp_path: Path) -> None:
    (tmp_path / "sha256").write_text("in the way")
    data = shop()
    with pytest.raises(StoreError, match="cannot be"):
        ArtifactStore(tmp_path).put(data, sha256=digest(data), size=len(data))


def test_what_is_not_kept_is_removed(tmp_path: Path) -> None:
    store = ArtifactStore(tmp_path)
    for data in (shop("1"), shop("2")):
        store.put(data, sha256=digest(data), size=len(data))

    assert store.keep(frozenset({digest(shop("2"))})) == 1
    assert store.get(digest(shop("1")), size=len(shop("1"))) is None
    assert store.get(digest(shop("2")), size=len(shop("2"))) == shop("2")
