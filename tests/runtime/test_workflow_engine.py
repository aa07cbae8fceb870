"""The local engine: each node runs when all it depends on is done, on its own, and as often as it is to."""

import asyncio
import contextlib
from contextvars import ContextVar
from pathlib import Path
from typing import Any

import pytest
from tests.runtime._workflows import Tasks, engine_of, node, workflow

from oneiric.core.errors import CandidateNotFoundError, CheckpointError, NodeError, RunNotFoundError, WorkflowError
from oneiric.core.testing import run_driven
from oneiric.runtime.workflows import NodeCall, WorkflowCheckpointStore, WorkflowEngine, current_call


async def test_what_a_node_returns_reaches_those_that_depend_on_it() -> None:
    tasks = Tasks(extract=lambda _: {"path": "/a", "rows": [10, 20], "size": 3})
    spec = workflow(
        node("extract", task="extract"),
        node("load", "extract", payload={
            "whole": "${nodes.extract.output}", "path": "${nodes.extract.output.path}",
            "second": "${nodes.extract.output.rows.1}", "size": "${nodes.extract.output.size}",
            "text": "rows ${nodes.extract.output.rows} of ${context.tenant}, not $${this}", "plain": [1, None, True],
            "run": "${run.workflow}/${run.id}",
        }),
        output={"size": "${nodes.load.output.size}"},
    )  # fmt: skip
    result = await engine_of(tasks, spec).run("w", {"tenant": "acme"}, run_id="r1")
    assert result.results["load"] == {
        "whole": {"path": "/a", "rows": [10, 20], "size": 3}, "path": "/a", "second": 20, "size": 3,
        "text": "rows [10, 20] of acme, not ${this}", "plain": [1, None, True], "run": "w/r1",
    }  # fmt: skip
    assert result.output == {"size": 3}
    assert result.as_dict()["results"]["extract"]["path"] == "/a"


async def test_a_node_without_payload_is_given_the_context_or_nothing() -> None:
    tasks = Tasks()
    engine = engine_of(tasks, workflow(node("a")))
    assert (await engine.run("w", {"x": 1})).results == {"a": {"x": 1}}
    assert (await engine.run("w")).results == {"a": None}


async def test_no_node_can_change_what_another_one_sees() -> None:
    def spoil(payload: dict[str, Any]) -> str:
        payload["rows"].append("spoilt")
        return "done"

    tasks = Tasks(make=lambda _: {"rows": []}, spoil=spoil)
    spec = workflow(
        node("make", task="make"),
        node("a", "make", task="spoil", payload={"rows": "${nodes.make.output.rows}"}),
        node("b", "a", task="spoil", payload={"rows": []}),
        node("c", "make", "b", payload="${nodes.make.output}"),
        node("d", "b", task="spoil"),
        node("e", "d"),
    )
    context: dict[str, Any] = {"rows": []}
    engine = engine_of(tasks, spec)
    for _ in range(2):
        results = (await engine.run("w", context)).results
        assert results["c"] == results["e"] == {"rows": []}


async def test_a_node_starts_when_what_it_depends_on_is_done_and_waits_for_no_other() -> None:
    slow = asyncio.Event()
    started = asyncio.Event()
    tasks = Tasks(slow=lambda _: slow.wait(), mark=lambda _: started.set())
    spec = workflow(node("slow", task="slow"), node("fast"), node("after", "fast", task="mark"), node("end", "slow"))
    async with engine_of(tasks, spec) as engine:
        info = await engine.start("w")
        await asyncio.wait_for(started.wait(), 60)
        assert "end" not in tasks.nodes
        slow.set()
        await engine.wait(info.run_id)
        assert tasks.nodes[-1] == "end"


async def test_no_more_nodes_run_at_once_than_may() -> None:
    tasks = Tasks(sleep=lambda _: asyncio.sleep(0.001))
    nodes = [node(f"n{number}", task="sleep") for number in range(20)]
    for limit, stated, most in ((3, None, 3), (50, 4, 4), (2, 9, 2)):
        tasks.most_running = 0
        await engine_of(tasks, workflow(*nodes, max_parallel=stated), max_parallel=limit).run("w")
        assert tasks.most_running == most


