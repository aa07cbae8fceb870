"""Supervision as Erlang/OTP defines it: children start in order, stop in reverse, and come and go in between."""

import asyncio
from typing import Any

import pytest
from tests.runtime.supervised import (
    AT_ONCE,
    Store,
    Worker,
    driven,
    family,
    hang,
    refuse,
    settle,
    state_of,
    states,
    turn,
)

from oneiric.core.errors import LifecycleError
from oneiric.runtime.supervisor import ChildSpec, ServiceSupervisor


async def test_children_start_in_order_and_stop_in_reverse() -> None:
    log, workers = family("a", "b", "c")
    supervisor = ServiceSupervisor(workers)

    await supervisor.start()
    assert state_of(supervisor) == "running"
    assert states(supervisor) == {"a": "running", "b": "running", "c": "running"}
    await supervisor.stop()

    assert log == ["start a", "start b", "start c", "stop c", "stop b", "stop a"]
    assert [worker.bodies for worker in workers] == [0, 0, 0]
    assert state_of(supervisor) == "stopped"


async def test_a_child_that_does_not_start_at_first_unwinds_those_before_it() -> None:
    log, workers = family("a", "b", "c")
    workers[1].faults = [refuse]
    supervisor = ServiceSupervisor(workers)

    with pytest.raises(LifecycleError, match="did not start: child 'b': OSError: no such port") as caught:
        await supervisor.start()

    assert isinstance(caught.value.__cause__, OSError)
    assert log == ["start a", "b fails to start", "stop b", "stop a"]
    assert state_of(supervisor) == "stopped"
    await supervisor.start()
    assert state_of(supervisor) == "running"
    await supervisor.stop()


async def test_a_cancelled_start_unwinds_what_started() -> None:
    log, workers = family("a", "b", "c")
    workers[1].faults = [hang]
    supervisor = ServiceSupervisor(workers)
    starting = asyncio.create_task(supervisor.start())
    await settle()
    assert state_of(supervisor) == "starting"

    starting.cancel()
    with pytest.raises(asyncio.CancelledError):
        await starting

    assert log == ["start a", "b fails to start", "stop b", "stop a"]
    assert state_of(supervisor) == "stopped"
    assert workers[0].bodies == 0
    assert asyncio.all_tasks() == {asyncio.current_task()}


@pytest.mark.parametrize("turns", range(24))
async def test_a_start_cancelled_at_any_moment_leaves_nothing_behind(turns: int) -> None:
    log, workers = family("a", "b", "c")
    for worker in workers:
        worker.faults = [turn]
    supervisor = ServiceSupervisor(workers)
    starting = asyncio.create_task(supervisor.start())
    for _ in range(turns):
        await asyncio.sleep(0)

    starting.cancel()
    await asyncio.wait({starting})
    cancelled = starting.cancelled()
    assert state_of(supervisor) == ("stopped" if cancelled else "running")
    await supervisor.stop()

    assert sum(worker.bodies for worker in workers) == 0
    for worker in workers:
        assert log.count(f"start {worker.name}") <= log.count(f"stop {worker.name}")
    assert asyncio.all_tasks() == {asyncio.current_task()}


async def test_stop_ends_a_start_under_way() -> None:
    log, workers = family("a", "b")
    workers[1].faults = [hang]
    supervisor = ServiceSupervisor(workers)
    starting = asyncio.create_task(supervisor.start())
    await settle()

    await supervisor.stop()

    with pytest.raises(LifecycleError, match="was stopped meanwhile"):
        await starting
    assert log == ["start a", "b fails to start", "stop b", "stop a"]


async def test_stop_and_start_are_safe_twice() -> None:
    worker = Worker("a")
    supervisor = ServiceSupervisor([worker])
    await supervisor.stop()

    await supervisor.start()
    await supervisor.start()
    await asyncio.gather(supervisor.stop(), supervisor.stop())
    await supervisor.stop()
    assert worker.log == ["start a", "stop a"]

    await supervisor.start()
    assert worker.bodies == 1
    await supervisor.stop()


async def test_a_cancelled_stop_goes_on_by_itself() -> None:
    release = asyncio.Event()
    log, workers = family("a", "b")

    async def slow() -> None:
        await release.wait()

    workers[1].on_stop = slow
    supervisor = ServiceSupervisor(workers)
    await supervisor.start()
    stopping = asyncio.create_task(supervisor.stop())
    await settle()

    stopping.cancel()
    with pytest.raises(asyncio.CancelledError):
        await stopping
    assert state_of(supervisor) == "stopping"
    release.set()
    await supervisor.stop()

    assert state_of(supervisor) == "stopped"
    assert log[-2:] == ["stop b", "stop a"]


async def test_a_name_is_taken_once() -> None:
    with pytest.raises(LifecycleError, match="has a child 'a' already"):
        ServiceSupervisor([Worker("a"), Worker("a")])


async def test_children_come_and_go_while_it_runs() -> None:
    log, workers = family("a", "b", "c")
    supervisor = ServiceSupervisor(workers[:2], strategy="rest_for_one", backoff=AT_ONCE)
    await supervisor.start()

    await supervisor.add_child(workers[2])
    workers[1].crash()
    await settle()
    assert log[-4:] == ["stop c", "stop b", "start b", "start c"]

    await supervisor.remove_child("b")
    assert list(states(supervisor)) == ["a", "c"]
    assert log[-1] == "stop b"
    with pytest.raises(LifecycleError, match=r"has no child 'b'\. Try: one of 'a', 'c'"):
        await supervisor.remove_child("b")
    await supervisor.stop()


async def test_a_child_that_does_not_start_is_not_added() -> None:
    worker = Worker("a")
    worker.faults = [refuse]
    supervisor = ServiceSupervisor()
    await supervisor.start()

    with pytest.raises(LifecycleError, match="OSError: no such port"):
        await supervisor.add_child(worker)

    assert supervisor.info().children == ()
    assert worker.log == ["a fails to start", "stop a"]
    await supervisor.stop()


@pytest.mark.parametrize(
    "wrong",
    [
        {"restart": "always"},
        {"unhealthy_after": 0},
        {"unhealthy_after": 4},
        {"shutdown_seconds": -1},
        {"health_seconds": 0},
    ],
)
def test_a_treatment_that_makes_no_sense_is_refused(wrong: dict[str, Any]) -> None:
    worker = Store()
    worker.name = "a"  # type: ignore[attr-defined]
    with pytest.raises(LifecycleError, match="child 'a'"):
        ChildSpec(child=worker, **wrong)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    "wrong",
    [{"strategy": "one_for_none"}, {"max_restarts": -1}, {"window_seconds": 0}, {"poll_interval": 0}],
)
def test_a_supervisor_that_makes_no_sense_is_refused(wrong: dict[str, Any]) -> None:
    with pytest.raises(LifecycleError):
        ServiceSupervisor(**wrong)


def test_a_loop_torn_down_without_a_stop_restarts_nothing() -> None:
    worker = Worker("a")

    async def scenario() -> None:
        await ServiceSupervisor([worker], backoff=AT_ONCE).start()
        await settle()

    driven(scenario())
    assert worker.log == ["start a"]
