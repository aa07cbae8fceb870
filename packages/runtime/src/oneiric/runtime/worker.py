"""Worker: takes jobs from a queue, runs so many at once, and acknowledges each when its result is committed.

It owns the order of receiving, working and settling, and what happens on failure and at shutdown. It does not own what
a job does (`Processor`) nor where messages are kept (`MessageQueue`).
"""

import asyncio
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Final

from oneiric.core.errors import ConfigurationError, OneiricError
from oneiric.runtime._secret_redaction import REDACTOR
from oneiric.runtime._supervisor_tasks import report
from oneiric.runtime._worker_delivery import DeliveryRules, Outcome, give_back, handle, is_permanent
from oneiric.runtime._worker_message import Job, read_job, task_message, workflow_message
from oneiric.runtime._worker_ports import (
    ActivityOf,
    JobKind,
    MessageQueue,
    Processor,
    QueueSource,
    ReceivedMessage,
)
from oneiric.runtime.logging import get_logger
from oneiric.runtime.retry import RetryPolicy

__all__ = [
    "ActivityOf",
    "Job",
    "JobKind",
    "MessageQueue",
    "Processor",
    "QueueSource",
    "ReceivedMessage",
    "Worker",
    "WorkerInfo",
    "read_job",
    "task_message",
    "workflow_message",
]

#: Pauses of the intake while the queue is out of reach: at most 2 s, so that work goes on soon after it is back.
_OUTAGE: Final = RetryPolicy(attempts=1, base_delay_seconds=0.1, max_delay_seconds=2.0)
#: What a queue takes in one request at most.
_MOST_AT_ONCE: Final = 256
#: How long what is cut off at the end of the grace period has to be given back.
_GIVE_BACK_SECONDS: Final = 5.0
_DEFAULT_RETRY: Final = RetryPolicy(attempts=5, base_delay_seconds=1.0, max_delay_seconds=300.0)

_log: Final = get_logger("oneiric.runtime.worker")


@dataclass(frozen=True, slots=True, kw_only=True)
class WorkerInfo:
    """A worker at one moment; the counts are since it was made.

    Attributes:
        state: ``stopped``, ``running``, or ``stopping``: it takes nothing new and finishes what it has.
        in_flight: Messages being worked on.
        concurrency: The most of them.
        done: Acknowledged.
        retried: Failed, and to be tried again.
        dead: Given up.
        given_back: Not worked on, because their key was paused or the worker stopped.
        lost: Not settled before their visibility ended; they come again.
        problem: Why nothing can be received at the moment, or None.
    """

    state: str
    in_flight: int
    concurrency: int
    done: int
    retried: int
    dead: int
    given_back: int
    lost: int
    problem: str | None

    def as_dict(self) -> dict[str, Any]:
        """Return plain data."""
        return {name: getattr(self, name) for name in self.__slots__}


