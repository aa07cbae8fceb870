"""Supervision as Erlang/OTP defines it, with deadlines: what fails comes back, too often gives up, stops in reverse."""

import asyncio
from collections.abc import Coroutine
from typing import Any

import pytest
from tests.runtime.supervised import Patient, Store, Worker, deaf, hang, refuse, says, settle

from oneiric.core.errors import DeadlineError, LifecycleError, UnhealthyError
from oneiric.core.testing import DrivenClock, run_driven
from oneiric.runtime.supervisor import ChildSpec, RestartBackoff, ServiceSupervisor

AT_ONCE = RestartBackoff(initial_seconds=0, max_seconds=0)


def driven(scenario: Coroutine[Any, Any, None], clock: DrivenClock | None = None) -> None:
    run_driven(asyncio.wait_for(scenario, 3600), clock)


def family(*names: str) -> tuple[list[str], list[Worker]]:
    log: list[str] = []
    return log, [Worker(name, log) for name in names]


def state_of(supervisor: ServiceSupervisor) -> str:
    return supervisor.state


async def turn() -> None:
    await asyncio.sleep(0)


def states(supervisor: ServiceSupervisor) -> dict[str, str]:
    return {child.name: child.state for child in supervisor.info().children}


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

    await asyncio.wait_for(supervisor.stop(), 2)

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

    await asyncio.wait_for(supervisor.stop(), 2)

    info = supervisor.info().children[0]
    assert info.abandoned == 1
    assert info.last_error == "the body of child 'a' ignores its cancellation and was abandoned"
    release.set()
    await settle()


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


# Health


def ill_after(**fields: Any) -> tuple[Patient, ChildSpec]:
    patient = Patient("p")
    return patient, ChildSpec(child=patient, **fields)


@pytest.mark.parametrize("answer", [False, RuntimeError("no pulse")])
def test_a_child_that_is_ill_k_times_in_a_row_is_restarted(answer: Any) -> None:
    patient, spec = ill_after()

    async def scenario() -> None:
        supervisor = ServiceSupervisor([spec], poll_interval=1, backoff=AT_ONCE)
        await supervisor.start()
        patient.answer = says(answer)
        await asyncio.sleep(2.5)
        assert patient.log == ["start p"]
        await asyncio.sleep(1)
        assert patient.log == ["start p", "stop p", "start p"]
        error = supervisor.info().children[0].last_error
        assert error is not None
        assert error.startswith("child 'p' failed 3 of its last 3 health checks: ")
        await supervisor.stop()

    driven(scenario())


def test_k_of_n_bad_answers_need_not_be_consecutive() -> None:
    patient, spec = ill_after(unhealthy_after=2, unhealthy_of=4)

    async def scenario() -> None:
        supervisor = ServiceSupervisor([spec], poll_interval=1, backoff=AT_ONCE)
        await supervisor.start()
        for answer, restarts in ((False, 0), (True, 0), (None, 0), (True, 0), (True, 0), (False, 0), (False, 1)):
            patient.answer = says(answer)
            await asyncio.sleep(1)
            assert supervisor.info().children[0].restarts == restarts
        await supervisor.stop()

    driven(scenario())


def test_a_health_check_that_hangs_is_a_bad_answer_at_its_deadline() -> None:
    patient, spec = ill_after(health_seconds=2, unhealthy_after=1, unhealthy_of=1)

    async def scenario() -> None:
        supervisor = ServiceSupervisor([spec], poll_interval=1, backoff=AT_ONCE)
        await supervisor.start()
        patient.answer = hang
        await asyncio.sleep(2.9)
        assert supervisor.info().children[0].restarts == 0
        await asyncio.sleep(0.2)
        assert supervisor.info().children[0].restarts == 1
        await supervisor.stop()

    driven(scenario())


def test_a_health_check_that_ignores_its_cancellation_is_asked_once_and_counts_each_time() -> None:
    patient, spec = ill_after(health_seconds=0.2, unhealthy_after=3, unhealthy_of=3)

    async def scenario() -> None:
        release = asyncio.Event()
        supervisor = ServiceSupervisor([spec], poll_interval=1, backoff=AT_ONCE)
        await supervisor.start()
        patient.answer = deaf(release)
        await asyncio.sleep(3.5)
        assert patient.asked == 1
        assert supervisor.info().children[0].restarts == 1
        assert supervisor.info().children[0].abandoned == 1
        release.set()
        await supervisor.stop()

    driven(scenario())


async def test_a_health_check_that_really_hangs_is_found_out_in_real_time() -> None:
    patient, spec = ill_after(health_seconds=0.05, unhealthy_after=1, unhealthy_of=1)
    restarted = asyncio.Event()
    supervisor = ServiceSupervisor([spec], poll_interval=0.02, backoff=AT_ONCE)
    await supervisor.start()
    supervisor.observe(lambda event: restarted.set() if event.state == "restarting" else None)

    patient.answer = hang
    async with asyncio.timeout(5):
        await restarted.wait()

    assert "deadline of 0.05 s" in str(supervisor.info().children[0].last_error)
    await supervisor.stop()


def test_an_ill_child_that_can_renew_itself_is_renewed_in_place() -> None:
    class Renewable(Patient):
        async def restart(self) -> None:
            self.log.append("renew")
            if self.faults:
                await self.faults.pop(0)()
            self.answer = says(True)

    patient = Renewable("p")
    patient.faults = []

    async def scenario() -> None:
        supervisor = ServiceSupervisor([patient], poll_interval=1, backoff=AT_ONCE)
        await supervisor.start()
        patient.answer = says(False)
        patient.faults = [refuse]
        await asyncio.sleep(4)
        await supervisor.stop()

    driven(scenario())
    assert patient.log[:2] == ["start p", "renew"]
    assert patient.log[-1] == "stop p"


def test_a_child_ill_for_good_is_given_up() -> None:
    patient, spec = ill_after(unhealthy_after=1, unhealthy_of=1)
    patient.answer = says(False)

    async def scenario() -> None:
        supervisor = ServiceSupervisor([spec], poll_interval=1, backoff=AT_ONCE)
        await supervisor.start()
        await asyncio.sleep(10)
        assert state_of(supervisor) == "failed"
        assert supervisor.error is not None
        assert isinstance(supervisor.error.__cause__, UnhealthyError)
        assert patient.log.count("start p") == 4

    driven(scenario())


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