async def test_each_node_has_variables_and_a_task_of_its_own() -> None:
    variable: ContextVar[str] = ContextVar("variable", default="unset")
    seen: list[tuple[str, str]] = []
    owners: list[Any] = []

    def look(payload: Any) -> None:
        call = current_call()
        assert call is not None
        seen.append((call.node, variable.get()))
        variable.set(call.node)
        owners.append(asyncio.current_task())

    variable.set("caller")
    await engine_of(Tasks(look=look), workflow(node("a", task="look"), node("b", "a", task="look"))).run("w")
    assert seen == [("a", "caller"), ("b", "caller")]
    assert len(set(owners)) == 2
    assert asyncio.current_task() not in owners
    assert (variable.get(), current_call()) == ("caller", None)


def test_a_failed_node_is_tried_again_as_its_policy_says_and_under_one_key() -> None:
    tasks = Tasks()
    attempts: list[tuple[int, str]] = []

    def flaky(_: Any) -> str:
        call = tasks.calls[-1]
        attempts.append((call.attempt, call.idempotency_key))
        if call.attempt < 3:
            raise OSError("not yet")
        return "at last"

    tasks.tasks["flaky"] = flaky
    spec = workflow(node("a", task="flaky", retry_policy={"attempts": 3, "base_delay": 5}))

    async def scenario() -> None:
        engine = engine_of(tasks, spec)
        assert (await engine.run("w", run_id="r")).output == {"a": "at last"}
        assert (await engine.inspect("r")).nodes[0].attempts == 3

    run_driven(scenario())
    assert [number for number, _ in attempts] == [1, 2, 3]
    assert len({key for _, key in attempts}) == 1


def test_a_node_that_takes_too_long_fails_and_says_so() -> None:
    async def scenario() -> NodeError:
        tasks = Tasks(hang=lambda _: asyncio.sleep(60))
        engine = engine_of(tasks, workflow(node("a", task="hang", timeout_seconds=5, retry_policy={"attempts": 2})))
        with pytest.raises(NodeError) as caught:
            await engine.run("w", run_id="r")
        return caught.value

    assert str(run_driven(scenario())) == (
        "node 'a' of workflow 'w' failed after 2 attempts in run 'r': TimeoutError: it took longer than 5 s"
    )


def test_a_timeout_of_the_task_itself_is_told_as_it_is() -> None:
    async def scenario() -> None:
        def late(_: Any) -> None:
            raise TimeoutError("the bank did not answer")

        with pytest.raises(NodeError, match="the bank did not answer"):
            await engine_of(Tasks(late=late), workflow(node("a", task="late", timeout_seconds=5))).run("w")

    run_driven(scenario())


async def test_a_failure_starts_nothing_more_and_lets_what_runs_end() -> None:
    gate = asyncio.Event()

    async def wait(_: Any) -> str:
        await gate.wait()
        return "ended"

    def fail(_: Any) -> None:
        raise ValueError("no")

    tasks = Tasks(wait=wait, fail=fail)
    spec = workflow(node("a", task="wait"), node("b", task="fail"), node("after_a", "a"), node("after_b", "b"))
    async with engine_of(tasks, spec) as engine:
        info = await engine.start("w")
        waiting = asyncio.ensure_future(engine.wait(info.run_id))
        await asyncio.sleep(0)
        assert not waiting.done()
        gate.set()
        with pytest.raises(NodeError, match=r"node 'b' .* ValueError: no") as caught:
            await waiting
        assert isinstance(caught.value.__cause__, ValueError)
        found = await engine.inspect(info.run_id)
    assert found.status == "failed"
    assert {each.node: each.status for each in found.nodes} == {"a": "completed", "b": "failed"}
    assert "after_a" not in tasks.nodes


@pytest.mark.parametrize("stop", [SystemExit(3), asyncio.CancelledError()], ids=["exit", "cancelled"])
async def test_a_task_that_exits_or_cancels_itself_only_fails(stop: BaseException) -> None:
    def leave(_: Any) -> None:
        raise stop

    for policy in ({}, {"retry_policy": {"attempts": 2, "base_delay": 0}}):
        with pytest.raises(NodeError):
            await engine_of(Tasks(leave=leave), workflow(node("a", task="leave", **policy))).run("w")


