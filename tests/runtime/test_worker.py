"""The worker: what it acknowledges, tries again, gives up and gives back, in a loop whose time is driven."""

import asyncio
from collections.abc import AsyncIterator, Callable, Coroutine, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

import pytest

from oneiric.core.errors import (
    CandidateNotFoundError,
    ConfigurationError,
    PausedError,
    RejectedError,
    UnavailableError,
)
from oneiric.core.testing import run_driven
from oneiric.runtime.retry import RetryPolicy
from oneiric.runtime.worker import Worker, read_job, task_message, workflow_message


@dataclass(frozen=True)
class Message:
    id: str
    payload: dict[str, Any]
    attempt: int = 1
    headers: Mapping[str, str] = field(default_factory=dict)
    visibility_seconds: float = 30.0


class Queue:
    """A queue in a list, by the loop's clock; it notes what is settled, and fails as told."""

    def __init__(self, *payloads: dict[str, Any], visibility_seconds: float = 30.0) -> None:
        self.visibility_seconds = visibility_seconds
        self.ready: list[tuple[float, Message]] = []
        self.held: dict[str, float] = {}
        self.settled: list[tuple[Any, ...]] = []
        self.faults: list[Exception] = []
        self.extend_faults: list[Exception | bool] = []
        self.receive_faults: list[Exception] = []
        self.extended = 0
        self.answer_seconds = 0.0
        self.are_answers_lost = False
        self.leases = 0
        self.asked_for: list[int] = []
        for number, payload in enumerate(payloads):
            self.put(Message(id=f"m{number}", payload=payload, visibility_seconds=visibility_seconds))

    def put(self, message: Message, delay_seconds: float = 0.0) -> None:
        self.ready.append((delay_seconds, message))

    @asynccontextmanager
    async def source(self) -> AsyncIterator["Queue"]:
        self.leases += 1
        try:
            yield self
        finally:
            self.leases -= 1

    async def receive(self, *, max_messages: int = 1, wait_seconds: float = 0.0) -> list[Message]:
        if self.receive_faults:
            raise self.receive_faults.pop(0)
        self.asked_for.append(max_messages)
        now = asyncio.get_running_loop().time()
        for pass_ in range(2):
            due = [(at, message) for at, message in self.ready if at <= now][:max_messages]
            if due or pass_:
                break
            await asyncio.sleep(wait_seconds)
            now = asyncio.get_running_loop().time()
        for entry in due:
            self.ready.remove(entry)
            self.held[entry[1].id] = now + self.visibility_seconds
        return [message for _, message in due]

    def _is_held(self, message: Message) -> bool:
        if self.faults:
            raise self.faults.pop(0)
        return self.held.get(message.id, 0) > asyncio.get_running_loop().time()

    def _settle(self, message: Message, *what: Any) -> bool:
        if not self._is_held(message):
            self.settled.append(("stale", message.id))
            return False
        del self.held[message.id]
        self.settled.append((what[0], message.id, *what[1:]))
        if self.are_answers_lost:
            raise UnavailableError("the connection broke")
        return True

    async def ack(self, delivery: Message) -> bool:
        return self._settle(delivery, "ack")

    async def retry(self, delivery: Message, *, delay_seconds: float = 0.0, counted: bool = True) -> bool:
        kept = self._settle(delivery, "retry" if counted else "back")
        if kept:
            again = Message(
                id=delivery.id, payload=delivery.payload, attempt=delivery.attempt + counted,
                visibility_seconds=self.visibility_seconds,
            )  # fmt: skip
            self.put(again, asyncio.get_running_loop().time() + delay_seconds)
        return kept

    async def extend(self, delivery: Message) -> bool:
        if self.extend_faults:
            fault = self.extend_faults.pop(0)
            if isinstance(fault, Exception):
                raise fault
            return fault
        self.extended += 1
        if self._is_held(delivery):
            self.held[delivery.id] = asyncio.get_running_loop().time() + self.visibility_seconds
            await asyncio.sleep(self.answer_seconds)
            return True
        return False

    async def dead_letter(self, delivery: Message, reason: str) -> bool:
        return self._settle(delivery, "dead", reason)


