"""Workflows against simple models: which nodes run and when, and who may commit what to a store."""

import asyncio
import tempfile
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule
from tests.runtime._workflows import Tasks, engine_of, node, workflow

from oneiric.core.errors import CheckpointError, CycleError, NodeError
from oneiric.runtime.workflows import NodeCall, WorkflowCheckpointStore, WorkflowSpec
from oneiric.runtime.workflows._ledger import Closing, Opening, Wanted
from oneiric.runtime.workflows._template import compiled, fresh

# Graphs.


@st.composite
def graphs(draw: st.DrawFn) -> dict[str, list[str]]:
    """Draw a graph without circles, its nodes stated in any order."""
    size = draw(st.integers(1, 12))
    names = [f"n{place}" for place in range(size)]
    above = {
        name: draw(st.lists(st.sampled_from(names[:place]), unique=True, max_size=3)) if place else []
        for place, name in enumerate(names)
    }
    return {name: above[name] for name in draw(st.permutations(names))}


def spec_of(graph: dict[str, list[str]], **stated: Any) -> WorkflowSpec:
    nodes = [
        node(
            name, *above, task="work", payload={"name": name, "above": [f"${{nodes.{each}.output}}" for each in above]}
        )
        for name, above in graph.items()
    ]
    return workflow(*nodes, **stated)


class Trace:
    """A task that suspends now and then, fails where it is told to, and says when it begins and ends."""

    def __init__(self, pauses: list[int], failing: set[str]) -> None:
        self.events: list[tuple[str, str]] = []
        self._pauses, self._failing = pauses, failing

    async def work(self, payload: dict[str, Any]) -> dict[str, Any]:
        name = payload["name"]
        self.events.append(("begin", name))
        for _ in range(self._pauses[len(self.events) % len(self._pauses)]):
            await asyncio.sleep(0)
        self.events.append(("end", name))
        if name in self._failing:
            raise ValueError(name)
        return {"name": name, "of": [each["name"] for each in payload["above"]]}


@settings(max_examples=150, deadline=None)
@given(graphs(), st.lists(st.integers(0, 3), min_size=1, max_size=5), st.integers(1, 5), st.data())
def test_every_node_runs_once_after_all_it_depends_on_and_nothing_follows_a_failure(
    graph: dict[str, list[str]], pauses: list[int], limit: int, data: st.DataObject
) -> None:
    failing = set(data.draw(st.lists(st.sampled_from(sorted(graph)), max_size=2)))
    trace = Trace(pauses, failing)
    spec = spec_of(graph, max_parallel=limit)

    async def go() -> Any:
        tasks = Tasks(work=trace.work)
        try:
            return await engine_of(tasks, spec).run("w")
        except NodeError as error:
            return error
        finally:
            assert tasks.most_running <= limit

    found = asyncio.run(go())
    began = [name for what, name in trace.events if what == "begin"]
    assert len(began) == len(set(began))
    for name in began:
        for other in graph[name]:
            assert trace.events.index(("end", other)) < trace.events.index(("begin", name))
            assert other not in failing
    planned = [each.id for each in spec.plan().nodes]
    assert sorted(planned) == sorted(graph)
    for place, name in enumerate(planned):
        assert set(graph[name]) <= set(planned[:place])
    if failing & set(began):
        assert isinstance(found, NodeError)
        assert found.node in failing
    else:
        assert sorted(began) == sorted(graph)
        assert found.results == {name: {"name": name, "of": above} for name, above in graph.items()}


@settings(max_examples=100, deadline=None)
@given(graphs(), st.data())
def test_a_circle_is_found_wherever_it_is_and_what_is_named_is_one(
    graph: dict[str, list[str]], data: st.DataObject
) -> None:
    names = sorted(graph, key=lambda name: int(name[1:]))
    if len(names) < 2:
        return
    low, high = sorted(data.draw(st.lists(st.sampled_from(range(len(names))), min_size=2, max_size=2, unique=True)))
    graph = {name: list(above) for name, above in graph.items()}
    graph[names[high]] = sorted({*graph[names[high]], names[low]})
    graph[names[low]] = sorted({*graph[names[low]], names[high]})
    with pytest.raises(CycleError) as caught:
        spec_of(graph)
    circle = caught.value.nodes
    assert circle[0] == circle[-1]
    assert len(set(circle)) == len(circle) - 1
    for before, after in pairwise(circle):
        assert before in graph[after]