async def test_conditions_keep_a_node_from_running_and_a_join_runs_if_any_of_its_branches_did() -> None:
    tasks = Tasks(check=lambda _: {"ok": False, "kind": "small", "zero": 0})
    spec = workflow(
        node("check", task="check"),
        node("yes", "check", when={"path": "nodes.check.output.ok", "equals": True}),
        node("no", "check", when={"path": "nodes.check.output.ok", "equals": False}),
        node("after_yes", "yes"),
        node("typed", "check", when={"path": "nodes.check.output.zero", "equals": False}),
        node("any", "check", when=[{"path": "${nodes.check.output.kind}", "any_of": ["small", "big"]}]),
        node("absent", "check", when=[{"path": "context.x", "exists": False}]),
        node("join", "yes", "no", payload={"yes": "${nodes.yes.output}", "deep": "${nodes.yes.output.x}"}),
        node("told", "yes", "no", when={"path": "nodes.yes.output", "exists": False}),
    )
    engine = engine_of(tasks, spec)
    result = await engine.run("w", run_id="r")
    assert set(result.results) == {"check", "no", "any", "absent", "join", "told"}
    assert result.results["join"] == {"yes": None, "deep": None}
    skipped = {each.node: each.error for each in (await engine.inspect("r")).nodes if each.status == "skipped"}
    assert skipped == {
        "yes": "nodes.check.output.ok is not True",
        "after_yes": "yes did not run",
        "typed": "nodes.check.output.zero is not False",
    }


async def test_a_fan_out_runs_once_for_each_item_and_returns_the_results_in_order() -> None:
    async def double(payload: Any) -> int:
        await asyncio.sleep(0.001 * (3 - payload["n"]))
        return int(payload["n"]) * 2

    tasks = Tasks(list=lambda _: {"items": [{"n": 1}, {"n": 2}, {"n": 3}]}, double=double)
    spec = workflow(
        node("list", task="list"),
        node("each", "list", for_each="${nodes.list.output.items}", task="double"),
        node("told", "list", for_each="${nodes.list.output.items}", payload={"n": "${item.n}", "at": "${index}"}),
        node("none", for_each=[], task="double"),
        node("sum", "each", "none", payload={"all": "${nodes.each.output}", "last": "${nodes.each.output.2}"}),
    )
    result = await engine_of(tasks, spec).run("w")
    assert result.results["each"] == [2, 4, 6]
    assert result.results["told"][2] == {"n": 3, "at": 2}
    assert result.results["none"] == []
    assert result.results["sum"] == {"all": [2, 4, 6], "last": 6}
    assert "each[1]" in tasks.nodes


@pytest.mark.parametrize(
    ("stated", "sentence"),
    [
        ({"for_each": "${context.text}"}, "for_each is a str and no list"),
        ({"for_each": "${context.missing}"}, "the template ${context.missing} finds nothing"),
        ({"payload": "${context.missing}"}, "the template ${context.missing} finds nothing (context has: text)"),
        ({"payload": "${context.text.x}"}, "finds nothing (context.text is of type str)"),
    ],
)
async def test_what_a_template_does_not_find_fails_the_node(stated: dict[str, Any], sentence: str) -> None:
    with pytest.raises(NodeError) as caught:
        await engine_of(Tasks(), workflow(node("a", **stated))).run("w", {"text": "abc"})
    assert sentence in str(caught.value)


async def test_a_sub_workflow_is_a_run_of_its_own() -> None:
    tasks = Tasks()
    inner = workflow(node("x", payload="${context.n}"), key="inner", output="${nodes.x.output}")
    outer = workflow(
        node("a", workflow="inner", for_each=[{"n": 1}, {"n": 2}]),
        node("b", "a", workflow="inner", payload={"n": "${nodes.a.output}"}),
    )
    engine = engine_of(tasks, inner, outer)
    assert (await engine.run("w", run_id="r")).results == {"a": [1, 2], "b": [1, 2]}
    assert {call.run_id for call in tasks.calls} == {"r/a[0]", "r/a[1]", "r/b"}
    child = await engine.inspect("r/b")
    assert (child.workflow, child.parent, child.status) == ("inner", "r", "completed")


