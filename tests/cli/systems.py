"""A running orchestrator for the commands to find, with a service that keeps another one busy while a file is there."""

import json
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tests.integration.processes import Orchestrator

BUSY = """
import asyncio, pathlib
from oneiric.core import Candidate, Key


class Line:
    async def call(self):
        while pathlib.Path("busy").exists():
            await asyncio.sleep(0.01)


class Caller:
    def __init__(self, line):
        self.calling = None
        self.line = line

    async def init(self):
        self.calling = asyncio.create_task(self.keep_calling())

    async def keep_calling(self):
        while True:
            if pathlib.Path("busy").exists():
                await self.line.call()
            await asyncio.sleep(0.01)

    async def cleanup(self):
        self.calling.cancel()


def register(resolver):
    resolver.register(Candidate(domain="service", key="line", provider="copper", factory=Line))
    resolver.register(Candidate(
        domain="service", key="caller", provider="phone", factory=Caller, needs={"line": Key("service", "line")},
    ))
"""

SETTINGS = """
plugins: {imports: [parts_of_test, busy_of_test]}
http: {port: 0}
services: {selections: {greeter: one, caller: phone}, provider_settings: {one: {password: "${secret:door}"}}}
secrets: {provider: file}
adapters: {provider_settings: {file: {path: kept.json}}}
profile: {watchers_enabled: false}
"""


@contextmanager
def system(home: Path, settings: str = SETTINGS) -> Iterator[Orchestrator]:
    """Run an orchestrator in *home*; its settings are ``settings.yml``, its state is where commands look."""
    home.mkdir(exist_ok=True)
    (home / "busy_of_test.py").write_text(BUSY)
    keep_secret(home, "open sesame")
    with Orchestrator(home, settings=settings) as running:
        yield running.until_ready()


def keep_secret(home: Path, value: str) -> None:
    """Give the secret of the settings this value from now on."""
    new = home / "kept.new"
    new.write_text(json.dumps({"door": value}))
    new.chmod(0o600)
    new.replace(home / "kept.json")


def command(*arguments: str) -> list[str]:
    """Return the words that run the command in a process of its own."""
    return [sys.executable, "-m", "oneiric.cli", *arguments]