@given(graphs())
def test_a_definition_that_is_written_down_is_read_back_the_same(graph: dict[str, list[str]]) -> None:
    spec = spec_of(graph, output=["${context.x}"], max_parallel=2)
    again = WorkflowSpec.from_mapping("w", spec.as_mapping())
    assert (again, again.digest) == (spec, spec.digest)


PLAIN = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=10,
)


@given(PLAIN.filter(lambda value: "${" not in str(value)))
def test_data_without_templates_is_handed_on_as_it_is_and_as_a_copy(value: Any) -> None:
    assert compiled(value, [], []) is None
    copied = fresh(value)
    assert copied == value
    assert copied is not value or not isinstance(value, dict | list)


@settings(max_examples=60, deadline=None)
@given(PLAIN)
def test_what_a_node_returned_reaches_the_next_one_unchanged_also_by_way_of_the_store(value: Any) -> None:
    tasks = Tasks(make=lambda _: value)
    spec = workflow(node("a", task="make"), node("b", "a", payload={"whole": "${nodes.a.output}"}))

    async def go(path: Path | None) -> Any:
        if path is None:
            return (await engine_of(tasks, spec).run("w")).results
        async with WorkflowCheckpointStore(path, synchronous="normal") as store:
            return (await engine_of(tasks, spec, checkpoints=store).run("w")).results

    with tempfile.TemporaryDirectory() as directory:
        for path in (None, Path(directory) / "s.sqlite"):
            assert asyncio.run(go(path)) == {"a": value, "b": {"whole": value}}


# Checkpoints and leases.

NODES = ["a", "b", "c"]
SPEC = workflow(*(node(name) for name in NODES))
UNITS = {step.id: step.unit for step in SPEC.plan().steps.all}


class Listener:
    """Stands for a scheduler: remembers what the journal told it."""

    def __init__(self) -> None:
        self.kept: list[str] = []
        self.error: CheckpointError | None = None
        self.is_cancelled = False
        self.ended: list[Any] = []
        self.answered = asyncio.Event()

    def acknowledged(self, kept: list[tuple[Any, Any]]) -> None:
        self.kept += [unit.key for unit, _ in kept]
        self.answered.set()

    def stop(self, error: CheckpointError, *, cancel: bool = False) -> None:
        self.error = self.error or error
        assert cancel

    def forgotten(self, units: int) -> None:
        assert units
        self.answered.set()

    def cancel(self) -> None:
        self.is_cancelled = True

    def go_on(self) -> None:
        pass


