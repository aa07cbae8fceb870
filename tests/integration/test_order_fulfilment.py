"""The example in docs/examples/order_fulfilment runs as its README says, crash and all."""

import asyncio
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from oneiric.app import App
from oneiric.core.errors import OneiricError
from oneiric.runtime.control import ControlClient, control_socket_path

EXAMPLE = Path(__file__).resolve().parents[2] / "docs" / "examples" / "order_fulfilment"
pytestmark = pytest.mark.xdist_group("processes")


@pytest.fixture
def shop(tmp_path: Path) -> Path:
    home = tmp_path / "shop"
    shutil.copytree(EXAMPLE, home, ignore=shutil.ignore_patterns("__pycache__", ".state"))
    return home


def environment() -> dict[str, str]:
    return {name: value for name, value in os.environ.items() if not name.startswith("ONEIRIC_")}


def order(shop: Path, *arguments: str) -> str:
    done = subprocess.run(
        [sys.executable, "order.py", *arguments],
        cwd=shop, env=environment(), capture_output=True, text=True, check=True, timeout=60,
    )  # fmt: skip
    return done.stdout


def effects(shop: Path) -> list[str]:
    log = shop / ".state" / "effects.log"
    return [line.rpartition(" ")[0] for line in log.read_text().splitlines()] if log.exists() else []


def work(shop: Path, *, until: str | None = None) -> int:
    """Run the worker until an effect is there, then stop it; or until it ends by itself."""
    with subprocess.Popen(
        [sys.executable, "work.py"], cwd=shop, env=environment(), stderr=subprocess.PIPE, text=True
    ) as worker:
        if until is not None:
            deadline = time.monotonic() + 60
            while until not in effects(shop):
                assert worker.poll() is None, worker.communicate()[1]
                assert time.monotonic() < deadline
                time.sleep(0.05)  # polls another process, which tells nobody
            client = ControlClient(control_socket_path(shop / ".state"), timeout_seconds=10)
            while not _is_ready(client):
                time.sleep(0.05)
            worker.send_signal(signal.SIGTERM)
        worker.communicate(timeout=60)
        return worker.returncode


def _is_ready(client: ControlClient) -> bool:
    try:
        return bool(client.call("status")["ready"])
    except OneiricError:
        return False


async def runs() -> dict[str, str]:
    async with App.open("settings", environ={}) as app:
        return {run.run_id: run.status for run in await app.workflows.runs("fulfil")}


def test_an_order_is_fulfilled_once_also_when_the_worker_dies_in_the_middle(
    shop: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert order(shop, "A-1", "tea", "cups") == "order-created:shop: queued\n"
    assert work(shop, until="shipped A-1") == 0
    assert effects(shop) == ["reserved A-1", "charged A-1 20", "shipped A-1"]

    (shop / ".state" / "crash-once").touch()
    order(shop, "A-2", "tea")
    assert work(shop) == 9
    assert effects(shop)[3:] == ["reserved A-2", "charged A-2 10"]
    assert work(shop, until="shipped A-2") == 0
    assert effects(shop)[3:] == ["reserved A-2", "charged A-2 10", "shipped A-2"]

    monkeypatch.chdir(shop)
    monkeypatch.setattr(sys, "path", [*sys.path])
    assert asyncio.run(runs()) == {"A-1": "completed", "A-2": "completed"}


def test_the_same_order_twice_is_one_run(shop: Path) -> None:
    order(shop, "A-1", "tea")
    order(shop, "A-1", "tea")
    assert work(shop, until="shipped A-1") == 0
    assert effects(shop) == ["reserved A-1", "charged A-1 10", "shipped A-1"]