async def test_workflows_that_run_one_another_without_end_are_stopped() -> None:
    one = workflow(node("a", workflow="two"), key="one")
    two = workflow(node("b", workflow="one"), key="two")
    with pytest.raises(NodeError, match="more than 16 levels deep"):
        await engine_of(Tasks(), one, two).run("one")


async def test_what_was_done_is_undone_in_reverse_when_the_run_fails() -> None:
    undone: list[Any] = []

    def fail(_: Any) -> None:
        raise ValueError("sold out")

    def refund(payload: Any) -> None:
        undone.append(payload)
        if payload == {"output": "b"}:
            raise OSError("bank is closed")

    tasks = Tasks(a=lambda _: "a", b=lambda _: "b", fail=fail, refund=refund)
    spec = workflow(
        node(
            "a", task="a", compensate={"task": "refund", "payload": {"was": "${nodes.a.output}", "x": "${context.x}"}}
        ),
        node("b", "a", task="b", compensate="refund"),
        node("plain", "b"),
        node(
            "each",
            "plain",
            for_each=[1, 2],
            compensate={"task": "refund", "payload": ["${item}", "${index}"]},
        ),
        node("last", "each", task="fail", compensate="refund"),
    )
    engine = engine_of(tasks, spec)
    with pytest.raises(NodeError, match="sold out"):
        await engine.run("w", {"x": 7}, run_id="r")
    assert undone == [[2, 1], [1, 0], {"output": "b"}, {"was": "a", "x": 7}]
    info = await engine.inspect("r")
    assert info.error is not None
    assert info.error.endswith("not undone: b:compensate")
    assert [each.node for each in info.nodes[-4:]] == [
        "each[1]:compensate",
        "each[0]:compensate",
        "b:compensate",
        "a:compensate",
    ]


async def test_a_cancelled_run_cancels_its_nodes_and_those_of_its_sub_workflows() -> None:
    heeded: list[str] = []
    started = asyncio.Event()

    async def hang(_: Any) -> None:
        started.set()
        try:
            await asyncio.Event().wait()
        finally:
            heeded.append("hang")

    tasks = Tasks(hang=hang)
    inner = workflow(node("x", task="hang"), key="inner")
    engine = engine_of(tasks, inner, workflow(node("a", workflow="inner"), node("b", "a")))
    await engine.start("w", run_id="r")
    waiting = asyncio.ensure_future(engine.wait("r"))
    await started.wait()
    assert (await engine.cancel("r")).status == "cancelled"
    assert heeded == ["hang"]
    assert (await engine.inspect("r/a")).status == "cancelled"
    with pytest.raises(CheckpointError, match="was cancelled"):
        await waiting
    assert tasks.nodes == ["x"]


async def test_one_node_can_be_cancelled_on_its_own() -> None:
    gate, started = asyncio.Event(), asyncio.Event()

    async def hang(_: Any) -> None:
        started.set()
        await gate.wait()

    spec = workflow(node("a", task="hang"), node("b", task="hang"))
    async with engine_of(Tasks(hang=hang), spec) as engine:
        await engine.start("w", run_id="r")
        await started.wait()
        await engine.cancel("r", node="a")
        gate.set()
        with pytest.raises(NodeError, match="it was cancelled"):
            await engine.wait("r")
        found = {each.node: each.status for each in (await engine.inspect("r")).nodes}
        assert found == {"a": "failed", "b": "completed"}
        with pytest.raises(CheckpointError, match="does not run here"):
            await engine.cancel("r", node="a")


async def test_cancelling_the_one_who_runs_it_cancels_the_run() -> None:
    started = asyncio.Event()

    async def hang(_: Any) -> None:
        started.set()
        await asyncio.Event().wait()

    engine = engine_of(Tasks(hang=hang), workflow(node("a", task="hang")))
    running = asyncio.ensure_future(engine.run("w", run_id="r"))
    await started.wait()
    running.cancel()
    with pytest.raises(asyncio.CancelledError):
        await running
    assert (await engine.inspect("r")).status == "cancelled"


