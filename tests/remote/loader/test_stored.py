"""What is stored, read by somebody who only looks."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

import pytest
from tests.remote.delivering import ALLOWED, AT_ONCE, URL, Client, Publisher

from oneiric.core.errors import ManifestError
from oneiric.remote.loader import LoaderOptions
from oneiric.remote.stored import Stored, read_stored
from oneiric.remote.trust import TrustRoot

if TYPE_CHECKING:
    from pathlib import Path


async def looked(publisher: Publisher, directory: Path) -> Stored | None:
    return await read_stored(
        root=TrustRoot.pinned(publisher.repository.roots[0]),
        cache_dir=directory,
        options=LoaderOptions(factories=ALLOWED, probation=AT_ONCE),
        clock=publisher.clock,
    )


async def test_nothing_stored_and_nobody_trusted_is_nothing(publisher: Publisher, tmp_path: Path) -> None:
    assert await looked(publisher, tmp_path / "cache") is None
    assert await read_stored(root=None, cache_dir=tmp_path, options=LoaderOptions()) is None
    assert not (tmp_path / "cache").exists()


async def test_what_is_stored_is_what_the_next_start_registers(
    publisher: Publisher, client: Client, tmp_path: Path
) -> None:
    publisher.publish("1.0")
    await client.loader.sync(URL, apply=False)

    stored = await looked(publisher, tmp_path / "cache")
    again = client.again()
    await again.loader.restore()

    assert stored is not None
    assert stored.manifest is not None
    assert stored.manifest["version"] == 1
    assert [str(each) for each in stored.candidates] == [str(each) for each in again.loader.candidates]
    assert {each.metadata["manifest"]["stored"] for each in stored.candidates} == {True}


async def test_a_refused_entry_is_named_and_the_others_are_there(
    publisher: Publisher, client: Client, tmp_path: Path
) -> None:
    publisher.repository.publish([publisher.entry("cache", "1.0"), publisher.entry("queue", "1.0", factory="os:Part")])
    await client.loader.sync(URL)

    stored = await looked(publisher, tmp_path / "cache")

    assert stored is not None
    assert [each.key for each in stored.candidates] == ["cache"]
    assert [each.name for each in stored.refused] == ["adapter:queue/acme"]


async def test_what_was_changed_is_refused(publisher: Publisher, client: Client, tmp_path: Path) -> None:
    publisher.publish("1.0")
    await client.loader.sync(URL)
    (path,) = (tmp_path / "cache/remote/manifests/sha256").iterdir()
    path.chmod(0o600)
    path.write_bytes(path.read_bytes()[:-1] + b" ")

    with pytest.raises(ManifestError):
        await looked(publisher, tmp_path / "cache")


async def test_a_look_in_the_middle_of_syncs_finds_one_manifest_or_the_next(
    publisher: Publisher, client: Client, tmp_path: Path
) -> None:
    publisher.publish("1.0")
    await client.loader.sync(URL, apply=False)
    seen: list[tuple[str | None, ...]] = []
    over = asyncio.Event()

    async def look() -> None:
        while not over.is_set() or len(seen) < 2:
            stored = await looked(publisher, tmp_path / "cache")
            assert stored is not None
            seen.append(tuple(each.version for each in stored.candidates))

    async def publish() -> None:
        for version in range(2, 22):
            publisher.publish(f"{version}.0")
            await client.loader.sync(URL, apply=False)
        over.set()

    await asyncio.gather(look(), publish())

    assert (await looked(publisher, tmp_path / "cache") or Stored()).candidates[0].version == "21.0"
    assert all(len(set(versions)) == 1 for versions in seen)  # never half of one and half of another
