"""Soak: a thousand syncs of one system, under calls, with a bad manifest after every good one.

Each good manifest brings a new artifact and swaps what serves; each bad one (tampered, older, another artifact, an
instance that does not start) must be refused and leave the last good one serving; the same bytes again must change
nothing. No call may be lost, no artifact that nothing uses may stay importable or on the disk, and memory must stay
flat. The mutant ``leak`` keeps every report.
"""

import argparse
import asyncio
import gc
import hashlib
import io
import itertools
import json
import tempfile
import time
import tracemalloc
import zipfile
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final
from urllib.parse import urlsplit

from oneiric.core.errors import FetchStatusError, OneiricError
from oneiric.core.lifecycle import LifecycleManager
from oneiric.core.resolution import Resolver
from oneiric.core.security import FactoryAllowList
from oneiric.remote.apply import Probation
from oneiric.remote.artifacts import mounted_artifacts
from oneiric.remote.fetch import Fetched, NotModified
from oneiric.remote.loader import LoaderOptions, RemoteLoader
from oneiric.remote.manifest import FactoryPolicy
from oneiric.remote.testing import RepositorySimulator, tampered
from oneiric.remote.trust import TrustRoot

__all__ = ["Outcome", "Plan", "main", "soak"]

URL: Final = "https://updates.example/acme/manifest.json"
CODE: Final = """
class Part:
    version = {version}
    async def init(self):
        {init}
    async def call(self):
        return self.version
"""
BAD: Final = ("tampered", "older", "artifact", "start")
#: What one round (a good sync, an unchanged one and a bad one) may leave behind, in bytes.
_MOST_GROWTH_BYTES: Final = 1_024.0
_LOOKS: Final = 10
_MOST_FILES: Final = 8


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """The size of a soak.

    Attributes:
        rounds: So many good manifests; each is followed by the same again and by a bad one.
        callers: Tasks that call what serves, all the time.
        mutant: ``"leak"`` breaks the promise on purpose.
    """

    rounds: int = 340
    callers: int = 8
    mutant: str | None = None


@dataclass(slots=True)
class Outcome:
    """What was counted."""

    syncs: int = 0
    applied: int = 0
    unchanged: int = 0
    refused: int = 0
    wrong: list[str] = field(default_factory=list)
    calls: int = 0
    lost: list[str] = field(default_factory=list)
    mounted: int = 0
    files: int = 0
    growth_bytes: float = 0.0
    seconds: float = 0.0

    def failures(self, plan: Plan) -> list[str]:
        """Return what broke the promise; empty when the figure stands."""
        found = [*self.wrong[:5], *(f"a call was lost: {each}" for each in self.lost[:5])]
        if self.applied != plan.rounds or self.unchanged != plan.rounds or self.refused != plan.rounds:
            found.append(f"{self.applied}, {self.unchanged}, {self.refused} of {plan.rounds} rounds")
        if not self.calls:
            found.append("nobody called")
        if self.mounted > 1:
            found.append(f"{self.mounted} artifacts are importable, and one is in force")
        if self.files > _MOST_FILES:
            found.append(f"{self.files} files lie in the cache")
        if self.growth_bytes > _MOST_GROWTH_BYTES:
            found.append(f"a round leaves {self.growth_bytes:.0f} bytes behind")
        return found


class _Server:
    """Answers from a repository, whose artifacts may be exchanged on the way."""

    def __init__(self, repository: RepositorySimulator) -> None:
        self.repository = repository
        self.evil = False

    async def fetch(self, url: str, **_wanted: Any) -> Fetched | NotModified:
        path = urlsplit(url).path.removeprefix("/acme/").removesuffix(".json")
        parts = path.strip("/").split("/")
        try:
            content = self.repository.fetch(f"sha256/{parts[0]}" if path.endswith(".zip") else path)
        except KeyError as error:
            raise FetchStatusError(f"{url} answered 404", None, 404) from error
        if path.endswith(".zip") and self.evil:
            content = bytes([content[0] ^ 1]) + content[1:]
        digest = hashlib.sha256(content).hexdigest()
        return Fetched(url=url, content=content, length_bytes=len(content), sha256=digest)


class _Publisher:
    """Publishes one good and one bad manifest a round."""

    def __init__(self) -> None:
        self.repository = RepositorySimulator(product="acme", now=time.time)
        self.server = _Server(self.repository)

    def good(self, version: int, init: str = "pass") -> None:
        self.server.evil = False
        self.repository.artifacts.clear()
        self.repository.history.clear()
        buffer = io.BytesIO()
        with zipfile.ZipFile(buffer, "w") as archive:
            archive.writestr("acme/part.py", CODE.format(version=version, init=init))
        entry = {"domain": "service", "key": "part", "provider": "acme", "factory": "acme.part:Part"}
        self.repository.publish([{**entry, **self.repository.add_artifact(buffer.getvalue())}])

    def bad(self, kind: str, version: int) -> None:
        honest = self.repository.manifest
        self.good(version, init="raise RuntimeError('no')" if kind == "start" else "pass")
        if kind == "tampered":
            self.repository.manifest = tampered(
                self.repository.manifest, lambda body: body.replace(b"acme.part", b"evil.part")
            )
            self.repository.refresh()
        elif kind == "older":
            self.repository.manifest = honest.replace(b'"sig"', b' "sig"', 1)
            self.repository.refresh()
        elif kind == "artifact":
            self.server.evil = True


