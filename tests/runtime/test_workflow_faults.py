"""A run meets a full disk, a locked store, a process that was killed: it says so, and acknowledges nothing it lost."""

import asyncio
import json
import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from tests.runtime._sqlite_process import locked
from tests.runtime._workflows import Tasks, engine_of, node, workflow

from oneiric.core.errors import CheckpointError
from oneiric.runtime.workflows import WorkflowCheckpointStore
from oneiric.runtime.workflows._lease import Claimant, boot_id

DISK = Path(__file__).with_name("_workflow_disk.py")


def test_a_full_disk_stops_a_run_before_anything_that_was_not_kept_is_relied_on(tmp_path: Path) -> None:
    unshare = shutil.which("unshare")
    if unshare is None or subprocess.run([unshare, "-Urm", "true"], check=False, capture_output=True).returncode:
        pytest.skip("no mount namespace of one's own here (unshare -Urm)")
    disk = tmp_path / "disk"
    disk.mkdir()
    script = 'mount -t tmpfs -o size=3m,mode=0700 tmpfs "$1" && exec "$2" "$3" "$1"'
    command = [unshare, "-Urm", "sh", "-c", script, "sh", str(disk), sys.executable, str(DISK)]
    done = subprocess.run(command, check=False, capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout) == {
        "refused": ["store", "full"],
        "status": "interrupted",
        "only_the_last_is_missing": True,
        "again": True,
        "nodes": 60,
        "check": None,
    }


async def test_a_store_that_another_process_holds_is_waited_for_as_long_as_the_lease_lasts(tmp_path: Path) -> None:
    path = tmp_path / "checkpoints.sqlite"
    held = locked(path, "writing")

    def hold(payload: Any) -> Any:
        if payload == "b":
            held.__enter__()
            asyncio.get_running_loop().call_later(0.15, lambda: held.__exit__(None, None, None))
        return payload

    spec = workflow(node("a"), node("b", "a", task="hold", payload="b"), node("c", "b"))
    # The library that another process uses beside this one must be safe with its journal: sqlite3 uses the same here.
    async with WorkflowCheckpointStore(path, busy_seconds=0.02, library="sqlite3") as store:
        engine = engine_of(Tasks(hold=hold), spec, checkpoints=store)
        assert (await engine.run("w")).results["b"] == "b"


async def test_the_run_of_a_killed_process_is_taken_over_without_waiting_for_its_lease(tmp_path: Path) -> None:
    script = """
import asyncio, sys
from tests.runtime._workflows import *
from oneiric.runtime.workflows import WorkflowCheckpointStore

async def main():
    tasks = Tasks(hang=lambda _: asyncio.sleep(600))
    async with WorkflowCheckpointStore(sys.argv[1], lease_seconds=3600) as store:
        engine = engine_of(tasks, workflow(node("a"), node("b", "a", task="hang")), checkpoints=store)
        await engine.start("w", run_id="r")
        while "b" not in tasks.nodes:
            await asyncio.sleep(0.001)
        print("begun", flush=True)
        await engine.wait("r")

asyncio.run(main())
"""
    path = tmp_path / "checkpoints.sqlite"
    root = Path(__file__).parents[2]
    with subprocess.Popen([sys.executable, "-c", script, str(path)], stdout=subprocess.PIPE, cwd=root) as worker:  # noqa: ASYNC220 - it is killed below
        assert worker.stdout is not None
        worker.stdout.readline()
        tasks = Tasks(hang=lambda payload: payload)
        spec = workflow(node("a"), node("b", "a", task="hang"))
        async with WorkflowCheckpointStore(path) as store:
            engine = engine_of(tasks, spec, checkpoints=store)
            with pytest.raises(CheckpointError, match=f"is being run by process {worker.pid} on"):
                await engine.resume("r")
            assert (await store.inspect("r")).owner is not None
            worker.send_signal(signal.SIGKILL)
            # Dead, and not yet buried: nobody has asked for its status.
            await asyncio.to_thread(os.waitid, os.P_PID, worker.pid, os.WEXITED | os.WNOWAIT)
            await engine.resume("r")
            await engine.wait("r")
    assert tasks.nodes == ["b"]


def test_a_claimant_is_known_to_be_gone_only_where_its_process_id_means_something() -> None:
    here = Claimant.here()
    assert Claimant.from_text(here.text()) is not None
    assert not here.is_gone()
    assert Claimant.from_text("nonsense") is None
    with subprocess.Popen([sys.executable, "-c", ""]) as other:
        other.wait()
        pid = other.pid
    gone = f"{here.host} {pid} {here.began} {here.space or '-'} abcd"
    found = Claimant.from_text(gone)
    assert found is not None
    assert found.is_gone()
    for elsewhere in (f"x{gone}", gone.replace(f" {here.space or '-'} ", " 17 ")):
        stranger = Claimant.from_text(elsewhere)
        assert stranger is not None
        assert not stranger.is_gone()
    reused = Claimant.from_text(f"{here.host} {here.pid} {here.began + 1} {here.space or '-'} abcd")
    assert reused is not None
    assert reused.is_gone() or here.began == 0
    if sys.platform == "linux":
        assert len(boot_id()) == 36
