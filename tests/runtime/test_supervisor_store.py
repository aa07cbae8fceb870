"""A supervisor over the real activity store: what another process pauses, locks or ruins."""

import asyncio
import sqlite3
from contextlib import closing
from pathlib import Path

import pytest
from tests.runtime.supervised import Worker, settle

from oneiric.runtime.activity import DomainActivity, DomainActivityStore
from oneiric.runtime.supervisor import ChildSpec, RestartBackoff, ServiceSupervisor

AT_ONCE = RestartBackoff(initial_seconds=0, max_seconds=0)
PAY = ("service", "pay")
PAUSED = DomainActivity(paused=True, note="stocktaking")


class Seen:
    """Waits for a child to be in a state."""

    def __init__(self, supervisor: ServiceSupervisor) -> None:
        self._supervisor = supervisor
        self._changed = asyncio.Event()
        supervisor.observe(lambda event: self._changed.set())

    async def state(self, wanted: str) -> None:
        async with asyncio.timeout(60):
            while self._supervisor.info().children[0].state != wanted:
                self._changed.clear()
                await self._changed.wait()


def over(store: DomainActivityStore, worker: Worker) -> ServiceSupervisor:
    spec = ChildSpec(child=worker, activity=PAY)
    return ServiceSupervisor([spec], store=store, backoff=AT_ONCE, poll_interval=0.02)


async def test_a_pause_set_elsewhere_holds_a_restart_back_and_its_end_releases_it(tmp_path: Path) -> None:
    path, worker = tmp_path / "domain_activity.sqlite", Worker("pay")
    async with DomainActivityStore(path) as mine, DomainActivityStore(path) as other:
        supervisor = over(mine, worker)
        seen = Seen(supervisor)
        await supervisor.start()
        await other.set(*PAY, PAUSED)
        await supervisor.refresh()
        assert not supervisor.should_accept_work(*PAY)

        worker.crash()
        await seen.state("held")
        assert supervisor.snapshot()["service"]["pay"].paused

        await other.set(*PAY, DomainActivity())
        await seen.state("running")
        await supervisor.stop()


async def test_a_resume_in_this_process_needs_no_poll(tmp_path: Path) -> None:
    worker = Worker("pay")
    async with DomainActivityStore(tmp_path / "domain_activity.sqlite") as store:
        supervisor = ServiceSupervisor(
            [ChildSpec(child=worker, activity=PAY)], store=store, backoff=AT_ONCE, poll_interval=3600
        )
        seen = Seen(supervisor)
        await supervisor.start()
        await store.set(*PAY, PAUSED)
        worker.crash()
        await seen.state("held")

        await store.set(*PAY, DomainActivity())
        await seen.state("running")
        assert worker.log.count("start pay") == 2
        await supervisor.stop()


@pytest.mark.parametrize("fault", ["locked", "ruined"])
async def test_a_store_that_cannot_be_read_keeps_what_was_paused(tmp_path: Path, fault: str) -> None:
    path, worker = tmp_path / "domain_activity.sqlite", Worker("pay")
    async with DomainActivityStore(path, busy_seconds=0.02) as store:
        supervisor = over(store, worker)
        await store.set(*PAY, PAUSED)
        await supervisor.start()
        with closing(sqlite3.connect(path, autocommit=True)) as rival:
            is_wal = rival.execute("PRAGMA journal_mode").fetchone() == ("wal",)
            if fault == "locked":
                rival.execute("BEGIN EXCLUSIVE")
            else:
                path.write_bytes(b"ruin" * 4096)

            worker.crash()
            for _ in range(5):
                await supervisor.refresh()
                await settle()

            assert supervisor.state == "running"
            assert supervisor.info().children[0].state == "held"
            assert not supervisor.should_accept_work(*PAY)
            if fault == "locked" and not is_wal:  # with a write-ahead log a writer keeps no reader out
                assert "1 keys known to be paused" in str(supervisor.info().store_problem)
        await supervisor.stop()
