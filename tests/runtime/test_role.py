"""The orchestrator's role: one holder per state directory, and none left behind by a kill."""

import asyncio
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from oneiric.core.errors import LifecycleError, StoreError
from oneiric.runtime._role import RoleLock

HOLDER = (
    "import sys, time\n"
    "from oneiric.runtime._role import RoleLock\n"
    "RoleLock(sys.argv[1]).acquire()\n"
    "print('held', flush=True)\n"
    "sys.stdin.read()\n"
)


def test_a_second_holder_is_refused_with_the_number_of_the_first_and_a_killed_one_leaves_nothing(
    tmp_path: Path,
) -> None:
    state = tmp_path / "state"
    with subprocess.Popen(
        [sys.executable, "-c", HOLDER, str(state)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as holder:
        assert holder.stdout is not None
        assert holder.stdout.readline() == "held\n"
        with pytest.raises(LifecycleError, match=rf"another orchestrator \(pid {holder.pid}\) runs on .*state"):
            RoleLock(state).acquire()
        holder.send_signal(signal.SIGKILL)
        holder.wait()
    RoleLock(state).acquire()


def test_the_role_is_given_back_and_taken_again(tmp_path: Path) -> None:
    first, second = RoleLock(tmp_path), RoleLock(tmp_path)
    first.acquire()
    first.acquire()
    with pytest.raises(LifecycleError, match="another orchestrator"):
        second.acquire()
    first.release()
    first.release()
    second.acquire()
    with pytest.raises(LifecycleError, match="another orchestrator"):
        first.acquire()
    second.release()


def test_its_file_is_for_this_user_alone(tmp_path: Path) -> None:
    RoleLock(tmp_path / "new").acquire()
    assert (tmp_path / "new").stat().st_mode & 0o777 == 0o700
    assert (tmp_path / "new" / "orchestrator.lock").stat().st_mode & 0o777 == 0o600


def test_a_link_in_its_place_is_refused(tmp_path: Path) -> None:
    (tmp_path / "orchestrator.lock").symlink_to(tmp_path / "elsewhere")
    with pytest.raises(StoreError, match="cannot be opened"):
        RoleLock(tmp_path).acquire()
    assert not (tmp_path / "elsewhere").exists()


async def test_a_role_whose_file_was_removed_is_taken_again(tmp_path: Path) -> None:
    told = asyncio.Event()

    async def retaken() -> None:
        told.set()

    state = tmp_path / "state"
    role = RoleLock(state, retaken=retaken, look_seconds=0.01)
    await role.start()
    waiting = asyncio.create_task(role.wait())
    shutil.rmtree(state)
    async with asyncio.timeout(60):
        await told.wait()
    with pytest.raises(LifecycleError, match="another orchestrator"):
        RoleLock(state).acquire()
    waiting.cancel()
    await asyncio.wait((waiting,))
    await role.stop()


async def test_a_role_that_another_one_took_meanwhile_is_lost(tmp_path: Path) -> None:
    state = tmp_path / "state"
    role = RoleLock(state, look_seconds=0.01)
    await role.start()
    shutil.rmtree(state)
    second = RoleLock(state)
    second.acquire()
    with pytest.raises(LifecycleError, match="another orchestrator"):
        await role.wait()
    second.release()
