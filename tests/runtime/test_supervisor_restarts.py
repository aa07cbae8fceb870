"""What fails comes back as the strategy says, with pauses that grow, and what fails too often is given up."""

import asyncio
from typing import Any

import pytest
from tests.runtime.supervised import (
    AT_ONCE,
    Worker,
    driven,
    family,
    hang,
    refuse,
    settle,
    state_of,
    states,
)

from oneiric.core.errors import LifecycleError
from oneiric.core.testing import DrivenClock
from oneiric.runtime.supervisor import ChildSpec, RestartBackoff, ServiceSupervisor


@pytest.mark.parametrize(
    ("strategy", "expected"),
    [
        ("one_for_one", ["stop b", "start b"]),
        ("one_for_all", ["stop c", "stop b", "stop a", "start a", "start b", "start c"]),
        ("rest_for_one", ["stop c", "stop b", "start b", "start c"]),
    ],
)
async def test_a_failure_takes_along_whom_the_strategy_names(strategy: Any, expected: list[str]) -> None:
    log, workers = family("a", "b", "c")
    supervisor = ServiceSupervisor(workers, strategy=strategy, backoff=AT_ONCE)
    await supervisor.start()
    log.clear()

    workers[1].crash()
    await settle()

    assert log == expected
    assert set(states(supervisor).values()) == {"running"}
    assert supervisor.info().children[1].last_error == "RuntimeError: boom"
    await supervisor.stop()


@pytest.mark.parametrize(
    ("policy", "crashes", "comes_back"),
    [
        ("permanent", True, True),
        ("permanent", False, True),
        ("transient", True, True),
        ("transient", False, False),
        ("temporary", True, False),
        ("temporary", False, False),
    ],
)
async def test_the_restart_policy_decides_what_an_end_means(policy: Any, crashes: bool, comes_back: bool) -> None:
    worker = Worker("a")
    supervisor = ServiceSupervisor([ChildSpec(child=worker, restart=policy)], backoff=AT_ONCE)
    await supervisor.start()

    if crashes:
        worker.crash()
    else:
        worker.finish()
    await settle()

    assert worker.bodies == int(comes_back)
    info = supervisor.info()
    if policy == "temporary":
        assert info.children == ()
        assert [child.state for child in info.ended] == ["ended"]
        assert info.ended[0].last_error == ("RuntimeError: boom" if crashes else None)
    else:
        assert info.children[0].state == ("running" if comes_back else "ended")
    assert info.recent_restarts == int(comes_back)
    await supervisor.stop()


def test_a_crash_loop_is_given_up_at_the_fourth_failure_within_30_seconds() -> None:
    clock = DrivenClock()
    told: list[LifecycleError] = []
    log, (bad, good) = family("bad", "good")

    async def scenario() -> None:
        supervisor = ServiceSupervisor([good, bad], clock=clock, on_escalate=told.append)
        await supervisor.start()
        for failure in range(1, 5):
            assert state_of(supervisor) == "running", f"gave up before failure {failure}"
            bad.crash(f"failure {failure}")
            await asyncio.sleep(9)  # so that the fourth comes 27 s after the first
        assert state_of(supervisor) == "failed"
        assert log[-2:] == ["stop bad", "stop good"]
        assert told == [supervisor.error]
        assert isinstance(told[0].__cause__, RuntimeError)
        assert "4 failures within 30 s, 3 are borne; the last was child 'bad': RuntimeError: failure 4" in str(told[0])
        with pytest.raises(LifecycleError, match="gave up"):
            await supervisor.wait()
        await supervisor.stop()
        assert state_of(supervisor) == "failed"

    driven(scenario(), clock)


def test_failures_further_apart_than_the_window_are_borne_for_ever() -> None:
    clock = DrivenClock()
    worker = Worker("a")

    async def scenario() -> None:
        supervisor = ServiceSupervisor([worker], clock=clock, backoff=AT_ONCE)
        await supervisor.start()
        for _ in range(40):
            worker.crash()
            await asyncio.sleep(10.1)
        assert state_of(supervisor) == "running"
        assert supervisor.info().children[0].restarts == 40
        assert supervisor.info().recent_restarts == 2
        await supervisor.stop()

    driven(scenario(), clock)


async def test_failures_of_all_children_count_together() -> None:
    _, workers = family("a", "b", "c", "d")
    supervisor = ServiceSupervisor(workers, backoff=AT_ONCE, clock=DrivenClock())
    await supervisor.start()

    for worker in workers:
        worker.crash()
    await settle()

    assert state_of(supervisor) == "failed"
    assert sum(worker.bodies for worker in workers) == 0


async def test_a_start_that_fails_on_restart_counts_as_a_failure() -> None:
    worker = Worker("a")
    supervisor = ServiceSupervisor([worker], backoff=AT_ONCE, max_restarts=3, clock=DrivenClock())
    await supervisor.start()

    worker.faults = [refuse, refuse]
    worker.crash()
    await settle()
    assert states(supervisor) == {"a": "running"}
    assert supervisor.info().recent_restarts == 3

    worker.crash()
    await settle()
    assert state_of(supervisor) == "failed"
    await supervisor.stop()


