"""Starts, stops and bodies that hang, or do not heed that they were cancelled, hold nobody up."""

import asyncio

import pytest
from tests.runtime.supervised import (
    Worker,
    deaf,
    driven,
    family,
    hang,
    settle,
)

from oneiric.core.errors import DeadlineError, LifecycleError
from oneiric.core.testing import DrivenClock
from oneiric.runtime.supervisor import ChildSpec, ServiceSupervisor


def test_a_start_that_hangs_fails_at_its_deadline() -> None:
    worker = Worker("a")
    worker.faults = [hang]

    async def scenario() -> None:
        supervisor = ServiceSupervisor([ChildSpec(child=worker, start_seconds=7)])
        with pytest.raises(LifecycleError, match="deadline of 7 s") as caught:
            await supervisor.start()
        assert isinstance(caught.value.__cause__, DeadlineError)

    driven(scenario())


async def test_a_start_that_comes_about_after_it_was_given_up_is_taken_down() -> None:
    release = asyncio.Event()
    worker = Worker("a")
    worker.faults = [deaf(release)]
    supervisor = ServiceSupervisor([ChildSpec(child=worker, start_seconds=0.05)])
    with pytest.raises(LifecycleError, match=r"deadline of 0\.05 s"):
        await supervisor.start()
    assert supervisor.info().children[0].abandoned == 1
    stops = worker.log.count("stop a")

    release.set()
    await settle()

    assert worker.log[-2:] == ["start a", "stop a"]
    assert worker.log.count("stop a") == stops + 1
    assert supervisor.info().children[0].abandoned == 0


def test_a_stop_that_hangs_is_cut_at_its_deadline_and_the_others_stop() -> None:
    log, workers = family("a", "b")
    workers[1].on_stop = hang
    clock = DrivenClock()

    async def scenario() -> None:
        supervisor = ServiceSupervisor([workers[0], ChildSpec(child=workers[1], shutdown_seconds=3)])
        await supervisor.start()
        before = clock()
        await supervisor.stop()
        assert clock() - before == pytest.approx(3)
        assert log[-2:] == ["stop b", "stop a"]
        info = supervisor.info()
        assert info.children[1].last_error == "stop of child 'b' took longer than its deadline of 3 s"
        assert [child.abandoned for child in info.children] == [0, 0]

    driven(scenario(), clock)


async def test_a_stop_that_ignores_its_cancellation_is_abandoned_and_reported() -> None:
    release = asyncio.Event()
    log, workers = family("a", "b")
    workers[1].on_stop = deaf(release)
    supervisor = ServiceSupervisor([workers[0], ChildSpec(child=workers[1], shutdown_seconds=0.05)])
    await supervisor.start()

    await asyncio.wait_for(supervisor.stop(), 60)

    assert log[-2:] == ["stop b", "stop a"]
    assert supervisor.info().children[1].abandoned == 1
    release.set()
    await settle()
    assert supervisor.info().children[1].abandoned == 0


async def test_a_body_that_ignores_its_cancellation_is_abandoned_and_reported() -> None:
    release = asyncio.Event()
    worker = Worker("a")
    worker.run = deaf(release)  # type: ignore[method-assign,assignment]
    supervisor = ServiceSupervisor([ChildSpec(child=worker, shutdown_seconds=0.05)])
    await supervisor.start()

    await asyncio.wait_for(supervisor.stop(), 60)

    info = supervisor.info().children[0]
    assert info.abandoned == 1
    assert info.last_error == "the body of child 'a' ignores its cancellation and was abandoned"
    release.set()
    await settle()
