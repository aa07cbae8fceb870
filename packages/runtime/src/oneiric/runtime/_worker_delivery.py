"""One delivery, from its receipt to its settling.

The message is kept from other consumers while it is worked on, and settled only when the work has ended. What cannot be
settled, because the queue is out of reach, comes again after its visibility; so does what this process dies with.
"""

import asyncio
import random
from collections.abc import Awaitable, Callable, Mapping
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from typing import Final, Literal

from oneiric.core.errors import AdapterError, OneiricError, PausedError, RejectedError, StoreError
from oneiric.runtime._secret_redaction import REDACTOR
from oneiric.runtime._telemetry_spans import SpanLike, span, tracer
from oneiric.runtime._worker_message import Job, read_job
from oneiric.runtime._worker_ports import ActivityOf, MessageQueue, Processor, ReceivedMessage
from oneiric.runtime.logging import get_logger
from oneiric.runtime.retry import RetryPolicy

__all__ = ["DeliveryRules", "Outcome", "give_back", "handle", "is_permanent"]

#: ``lost``: its visibility ended before it was settled, and the message is somebody else's.
type Outcome = Literal["done", "retried", "dead", "given_back", "lost"]

#: What another attempt can mend, as against an error of the call itself.
_PASSING: Final = (AdapterError, StoreError)
#: The longest pause before asking a queue again that did not answer.
_PATIENCE: Final = RetryPolicy(attempts=1, base_delay_seconds=0.1, max_delay_seconds=2.0)
#: A request that no repetition can mend.
_WRONG: Final = frozenset((400, 404, 422))
_LONGEST_REASON: Final = 2000

_log: Final = get_logger("oneiric.runtime.worker")


@dataclass(frozen=True, slots=True, kw_only=True)
class DeliveryRules:
    """How deliveries are dealt with; the worker's arguments."""

    processor: Processor
    retry: RetryPolicy
    activity: ActivityOf | None
    paused_delay_seconds: float
    is_permanent: Callable[[Exception], bool]


def is_permanent(error: Exception) -> bool:
    """Say whether another attempt would fail alike: an error of Oneiric's that blames the request.

    Those are an unknown task or workflow, and whatever is refused as malformed.
    """
    return isinstance(error, OneiricError) and error.http_status in _WRONG


async def handle(rules: DeliveryRules, queue: MessageQueue, delivery: ReceivedMessage) -> Outcome:
    """Do what a message asks for and settle it; a cancellation gives it back, unless it was done by then.

    Raises:
        asyncio.CancelledError: The worker stops; the message was given back, if the queue could be reached.
    """
    with _trace_of(delivery.headers), span("worker.process", message=delivery.id, attempt=delivery.attempt) as opened:
        outcome = await _Delivery(rules, queue, delivery, opened).settle()
        opened.set(outcome=outcome)
        return outcome


async def give_back(queue: MessageQueue, delivery: ReceivedMessage, delay_seconds: float = 0.0) -> bool:
    """Let others have a message, as if it had not been received; say whether that was known to succeed."""
    try:
        return await queue.retry(delivery, delay_seconds=delay_seconds, counted=False)
    except OneiricError as error:
        _log.warning("message-not-given-back", message=delivery.id, error=error.message)
        return False