type Job = Callable[[str, Mapping[str, Any]], Coroutine[Any, Any, object]]


class Work:
    """Does what it is told for each key, and remembers its calls."""

    def __init__(self, **jobs: Job) -> None:
        self.jobs, self.calls = jobs, list[tuple[Any, ...]]()
        self.running = self.most = 0

    async def process(
        self, kind: str, key: str, payload: Mapping[str, Any], *, idempotency_key: str, run_id: str | None,
        headers: Mapping[str, str],
    ) -> object:  # fmt: skip
        self.calls.append((kind, key, dict(payload), idempotency_key, run_id))
        self.running += 1
        self.most = max(self.most, self.running)
        try:
            return await self.jobs[key](key, payload) if key in self.jobs else None
        finally:
            self.running -= 1


def lasting(seconds: float) -> Job:
    async def job(_key: str, _payload: Mapping[str, Any]) -> None:
        await asyncio.sleep(seconds)

    return job


def failing(*errors: BaseException | None) -> Job:
    left = list(errors)

    async def job(_key: str, _payload: Mapping[str, Any]) -> None:
        if left and (error := left.pop(0)) is not None:
            raise error

    return job


def run(queue: Queue, work: Work, *, seconds: float = 600.0, **options: Any) -> Worker:
    """Let a worker work for that long, and stop it."""
    worker = Worker(queue.source, work, **options)

    async def go() -> None:
        await worker.start()
        await asyncio.sleep(seconds)
        await worker.stop()

    run_driven(go())
    assert queue.leases == 0
    assert worker.info().in_flight == 0
    return worker


def test_a_message_is_acknowledged_when_the_processor_has_returned_and_not_before() -> None:
    queue = Queue(task_message("t", {"n": 1}, idempotency_key="k"))
    seen: list[Any] = []

    async def job(_key: str, _payload: Mapping[str, Any]) -> None:
        await asyncio.sleep(1)
        seen.append(list(queue.settled))

    work = Work(t=job)
    worker = run(queue, work)
    assert seen == [[]]
    assert queue.settled == [("ack", "m0")]
    assert work.calls == [("task", "t", {"n": 1}, "k", None)]
    assert worker.info().as_dict() == {
        "state": "stopped", "in_flight": 0, "concurrency": 10, "done": 1, "retried": 0, "dead": 0, "given_back": 0,
        "lost": 0, "problem": None,
    }  # fmt: skip


def test_no_more_jobs_run_at_once_than_allowed_and_nothing_is_fetched_ahead() -> None:
    queue = Queue(*(task_message("t", {"n": number}) for number in range(20)))
    work = Work(t=lasting(1))
    run(queue, work, concurrency=3)
    assert work.most == 3
    assert max(queue.asked_for) == 3
    assert len(queue.settled) == 20


def test_a_failed_job_is_tried_again_after_growing_random_delays_and_then_given_up() -> None:
    queue = Queue(task_message("t"))
    work = Work(t=failing(*(ValueError(f"no {number}") for number in range(9))))
    worker = run(queue, work, retry=RetryPolicy(attempts=3, base_delay_seconds=10, max_delay_seconds=100))
    assert [what[0] for what in queue.settled] == ["retry", "retry", "dead"]
    assert queue.settled[-1][2] == "ValueError: no 2 (attempt 3 of 3)"
    assert len({call[3] for call in work.calls}) == 1
    assert (worker.info().retried, worker.info().dead) == (2, 1)


@pytest.mark.parametrize(
    "error", [CandidateNotFoundError("task", "t", "nobody offers it"), RejectedError("no"), ConfigurationError("no")]
)
def test_what_no_repetition_can_mend_is_given_up_at_once(error: Exception) -> None:
    queue = Queue(task_message("t"))
    run(queue, Work(t=failing(error)))
    assert [what[0] for what in queue.settled] == ["dead"]
    assert type(error).__name__ in queue.settled[0][2]