async def test_closing_the_engine_stops_what_runs() -> None:
    started = asyncio.Event()

    async def hang(_: Any) -> None:
        started.set()
        await asyncio.Event().wait()

    async with engine_of(Tasks(hang=hang), workflow(node("a", task="hang"))) as engine:
        await engine.start("w", run_id="r")
        await started.wait()
    assert (await engine.inspect("r")).status == "interrupted"
    with pytest.raises(CheckpointError, match="closed"):
        await engine.start("w")


async def test_a_run_is_begun_once_whatever_is_asked_twice() -> None:
    tasks = Tasks()
    engine = engine_of(tasks, workflow(node("a")), workflow(node("a"), key="v"))
    await engine.start("w", {"x": 1}, run_id="r")
    assert (await engine.start("w", {"x": 1}, run_id="r")).status == "running"
    with pytest.raises(CheckpointError):
        await engine.start("w", {"x": 2}, run_id="r")
    await engine.wait("r")
    assert (await engine.start("w", {"x": 1}, run_id="r")).status == "completed"
    with pytest.raises(CheckpointError):
        await engine.start("v", {"x": 1}, run_id="r")
    assert tasks.nodes == ["a"]
    assert (await engine.wait("r")).results == {"a": {"x": 1}}


async def test_runs_are_listed_newest_first_and_enqueued_ones_go_to_the_queue() -> None:
    messages: list[Any] = []

    class Queue:
        async def put(self, message: Any, *, category: str | None) -> str:
            messages.append((category, dict(message)))
            return "1"

    tasks = Tasks()
    spec = workflow(node("a"), queue_category="queue.orders")
    engine = engine_of(tasks, spec, queue=Queue(), clock=lambda: 5.0)
    port: WorkflowEngine = engine
    await engine.run("w", run_id="one")
    info = await port.enqueue("w", {"x": 1}, run_id="two", metadata={"by": "test"})
    assert (info.status, info.queued_at) == ("queued", 5.0)
    assert messages == [
        (
            "queue.orders",
            {"workflow": "w", "run_id": "two", "context": {"x": 1}, "metadata": {"by": "test"}, "queued_at": 5.0},
        )
    ]
    assert [run.run_id for run in await port.list()] == ["two", "one"]
    assert [run.run_id for run in await port.list(status="queued")] == ["two"]
    assert not await port.list(workflow="other")
    await port.resume("two")
    assert (await port.wait("two")).results == {"a": {"x": 1}}
    with pytest.raises(CheckpointError, match="keeps no checkpoints"):
        await port.resume("one")


@pytest.mark.parametrize("how", ["cancel", "close"])
async def test_a_run_that_is_stopped_before_it_began_has_ended(how: str, tmp_path: Path) -> None:
    for checkpoints in (None, WorkflowCheckpointStore(tmp_path / "s.sqlite")):
        async with contextlib.AsyncExitStack() as stack:
            if checkpoints is not None:
                await stack.enter_async_context(checkpoints)
            tasks = Tasks()
            engine = engine_of(tasks, workflow(node("a")), checkpoints=checkpoints)
            await engine.start("w", run_id="r")
            await (engine.cancel("r") if how == "cancel" else engine.aclose())
            assert (await engine.inspect("r")).status == ("cancelled" if how == "cancel" else "interrupted")
            assert tasks.nodes == []


