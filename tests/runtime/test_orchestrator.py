"""RuntimeOrchestrator: the order of starts and stops, whatever fails, hangs or is cancelled."""

import asyncio
from collections.abc import Callable, Iterable
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from oneiric.core.errors import ConfigurationError, LifecycleError
from oneiric.core.testing import DrivenClock, run_driven
from oneiric.runtime.orchestrator import PartStatus, RuntimeOrchestrator


class FakePart:
    """A part that writes down its steps, and fails in them as told."""

    def __init__(self, name: str, steps: list[str], **faults: Any) -> None:
        self.name = name
        self.steps = steps
        self.faults = faults

    async def start(self) -> None:
        self.steps.append(f"+{self.name}")
        await self._fault("start")
        self.steps.append(f"{self.name} runs")

    async def stop(self) -> None:
        await self._fault("stop")
        self.steps.append(f"-{self.name}")

    async def _fault(self, step: str) -> None:
        fault = self.faults.get(step)
        if isinstance(fault, BaseException):
            raise fault
        if isinstance(fault, int | float):
            await asyncio.sleep(fault)
        if fault == "hang":
            await asyncio.Event().wait()
        if fault == "deaf":
            while True:
                try:
                    await asyncio.Event().wait()
                except asyncio.CancelledError:
                    self.steps.append(f"{self.name} is deaf")
                    if self.steps.count(f"{self.name} is deaf") > 1:
                        raise


class Ending(FakePart):
    """A part that ends by itself, after a time, well or badly."""

    async def wait(self) -> None:
        await asyncio.sleep(1)
        await self._fault("wait")


def built(*parts: tuple[FakePart, Iterable[str]], **options: Any) -> RuntimeOrchestrator:
    orchestrator = RuntimeOrchestrator(**options)
    for part, after in parts:
        orchestrator.add(part, after=after)
    return orchestrator


def states(orchestrator: RuntimeOrchestrator) -> dict[str, str]:
    return {status.name: status.state for status in orchestrator.parts()}


def drive(scenario: Callable[[], Any]) -> Any:
    return run_driven(scenario(), DrivenClock())


def test_parts_start_after_what_they_need_and_stop_before_it() -> None:
    async def scenario() -> list[str]:
        steps: list[str] = []
        orchestrator = built(
            (FakePart("store", steps), ()), (FakePart("watch", steps), ["store"]), (FakePart("http", steps), ["watch"])
        )
        await orchestrator.start()
        assert orchestrator.ready
        await orchestrator.stop()
        assert not orchestrator.ready
        return [step for step in steps if "runs" not in step]

    assert drive(scenario) == ["+store", "+watch", "+http", "-http", "-watch", "-store"]


def test_what_does_not_need_each_other_starts_side_by_side() -> None:
    async def scenario() -> float:
        steps: list[str] = []
        parts = [(FakePart(name, steps, start=5, stop=5), ()) for name in ("a", "b", "c")]
        orchestrator = built(*parts)
        before = asyncio.get_running_loop().time()
        await orchestrator.start()
        await orchestrator.stop()
        return asyncio.get_running_loop().time() - before

    assert drive(scenario) == pytest.approx(10)


@pytest.mark.parametrize("fault", [ValueError("no disk"), "hang"])
def test_a_failed_start_stops_what_had_started_and_says_who_and_why(fault: Any) -> None:
    async def scenario() -> None:
        steps: list[str] = []
        orchestrator = built(
            (FakePart("store", steps), ()),
            (FakePart("bad", steps, start=fault), ["store"]),
            (FakePart("slow", steps, start="hang"), ["store"]),
            (FakePart("http", steps), ["bad"]),
            start_seconds=3,
        )
        with pytest.raises(LifecycleError) as caught:
            await orchestrator.start()
        assert "did not start" in str(caught.value)
        assert "http runs" not in steps
        assert "-store" in steps
        assert steps.index("-bad") < steps.index("-store")
        assert not orchestrator.ready
        assert states(orchestrator)["store"] == "stopped"

    drive(scenario)


def test_the_hint_of_what_stopped_the_start_is_kept() -> None:
    async def scenario() -> None:
        part = FakePart("http", [], start=ConfigurationError("port 80 is taken", "another http.port"))
        with pytest.raises(LifecycleError, match=r"http did not start: port 80 is taken\. Try: another http\.port"):
            await built((part, ())).start()

    drive(scenario)


def test_a_cancelled_start_stops_what_had_started() -> None:
    async def scenario() -> None:
        steps: list[str] = []
        orchestrator = built((FakePart("store", steps), ()), (FakePart("slow", steps, start="hang"), ["store"]))
        starting = asyncio.create_task(orchestrator.start())
        await asyncio.sleep(1)
        starting.cancel()
        with pytest.raises(asyncio.CancelledError):
            await starting
        assert steps == ["+store", "store runs", "+slow", "-slow", "-store"]

    drive(scenario)


def test_a_stop_asked_for_during_the_start_is_heeded() -> None:
    async def scenario() -> None:
        steps: list[str] = []
        orchestrator = built((FakePart("slow", steps, start=100), ()), start_seconds=200)
        running = asyncio.create_task(orchestrator.run())
        await asyncio.sleep(1)
        orchestrator.request_stop()
        await running
        assert steps == ["+slow", "-slow"]

    drive(scenario)


