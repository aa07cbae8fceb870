"""From the rename of a settings file to the new instance that serves, against a program that does it by hand.

The floor is what one would write without any of this: inotify through ctypes, a reader on the event loop, the file
parsed with the standard library, an instance made and a name rebound. It checks nothing, keeps no last good
configuration and drains no caller. Each case renames a file in a directory of its own, in turns; medians are compared,
since a change of configuration happens once and never in its fastest of many.
"""

import asyncio
import ctypes
import os
import struct
import tempfile
import time
import tomllib
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from importlib import import_module
from pathlib import Path
from statistics import median
from typing import Any, Final, Protocol

from benchmarks._timing import Figure, Who
from oneiric.core.events import Bound
from oneiric.core.lifecycle import LifecycleManager
from oneiric.core.resolution import Candidate, Resolver
from oneiric.runtime.reload import ConfigReloader
from oneiric.runtime.settings import LoadedSettings, ProviderSettings, load_settings, policy_from
from oneiric.runtime.watchers import watch_config

ROUNDS = 200
#: The peer takes its time by design: it is asked every so many rounds.
PEER_EVERY: Final = 5
DOMAIN, KEY = "service", "ledger"
PROVIDERS: Final = ("one", "two")
#: Between two cases, so that none pays for what another does after it was measured.
REST_SECONDS: Final = 0.01
_MOVED_TO: Final = 0x80
_EVENT: Final = struct.Struct("iIII")


class Ledger:
    """What is made anew."""


class Case(Protocol):
    """One way to follow a settings file."""

    directory: Path
    done: asyncio.Event
    #: When the last change had taken effect.
    at: float


class ByHand:
    """The floor."""

    def __init__(self, directory: Path, *, rebinds: bool = True) -> None:
        self.directory, self.done, self.at = directory, asyncio.Event(), 0.0
        self.rebinds = rebinds
        self.factories = dict.fromkeys(PROVIDERS, Ledger)
        self.current = Ledger()

    @asynccontextmanager
    async def running(self) -> AsyncIterator["ByHand"]:
        libc = ctypes.CDLL(None, use_errno=True)
        self.fd: int = libc.inotify_init1(os.O_NONBLOCK)
        libc.inotify_add_watch(self.fd, os.fsencode(self.directory), _MOVED_TO)
        loop = asyncio.get_running_loop()
        loop.add_reader(self.fd, self._read)
        yield self
        loop.remove_reader(self.fd)
        os.close(self.fd)

    def _read(self) -> None:
        data = os.read(self.fd, 4096)
        _, _, _, length = _EVENT.unpack_from(data)
        name = os.fsdecode(data[_EVENT.size : _EVENT.size + length].rstrip(b"\0"))
        if self.rebinds:
            settings = tomllib.loads((self.directory / name).read_text(encoding="utf-8"))
            self.current = self.factories[settings["services"]["selections"][KEY]]()
        self.at = time.perf_counter()
        self.done.set()


class ByAwatch:
    """The peer, with its defaults, doing what the floor does."""

    def __init__(self, directory: Path) -> None:
        self.directory, self.done, self.at = directory, asyncio.Event(), 0.0
        self.current = Ledger()

    @asynccontextmanager
    async def running(self) -> AsyncIterator["ByAwatch"]:
        watching = asyncio.create_task(self._watch())
        await asyncio.sleep(0.2)  # it does not say when it has begun
        yield self
        watching.cancel()
        await asyncio.wait([watching])

    async def _watch(self) -> None:
        async for _ in import_module("watchfiles").awatch(self.directory):
            tomllib.loads((self.directory / "oneiric.toml").read_text(encoding="utf-8"))
            self.current = Ledger()
            self.at = time.perf_counter()
            self.done.set()