@pytest.mark.parametrize(
    "body",
    [{}, {"task": "a", "workflow": "b"}, {"task": ""}, {"task": 5}, {"task": "t", "payload": []},
     {"workflow": "w", "run_id": 5}, {"workflow": "w", "context": "text"}, {"task": "t", "idempotency_key": ""}],
)  # fmt: skip
def test_a_malformed_message_is_given_up_and_never_processed(body: dict[str, Any]) -> None:
    queue = Queue(body, task_message("t"))
    work = Work()
    run(queue, work)
    assert sorted(what[0] for what in queue.settled) == ["ack", "dead"]
    assert len(work.calls) == 1


def test_a_message_that_kills_its_consumers_is_given_up_without_being_tried_again() -> None:
    queue = Queue()
    queue.put(Message(id="m", payload=task_message("t"), attempt=4))
    work = Work()
    run(queue, work, retry=RetryPolicy(attempts=3))
    assert work.calls == []
    assert queue.settled == [("dead", "m", "gave up after 3 deliveries that nobody settled")]


def test_failing_and_hanging_messages_do_not_keep_the_others_waiting() -> None:
    queue = Queue(
        *(task_message("bad") for _ in range(5)), task_message("hang"), *(task_message("t") for _ in range(50))
    )
    hang = lasting(10_000)
    work = Work(bad=failing(*(ValueError("x") for _ in range(99))), hang=hang)
    run(queue, work, concurrency=2, seconds=60, grace_seconds=1)
    assert sum(what[0] == "ack" for what in queue.settled) == 50


def test_a_long_job_keeps_its_message() -> None:
    queue = Queue(task_message("t"), visibility_seconds=3)
    run(queue, Work(t=lasting(100)))
    assert queue.settled == [("ack", "m0")]
    assert queue.extended >= 99


def test_a_job_whose_message_is_lost_is_cancelled_and_settles_nothing() -> None:
    ended: list[str] = []

    async def job(_key: str, _payload: Mapping[str, Any]) -> None:
        try:
            await asyncio.sleep(100)
        except asyncio.CancelledError:
            ended.append("cancelled")
            raise

    queue = Queue(task_message("t"), visibility_seconds=3)
    queue.extend_faults = [False]
    worker = run(queue, Work(t=job))
    assert ended == ["cancelled"]
    assert queue.settled == []
    assert worker.info().lost == 1


def test_an_extension_that_fails_is_tried_again_until_the_message_is_lost() -> None:
    queue = Queue(task_message("t"), visibility_seconds=3)
    queue.extend_faults = [UnavailableError("down")]
    run(queue, Work(t=lasting(10)))
    assert queue.settled == [("ack", "m0")]
    queue = Queue(task_message("t"), visibility_seconds=3)
    queue.extend_faults = [UnavailableError("down")] * 9
    worker = run(queue, Work(t=lasting(10)))
    assert queue.settled == []
    assert worker.info().lost == 1


def test_an_acknowledgement_is_repeated_while_the_queue_is_out_of_reach() -> None:
    queue = Queue(task_message("t"))
    queue.faults = [UnavailableError("down")] * 3
    worker = run(queue, Work())
    assert queue.settled == [("ack", "m0")]
    assert worker.info().done == 1
    queue = Queue(task_message("t"), visibility_seconds=2)
    queue.faults = [UnavailableError("down")] * 99
    worker = run(queue, Work())
    assert queue.settled == []
    assert worker.info().lost == 1


def test_an_acknowledgement_whose_answer_was_lost_counts_as_done() -> None:
    queue = Queue(task_message("t"))
    queue.are_answers_lost = True
    worker = run(queue, Work())
    assert queue.settled == [("ack", "m0"), ("stale", "m0")]
    assert (worker.info().done, worker.info().lost) == (1, 0)


