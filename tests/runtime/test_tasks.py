"""TaskBridge: deadlines, retries, and what a task is handed."""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

import pytest

from oneiric.core.errors import DeadlineError, PausedError, RejectedError
from oneiric.core.lifecycle import LifecycleManager
from oneiric.core.resolution import Candidate, Resolver
from oneiric.core.testing import DrivenClock, run_driven
from oneiric.domains import TaskBridge
from oneiric.runtime.retry import RetryPolicy

FAST = RetryPolicy(attempts=3, base_delay_seconds=0)


@asynccontextmanager
async def bridge_of(run: Callable[..., Any], **metadata: Any) -> AsyncIterator[TaskBridge]:
    task = type("Task", (), {"run": run})
    resolver = Resolver()
    resolver.register(Candidate(domain="task", key="t", provider="p", factory=task, metadata=metadata))
    async with LifecycleManager(resolver) as lifecycle:
        yield TaskBridge(resolver=resolver, lifecycle=lifecycle)


@pytest.mark.parametrize(
    ("payload", "offered", "expected"),
    [
        ({"a": 1}, {}, ({"a": 1}, None, 1)),
        (None, {"idempotency_key": "k"}, (None, "k", 1)),
        (7, {"idempotency_key": "k", "run_id": "r", "node": "n"}, (7, "k", 1)),
    ],
)
async def test_a_task_is_handed_what_its_run_declares(payload: Any, offered: Any, expected: Any) -> None:
    async def run(self: Any, payload: Any = None, *, idempotency_key: str | None = None, attempt: int = 0) -> Any:
        return payload, idempotency_key, attempt

    async with bridge_of(run) as tasks:
        assert await tasks.run("t", payload, **offered) == expected


async def test_a_task_without_parameters_is_called_without_any() -> None:
    async def run(self: Any) -> str:
        return "done"

    async with bridge_of(run) as tasks:
        assert await tasks.run("t", {"ignored": 1}, idempotency_key="k") == "done"


async def test_a_task_that_takes_anything_is_handed_everything() -> None:
    async def run(self: Any, payload: Any, **more: Any) -> Any:
        return payload, sorted(more)

    async with bridge_of(run) as tasks:
        assert await tasks.run("t", 1, idempotency_key="k", run_id="r", node="n") == (
            1,
            ["attempt", "idempotency_key", "node", "run_id"],
        )


@pytest.mark.parametrize("stated", [{"metadata": {"retry_policy": {"attempts": 3, "base_delay": 0}}}, {"retry": FAST}])
async def test_a_failed_call_is_tried_again_with_the_same_key(stated: dict[str, Any]) -> None:
    seen: list[tuple[str, int]] = []

    async def run(self: Any, *, idempotency_key: str, attempt: int) -> str:
        seen.append((idempotency_key, attempt))
        if attempt < 3:
            raise OSError("not yet")
        return "done"

    async with bridge_of(run, **stated.get("metadata", {})) as tasks:
        assert await tasks.run("t", idempotency_key="k", retry=stated.get("retry")) == "done"
    assert seen == [("k", 1), ("k", 2), ("k", 3)]


async def test_the_last_error_is_raised_and_a_wrong_request_is_not_tried_again() -> None:
    calls = 0

    async def run(self: Any, payload: type[Exception]) -> None:
        nonlocal calls
        calls += 1
        raise payload(f"call {calls}")

    async with bridge_of(run) as tasks:
        with pytest.raises(OSError, match="call 3"):
            await tasks.run("t", OSError, retry=FAST)
        with pytest.raises(RejectedError, match="call 4"):
            await tasks.run("t", RejectedError, retry=FAST)


@pytest.mark.parametrize("stated", [{"metadata": {"timeout_seconds": 5}}, {"timeout_seconds": 5}])
def test_each_attempt_has_its_deadline(stated: dict[str, Any]) -> None:
    async def run(self: Any) -> None:
        await asyncio.Event().wait()

    async def scenario() -> float:
        async with bridge_of(run, **stated.get("metadata", {})) as tasks:
            with pytest.raises(DeadlineError, match="task:t took longer than its deadline of 5 s"):
                await tasks.run("t", timeout_seconds=stated.get("timeout_seconds"), retry=RetryPolicy(attempts=1))
            return asyncio.get_running_loop().time()

    assert run_driven(scenario(), DrivenClock()) == pytest.approx(5)


async def test_a_timeout_of_the_task_s_own_is_its_own() -> None:
    async def run(self: Any) -> None:
        raise TimeoutError("the backend's")

    async with bridge_of(run) as tasks:
        with pytest.raises(TimeoutError, match="the backend's"):
            await tasks.run("t", timeout_seconds=5)


async def test_a_paused_task_is_not_tried() -> None:
    async def run(self: Any) -> None:
        raise AssertionError("it was called")

    async with bridge_of(run) as tasks:
        await tasks.set_paused("t", True)
        with pytest.raises(PausedError):
            await tasks.run("t")