class ByOneiric:
    """Ours: watched, read, checked, planned, swapped."""

    def __init__(self, directory: Path) -> None:
        self.directory, self.done, self.at = directory, asyncio.Event(), 0.0
        self.reasons: list[str] = []
        loaded = self._load()
        resolver = Resolver(policy_from(loaded))
        resolver.apply(
            add=[Candidate(domain=DOMAIN, key=KEY, provider=provider, factory=Ledger) for provider in PROVIDERS]
        )
        settings = ProviderSettings(loaded)
        self.lifecycle = LifecycleManager(resolver, settings_for=settings)
        self.reloader = ConfigReloader(
            loaded, self._load, resolver=resolver, lifecycle=self.lifecycle, provider_settings=settings
        )

    def _load(self) -> LoadedSettings:
        return load_settings(self.directory / "oneiric.toml", environ={})

    @asynccontextmanager
    async def running(self) -> AsyncIterator["ByOneiric"]:
        self.lifecycle.observe(self._bound)
        async with self.lifecycle, watch_config(self.reloader, mode="events", poll_interval=3600):
            await self.lifecycle.activate(DOMAIN, KEY)
            await asyncio.sleep(0.05)
            yield self
            await self.reloader.aclose()

    def _bound(self, event: object) -> None:
        if isinstance(event, Bound):
            self.at = time.perf_counter()
            self.done.set()


def measure(rounds: int) -> list[Figure]:
    """Measure the group."""
    with tempfile.TemporaryDirectory() as directory:
        return asyncio.run(_measured(Path(directory), rounds))


async def _measured(where: Path, rounds: int) -> list[Figure]:
    def directory(name: str) -> Path:
        made = where / name
        made.mkdir()
        _write(made, PROVIDERS[0])
        return made

    cases: dict[str, Any] = {
        "floor": ByHand(directory("floor")),
        "notice": ByHand(directory("notice"), rebinds=False),
        "swap": ByOneiric(directory("swap")),
    }
    if _is_installed("watchfiles"):
        cases["watchfiles"] = ByAwatch(directory("watchfiles"))
    seconds: dict[str, list[float]] = {name: [] for name in cases}
    async with AsyncExitStack() as stack:
        for case in cases.values():
            await stack.enter_async_context(case.running())
        for number in range(rounds):
            for name, case in cases.items():
                if name != "watchfiles" or number % PEER_EVERY == 0:
                    # The peer skips rounds, so each case counts its own.
                    provider = PROVIDERS[(len(seconds[name]) + 1) % 2]
                    seconds[name].append(await _timed(case, provider))
                    await asyncio.sleep(REST_SECONDS)
    return _figures(seconds)


async def _timed(case: Case, provider: str) -> float:
    """Return the seconds from a rename until the change has taken effect."""
    fresh = _write(case.directory, provider, name=".oneiric.toml.new")
    case.done.clear()
    started = time.perf_counter()
    fresh.replace(case.directory / "oneiric.toml")
    async with asyncio.timeout(10):
        await case.done.wait()
    return case.at - started


def _write(directory: Path, provider: str, name: str = "oneiric.toml") -> Path:
    file = directory / name
    file.write_text(f'[services.selections]\n{KEY} = "{provider}"\n', encoding="utf-8")
    return file


def _is_installed(module: str) -> bool:
    try:
        import_module(module)
    except ModuleNotFoundError:
        return False
    return True


_LABELS: Final[dict[str, tuple[Who, str]]] = {
    "floor": ("floor", "raw inotify, parse and rebind by hand"),
    "notice": ("floor", "raw inotify, noticed only"),
    "swap": ("ours", "rename to the new instance that serves"),
    "watchfiles": ("peer", "watchfiles awatch, parse and rebind by hand"),
}


def _figures(seconds: dict[str, list[float]]) -> list[Figure]:
    medians = {name: median(values) for name, values in seconds.items()}
    found = [
        Figure(
            name=f"reload.{name}",
            label=_LABELS[name][1],
            who=_LABELS[name][0],
            value=value / medians["floor"],
            seconds=value,
            floor="reload.floor",
        )
        for name, value in medians.items()
    ]
    values = sorted(seconds["swap"])
    found.append(
        Figure(
            name="reload.p90", label="the same, p90", who="ours", value=values[len(values) * 9 // 10] * 1e3, unit="ms"
        )
    )
    if "watchfiles" in medians:
        ratio = medians["swap"] / medians["watchfiles"]
        found.append(Figure(name="reload.over_watchfiles", label="ours over watchfiles", who="ours", value=ratio))
    return found
