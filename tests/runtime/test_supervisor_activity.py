"""What is paused is not restarted; a store that fails never ends supervision, and what it last said stays in force."""

import asyncio
from collections.abc import Callable
from typing import Any

import pytest
from tests.runtime.supervised import Patient, State, Store, Worker, hang, says, settle

from oneiric.core.testing import DrivenClock, run_driven
from oneiric.runtime.supervisor import ActivityReading, ChildSpec, RestartBackoff, ServiceSupervisor, Strategy

AT_ONCE = RestartBackoff(initial_seconds=0, max_seconds=0)
PAY = ("service", "pay")


def supervised(store: Store, *workers: Worker, strategy: Strategy = "one_for_one") -> ServiceSupervisor:
    """Of the workers, the first is what can be paused."""
    first, *others = workers
    paused = ChildSpec(child=first, activity=PAY, unhealthy_after=1, unhealthy_of=1)
    return ServiceSupervisor(
        [paused, *others], store=store, strategy=strategy, backoff=AT_ONCE, poll_interval=1, clock=DrivenClock()
    )


@pytest.mark.parametrize("state", [State(paused=True), State(draining=True)])
def test_a_child_that_fails_while_paused_is_held_until_it_takes_work_again(state: State) -> None:
    store, worker = Store(), Worker("pay")

    async def scenario() -> None:
        supervisor = supervised(store, worker)
        await supervisor.start()
        store.states[PAY] = state
        worker.crash()
        await asyncio.sleep(20)

        info = supervisor.info()
        assert (info.children[0].state, info.children[0].last_error) == ("held", "RuntimeError: boom")
        assert info.recent_restarts == 0
        assert worker.log == ["start pay", "stop pay"]

        del store.states[PAY]
        await asyncio.sleep(1.1)
        assert supervisor.info().children[0].state == "running"
        assert supervisor.info().recent_restarts == 1
        await supervisor.stop()

    run_driven(scenario())


def test_a_paused_child_that_a_sibling_takes_along_comes_back_after_the_pause() -> None:
    store, log = Store(), []  # type: ignore[var-annotated]
    paused, other = Worker("pay", log), Worker("other", log)

    async def scenario() -> None:
        supervisor = supervised(store, paused, other, strategy="one_for_all")
        await supervisor.start()
        store.states[PAY] = State(paused=True)
        other.crash()
        await asyncio.sleep(5)
        assert [child.state for child in supervisor.info().children] == ["held", "running"]

        del store.states[PAY]
        await asyncio.sleep(1.1)
        assert [child.state for child in supervisor.info().children] == ["running", "running"]
        assert supervisor.info().recent_restarts == 1, "it did not fail itself"
        assert log[2:] == ["stop other", "stop pay", "start other", "start pay"]
        await supervisor.stop()

    run_driven(scenario())


def test_an_ill_child_is_left_to_drain_and_restarted_afterwards() -> None:
    store, patient = Store(), Patient("pay")

    async def scenario() -> None:
        supervisor = supervised(store, patient)
        await supervisor.start()
        store.states[PAY] = State(draining=True)
        patient.answer = says(False)
        await asyncio.sleep(5.5)
        assert patient.log == ["start pay"]

        del store.states[PAY]
        await asyncio.sleep(1)
        assert patient.log == ["start pay", "stop pay", "start pay"]
        await supervisor.stop()

    run_driven(scenario())


def test_a_change_made_in_this_process_releases_a_held_child_at_once() -> None:
    class Telling(Store):
        told: Callable[..., object] | None = None

        def add_listener(self, callback: Callable[..., object]) -> Callable[[], None]:
            self.told = callback
            return lambda: setattr(self, "told", None)

    store, worker = Telling(), Worker("pay")

    async def scenario() -> None:
        supervisor = supervised(store, worker)
        await supervisor.start()
        store.states[PAY] = State(paused=True)
        assert store.told is not None
        store.told("service", "pay")
        worker.crash()
        await settle()
        assert supervisor.info().children[0].state == "held"

        del store.states[PAY]
        store.told("service", "pay")
        await settle()
        assert supervisor.info().children[0].state == "running"
        await supervisor.stop()
        assert store.told is None

    run_driven(scenario())


def test_a_broken_store_ends_nothing_and_what_was_paused_stays_paused() -> None:
    store, worker = Store(), Worker("pay")

    async def scenario() -> None:
        supervisor = supervised(store, worker)
        store.states[PAY] = State(paused=True)
        await supervisor.start()
        assert supervisor.info().store_problem is None
        store.error = OSError("database is locked")
        worker.crash()
        await asyncio.sleep(10)

        assert supervisor.state == "running"
        assert not supervisor.should_accept_work(*PAY)
        assert supervisor.activity_state(*PAY).paused
        assert supervisor.should_accept_work("service", "other")
        assert "database is locked" in str(supervisor.info().store_problem)
        assert supervisor.info().as_dict()["store_problem"] == supervisor.info().store_problem

        store.error, store.states = None, {}
        await asyncio.sleep(1.1)
        assert supervisor.info().store_problem is None
        assert supervisor.info().children[0].state == "running"
        await supervisor.stop()

    run_driven(scenario())


def test_a_store_that_hangs_does_not_hold_up_health_checks_or_a_stop() -> None:
    store, patient = Store(), Patient("pay")
    clock = DrivenClock()

    async def scenario() -> None:
        supervisor = supervised(store, patient)
        await supervisor.start()
        store.reads = hang
        await asyncio.sleep(11.5)
        assert patient.asked == 11
        assert supervisor.info().store_problem == "reading the activity store took longer than its deadline of 10 s"
        before = clock()
        await supervisor.stop()
        assert clock() == before
        await settle()
        assert asyncio.all_tasks() == {asyncio.current_task()}

    run_driven(scenario(), clock)


async def test_listeners_hear_of_each_change_of_their_domain_once() -> None:
    failures: list[dict[str, Any]] = []
    asyncio.get_running_loop().set_exception_handler(lambda loop, context: failures.append(context))
    store = Store()
    supervisor = ServiceSupervisor(store=store)
    heard: list[tuple[str, str, bool]] = []

    def listen(domain: str, key: str, state: ActivityReading) -> None:
        heard.append((domain, key, state.paused))

    supervisor.add_listener(lambda *_: 1 / 0)
    unsubscribe = supervisor.add_listener(listen, domain="service")
    store.states = {PAY: State(paused=True), ("task", "mail"): State(draining=True)}
    await supervisor.refresh()
    await supervisor.refresh()
    assert heard == [("service", "pay", True)]
    assert len(failures) == 2, "the one that fails was told of both keys"

    store.states = {PAY: State()}  # spelled out, in the store's own type
    await supervisor.refresh()
    assert heard[1:] == [("service", "pay", False)]

    store.states = {}
    await supervisor.refresh()
    assert len(heard) == 2
    unsubscribe()
    store.states = {PAY: State(paused=True)}
    await supervisor.refresh()
    assert len(heard) == 2

    supervisor.add_listener(listen, fire_immediately=True)
    assert heard[2:] == [("service", "pay", True)]
    assert supervisor.snapshot() == {"service": {"pay": State(paused=True)}}


async def test_without_a_store_everything_takes_work() -> None:
    supervisor = ServiceSupervisor()
    await supervisor.refresh()

    assert supervisor.should_accept_work("service", "pay")
    assert not supervisor.activity_state("service", "pay").paused
    assert supervisor.snapshot() == {}