async def soak(plan: Plan) -> Outcome:
    """Sync again and again, and count."""
    outcome, publisher, resolver = Outcome(), _Publisher(), Resolver(journal_length=16)
    started = time.perf_counter()
    before = set(mounted_artifacts())
    with tempfile.TemporaryDirectory() as directory:
        async with LifecycleManager(resolver) as lifecycle:
            options = LoaderOptions(
                factories=FactoryPolicy(general=FactoryAllowList(("acme",))), probation=Probation(seconds=0)
            )
            root = TrustRoot.pinned(publisher.repository.roots[0])
            loader = RemoteLoader(
                resolver, lifecycle, root=root, fetcher=publisher.server, cache_dir=directory, options=options
            )
            await _rounds(plan, outcome, publisher, loader, lifecycle)
        outcome.mounted = len(set(mounted_artifacts()) - before)
        outcome.files = _files(Path(directory))
    outcome.seconds = time.perf_counter() - started
    return outcome


def _files(directory: Path) -> int:
    return sum(1 for path in directory.rglob("*") if path.is_file())


async def _rounds(
    plan: Plan, outcome: Outcome, publisher: _Publisher, loader: RemoteLoader, lifecycle: LifecycleManager
) -> None:
    stop = asyncio.Event()
    kept: list[object] = []
    looks: list[tuple[int, int]] = []
    callers: list[asyncio.Task[None]] = []
    tracemalloc.start()
    for number, kind in zip(range(1, plan.rounds + 1), itertools.cycle(BAD), strict=False):
        publisher.good(2 * number)
        reports = [await loader.sync(URL), await loader.sync(URL)]
        outcome.applied += reports[0].outcome == "applied"
        outcome.unchanged += reports[1].outcome == "unchanged"
        if plan.mutant == "leak":
            kept.append(reports)
        if not callers:
            callers = [asyncio.create_task(_call(lifecycle, outcome, stop)) for _ in range(plan.callers)]
        publisher.bad(kind, 2 * number + 1)
        await _refused(outcome, loader, kind)
        serves = (await lifecycle.activate("service", "part")).version
        if serves != 2 * number:
            outcome.wrong.append(f"after a bad manifest ({kind}) {serves} serves, and not {2 * number}")
        outcome.syncs += 3
        if number % max(1, plan.rounds // _LOOKS) == 0:
            gc.collect()
            looks.append((number, tracemalloc.get_traced_memory()[0]))
    tracemalloc.stop()
    stop.set()
    await asyncio.gather(*callers)
    half = looks[len(looks) // 2 :]
    if len(half) > 1:
        outcome.growth_bytes = (half[-1][1] - half[0][1]) / (half[-1][0] - half[0][0])


async def _refused(outcome: Outcome, loader: RemoteLoader, kind: str) -> None:
    try:
        await loader.sync(URL)
    except OneiricError:
        outcome.refused += 1
    else:
        outcome.wrong.append(f"a bad manifest ({kind}) was taken")


async def _call(lifecycle: LifecycleManager, outcome: Outcome, stop: asyncio.Event) -> None:
    while not stop.is_set():
        try:
            async with lifecycle.lease("service", "part") as part:
                await asyncio.sleep(0.002)
                await part.call()
            outcome.calls += 1
        except Exception as error:  # noqa: BLE001 - that there is none is what is measured
            outcome.lost.append(f"{type(error).__name__}: {error}"[:200])


def main(arguments: Sequence[str]) -> int:
    """Run the soak and print one JSON line."""
    parser = argparse.ArgumentParser(prog="scripts/soak sync", description=__doc__)
    parser.add_argument("--rounds", type=int, default=340)
    parser.add_argument("--callers", type=int, default=8)
    parser.add_argument("--mutant", choices=["leak"])
    given = parser.parse_args(arguments)
    plan = Plan(rounds=given.rounds, callers=given.callers, mutant=given.mutant)
    outcome = asyncio.run(soak(plan))
    failures = outcome.failures(plan)
    figure = {
        "syncs": outcome.syncs,
        "refused": outcome.refused,
        "calls": outcome.calls,
        "lost": len(outcome.lost),
        "growth_bytes": round(outcome.growth_bytes, 1),
        "seconds": round(outcome.seconds, 2),
    }
    print(
        json.dumps(
            {
                "property": "a sync puts a manifest in force whole or not at all, and leaves nothing behind",
                "figure": figure,
                "ok": not failures,
                "failures": failures,
                "mutant": plan.mutant,
            }
        )
    )
    return 1 if failures else 0
