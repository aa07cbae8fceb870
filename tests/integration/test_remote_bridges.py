"""After a sync events, tasks and workflows are what the new manifest says, in the system that went on running."""

from __future__ import annotations

import asyncio
import secrets
import sys
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
from tests.remote.archives import packed

from oneiric.app import App, OrchestrateOptions, RunningSystem
from oneiric.remote.testing import RepositorySimulator
from oneiric.remote.testing_http import MisbehavingServer
from oneiric.runtime.control import ControlClient, control_socket_path

KEYS = ("mail", "audit", "invoice", "gate", "pack", "label", "ship")
#: What is delivered reaches the test through a module that the test has put there.
CODE = """
# {token}
import watched_by_the_test as test

class Mail:
    async def handle(self, envelope):
        test.seen.append("{name} {version}")

class Task:
    async def run(self):
        return "{name} {version}"

class Gate:
    async def run(self):
        test.begun.set()
        await test.opened.wait()
        return "through {version}"
"""
FIRST = {
    "nodes": [
        {"id": "gate", "task": "gate"},
        {"id": "pack", "task": "pack", "depends_on": ["gate"]},
    ]
}
SECOND = {"nodes": [{"id": "pack", "task": "pack"}, {"id": "label", "task": "label", "depends_on": ["pack"]}]}


class Publisher:
    """A publisher on loopback."""

    def __init__(self) -> None:
        self.repository = RepositorySimulator(product="acme", now=time.time)
        self.server = MisbehavingServer()
        self.token = secrets.token_hex()

    def entry(self, version: str, domain: str, key: str, attribute: str, **fields: Any) -> dict[str, Any]:
        code = CODE.format(token=self.token, name=key, version=version)
        archive = packed({f"acme_{key}.py": code})
        stated = self.repository.add_artifact(archive)
        stated["uri"] = f"/{stated['sha256']}.zip"
        self.server.publish(stated["uri"], archive)
        about = {"domain": domain, "key": key, "provider": "acme", "factory": f"acme_{key}:{attribute}"}
        return {**about, "version": version, **stated, **fields}

    def publish(self, *entries: dict[str, Any]) -> None:
        self.repository.publish(entries)
        self.server.publish("/manifest.json", self.repository.manifest)
        self.server.publish("/freshness.json", self.repository.freshness)


@pytest.fixture
def watched(monkeypatch: pytest.MonkeyPatch) -> Any:
    module: Any = ModuleType("watched_by_the_test")
    module.seen = []
    module.begun, module.opened = asyncio.Event(), asyncio.Event()
    monkeypatch.setitem(sys.modules, module.__name__, module)
    monkeypatch.setenv("ONEIRIC_FACTORY_ALLOWLIST", ",".join(f"acme_{key}" for key in KEYS))
    return module


@asynccontextmanager
async def running(directory: Path, publisher: Publisher) -> AsyncIterator[tuple[App, Callable[[], Any]]]:
    """Run a system; give the application, and what asks it for a sync through its control socket."""
    (directory / "root.json").write_bytes(publisher.repository.roots[0])
    settings = {
        "remote.enabled": True,
        "remote.manifest_url": publisher.server.url("/manifest.json"),
        "remote.root_path": str(directory / "root.json"),
        "remote.http_hosts": ["127.0.0.1"],
        "remote.private_networks": ["127.0.0.0/8"],
        "remote.cache_dir": str(directory / "state"),
        "remote.probation_seconds": 0,
        "remote.refresh_interval": None,
        "http.enabled": False,
        "logging.level": "CRITICAL",
    }
    app = App.open(overrides=settings, environ={}, keep_state=True)
    ready: asyncio.Future[RunningSystem] = asyncio.get_running_loop().create_future()
    task = asyncio.create_task(app.run_forever(OrchestrateOptions(handle_signals=False, on_ready=ready.set_result)))
    await asyncio.wait({ready, task}, return_when=asyncio.FIRST_COMPLETED, timeout=60)  # type: ignore[type-var]
    if task.done():
        task.result()
    client = ControlClient(control_socket_path(directory / "state"), timeout_seconds=60)
    try:
        yield app, lambda: asyncio.to_thread(client.call, "remote_sync")
    finally:
        ready.result().stop()
        await task


def test_the_next_event_goes_to_the_handlers_of_the_new_manifest_alone(tmp_path: Path, watched: Any) -> None:
    async def run() -> None:
        publisher = Publisher()
        async with publisher.server:

            def handler(version: str, key: str) -> dict[str, Any]:
                return publisher.entry(version, "event", key, "Mail", event_topics=["orders.*"])

            publisher.publish(handler("1.0", "mail"), handler("1.0", "audit"))
            async with running(tmp_path, publisher) as (app, sync):
                await app.events.emit("orders.created")
                assert sorted(watched.seen) == ["audit 1.0", "mail 1.0"]
                publisher.publish(handler("2.0", "mail"), handler("2.0", "invoice"))
                assert (await sync())["outcome"] == "applied"
                watched.seen.clear()

                reports = await app.events.emit("orders.created")

                assert sorted(watched.seen) == ["invoice 2.0", "mail 2.0"]
                assert sorted(each.handler for each in reports) == ["invoice:acme", "mail:acme"]
                assert len(app.events.handler_snapshot()) == 2

    asyncio.run(run())


def test_a_run_goes_on_with_the_definition_it_began_with_and_the_next_one_has_the_new_one(
    tmp_path: Path, watched: Any
) -> None:
    async def run() -> None:
        publisher = Publisher()
        async with publisher.server:
            tasks = [publisher.entry("1.0", "task", "gate", "Gate"), publisher.entry("1.0", "task", "pack", "Task")]
            publisher.publish(*tasks, publisher.entry("1.0", "workflow", "ship", "Task", dag=FIRST))
            async with running(tmp_path, publisher) as (app, sync):
                before = asyncio.create_task(app.workflows.run("ship", run_id="r1"))
                await watched.begun.wait()
                tasks = [publisher.entry("2.0", "task", key, "Task") for key in ("pack", "label")]
                publisher.publish(tasks[0], tasks[1], publisher.entry("2.0", "workflow", "ship", "Task", dag=SECOND))
                assert (await sync())["outcome"] == "applied"

                assert [node.id for node in app.workflows.plan("ship").nodes] == ["pack", "label"]
                assert (await app.workflows.run("ship")).results == {"pack": "pack 2.0", "label": "label 2.0"}
                assert await app.tasks.run("pack") == "pack 2.0"
                watched.opened.set()
                # Its definition is the one it began with; a node that starts now is done by what serves now.
                assert (await before).results == {"gate": "through 1.0", "pack": "pack 2.0"}

    asyncio.run(run())