def test_restarts_back_off_with_full_jitter() -> None:
    clock = DrivenClock()
    worker = Worker("a")
    seen: list[tuple[str, float]] = []

    async def scenario() -> None:
        backoff = RestartBackoff(initial_seconds=1, max_seconds=3, random=lambda: 0.5)
        supervisor = ServiceSupervisor([worker], backoff=backoff, max_restarts=5, window_seconds=1000, clock=clock)
        await supervisor.start()
        supervisor.observe(lambda event: seen.append((event.state, clock())))
        for _ in range(4):
            worker.crash()
            await asyncio.sleep(10)
        await supervisor.stop()

    driven(scenario(), clock)
    down = [at for state, at in seen if state == "restarting"]
    up = [at for state, at in seen if state == "running"]
    assert [later - earlier for earlier, later in zip(down, up, strict=True)] == pytest.approx([0.5, 1.0, 1.5, 1.5])


def test_one_for_one_does_not_let_a_slow_restart_block_another() -> None:
    _, (slow, quick) = family("slow", "quick")

    async def scenario() -> None:
        supervisor = ServiceSupervisor([slow, quick], backoff=AT_ONCE)
        await supervisor.start()
        slow.faults = [hang]
        slow.crash()
        await settle()
        quick.crash()
        await settle()
        assert states(supervisor) == {"slow": "starting", "quick": "running"}
        await supervisor.stop()

    driven(scenario())


async def test_a_body_that_ends_while_others_start_is_restarted_once_all_are_up() -> None:
    release = asyncio.Event()
    log, workers = family("a", "b")

    async def wait_first() -> None:
        await release.wait()

    workers[1].faults = [wait_first]
    supervisor = ServiceSupervisor(workers, backoff=AT_ONCE)
    starting = asyncio.create_task(supervisor.start())
    await settle()

    workers[0].crash()
    await settle()
    assert log == ["start a", "b fails to start"]
    release.set()
    await starting
    await settle()

    assert log[2:] == ["start b", "stop a", "start a"]
    await supervisor.stop()


@pytest.mark.parametrize("how", [SystemExit(3), asyncio.CancelledError()])
async def test_a_body_that_exits_or_cancels_itself_has_failed(how: BaseException) -> None:
    worker = Worker("a")
    supervisor = ServiceSupervisor([worker], backoff=AT_ONCE)
    await supervisor.start()

    async def end() -> None:
        raise how

    bodies = [end]

    async def run() -> None:
        await (bodies.pop() if bodies else hang)()

    worker.run = run  # type: ignore[method-assign]
    worker.crash()
    await settle()

    assert supervisor.info().recent_restarts == 2
    assert states(supervisor) == {"a": "running"}
    await supervisor.stop()


def test_a_child_removed_while_it_waits_for_its_restart_stays_away() -> None:
    worker = Worker("a")

    async def scenario() -> None:
        backoff = RestartBackoff(initial_seconds=4, max_seconds=4, random=lambda: 1.0)
        supervisor = ServiceSupervisor([worker], backoff=backoff)
        await supervisor.start()
        worker.crash()
        await settle()
        await supervisor.remove_child("a")
        await asyncio.sleep(10)
        assert worker.bodies == 0
        assert worker.log.count("start a") == 1
        await supervisor.stop()

    driven(scenario())


async def test_a_supervisor_that_gives_up_fails_in_the_eyes_of_its_own() -> None:
    worker = Worker("leaf")
    inner = ServiceSupervisor([worker], name="inner", max_restarts=0, backoff=AT_ONCE)
    outer = ServiceSupervisor([inner], name="outer", backoff=AT_ONCE)
    await outer.start()

    worker.crash()
    await settle()

    assert state_of(inner) == "running"
    assert worker.log == ["start leaf", "stop leaf", "start leaf"]
    assert outer.info().children[0].restarts == 1
    await outer.stop()
    assert worker.bodies == 0


async def test_what_escalation_calls_may_stop_the_supervisor_and_may_fail() -> None:
    failures: list[dict[str, Any]] = []
    asyncio.get_running_loop().set_exception_handler(lambda loop, context: failures.append(context))
    worker = Worker("a")

    async def escalate(error: LifecycleError) -> None:
        await supervisor.stop()
        raise ValueError("nobody to tell")

    supervisor = ServiceSupervisor([worker], max_restarts=0, on_escalate=escalate)
    await supervisor.start()
    worker.crash()
    await settle()

    assert state_of(supervisor) == "failed"
    assert [failure["message"] for failure in failures] == ["on_escalate of supervisor 'supervisor' failed"]


async def test_an_observer_that_fails_disturbs_nothing() -> None:
    failures: list[dict[str, Any]] = []
    asyncio.get_running_loop().set_exception_handler(lambda loop, context: failures.append(context))
    seen: list[str] = []
    supervisor = ServiceSupervisor([Worker("a")])
    supervisor.observe(lambda event: 1 / 0)
    remove = supervisor.observe(lambda event: seen.append(event.state))

    await supervisor.start()
    remove()
    await supervisor.stop()

    assert seen == ["starting", "running"]
    assert all(isinstance(failure["exception"], ZeroDivisionError) for failure in failures)
