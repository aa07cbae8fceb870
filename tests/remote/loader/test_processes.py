"""Several loaders, and several processes, on one cache directory: one sync at a time, and trust only moves on."""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from tests.remote.delivering import URL, Client, Publisher

from oneiric.core.errors import DigestError, RollbackError, StoreError
from oneiric.remote.apply import Probation
from oneiric.remote.trust import TrustedState

#: Takes the directory's lock as a loader does, says so, and holds it until it is killed.
HOLDER = """
import asyncio, sys
from oneiric.core.resolution import Resolver
from oneiric.remote.loader import RemoteLoader

async def main():
    def step(name):
        print(name, flush=True)
        sys.stdin.read()
    loader = RemoteLoader(Resolver(), cache_dir=sys.argv[1], on_step=step)
    await loader.sync(sys.argv[2], verify_signature=False)

asyncio.run(main())
"""


def committed(client: Client) -> int:
    return TrustedState.load(client.directory / "trusted_state.json").manifests[""].version


@contextmanager
def holder(client: Client, tmp_path: Path) -> Iterator[subprocess.Popen[bytes]]:
    (tmp_path / "manifest.json").write_text('{"entries": []}')
    command = [sys.executable, "-c", HOLDER, str(client.directory), str(tmp_path / "manifest.json")]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        try:
            assert process.stdout is not None
            assert process.stdout.readline() == b"fetch\n"
            yield process
        finally:
            process.kill()


async def test_a_directory_that_another_process_syncs_into_is_refused_by_its_number(
    publisher: Publisher, client: Client, tmp_path: Path
) -> None:
    publisher.publish("1.0")
    await client.loader.sync(URL)
    publisher.publish("2.0")
    hasty = client.again(lock_seconds=0)
    with holder(client, tmp_path) as process:
        for call in (hasty.loader.sync(URL), hasty.loader.plan(URL)):
            with pytest.raises(StoreError, match=rf"is in use by pid {process.pid},"):
                await call
        assert hasty.loader.status_document()["last_error"].startswith("cache directory")
        # Who starts with what is stored waits for nobody.
        assert (await client.again(lock_seconds=0).loader.restore()).outcome == "restored"  # type: ignore[union-attr]
        waiting = asyncio.create_task(client.loader.sync(URL))
        await asyncio.sleep(0)
    # Killed, it holds nothing.
    assert (await waiting).outcome == "applied"
    assert (await hasty.loader.sync(URL)).outcome == "applied"


async def test_two_loaders_of_one_process_wait_for_each_other(publisher: Publisher, client: Client) -> None:
    watched, over = asyncio.Event(), asyncio.Event()

    async def watch(_seconds: float) -> None:
        watched.set()
        await over.wait()

    slow = client.again(probation=Probation(seconds=1, sleep=watch))
    publisher.publish("1.0")
    await slow.loader.sync(URL)
    await slow.version("cache")
    publisher.publish("2.0")
    first = asyncio.create_task(slow.loader.sync(URL))
    await watched.wait()
    with pytest.raises(StoreError, match=f"pid {os.getpid()}"):
        await client.again(lock_seconds=0).loader.sync(URL)
    second = asyncio.create_task(client.loader.sync(URL))
    over.set()

    assert [(await each).outcome for each in (first, second)] == ["applied", "applied"]


async def test_what_another_one_committed_to_is_not_put_back(publisher: Publisher, client: Client) -> None:
    other = client.again()
    publisher.publish("1.0")
    await client.loader.sync(URL)
    await other.loader.sync(URL)
    publisher.publish("2.0")
    await client.loader.sync(URL)
    publisher.publish("3.0")
    publisher.fetcher.broken["acme-cache"] = DigestError("it is another one")

    with pytest.raises(DigestError):
        await other.loader.sync(URL)

    assert committed(client) == 2
    restarted = client.again()
    await restarted.loader.restore()
    assert await restarted.version("cache") == "2.0"
    publisher.fetcher.broken.clear()
    assert (await other.loader.sync(URL)).outcome == "applied"
    assert (await other.version("cache"), committed(client)) == ("3.0", 3)


async def test_an_older_state_that_somebody_put_back_is_not_believed(publisher: Publisher, client: Client) -> None:
    publisher.publish("1.0")
    await client.loader.sync(URL)
    before = (client.directory / "trusted_state.json").read_bytes()
    old = (publisher.repository.manifest, publisher.repository.freshness)
    publisher.publish("2.0")
    await client.loader.sync(URL)
    (client.directory / "trusted_state.json").write_bytes(before)
    publisher.repository.manifest, publisher.repository.freshness = old

    with pytest.raises(RollbackError):
        await client.loader.sync(URL)

    publisher.publish("3.0")
    assert (await client.loader.sync(URL)).outcome == "applied"
    assert committed(client) == 3


async def test_what_a_killed_process_left_of_a_write_is_removed(publisher: Publisher, client: Client) -> None:
    publisher.publish("1.0")
    client.directory.mkdir()
    (client.directory / ".trusted_state.json.k1ll3d").write_text("{")
    written = [client.directory / f"remote/{kind}/sha256/.incoming-k1ll3d" for kind in ("artifacts", "manifests")]
    for path in written:  # a moment ago: who holds the directory knows that nobody else writes there
        path.parent.mkdir(parents=True)
        path.write_text("half")

    await client.loader.sync(URL)

    assert [path.exists() for path in written] == [False, False]
    assert sorted(path.name for path in client.directory.iterdir()) == [
        "remote",
        "remote.lock",
        "remote_status.json",
        "trusted_state.json",
    ]
    assert (client.directory / "remote.lock").stat().st_mode & 0o777 == 0o600


async def test_a_lock_that_leads_elsewhere_is_refused_and_touches_nothing_there(
    publisher: Publisher, client: Client, tmp_path: Path
) -> None:
    publisher.publish("1.0")
    client.directory.mkdir()
    (client.directory / "remote.lock").symlink_to(tmp_path / "elsewhere")

    with pytest.raises(StoreError, match=r"remote\.lock cannot be opened"):
        await client.loader.sync(URL)

    assert not (tmp_path / "elsewhere").exists()


async def test_where_nothing_was_ever_stored_a_restore_makes_nothing(client: Client) -> None:
    assert await client.loader.restore() is None
    assert not client.directory.exists()
