"""The shop of the manual as a project in a directory, with tasks that fail or wait where a file says so."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

__all__ = ["EXAMPLE", "MORE", "Project", "project_in"]

EXAMPLE = Path(__file__).resolve().parents[2] / "docs" / "examples" / "order_fulfilment"

#: Beside the example's own: a workflow whose second node fails while ``broken`` is there, and waits while ``held`` is.
MORE = """
import asyncio
from pathlib import Path

from oneiric.core import Candidate
from oneiric.core.resolution import Resolver

LINES = Path("lines.txt")


def note(text):
    with LINES.open("a") as file:
        file.write(text + "\\n")


class First:
    async def run(self, payload=None):
        note("first")
        return {"got": payload}


class Second:
    async def run(self):
        note("second")
        while Path("held").exists():
            await asyncio.sleep(0.01)
        if Path("broken").exists():
            raise RuntimeError("no tea today")
        return 2


class Till:
    async def init(self):
        note("till opened")


class Picky:
    async def handle(self, envelope):
        if Path("broken").exists():
            raise RuntimeError("no tea today")
        note(f"picky {envelope.payload} {dict(envelope.headers)}")
        return {"seen": envelope.payload}


class Calm:
    async def handle(self, envelope):
        note("calm")


def register(resolver: Resolver):
    nodes = [
        {"id": "one", "task": "first", "payload": "${context}"},
        {"id": "two", "task": "second", "depends_on": ["one"]},
        {"id": "three", "task": "first", "payload": {}, "depends_on": ["two"]},
    ]
    if Path("changed").exists():
        nodes[2]["payload"] = {"other": 1}
    resolver.register(Candidate(domain="service", key="till", provider="more", factory=Till))
    for key, factory in (("first", First), ("second", Second)):
        resolver.register(Candidate(domain="task", key=key, provider="more", factory=factory))
    resolver.register(Candidate(
        domain="workflow", key="steps", provider="more", factory=dict, metadata={"dag": {"nodes": nodes}},
    ))
    resolver.register(Candidate(
        domain="event", key="picky", provider="more", factory=Picky,
        metadata={"topics": ["tea.*"], "event_priority": 5, "filters": [{"path": "payload.kind", "equals": "green"}]},
    ))
    resolver.register(Candidate(
        domain="event", key="calm", provider="more", factory=Calm, metadata={"topics": ["tea.made"]},
    ))
"""


class Project:
    """A project in a directory of its own; commands run in it as processes.

    Args:
        home: The directory.
    """

    def __init__(self, home: Path) -> None:
        self.home = home
        self.state = home / ".state"

    @property
    def environment(self) -> dict[str, str]:
        """The environment of the developer, without any configuration."""
        return {name: value for name, value in os.environ.items() if not name.startswith(("ONEIRIC_", "PORT"))}

    def command(self, *arguments: str) -> list[str]:
        """Return the words that run the command here."""
        return [sys.executable, "-m", "oneiric.cli", "--config", "settings", *arguments]

    def run(self, *arguments: str, stdin: str | None = None) -> subprocess.CompletedProcess[str]:
        """Run a command to its end."""
        return subprocess.run(
            self.command(*arguments),
            cwd=self.home, env=self.environment, input=stdin, capture_output=True, text=True, check=False, timeout=60,
        )  # fmt: skip

    def begin(self, *arguments: str) -> "subprocess.Popen[str]":
        """Begin a command."""
        return subprocess.Popen(
            self.command(*arguments),
            cwd=self.home, env=self.environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
        )  # fmt: skip

    def lines(self) -> list[str]:
        """What the tasks noted."""
        file = self.home / "lines.txt"
        return file.read_text().splitlines() if file.exists() else []


def project_in(home: Path) -> Project:
    """Copy the example into *home*, and add what can fail."""
    shutil.copytree(EXAMPLE, home, ignore=shutil.ignore_patterns("__pycache__", ".state"))
    (home / "more.py").write_text(MORE)
    settings = home / "settings" / "oneiric.toml"
    settings.write_text(settings.read_text().replace('imports = ["shop"]', 'imports = ["shop", "more"]'))
    return Project(home)