async def test_fifty_deliveries_of_one_run_at_once_run_it_once(tmp_path: Path) -> None:
    tasks = Tasks(slow=lambda _: asyncio.sleep(0.01))
    spec = workflow(node("a", task="slow"), node("b", "a"))
    path = tmp_path / "s.sqlite"
    async with WorkflowCheckpointStore(path) as one, WorkflowCheckpointStore(path) as two:
        engines = [engine_of(tasks, spec, checkpoints=store) for store in (one, one, two)]
        engines.append(engine_of(tasks, spec))
        for engine, runs in ((engines[-1], 1), *((each, 2) for each in engines)):
            deliveries = (engine.start("w", {"x": 1}, run_id="r") for _ in range(50))
            infos = await asyncio.gather(*deliveries, return_exceptions=True)
            assert {getattr(info, "run_id", None) for info in infos} == {"r"}
            await engine.wait("r")
            assert tasks.nodes == ["a", "b"] * runs
        tasks.calls.clear()
        crowd = (engine.start("w", {"x": 1}, run_id="q") for _ in range(20) for engine in engines[:3])
        for answer in await asyncio.gather(*crowd, return_exceptions=True):
            assert not isinstance(answer, BaseException) or getattr(answer, "kind", "") == "held"
        for engine in engines[:3]:
            with contextlib.suppress(CheckpointError):  # only one of them runs it
                await engine.wait("q")
        assert tasks.nodes == ["a", "b"]


async def test_what_does_not_exist_is_told() -> None:
    engine = engine_of(Tasks(), workflow(node("a")))
    with pytest.raises(CandidateNotFoundError, match="have: w"):
        await engine.run("x")
    with pytest.raises(RunNotFoundError):
        await engine.inspect("r")
    with pytest.raises(RunNotFoundError):
        await engine.wait("r")
    with pytest.raises(WorkflowError, match="max_parallel"):
        engine_of(Tasks(), max_parallel=0)


async def test_nodes_that_never_suspend_let_others_have_their_turn() -> None:
    turns = 0

    async def count_turns() -> None:
        nonlocal turns
        while True:
            turns += 1
            await asyncio.sleep(0)

    counting = asyncio.ensure_future(count_turns())
    spec = workflow(*(node(f"n{place}", *([f"n{place - 1}"] if place else [])) for place in range(2_000)))
    await engine_of(Tasks(), spec).run("w")
    counting.cancel()
    assert turns > 3


async def test_every_run_that_ended_is_told_with_its_nodes() -> None:
    records: list[Any] = []

    def fail(_: Any) -> None:
        raise ValueError("no")

    engine = engine_of(
        Tasks(fail=fail),
        workflow(node("a"), node("b", "a", task="fail", retry_policy={"attempts": 2, "base_delay": 0})),
        observe=records.append,
    )
    with pytest.raises(NodeError):
        await engine.run("w", run_id="r")
    (record,) = records
    assert (record.workflow, record.run_id, record.status) == ("w", "r", "failed")
    assert [(each.node, each.status, each.attempts) for each in record.nodes] == [
        ("a", "completed", 1),
        ("b", "failed", 2),
    ]
    assert record.as_dict()["entry_nodes"] == ["a"]


async def test_an_idempotency_key_does_not_depend_on_what_a_task_does_to_its_payload() -> None:
    keys: list[str] = []

    def spend(payload: dict[str, Any]) -> None:
        payload.clear()
        keys.append(tasks.calls[-1].idempotency_key)

    tasks = Tasks(spend=spend)
    for stated in ({}, {"timeout_seconds": 5}, {"payload": {"x": 1}}, {"payload": "${context}"}):
        await engine_of(tasks, workflow(node("a", task="spend", **stated))).run("w", {"x": 1}, run_id="r")
    assert set(keys) == {NodeCall("w", "r", "a", {"x": 1}).idempotency_key}


async def test_an_idempotency_key_is_that_of_workflow_run_node_and_input() -> None:
    key = NodeCall("w", "r", "a", {"x": 1, "y": [2]}).idempotency_key
    assert key == NodeCall("w", "r", "a", {"y": [2], "x": 1}).idempotency_key
    others = [
        NodeCall("v", "r", "a", {"x": 1, "y": [2]}),
        NodeCall("w", "s", "a", {"x": 1, "y": [2]}),
        NodeCall("w", "r", "b", {"x": 1, "y": [2]}),
        NodeCall("w", "r", "a", {"x": 1}),
        NodeCall("w", "r", "a", {"x": 1, "y": [2]}, 1),
    ]
    assert len({key, *(call.idempotency_key for call in others)}) == 6
    with pytest.raises(WorkflowError, match="without a hash"):
        assert NodeCall("w", "r", "a", object()).idempotency_key
