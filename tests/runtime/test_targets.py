"""Schedules and deliveries reach tasks, workflows and events by the bridges of their domains."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest

from oneiric.core.errors import CandidateNotFoundError, ConfigurationError, NodeError, PausedError, WorkflowError
from oneiric.core.lifecycle import LifecycleManager
from oneiric.core.resolution import Candidate, Resolver
from oneiric.domains import DeliveredWorkflows, EventBridge, ScheduleTargets, TaskBridge, WorkflowBridge
from oneiric.runtime.deliveries import WorkflowDelivery
from oneiric.runtime.events import EventEnvelope
from oneiric.runtime.scheduler import Schedule


class System:
    """A task, a workflow of it and an event handler, which note what they are given."""

    def __init__(self) -> None:
        self.resolver = Resolver()
        self.lifecycle = LifecycleManager(self.resolver)
        seen: list[Any] = []
        self.seen = seen
        self.fault: Exception | None = None
        system = self

        class Task:
            async def run(self, payload: Any = None, *, idempotency_key: str = "", run_id: str = "") -> str:
                if system.fault is not None:
                    raise system.fault
                seen.append((payload, idempotency_key, run_id))
                return "done"

        class Handler:
            async def handle(self, envelope: EventEnvelope) -> None:
                seen.append((envelope.topic, envelope.payload, envelope.id, envelope.time))

        dag = {"nodes": [{"id": "only", "task": "report", "payload": {"for": "${context.who}"}}]}
        for domain, key, factory, metadata in (
            ("task", "report", Task, {}),
            ("workflow", "nightly", Task, {"dag": dag}),
            ("event", "mail", Handler, {"topics": ["orders.*"]}),
        ):
            self.resolver.register(Candidate(domain=domain, key=key, provider="p", factory=factory, metadata=metadata))
        parts: dict[str, Any] = {"resolver": self.resolver, "lifecycle": self.lifecycle}
        self.tasks, self.events = TaskBridge(**parts), EventBridge(**parts)
        self.workflows = WorkflowBridge(**parts, tasks=self.tasks)
        self.targets = ScheduleTargets(self.tasks, self.workflows, self.events)
        self.delivered = DeliveredWorkflows(self.workflows)


@asynccontextmanager
async def system() -> AsyncIterator[System]:
    built = System()
    async with built.lifecycle:
        yield built
        await built.workflows.aclose()


def schedule(target: str, **payload: Any) -> Schedule:
    return Schedule(name="s", target=target, every_seconds=60, payload=payload)


def delivery(**fields: Any) -> WorkflowDelivery:
    stated: dict[str, Any] = {
        "workflow": "nightly",
        "run_id": None,
        "workflow_provider": None,
        "context": {"who": "ada"},
        "checkpoint": None,
        "metadata": {},
        "idempotency_key": "k",
        "attempt": 1,
    }
    return WorkflowDelivery(**stated | fields)


async def test_a_slot_runs_a_task_under_its_key() -> None:
    async with system() as built:
        await built.targets.fire(schedule("task:report", a=1), 60.0, "schedule:s:1")
        assert [(payload, key) for payload, key, _ in built.seen] == [({"a": 1}, "schedule:s:1")]


async def test_a_slot_that_is_fired_again_goes_on_with_its_run() -> None:
    async with system() as built:
        for _ in range(2):
            await built.targets.fire(schedule("workflow:nightly", who="ada"), 60.0, "schedule:s:1")
        assert [payload for payload, _, _ in built.seen] == [{"for": "ada"}]
        await built.targets.fire(schedule("workflow:nightly", who="bob"), 120.0, "schedule:s:2")
        assert len({run_id for _, _, run_id in built.seen}) == 2


async def test_a_slot_is_an_event() -> None:
    async with system() as built:
        await built.targets.fire(schedule("event:orders.due", a=1), 60.0, "schedule:s:1")
        assert built.seen == [("orders.due", {"a": 1}, "schedule:s:1", "1970-01-01T00:01:00+00:00")]


@pytest.mark.parametrize(
    ("target", "domain", "key"),
    [
        ("task:report", "tasks", "report"),
        ("workflow:nightly", "workflows", "nightly"),
        ("event:orders.x", "events", "mail"),
    ],
)
async def test_a_paused_target_refuses_slots_and_says_why(target: str, domain: str, key: str) -> None:
    async with system() as built:
        assert built.targets.refuses(schedule(target)) is None
        await getattr(built, domain).set_paused(key, True, note="maintenance")
        assert "paused" in (built.targets.refuses(schedule(target)) or "")
        assert "maintenance" in (built.targets.refuses(schedule(target)) or "")


@pytest.mark.parametrize("target", ["report", "task:", "service:x"])
async def test_a_target_that_names_nothing_is_refused(target: str) -> None:
    async with system() as built:
        with pytest.raises(ConfigurationError, match="is nothing that can be done"):
            await built.targets.fire(schedule(target), 60.0, "k")


async def test_a_delivered_workflow_runs_once_per_run_id() -> None:
    async with system() as built:
        for _ in range(2):
            assert await built.delivered.process(delivery(), "r1") == {"only": "done"}
        assert [(payload, run_id) for payload, _, run_id in built.seen] == [({"for": "ada"}, "r1")]
        assert await built.delivered.process(delivery(workflow_provider="p"), "r2") == {"only": "done"}


@pytest.mark.parametrize(
    ("fields", "error", "says"),
    [
        ({"workflow": "missing"}, CandidateNotFoundError, "workflow:missing"),
        ({"workflow_provider": "q"}, CandidateNotFoundError, "is not the active one"),
        ({"context": [1]}, WorkflowError, "is no object"),
        ({"checkpoint": {"only": 1}}, WorkflowError, "a checkpoint was delivered"),
    ],
)
async def test_what_can_never_be_done_is_told_apart(fields: Any, error: type[Exception], says: str) -> None:
    async with system() as built:
        with pytest.raises(error, match=says) as caught:
            await built.delivered.process(delivery(**fields), "r1")
        assert caught.value.http_status in {404, 422}  # type: ignore[attr-defined]  # of every error of ours
        assert built.seen == []


async def test_what_may_succeed_next_time_is_told_apart() -> None:
    async with system() as built:
        built.fault = OSError("gone")
        with pytest.raises(NodeError) as caught:
            await built.delivered.process(delivery(), "r1")
        assert caught.value.http_status == 500
        await built.workflows.set_paused("nightly", True)
        with pytest.raises(PausedError):
            await built.delivered.process(delivery(), "r2")