class Worker:
    """Work off a queue; a part of the application.

    A message is acknowledged when `Processor.process` has returned, never before, so a job may run more than once:
    when this process dies, hangs beyond the message's visibility, or cannot reach the queue to acknowledge. Each time
    it has the same idempotency key. While a job runs, its message is kept from others by extending its visibility
    each third of it. A job that fails is tried again after a delay with full jitter; one that fails for good, or
    ``retry.attempts`` times, becomes a dead letter with the reason. No message keeps others from being worked on.

    Args:
        source: Lends the queue; asked anew for each receipt, so a swapped queue is taken up at once, and what came
            from the old one is settled there.
        processor: Does the work.
        concurrency: Jobs at once, and messages held at once: nothing is fetched ahead.
        retry: How many deliveries a message has in all, and the pauses between them; by default 5, 1 s to 300 s.
        grace_seconds: How long `stop` lets running jobs finish. Those that do not are cancelled and given back.
        wait_seconds: How long one request waits for a message at the queue.
        activity: Tells whether a key takes work. Messages of one that is paused or drains are given back uncounted.
        paused_delay_seconds: After how long they come again, at most; at least half of it.
        is_permanent: Whether an error would occur again; by default, one of Oneiric's that blames the request.

    Raises:
        ConfigurationError: *concurrency* is not 1 to 10000, or a number of seconds is not positive.
    """

    name = "worker"

    def __init__(
        self,
        source: QueueSource,
        processor: Processor,
        *,
        concurrency: int = 10,
        retry: RetryPolicy = _DEFAULT_RETRY,
        grace_seconds: float = 30.0,
        wait_seconds: float = 1.0,
        activity: ActivityOf | None = None,
        paused_delay_seconds: float = 10.0,
        is_permanent: Callable[[Exception], bool] = is_permanent,
    ) -> None:
        if type(concurrency) is not int or not 1 <= concurrency <= 10_000:
            raise ConfigurationError(f"concurrency of a worker is 1 to 10000, not {concurrency!r}")
        for name, seconds in (("wait_seconds", wait_seconds), ("paused_delay_seconds", paused_delay_seconds)):
            if not seconds > 0:
                raise ConfigurationError(f"{name} of a worker is more than 0, not {seconds!r}")
        self._source, self._concurrency = source, concurrency
        self._grace_seconds, self._wait_seconds = grace_seconds, wait_seconds
        self._rules = DeliveryRules(
            processor=processor,
            retry=retry,
            activity=activity,
            paused_delay_seconds=paused_delay_seconds,
            is_permanent=is_permanent,
        )
        self._slots = asyncio.Semaphore(concurrency)
        self._in_flight = 0
        self._outcomes: Counter[Outcome] = Counter()
        self._intake: asyncio.Task[None] | None = None
        self._rounds: set[asyncio.Task[None]] = set()
        self._is_stopping = False
        self._problem: str | None = None

    async def start(self) -> None:
        """Begin to receive; a queue that is out of reach is waited for."""
        if self._intake is None:
            self._is_stopping = False
            self._intake = asyncio.create_task(self._take_in(), name="worker")

    async def stop(self) -> None:
        """Receive no more, finish what runs within the grace period, and give the rest back; safe twice."""
        self._is_stopping = True
        intake, self._intake = self._intake, None
        if intake is not None:
            intake.cancel()
            await asyncio.wait((intake,))
        if not self._rounds:
            return
        try:
            await asyncio.wait(set(self._rounds), timeout=self._grace_seconds)
        finally:  # also when the one who stops it runs out of patience
            late = set(self._rounds)
            for task in late:
                task.cancel()
        if late:
            _log.warning("worker-cut-jobs-off", jobs=self._in_flight, grace_seconds=self._grace_seconds)
            await asyncio.wait(late, timeout=_GIVE_BACK_SECONDS)

    async def wait(self) -> None:
        """Return when the intake has ended; raise what ended it, if it ended by itself."""
        intake = self._intake
        if intake is not None:
            await asyncio.wait((intake,))
            if not intake.cancelled():
                intake.result()

    def info(self) -> WorkerInfo:
        """Return how it stands."""
        running = "running" if self._intake is not None else "stopped"
        return WorkerInfo(
            state="stopping" if self._is_stopping and self._rounds else running,
            in_flight=self._in_flight,
            concurrency=self._concurrency,
            problem=self._problem,
            **{outcome: self._outcomes[outcome] for outcome in ("done", "retried", "dead", "given_back", "lost")},
        )

    async def _take_in(self) -> None:
        """Receive as many as there is room for, again and again; each batch is then its round's business."""
        failures = 0
        while True:
            free = await self._free_slots()
            received: asyncio.Future[None] = asyncio.get_running_loop().create_future()
            task = asyncio.create_task(self._round(free, received), name="worker-round")
            self._rounds.add(task)
            task.add_done_callback(self._rounds.discard)
            received.add_done_callback(_look_at)
            try:
                await asyncio.wait((received,))
            except asyncio.CancelledError:
                if not received.done():
                    task.cancel()
                raise
            if (error := received.exception()) is not None:
                failures += 1
                self._outage(error, failures)
                await asyncio.sleep(_OUTAGE.delay_seconds(failures))
                continue
            if failures:
                _log.info("queue-answers-again", failures=failures)
            failures, self._problem = 0, None

    async def _free_slots(self) -> int:
        """Wait for a free slot and occupy it, with those that are free beside it."""
        free = 0
        try:
            while free == 0 or (free < _MOST_AT_ONCE and not self._slots.locked()):
                await self._slots.acquire()
                free += 1
        except asyncio.CancelledError:
            self._release(free)
            raise
        return free

    def _release(self, slots: int) -> None:
        for _ in range(slots):
            self._slots.release()

    async def _round(self, free: int, received: "asyncio.Future[None]") -> None:
        """Receive once and see what came through, with the queue it came from kept open."""
        try:
            async with self._source() as queue:
                messages = await queue.receive(max_messages=free, wait_seconds=self._wait_seconds)
                self._release(free - len(messages))
                received.set_result(None)
                await _through([asyncio.create_task(self._one(queue, message)) for message in messages])
        except Exception as error:  # noqa: BLE001 - whatever a queue fails with, the worker outlives it
            if received.done():
                report("worker could not let go of a queue", error)
            else:
                self._release(free)
                received.set_exception(error)
        except BaseException:
            if not received.done():
                self._release(free)
                received.cancel()
            raise

    async def _one(self, queue: MessageQueue, message: ReceivedMessage) -> None:
        outcome: Outcome = "given_back"
        self._in_flight += 1
        try:
            if self._is_stopping:
                await give_back(queue, message)
            else:
                outcome = await handle(self._rules, queue, message)
        except Exception as error:  # noqa: BLE001 - a failure of the machinery: the message comes again by itself
            outcome = "lost"
            report(f"worker could not settle message {message.id}", error)
        finally:
            self._in_flight -= 1
            self._outcomes[outcome] += 1
            self._slots.release()

    def _outage(self, error: BaseException, failures: int) -> None:
        text = error.message if isinstance(error, OneiricError) else f"{type(error).__name__}: {error}"
        self._problem = REDACTOR.mask(text)
        if failures == 1:  # once for an outage, however long
            _log.warning("queue-does-not-answer", error=self._problem)


def _look_at(received: "asyncio.Future[None]") -> None:
    """Take note of an error that the intake may not be there to see."""
    if not received.cancelled():
        received.exception()


async def _through(jobs: "list[asyncio.Task[None]]") -> None:
    """Wait for all; a cancellation is passed on to them, and waited for too."""
    if not jobs:
        return
    try:
        await asyncio.wait(jobs)
    except asyncio.CancelledError:
        for job in jobs:
            job.cancel()
        await asyncio.wait(jobs)
        raise
