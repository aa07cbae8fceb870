"""A child that is ill, asked each so often and within a deadline, is restarted or renewed."""

import asyncio
from typing import Any

import pytest
from tests.runtime.supervised import (
    AT_ONCE,
    Patient,
    deaf,
    driven,
    hang,
    refuse,
    says,
    state_of,
)

from oneiric.core.errors import UnhealthyError
from oneiric.runtime.supervisor import ChildSpec, ServiceSupervisor


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
    async with asyncio.timeout(60):
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
