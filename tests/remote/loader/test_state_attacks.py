"""State that was changed, lost or written by somebody else: it is not believed, nothing breaks, and it is said."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from tests.remote.delivering import URL, Client, Publisher

from oneiric.core.errors import DigestError, RollbackError, StoreError
from oneiric.remote.artifacts import ArtifactStore

if TYPE_CHECKING:
    from collections.abc import Callable


def instead_of(path: Path, make: Callable[[Path], None]) -> None:
    path.unlink()
    make(path)


DAMAGE: dict[str, tuple[Callable[[Path], object], str]] = {
    "torn": (lambda path: path.write_bytes(path.read_bytes()[:-9]), "cannot be read"),
    "deleted": (lambda path: path.unlink(), "is gone"),
    "writable for everybody": (lambda path: path.chmod(0o602), "everybody may write"),
    "a link to a copy": (lambda path: path.symlink_to(path.rename(path.with_name("copy.json"))), "cannot be read"),
    "a directory": (lambda path: instead_of(path, Path.mkdir), "cannot be read"),
    "a pipe": (lambda path: instead_of(path, os.mkfifo), "not a regular file"),
}


@pytest.mark.parametrize("damage", DAMAGE)
async def test_a_trusted_state_that_is_lost_is_told_and_the_pinned_root_starts_anew(
    publisher: Publisher, client: Client, tmp_path: Path, damage: str
) -> None:
    publisher.publish("1.0")
    await client.loader.sync(URL)
    do, reason = DAMAGE[damage]
    state = tmp_path / "cache/trusted_state.json"
    do(state)
    again = client.again()

    assert await again.loader.restore() is None
    if state.is_dir():
        with pytest.raises(StoreError):
            await again.loader.sync(URL)
        return
    report = await again.loader.sync(URL)

    assert report.outcome == "applied"
    assert any(reason in problem for problem in report.plan.problems)
    assert any(reason in problem for problem in again.loader.status_document()["problems"])
    assert (await again.loader.sync(URL)).plan.problems == ()  # it was replaced


async def test_a_loss_that_was_found_by_a_sync_that_failed_is_told_by_the_next(
    publisher: Publisher, client: Client, tmp_path: Path
) -> None:
    publisher.publish("1.0")
    await client.loader.sync(URL)
    old = publisher.repository.manifest, publisher.repository.freshness
    publisher.publish("2.0")
    (tmp_path / "cache/trusted_state.json").write_text("{")
    again = client.again()
    newest = publisher.repository.manifest
    publisher.repository.manifest = old[0]
    with pytest.raises(DigestError):
        await again.loader.sync(URL)
    publisher.repository.manifest = newest

    report = await again.loader.sync(URL)

    assert any("cannot be read" in problem for problem in report.plan.problems)


async def test_a_state_planted_where_everybody_may_write_brings_no_old_manifest_back(
    publisher: Publisher, client: Client, tmp_path: Path
) -> None:
    cache = tmp_path / "cache"
    publisher.publish("1.0")
    await client.loader.sync(URL)
    old = {path: path.read_bytes() for path in cache.rglob("*") if path.is_file()}
    publisher.publish("2.0")
    await client.loader.sync(URL)
    for path, content in old.items():
        path.unlink(missing_ok=True)
        path.write_bytes(content)
    cache.chmod(0o777)
    again = client.again()

    assert await again.loader.restore() is None

    assert again.offered("cache") is None


async def test_a_state_of_another_user_is_not_believed(publisher: Publisher, client: Client, tmp_path: Path) -> None:
    if os.geteuid() != 0:
        pytest.skip("only root gives files away")
    publisher.publish("1.0")
    await client.loader.sync(URL)
    os.chown(tmp_path / "cache/trusted_state.json", 12345, -1)
    again = client.again()

    assert await again.loader.restore() is None
    assert any("another user" in problem for problem in (await again.loader.sync(URL)).plan.problems)


async def test_an_older_copy_of_the_state_brings_an_older_manifest_back_for_no_longer_than_a_sync(
    publisher: Publisher, client: Client, tmp_path: Path
) -> None:
    """Whoever can put an old file there is the same user: the network still cannot serve him the old manifest."""
    state = tmp_path / "cache/trusted_state.json"
    publisher.publish("1.0")
    await client.loader.sync(URL)
    before = state.read_bytes(), publisher.repository.manifest, publisher.repository.freshness
    publisher.publish("2.0")
    await client.loader.sync(URL)
    state.write_bytes(before[0])
    again = client.again()

    assert (await again.loader.sync(URL)).outcome == "applied"
    assert again.offered("cache") == "2.0"
    publisher.repository.manifest, publisher.repository.freshness = before[1:]
    with pytest.raises(RollbackError):
        await again.loader.sync(URL)


STATUS: dict[str, Any] = {
    "a time that is none": {"manifest": {"expires": "soon"}},
    "a number for a time": {"manifest": {"expires": 5}, "trust": {"root_expires": 5}},
    "a list for a time": {"trust": {"root_expires": ["x"], "root_version": {}}},
    "another document": [1],
    "facts of another kind": {"last_refusal": 7, "last_success_at": {}, "consecutive_failures": "x"},
    "a manifest that is text": {"manifest": "x", "trust": "y"},
}


@pytest.mark.parametrize("document", STATUS)
async def test_a_status_file_that_says_nonsense_breaks_nothing(
    publisher: Publisher, client: Client, tmp_path: Path, document: str
) -> None:
    (tmp_path / "cache").mkdir(mode=0o700)
    (tmp_path / "cache/remote_status.json").write_text(json.dumps(STATUS[document]))
    again = client.again()
    publisher.publish("1.0")

    assert again.loader.status_document()["stale"] is False
    assert (await again.loader.sync(URL)).outcome == "applied"
    assert again.loader.status_document()["manifest"]["version"] == 1


def test_what_a_store_did_not_write_it_does_not_remove(tmp_path: Path) -> None:
    store = ArtifactStore(tmp_path)
    path = store.put(b"one", sha256=DIGEST_OF_ONE, size=3)
    notes = path.with_name("notes.txt")
    notes.write_text("mine")
    incoming = path.with_name(".incoming-abc")
    incoming.write_bytes(b"half of what another process writes at the moment")
    left = path.with_name(".incoming-old")
    left.write_bytes(b"half")
    os.utime(left, (0, 0))

    assert store.keep(frozenset()) == 2

    assert (path.exists(), left.exists(), notes.exists(), incoming.exists()) == (False, False, True, True)


def test_a_link_in_the_place_of_a_store_leads_to_nobodys_files(tmp_path: Path) -> None:
    other = tmp_path / "other"
    other.mkdir()
    (other / DIGEST_OF_ONE).write_text("precious")
    (tmp_path / "sha256").symlink_to(other)

    assert ArtifactStore(tmp_path).keep(frozenset()) == 0
    assert (other / DIGEST_OF_ONE).exists()


@pytest.mark.parametrize("size", [2**53 - 1, 2**62, 2, 4])
def test_a_size_that_is_not_the_files_takes_no_memory_and_finds_nothing(tmp_path: Path, size: int) -> None:
    store = ArtifactStore(tmp_path)
    store.put(b"one", sha256=DIGEST_OF_ONE, size=3)

    assert store.get(DIGEST_OF_ONE, size=size) is None


DIGEST_OF_ONE = "7692c3ad3540bb803c020b3aee66cd8887123234ea0c6e7143c0add73ff431ed"
