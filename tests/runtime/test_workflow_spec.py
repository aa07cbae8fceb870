"""A workflow is sound from the moment it exists: every fault is found when it is read, and said in a sentence."""

from itertools import pairwise
from typing import Any

import pytest
from tests.runtime._workflows import node, workflow

from oneiric.core.errors import CycleError, WorkflowError
from oneiric.runtime.retry import RetryPolicy
from oneiric.runtime.workflows import WorkflowSpec

FAULTS: list[tuple[list[Any], str]] = [
    ([], "workflow 'w' has no nodes"),
    (["a"], "node 1 of workflow 'w' is a str"),
    ([{"task": "t"}], "node 1 of workflow 'w' has no id"),
    ([{"id": "a", "key": "a", "task": "t"}], "node 'a' of workflow 'w' states both `id` and `key`"),
    ([{"id": "a", "tsk": "t"}], "node 'a' of workflow 'w' has no field 'tsk'. Try: task"),
    ([{"id": "a"}], "node 'a' of workflow 'w' states neither a task nor a workflow"),
    ([node("a", workflow="x") | {"task": "t"}], "node 'a' of workflow 'w' states both a task and a workflow"),
    ([node("a", workflow="w")], "node 'a' of workflow 'w' runs the workflow it is in"),
    ([node("a"), node("a")], "workflow 'w' has two nodes 'a'"),
    ([node("a[0]")], "node id 'a[0]' of workflow 'w' is not made of letters, digits and _ . - (128 at most)"),
    ([node("a", "a")], "node 'a' of workflow 'w' depends on itself"),
    ([node("a", "b")], "node 'a' of workflow 'w' depends on 'b', which does not exist"),
    ([node("a") | {"depends_on": 7}], "depends_on of node 'a' of workflow 'w' is 7"),
    ([node("a", timeout_seconds=0)], "timeout_seconds of node 'a' of workflow 'w' is 0"),
    ([node("a", timeout_seconds=True)], "timeout_seconds of node 'a' of workflow 'w' is True"),
    ([node("a", retry_policy=3)], "retry_policy of node 'a' of workflow 'w' is 3"),
    ([node("a", retry_policy={"tries": 3})], "retry_policy of node 'a' of workflow 'w': a retry policy has no 'tries'"),
    ([node("a", payload={"x": object})], "payload of node 'a' of workflow 'w' is no plain data"),
    ([node("a", payload=float("nan"))], "payload of node 'a' of workflow 'w' is no plain data"),
    ([node("a", payload="${nodes.b.output}")], "names a node 'b' that does not exist"),
    ([node("a"), node("b", payload="${nodes.a.output}")], "'a' is not among what it depends on"),
    ([node("a", payload="${item}")], "has a meaning only in a node with for_each"),
    ([node("a", payload="${contxt.x}")], "the template ${contxt.x} is malformed"),
    ([node("a", payload="${context..x}")], "the template ${context..x} is malformed"),
    ([node("a", payload="${context.x")], "is not closed"),
    ([node("a", payload="${run.secret}")], "asks for what a run does not have"),
    ([node("a"), node("b", "a", payload="${nodes.a}")], "names no output"),
    ([node("a", when="x")], "`when` is 'x'"),
    ([node("a", when={"path": "context.x"})], "the condition on 'context.x' has no condition"),
    ([node("a", when={"path": "payload.x", "exists": True})], "the template ${payload.x} is malformed"),
    ([node("a"), node("b", when={"path": "nodes.a.output", "exists": True})], "'a' is not among what it depends on"),
    ([node("a", for_each="abc")], "for_each of node 'a' of workflow 'w' is no list and no template of one"),
    ([node("a", for_each=3)], "for_each of node 'a' of workflow 'w' is no list and no template of one"),
    ([node("a", compensate={"payload": 1})], "compensate of node 'a' of workflow 'w' states no task"),
    ([node("a", compensate=["t"])], "compensate of node 'a' of workflow 'w' is ['t']"),
    ([node("a", compensate={"task": "t", "payload": "${item}"})], "has a meaning only in a node with for_each"),
]


@pytest.mark.parametrize(("nodes", "sentence"), FAULTS, ids=[sentence[:50] for _, sentence in FAULTS])
def test_a_fault_is_said_in_a_sentence_when_the_workflow_is_read(nodes: list[Any], sentence: str) -> None:
    with pytest.raises(WorkflowError) as caught:
        workflow(*nodes)
    assert sentence in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_circle_is_named_in_the_order_it_would_run() -> None:
    with pytest.raises(CycleError) as caught:
        workflow(node("start"), node("a", "start", "c"), node("b", "a"), node("c", "b"), node("end", "c"))
    circle = caught.value.nodes
    assert circle[0] == circle[-1]
    assert sorted(circle[1:]) == ["a", "b", "c"]
    assert set(pairwise(circle)) == {("a", "b"), ("b", "c"), ("c", "a")}
    assert str(caught.value).startswith("workflow 'w' goes in a circle: ")


def test_every_fault_of_a_workflow_is_told_at_once() -> None:
    with pytest.raises(WorkflowError) as caught:
        workflow(node("a", "x"), node("b", "y"), node("b"))
    assert len(caught.value.problems) == 3
    assert "(and 2 more)" in str(caught.value)


