"""Applications in processes of their own that share one cache directory: each follows, and none sets another back."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from benchmarks.soak._remote_system import Consumer, Site

from oneiric.remote.trust import TrustedState

APPLICATION = """
import asyncio, json, sys
from oneiric.app import App
from oneiric.core.errors import OneiricError

async def main():
    async with App.open("settings.yml") as app:
        for line in sys.stdin:
            try:
                if line == "restore\\n":
                    await app.remote.restore()
                else:
                    await app.remote.sync()
                error = None
            except OneiricError as raised:
                error = type(raised).__name__
            for key in ("left", "right"):
                await app.lifecycle.activate("service", key)
            versions = [app.resolver.resolve("service", key).version for key in ("left", "right")]
            print(json.dumps([error, *versions]), flush=True)

asyncio.run(main())
"""


class Application:
    """A process that embeds an `App`."""

    def __init__(self, home: Path) -> None:
        with (home / "log.txt").open("ab") as log:
            self.process = subprocess.Popen(
                [sys.executable, "-c", APPLICATION],
                cwd=home,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=log,
                text=True,
            )

    def begin(self, what: str) -> None:
        assert self.process.stdin is not None
        self.process.stdin.write(f"{what}\n")
        self.process.stdin.flush()

    def answer(self) -> Any:
        assert self.process.stdout is not None
        return json.loads(self.process.stdout.readline())


@contextmanager
def applications(home: Path, number: int) -> Iterator[list[Application]]:
    found = [Application(home) for _ in range(number)]
    try:
        yield found
    finally:
        for each in found:
            each.process.kill()
            each.process.communicate()


def committed(home: Path) -> int:
    return TrustedState.load(home / ".oneiric_cache/trusted_state.json").manifests[""].version


def test_processes_that_sync_at_once_all_follow_and_a_failure_of_one_sets_nobody_back(tmp_path: Path) -> None:
    home = tmp_path / "home"
    with Site() as site:
        Consumer(home, site, runtime_paths={"cache_dir": ".oneiric_cache"})
        with applications(home, 3) as running:
            for version in range(1, 6):
                site.publish(version)
                for each in running:
                    each.begin("sync")
                assert [each.answer() for each in running] == [[None, str(version), str(version)]] * 3
                assert committed(home) == version
            # One moves on; another one meets a broken artifact, and remembers what the first has committed to.
            ahead, behind, _ = running
            site.publish(6)
            ahead.begin("sync")
            assert ahead.answer() == [None, "6", "6"]
            site.publish(7)
            site.files = {path: b"?" if path.endswith(".zip") else data for path, data in site.files.items()}
            behind.begin("sync")
            assert behind.answer() == ["DigestError", "5", "5"]
            assert committed(home) == 6
        with applications(home, 1) as (restarted,):
            restarted.begin("restore")
            assert restarted.answer() == [None, "6", "6"]