@pytest.mark.parametrize(("fault", "ends_badly"), [(None, False), (OSError("gone"), True)])
def test_a_part_that_ends_by_itself_ends_the_application_in_order(fault: Any, ends_badly: bool) -> None:
    async def scenario() -> None:
        steps: list[str] = []
        orchestrator = built((FakePart("store", steps), ()), (Ending("worker", steps, wait=fault), ["store"]))
        if ends_badly:
            with pytest.raises(LifecycleError, match="worker: OSError: gone"):
                await orchestrator.run()
        else:
            await orchestrator.run()
        assert steps[-2:] == ["-worker", "-store"]

    drive(scenario)


@pytest.mark.parametrize("fault", ["hang", "deaf"])
def test_a_part_that_does_not_stop_is_left_at_the_end_of_the_grace_period_and_reported(fault: str) -> None:
    async def scenario() -> None:
        steps: list[str] = []
        orchestrator = built(
            (FakePart("store", steps), ()), (FakePart("stuck", steps, stop=fault), ["store"]), grace_seconds=5
        )
        await orchestrator.start()
        before = asyncio.get_running_loop().time()
        await orchestrator.stop()
        assert asyncio.get_running_loop().time() - before < 6
        assert steps[-1] == "-store"
        assert states(orchestrator) == {"store": "stopped", "stuck": "failed"}
        assert "deadline" in str(orchestrator.parts()[1].error)

    drive(scenario)


def test_force_cuts_the_grace_period_short() -> None:
    async def scenario() -> float:
        steps: list[str] = []
        orchestrator = built((FakePart("store", steps), ()), (FakePart("slow", steps, stop=20), ["store"]))
        running = asyncio.create_task(orchestrator.run())
        await asyncio.sleep(1)
        orchestrator.request_stop()
        await asyncio.sleep(1)
        orchestrator.force()
        await running
        return asyncio.get_running_loop().time()

    assert drive(scenario) < 3


def test_stopping_twice_stops_once() -> None:
    async def scenario() -> list[str]:
        steps: list[str] = []
        orchestrator = built((FakePart("store", steps, stop=2), ()))
        await orchestrator.start()
        await asyncio.gather(orchestrator.stop(), orchestrator.stop())
        await orchestrator.stop()
        return steps

    assert drive(scenario).count("-store") == 1


def test_a_cancelled_stop_is_finished_first() -> None:
    async def scenario() -> list[str]:
        steps: list[str] = []
        orchestrator = built((FakePart("store", steps, stop=2), ()))
        await orchestrator.start()
        stopping = asyncio.create_task(orchestrator.stop())
        await asyncio.sleep(1)
        stopping.cancel()
        with pytest.raises(asyncio.CancelledError):
            await stopping
        return steps

    assert drive(scenario)[-1] == "-store"


def test_wrong_wiring_is_refused() -> None:
    async def scenario() -> None:
        orchestrator = built((FakePart("store", []), ()))
        with pytest.raises(LifecycleError, match="a part 'store' already"):
            orchestrator.add(FakePart("store", []))
        with pytest.raises(LifecycleError, match="comes after 'stor', which was not added"):
            orchestrator.add(FakePart("http", []), after=["stor"])

    drive(scenario)


def test_every_change_of_a_part_is_told() -> None:
    async def scenario() -> list[tuple[str, str]]:
        told: list[PartStatus] = []
        orchestrator = built((FakePart("store", []), ()), observe=told.append)
        await orchestrator.start()
        await orchestrator.stop()
        assert told[-1].as_dict() == {
            "name": "store",
            "state": "stopped",
            "after": [],
            "start_seconds": 0.0,
            "error": None,
        }
        return [(status.name, status.state) for status in told]

    assert drive(scenario) == [
        ("store", "starting"),
        ("store", "running"),
        ("store", "stopping"),
        ("store", "stopped"),
    ]


@given(st.data())
def test_in_any_graph_nothing_runs_without_what_it_needs(data: st.DataObject) -> None:
    names = [f"p{number}" for number in range(data.draw(st.integers(1, 7)))]
    after = {
        name: data.draw(st.lists(st.sampled_from(names[:place]), unique=True)) if place else []
        for place, name in enumerate(names)
    }
    broken = data.draw(st.sampled_from([None, *names]))
    delays = {name: data.draw(st.sampled_from([0, 0.1, 0.2])) for name in names}

    async def scenario() -> list[str]:
        steps: list[str] = []
        faults = {name: ValueError("broken") if name == broken else delays[name] for name in names}
        orchestrator = built(*((FakePart(name, steps, start=faults[name]), after[name]) for name in names))
        if broken is None:
            await orchestrator.start()
            await orchestrator.stop()
        else:
            with pytest.raises(LifecycleError):
                await orchestrator.start()
        return steps

    steps = drive(scenario)
    for name in names:
        for needed in after[name]:
            if f"+{name}" in steps:
                assert steps.index(f"{needed} runs") < steps.index(f"+{name}")
                assert steps.index(f"-{name}") < steps.index(f"-{needed}")
        assert (f"+{name}" in steps) == (f"-{name}" in steps)