class Leases(RuleBasedStateMachine):
    """Three processes and one run: the model knows who owns it, until when, and what was committed."""

    LEASE = 30_000.0  # the stores renew by themselves after a third of it, which is long after the test

    def __init__(self) -> None:
        super().__init__()
        self.now = 100.0
        self.runner = asyncio.Runner()
        self.directory = tempfile.TemporaryDirectory()
        path = Path(self.directory.name) / "s.sqlite"
        self.stores = [
            WorkflowCheckpointStore(
                path, lease_seconds=self.LEASE, monotonic=lambda: self.now, synchronous="normal", library="sqlite3"
            )
            for _ in range(3)
        ]
        for store in self.stores:
            self.runner.run(store.open())
        self.held: list[tuple[Opening, Listener] | None] = [None, None, None]
        # The model.
        self.owner: int | None = None
        self.until = 0.0
        self.committed: dict[str, int] = {}
        self.is_over = False
        self.is_cancel_wanted = False
        self.stamp = 0

    def teardown(self) -> None:
        for store in self.stores:
            self.runner.run(store.aclose())
        self.runner.close()
        self.directory.cleanup()

    processes = st.integers(0, 2)

    @rule(process=processes)
    def claim(self, process: int) -> None:
        wanted = Wanted(run_id="r", spec=SPEC)
        is_free = self.owner is None or self.until <= self.now or self.owner == process
        try:
            opening = self.runner.run(self.stores[process].begin(wanted))
        except CheckpointError:
            assert self.held[process] is not None or not is_free
            return
        assert self.held[process] is None
        if not isinstance(opening, Opening):
            assert self.is_over
            return
        assert is_free
        assert not self.is_over
        assert opening.committed == self.committed
        assert opening.journal is not None
        listener = Listener()
        opening.journal.attach(listener)  # type: ignore[arg-type]
        self.held[process] = (opening, listener)
        self.owner, self.until, self.is_cancel_wanted = process, self.now + self.LEASE, False

    def is_owner(self, process: int) -> bool:
        return self.owner == process and not self.is_over

    def owning(self) -> Iterator[int]:
        return (process for process in range(3) if self.held[process] is not None)

    @precondition(lambda self: any(self.held))
    @rule(data=st.data(), name=st.sampled_from(NODES))
    def commit(self, data: st.DataObject, name: str) -> None:
        process = data.draw(st.sampled_from(list(self.owning())))
        held = self.held[process]
        assert held is not None
        opening, listener = held
        journal = opening.journal
        assert journal is not None
        if name in opening.committed or name in listener.kept or listener.error is not None:
            return
        self.stamp += 1

        async def one() -> None:
            listener.answered.clear()
            journal.finished(UNITS[name], NodeCall("w", "r", name, None), self.stamp, 0.0, 0.0)
            await listener.answered.wait()

        self.runner.run(one())
        if self.is_owner(process):
            assert listener.kept[-1] == name
            assert listener.is_cancelled is (self.is_cancel_wanted or listener.is_cancelled)
            assert not self.is_cancel_wanted or listener.is_cancelled
            self.committed[name] = self.stamp
        else:
            assert listener.error is not None
            assert listener.error.kind == "lost"

    @rule(seconds=st.sampled_from([3_000.0, 18_000.0, 33_000.0]))
    def advance(self, seconds: float) -> None:
        self.now += seconds

    @precondition(lambda self: any(self.held))
    @rule(data=st.data())
    def renew(self, data: st.DataObject) -> None:
        process = data.draw(st.sampled_from(list(self.owning())))
        held = self.held[process]
        assert held is not None

        async def one() -> None:
            self.stores[process]._renew()
            await self.stores[process].prune(-1.0)  # a write, and so answered after the one before it

        self.runner.run(one())
        if self.is_owner(process):
            assert held[1].error is None
            self.until = self.now + self.LEASE
            assert held[1].is_cancelled or not self.is_cancel_wanted
        else:
            assert held[1].error is not None

    @precondition(lambda self: any(self.held))
    @rule(data=st.data(), status=st.sampled_from(["completed", "failed", "interrupted"]))
    def close(self, data: st.DataObject, status: Any) -> None:
        process = data.draw(st.sampled_from(list(self.owning())))
        held, self.held[process] = self.held[process], None
        assert held is not None
        try:
            self.runner.run(self.stores[process].close(held[0], Closing(status=status, ended_at=0.0)))
        except CheckpointError:
            assert not self.is_owner(process)
            return
        assert self.is_owner(process)
        self.owner, self.is_over = None, status == "completed"

    @precondition(lambda self: any(self.held))
    @rule(data=st.data())
    def forget(self, data: st.DataObject) -> None:
        """End without being able to write that down."""
        process = data.draw(st.sampled_from(list(self.owning())))
        self.held[process] = None
        self.stores[process]._journals.clear()

    @precondition(lambda self: self.owner is not None and self.until > self.now and self.held[self.owner] is not None)
    @rule(process=processes)
    def cancel(self, process: int) -> None:
        if process == self.owner:
            return
        self.runner.run(self.stores[process].cancel("r"))
        self.is_cancel_wanted = True

    @invariant()
    def what_was_committed_is_there(self) -> None:
        if not self.committed:
            return
        info = self.runner.run(self.stores[0].inspect("r"))
        assert {each.node: each.result for each in info.nodes if each.status == "completed"} == self.committed


TestLeases = Leases.TestCase
TestLeases.settings = settings(max_examples=40, stateful_step_count=25, deadline=None)