def test_a_message_is_kept_from_the_moment_its_extension_was_asked_for_and_not_answered() -> None:
    ended: list[float] = []

    async def job(_key: str, _payload: Mapping[str, Any]) -> None:
        try:
            await asyncio.sleep(100)
        finally:
            ended.append(asyncio.get_running_loop().time())

    queue = Queue(task_message("t"), visibility_seconds=3)
    queue.answer_seconds = 2
    worker = Worker(queue.source, Work(t=job))

    async def go() -> None:
        await worker.start()
        await asyncio.sleep(3.5)  # asked at 1, answered at 3: it is ours until 4
        queue.extend_faults = [UnavailableError("down")] * 99
        await asyncio.sleep(60)
        await worker.stop()

    run_driven(go())
    assert ended == [pytest.approx(4)]
    assert worker.info().lost == 1


def test_an_outage_is_reported_and_work_goes_on_after_it() -> None:
    queue = Queue(task_message("t"))
    queue.receive_faults = [UnavailableError("down"), RuntimeError("odd"), *[UnavailableError("down")] * 5]
    worker = Worker(queue.source, Work())
    problems: list[str | None] = []

    async def go() -> None:
        await worker.start()
        await asyncio.sleep(0.001)
        problems.append(worker.info().problem)
        await asyncio.sleep(60)
        problems.append(worker.info().problem)
        await worker.stop()

    run_driven(go())
    assert problems == ["down", None]
    assert queue.settled == [("ack", "m0")]


class State:
    def __init__(self, *, paused: bool = False, draining: bool = False) -> None:
        self.paused, self.draining, self.note = paused, draining, None


@pytest.mark.parametrize("state", [State(paused=True), State(draining=True)])
def test_messages_of_a_paused_key_are_given_back_uncounted_and_those_of_others_run(state: State) -> None:
    queue = Queue(task_message("t"), task_message("u"))
    work = Work()
    states = {("task", "t"): state}
    run(queue, work, seconds=100, activity=lambda domain, key: states.get((domain, key), State()))
    assert [call[1] for call in work.calls] == ["u"]
    assert {what[0] for what in queue.settled if what[1] == "m0"} == {"back"}
    assert 9 <= sum(what[1] == "m0" for what in queue.settled) <= 20
    assert queue.ready[0][1].attempt == 1


def test_a_job_that_finds_its_key_paused_is_given_back_uncounted() -> None:
    queue = Queue(task_message("t"))
    run(queue, Work(t=failing(PausedError("task", "t"), PausedError("task", "t"))))
    assert [what[0] for what in queue.settled] == ["back", "back", "ack"]


def test_stopping_takes_nothing_new_and_finishes_what_runs() -> None:
    queue = Queue(*(task_message("t") for _ in range(5)))
    work = Work(t=lasting(10))
    worker = run(queue, work, seconds=5, concurrency=2)
    assert queue.settled == [("ack", "m0"), ("ack", "m1")]
    assert len(queue.ready) == 3
    assert worker.info().state == "stopped"


def test_what_arrives_while_it_stops_is_given_back_without_being_started() -> None:
    class Late(Queue):
        async def receive(self, *, max_messages: int = 1, wait_seconds: float = 0.0) -> list[Message]:
            try:
                await asyncio.sleep(wait_seconds)
            except asyncio.CancelledError:  # they were on their way
                return await super().receive(max_messages=max_messages)
            return []

    queue, work = Late(task_message("t"), task_message("t")), Work()
    worker = run(queue, work, seconds=5.5)
    assert work.calls == []
    assert queue.settled == [("back", "m0"), ("back", "m1")]
    assert worker.info().given_back == 2


def test_what_does_not_finish_within_the_grace_period_is_given_back_uncounted() -> None:
    queue = Queue(task_message("t"), task_message("u"))
    worker = run(queue, Work(t=lasting(1000), u=lasting(6)), seconds=5, grace_seconds=2)
    assert queue.settled == [("ack", "m1"), ("back", "m0")]
    assert worker.info().given_back == 1