def test_tasks_and_workflows_that_do_not_exist_are_found_where_those_that_do_are_known() -> None:
    nodes = [node("a", task="gone"), node("b", workflow="other"), node("c", compensate="undo")]
    workflow(*nodes)
    with pytest.raises(WorkflowError) as caught:
        WorkflowSpec.from_mapping("w", {"nodes": nodes}, tasks=["echo"], workflows=[])
    assert caught.value.problems == (
        "node 'a' of workflow 'w' runs the task 'gone', which does not exist",
        "node 'b' of workflow 'w' runs the workflow 'other', which does not exist",
        "node 'c' of workflow 'w' runs the task 'undo', which does not exist",
    )


@pytest.mark.parametrize(
    ("stated", "sentence"),
    [
        ({"nodes": [node("a")], "tasks": [node("a")]}, "both `nodes` and `tasks`"),
        ({"nods": [node("a")]}, "workflow 'w' has no field 'nods'. Try: nodes"),
        ({"nodes": [node("a")], "max_parallel": 0}, "max_parallel of workflow 'w' is 0"),
        ({"nodes": [node("a")], "output": "${nodes.b.output}"}, "output of workflow 'w'"),
        ([node("a")], "workflow 'w' is a list"),
    ],
)
def test_a_fault_of_the_whole_is_said_in_a_sentence(stated: Any, sentence: str) -> None:
    with pytest.raises(WorkflowError) as caught:
        WorkflowSpec.from_mapping("w", stated)
    assert sentence in str(caught.value)


def test_the_published_names_are_understood() -> None:
    spec = WorkflowSpec.from_mapping(
        "fulfilment",
        {
            "tasks": [
                {"key": "stage", "task": "stage-order", "retry_policy": {"max_attempts": 3, "initial_delay": 0}},
                {"key": "notify", "task": "notify", "depends_on": "stage", "payload": {"channel": "#orders"}},
            ],
            "queue_category": "queue.scheduler",
            "retry_policy": {"attempts": 2},
            "scheduler": {"queue_category": "queue"},
        },
    )
    assert [each.id for each in spec.nodes] == ["stage", "notify"]
    assert spec.nodes[0].retry == RetryPolicy(attempts=3, base_delay_seconds=0)
    assert spec.plan().nodes[1].retry == RetryPolicy(attempts=2)
    assert (spec.queue_category, spec.scheduler) == ("queue.scheduler", {"queue_category": "queue"})


def test_the_digest_knows_what_a_run_depends_on_and_nothing_else() -> None:
    first = workflow(node("a"), node("b", "a", payload={"x": 1}))
    for same in (
        workflow(node("b", "a", payload={"x": 1}), node("a")),
        workflow(node("a", timeout_seconds=3, retry_policy={"attempts": 4}), node("b", "a", payload={"x": 1})),
        workflow(node("a", description="first"), node("b", "a", payload={"x": 1}), max_parallel=3),
    ):
        assert same.digest == first.digest
    for other in (
        workflow(node("a"), node("b", "a", payload={"x": 2})),
        workflow(node("a"), node("b", "a", payload={"x": 1}, task="other")),
        workflow(node("a"), node("b", payload={"x": 1})),
        workflow(node("a"), node("b", "a", payload={"x": 1}, when={"path": "context", "exists": True})),
        workflow(node("a"), node("b", "a", payload={"x": 1}), output="${nodes.a.output}"),
    ):
        assert other.digest != first.digest


def test_a_payload_is_a_copy_of_what_was_stated() -> None:
    payload = {"items": [1]}
    spec = workflow(node("a", payload=payload))
    payload["items"].append(2)
    assert spec.nodes[0].payload == {"items": [1]}


def test_a_plan_says_what_runs_and_draws_it() -> None:
    plan = workflow(
        node("load", "extract", compensate="unload"),
        node("extract", task="shop.extract"),
        node("check", "extract", "load", when={"path": "context.check", "equals": True}, for_each=[1]),
        node("sub", "extract", workflow="other"),
        key="nightly",
    ).plan()
    assert [each.id for each in plan.nodes] == ["extract", "load", "sub", "check"]
    assert plan.entry_nodes == ("extract",)
    assert plan.text() == (
        "nightly\n"
        "• extract (task:shop.extract)\n"
        "  • load (task:echo)  ← extract  [undone by unload]\n"
        "  • sub (workflow:other)  ← extract\n"
        "    • check (task:echo)  ← extract, load  [for each]  [when]"
    )
    assert plan.mermaid() == (
        "flowchart TD\n"
        '    n0["extract<br/>task:shop.extract"]\n'
        '    n1["load<br/>task:echo"]\n'
        '    n2[["sub<br/>workflow:other"]]\n'
        '    n3["check (for each)<br/>task:echo"]\n'
        "    n0 --> n1\n"
        "    n0 --> n2\n"
        "    n0 -. when .-> n3\n"
        "    n1 -. when .-> n3"
    )
    assert plan.as_dict()["nodes"][0] == {
        "id": "extract",
        "runs": "task:shop.extract",
        "depends_on": [],
        "level": 0,
        "attempts": 1,
        "timeout_seconds": None,
        "conditional": False,
        "fan_out": False,
        "compensate": None,
    }


def test_a_drawing_holds_no_markup_that_a_key_could_bring() -> None:
    drawn = workflow(node("a", task='x"]; click n0 "javascript:alert(1)')).plan().mermaid()
    assert '"]; click' not in drawn
    assert drawn.count('"') == 2


def test_a_very_long_chain_is_read_and_planned() -> None:
    spec = workflow(*(node(f"n{place}", *([f"n{place - 1}"] if place else [])) for place in range(3_000)))
    assert len(spec.plan().nodes) == 3_000