class _Delivery:
    """One message in the worker's hands.

    Args:
        rules: How to deal with it.
        queue: Where it came from.
        delivery: The message.
        opened: The span of it all.
    """

    def __init__(self, rules: DeliveryRules, queue: MessageQueue, delivery: ReceivedMessage, opened: SpanLike) -> None:
        self._rules, self._queue, self._delivery, self._span = rules, queue, delivery, opened
        self._now = asyncio.get_running_loop().time
        self._until = self._now() + delivery.visibility_seconds

    async def settle(self) -> Outcome:
        """Work on the message and settle it."""
        delivery, rules = self._delivery, self._rules
        try:
            job = read_job(delivery.id, delivery.payload)
        except RejectedError as error:
            return await self._bury(error.message)
        self._span.set(kind=job.kind, key=job.key, run_id=job.run_id)
        if self._takes_no_work(job):
            return await self._give_back()
        if delivery.attempt > rules.retry.attempts:
            # Those before it were not settled: their consumers died with it, or ran out of time.
            return await self._bury(f"gave up after {delivery.attempt - 1} deliveries that nobody settled")
        return await self._work(job)

    def _takes_no_work(self, job: Job) -> bool:
        if self._rules.activity is None:
            return False
        state = self._rules.activity(job.kind, job.key)
        return state.paused or state.draining

    async def _work(self, job: Job) -> Outcome:
        working = asyncio.ensure_future(self._process(job))
        keeping = asyncio.ensure_future(self._keep())
        try:
            await asyncio.wait((working, keeping), return_when=asyncio.FIRST_COMPLETED)
            if not working.done():
                _log.warning("message-lost", message=self._delivery.id, kind=job.kind, key=job.key)
                return "lost"
            return await self._result(job, working)
        except asyncio.CancelledError:
            await _end(working)
            if not working.cancelled() and working.exception() is None:
                return await self._result(job, working)  # it is done: given back, it would be done again
            await give_back(self._queue, self._delivery)
            raise
        finally:
            await _end(working)
            await _end(keeping)

    async def _process(self, job: Job) -> object:
        try:
            return await self._rules.processor.process(
                job.kind,
                job.key,
                job.payload,
                idempotency_key=job.idempotency_key,
                run_id=job.run_id,
                headers=self._delivery.headers,
            )
        except SystemExit as error:  # left alone, it would end the event loop and everything in it
            raise RuntimeError(f"the job called exit({error.code!r})") from error

    async def _keep(self) -> None:
        """Keep the message from the others; return when that failed."""
        while True:
            await asyncio.sleep(self._delivery.visibility_seconds / 3)
            asked_at = self._now()
            try:
                kept = await self._queue.extend(self._delivery)
            except _PASSING as error:
                if self._now() < self._until:
                    _log.warning("message-not-extended", message=self._delivery.id, error=error.message)
                    continue
                kept = False
            if not kept:
                return
            self._until = asked_at + self._delivery.visibility_seconds

    async def _result(self, job: Job, working: "asyncio.Future[object]") -> Outcome:
        if working.cancelled():
            return await self._again(RuntimeError("the job cancelled itself"), job)
        error = working.exception()
        if error is None:
            return await self._settled("done", lambda: self._queue.ack(self._delivery))
        if isinstance(error, PausedError):
            return await self._give_back()
        if not isinstance(error, Exception):
            raise error
        return await self._again(error, job)

    async def _again(self, error: Exception, job: Job) -> Outcome:
        """Try again later, or give up."""
        rules, attempt = self._rules, self._delivery.attempt
        reason = _reason_of(error)
        if rules.is_permanent(error):
            return await self._bury(reason)
        if attempt >= rules.retry.attempts:
            return await self._bury(f"{reason} (attempt {attempt} of {rules.retry.attempts})")
        delay = rules.retry.delay_seconds(attempt)
        _log.info("job-retried", kind=job.kind, key=job.key, message=self._delivery.id, attempt=attempt, error=reason)
        return await self._settled("retried", lambda: self._queue.retry(self._delivery, delay_seconds=delay))

    async def _bury(self, reason: str) -> Outcome:
        _log.warning("job-given-up", message=self._delivery.id, attempt=self._delivery.attempt, reason=reason)
        return await self._settled("dead", lambda: self._queue.dead_letter(self._delivery, reason))

    async def _give_back(self) -> Outcome:
        delay = self._rules.paused_delay_seconds * (0.5 + random.random() / 2)  # noqa: S311 - spreads load
        return await self._settled(
            "given_back", lambda: self._queue.retry(self._delivery, delay_seconds=delay, counted=False)
        )

    async def _settled(self, outcome: Outcome, settle: Callable[[], Awaitable[bool]]) -> Outcome:
        """Settle; while the queue is out of reach, again and again until the message is not ours any more."""
        asked = 0
        while True:
            try:
                if await settle():
                    return outcome
                # Asked before, the queue may have done it and its answer was lost.
                return outcome if asked else "lost"
            except _PASSING as error:
                asked += 1
                pause = _PATIENCE.delay_seconds(asked)
                if self._now() + pause >= self._until:
                    _log.warning("message-not-settled", message=self._delivery.id, wanted=outcome, error=error.message)
                    return "lost"
                await asyncio.sleep(pause)


async def _end(work: "asyncio.Future[object] | asyncio.Future[None]") -> None:
    """End work, waiting for it; what it raises has been dealt with, or concerns nobody any more."""
    if not work.done():
        work.cancel()
        await asyncio.wait((work,))
    if not work.cancelled():
        work.exception()


def _reason_of(error: BaseException) -> str:
    text = error.message if isinstance(error, OneiricError) else str(error)
    return REDACTOR.mask(f"{type(error).__name__}: {text}")[:_LONGEST_REASON]


def _trace_of(headers: Mapping[str, str]) -> AbstractContextManager[object]:
    """Return a context in which the sender's trace goes on, where traces are recorded at all."""
    if tracer() is None or not headers:
        return nullcontext()
    return _Continued(headers)


class _Continued:
    def __init__(self, headers: Mapping[str, str]) -> None:
        self._headers = headers

    def __enter__(self) -> None:
        from opentelemetry import context, propagate  # noqa: PLC0415 - loaded by whoever configured the SDK

        self._token = context.attach(propagate.extract(self._headers))

    def __exit__(self, *_: object) -> None:
        from opentelemetry import context  # noqa: PLC0415 - as above

        context.detach(self._token)
