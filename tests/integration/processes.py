"""A running orchestrator in a process of its own, and a small application for it."""

import contextlib
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from oneiric.core.errors import OneiricError
from oneiric.runtime.control import ControlClient, control_socket_path

#: What the tests' providers do is said by their settings, so that one module serves every fault.
PARTS = """
import asyncio, os, threading, time
from pydantic import BaseModel
from oneiric.core import Candidate, Secret


class Settings(BaseModel):
    greeting: str = "hello"
    password: Secret | None = None
    hang: str = ""          # the step that never ends
    block: str = ""         # the step that blocks the event loop
    stray: str = ""         # what init leaves behind that never ends: a task, a thread or a job
    fail: str = ""          # the step that raises
    sick: str = ""          # a file: unhealthy while it is there
    kill: str = ""          # the step in which the process is killed
    note: str = ""          # a file that each step is appended to


class Part:
    name = "one"

    def __init__(self, settings):
        self.settings = settings
        self.step("make")

    def step(self, step):
        if self.settings.note:
            with open(self.settings.note, "a") as file:
                file.write(f"{self.name} {step}\\n")
        if self.settings.block == step:
            time.sleep(3600)
        if self.settings.kill == step:
            os.kill(os.getpid(), 9)
        if self.settings.fail == step:
            password = self.settings.password
            raise RuntimeError(f"{step} failed {password.reveal() if password else ''}")

    async def init(self):
        await self.slowly("init")
        if self.settings.stray == "task":
            self.task = asyncio.create_task(stubborn())
        if self.settings.stray == "job":
            self.task = asyncio.create_task(asyncio.to_thread(time.sleep, 3600))
        if self.settings.stray == "thread":
            threading.Thread(target=time.sleep, args=(3600,)).start()

    async def health(self):
        await self.slowly("health")
        return not (self.settings.sick and os.path.exists(self.settings.sick))

    async def cleanup(self):
        await self.slowly("cleanup")

    async def slowly(self, step):
        self.step(step)
        if self.settings.hang == step:
            await asyncio.Event().wait()

    async def greet(self):
        return self.settings.greeting


async def stubborn():
    while True:
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            pass


class Other(Part):
    name = "two"


def register(resolver):
    for provider, factory, priority in (("one", Part, 2), ("two", Other, 1)):
        for key in ("greeter", "second"):
            resolver.register(Candidate(
                domain="service", key=key, provider=provider, factory=factory, priority=priority,
                settings_model="parts_of_test:Settings",
            ))
"""

SETTINGS = "plugins: {imports: [parts_of_test]}\nhttp: {port: 0}\nservices: {selections: {greeter: one}}\n"


def with_settings(**fields: str) -> str:
    return SETTINGS.replace("services: {", f"services: {{provider_settings: {{one: {json.dumps(fields)}}}, ")


def replace(file: Path, text: str) -> None:
    beside = file.with_suffix(".new")
    beside.write_text(text)
    beside.replace(file)


class Orchestrator:
    """A running ``python -m oneiric.app``.

    Args:
        home: Its directory: settings, modules and state.
        settings: Text of ``settings.yml``; by default one supervised service.
        arguments: Further arguments.
        environ: Variables beside those of the test.
        prefix: A command that runs it, such as one that limits it.
    """

    def __init__(
        self,
        home: Path,
        *,
        settings: str = SETTINGS,
        arguments: tuple[str, ...] = (),
        environ: Mapping[str, str] | None = None,
        prefix: tuple[str, ...] = (),
    ) -> None:
        self.home = home
        self.settings_file = home / "settings.yml"
        self.settings_file.write_text(settings)
        (home / "parts_of_test.py").write_text(PARTS)
        self.state = home / ".oneiric_cache"
        self.client = ControlClient(control_socket_path(self.state), timeout_seconds=60)
        self.log_file = home / "log.txt"
        clean = {name: value for name, value in os.environ.items() if not name.startswith(("ONEIRIC_", "PORT"))}
        with self.log_file.open("ab") as log:
            self.process = subprocess.Popen(
                [*prefix, sys.executable, "-m", "oneiric.app", "--config", "settings.yml", *arguments],
                cwd=home,
                env=clean | dict(environ or {}),
                stdout=subprocess.PIPE,
                stderr=log,
            )

    def __enter__(self) -> "Orchestrator":
        return self

    def __exit__(self, *_: object) -> None:
        if self.process.poll() is None:
            self.process.kill()
        self.process.communicate()

    @property
    def log(self) -> str:
        """All that it wrote to stderr."""
        return self.log_file.read_text()

    def lines(self, event: str) -> list[dict[str, Any]]:
        """The log's lines of one event."""
        found = []
        for line in self.log.splitlines():
            with contextlib.suppress(ValueError):
                found.append(json.loads(line))
        return [line for line in found if line.get("event") == event]

    def call(self, operation: str, **fields: Any) -> dict[str, Any]:
        """Ask it something."""
        return self.client.call(operation, **fields)

    def until_ready(self) -> "Orchestrator":
        """Return once it takes work; fail if it ends before."""
        self.until(lambda: self.call("status")["ready"])
        return self

    def until(self, holds: Any, seconds: float = 60) -> None:
        """Return once *holds* does; errors of the control API count as not yet."""
        deadline = time.monotonic() + seconds
        while True:
            with contextlib.suppress(OneiricError, OSError):
                if holds():
                    return
            assert self.process.poll() is None, f"it ended with {self.process.returncode}:\n{self.log}"
            assert time.monotonic() < deadline, f"it took more than {seconds} s:\n{self.log}"
            time.sleep(0.02)  # polls another process, which tells nobody

    def end(self, number: signal.Signals = signal.SIGTERM, seconds: float = 60) -> int:
        """Send a signal and return what it exits with."""
        self.process.send_signal(number)
        return self.process.wait(seconds)