def test_what_is_done_when_the_grace_period_ends_is_acknowledged_and_not_done_again() -> None:
    class Slow(Queue):
        async def ack(self, delivery: Message) -> bool:
            await asyncio.sleep(2)
            return await super().ack(delivery)

    async def committing(_key: str, _payload: Mapping[str, Any]) -> None:
        try:
            await asyncio.sleep(1000)
        except asyncio.CancelledError:
            await asyncio.sleep(1)  # its result is on its way to where it is kept

    queue = Slow(task_message("t"), task_message("u"))
    worker = run(queue, Work(t=lasting(6), u=committing), seconds=5, grace_seconds=2)
    assert sorted(queue.settled) == [("ack", "m0"), ("ack", "m1")]
    assert (worker.info().done, worker.info().given_back) == (2, 0)


def test_who_loses_patience_with_stopping_leaves_nothing_running() -> None:
    queue = Queue(task_message("t"))
    worker = Worker(queue.source, Work(t=lasting(1000)))

    async def go() -> None:
        await worker.start()
        await asyncio.sleep(1)
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(worker.stop(), 1)
        await asyncio.sleep(1)

    run_driven(go())
    assert queue.settled == [("back", "m0")]
    assert worker.info().in_flight == 0


def test_waiting_for_it_ends_when_it_stops() -> None:
    async def go() -> None:
        worker = Worker(Queue().source, Work())
        await worker.wait()
        await worker.start()
        waiting = asyncio.ensure_future(worker.wait())
        await asyncio.sleep(5)
        assert not waiting.done()
        await worker.stop()
        await waiting

    run_driven(go())


def test_it_stops_twice_before_it_started_and_starts_again() -> None:
    queue = Queue(task_message("t"))
    worker = Worker(queue.source, Work())

    async def go() -> None:
        await worker.stop()
        await worker.start()
        await worker.start()
        await asyncio.sleep(1)
        await asyncio.gather(worker.stop(), worker.stop())
        queue.put(Message(id="second", payload=task_message("t")))
        await worker.start()
        await asyncio.sleep(1)
        await worker.stop()

    run_driven(go())
    assert queue.settled == [("ack", "m0"), ("ack", "second")]


def test_an_exit_or_a_cancellation_inside_a_job_is_a_failure_like_others() -> None:
    queue = Queue(task_message("exit"), task_message("cancel"))
    work = Work(exit=failing(SystemExit(3)), cancel=failing(asyncio.CancelledError()))
    run(queue, work)
    assert sorted(what[:2] for what in queue.settled) == [
        ("ack", "m0"),
        ("ack", "m1"),
        ("retry", "m0"),
        ("retry", "m1"),
    ]


def test_a_workflow_message_carries_its_run() -> None:
    body = workflow_message("w", run_id="r1", context={"a": 1}, workflow_provider="local")
    assert set(body) == {"workflow", "run_id", "workflow_provider", "context", "metadata", "queued_at"}
    queue = Queue(body, {"workflow": "w"})
    work = Work()
    run(queue, work, concurrency=1)
    (kind, key, payload, idempotency_key, run_id), second = work.calls
    assert (kind, key, idempotency_key, run_id) == ("workflow", "w", "r1", "r1")
    assert payload == {name: body[name] for name in ("workflow_provider", "context", "metadata", "queued_at")}
    assert second == ("workflow", "w", {"context": {}}, "m1", "m1")


def test_a_task_without_a_key_of_its_own_has_the_messages() -> None:
    assert read_job("id", {"task": "t"}).idempotency_key == "id"
    assert read_job("id", {"task": "t", "idempotency_key": "mine", "later": 1}).idempotency_key == "mine"


@pytest.mark.parametrize("wrong", [{"concurrency": 0}, {"concurrency": True}, {"wait_seconds": 0}])
def test_settings_that_make_no_sense_are_refused(wrong: dict[str, Any]) -> None:
    with pytest.raises(ConfigurationError):
        Worker(Queue().source, Work(), **wrong)
