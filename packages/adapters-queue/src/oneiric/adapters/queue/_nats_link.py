"""The connection of a NATS queue: opened once, made anew when it was given up, with streams and consumer in place."""

import asyncio
from collections.abc import Coroutine
from typing import Any, Final

from nats.aio.client import Client
from nats.js.api import AckPolicy, ConsumerConfig, RetentionPolicy, StreamConfig
from nats.js.client import JetStreamContext
from nats.js.errors import BadRequestError, NotFoundError

from oneiric.adapters.queue import _message as message
from oneiric.adapters.queue._nats_errors import FAILURES, adapter_error
from oneiric.adapters.queue._nats_settings import NATSQueueSettings, connect, disconnect, place_of
from oneiric.core.errors import AuthenticationError, UnavailableError

__all__ = ["CONSUMER", "Link"]

#: The durable consumer that all instances of a queue share.
CONSUMER: Final = "oneiric"
#: What headers may take of the largest message a server accepts.
_HEADERS_BYTES: Final = 16_384
_STREAM_EXISTS: Final = 10_058


class Link:
    """A connection and the names on its other end.

    Args:
        settings: Of the queue.

    Attributes:
        stream: The stream of messages.
        dead_stream: The stream of dead letters.
        subject: Where messages are published.
        dead_subject: What the subjects of dead letters begin with.
        visibility_seconds: As the consumer has it, who may have been made with another.
    """

    def __init__(self, settings: NATSQueueSettings) -> None:
        self._settings = settings
        queue = settings.queue
        self.stream, self.dead_stream = f"oneiric-queue-{queue}", f"oneiric-queue-{queue}-dead"
        self.subject, self.dead_subject = f"oneiric.queue.{queue}.work", f"oneiric.queue.{queue}.dead"
        self.visibility_seconds = settings.visibility_seconds
        self._place = place_of(settings)
        self._client: Client | None = None
        self._jetstream: JetStreamContext | None = None
        self._opening = asyncio.Lock()
        self._was_open = self._is_refusing = self._is_closed = False

    @property
    def serves(self) -> bool:
        """Whether calls are taken."""
        return self._was_open and not self._is_refusing

    @property
    def largest_bytes(self) -> int:
        """How large a message may be; headers come on top of it."""
        server = self._client.max_payload if self._client is not None else self._settings.max_payload_bytes
        return min(self._settings.max_payload_bytes, max(1, server - _HEADERS_BYTES))

    async def open(self) -> None:
        """Connect, the first time.

        Raises:
            AdapterError: It did not come about.
            InactiveError: It was closed.
        """
        if self._was_open:
            self.check()
            return
        await self._open()
        self._was_open = True

    def check(self) -> None:
        """Say whether the queue serves.

        Raises:
            InactiveError: It does not.
        """
        if not self.serves:
            raise message.closed("nats", was_open=self._was_open)

    def refuse(self) -> None:
        """Take no call any more; what goes on keeps the connection until it is closed."""
        self._was_open = self._is_refusing = True

    async def close(self) -> None:
        """Close the connection; safe twice."""
        self._is_closed = True
        client, self._client = self._client, None
        if client is not None:
            await disconnect(client)

    async def jetstream(self) -> JetStreamContext:
        """Return the connection's JetStream.

        Raises:
            InactiveError, UnavailableError: As of ``client()``.
        """
        await self.client()
        if self._jetstream is None:
            raise message.closed("nats", was_open=True)
        return self._jetstream

    async def client(self) -> Client:
        """Return the connection; one that was given up is made anew.

        Raises:
            InactiveError: It was never opened, or is closed.
            UnavailableError: It is connecting again.
        """
        if self._is_closed or not self._was_open:
            raise message.closed("nats", was_open=self._was_open)
        if self._client is None or self._client.is_closed:
            await self._open()
        client = self._client
        if client is None:
            raise message.closed("nats", was_open=True)
        if not client.is_connected:
            raise UnavailableError(f"nats at {self._place} cannot be reached: connecting again", "servers")
        return client

    async def run[T](self, work: "Coroutine[Any, Any, T] | asyncio.Future[T]", *, missing: bool = False) -> T:
        """Await an operation; raise what Oneiric calls its failure.

        Args:
            work: The operation.
            missing: Let pass nats-py's NotFoundError, because the caller deals with it.
        """
        try:
            return await work
        except FAILURES as error:
            if missing and isinstance(error, NotFoundError):
                raise
            if self._is_refusing:
                raise message.closed("nats", was_open=True) from error
            raise adapter_error(error, self._place, self._settings.request_timeout) from error

    async def _open(self) -> None:
        async with self._opening:
            if self._client is not None and not self._client.is_closed:
                return
            client = await self._connect()
            jetstream = client.jetstream(timeout=self._settings.request_timeout)
            try:
                if self._settings.auto_create:
                    await self._make(jetstream)
                consumer = await jetstream.consumer_info(self.stream, CONSUMER)
            except FAILURES as error:
                await disconnect(client)
                raise adapter_error(error, self._place, self._settings.request_timeout) from error
            except BaseException:
                await disconnect(client)
                raise
            if consumer.config.ack_wait is not None:
                self.visibility_seconds = consumer.config.ack_wait
            self._client, self._jetstream = client, jetstream

    async def _connect(self) -> Client:
        met: list[Exception] = []
        is_connecting = True
        servers = len(self._settings.servers)
        seconds = self._settings.connect_timeout * servers

        def is_refusal(error: Exception) -> bool:
            return isinstance(adapter_error(error, self._place, seconds), AuthenticationError)

        async def note(error: Exception) -> None:
            met.append(error)
            # The client would try again until the deadline, and credentials do not become right by that. It tries one
            # server after the other: these are all of them.
            if is_connecting and len(met) >= servers and all(map(is_refusal, met[-servers:])):
                raise error

        try:
            async with asyncio.timeout(seconds):
                return await connect(self._settings, note)
        except FAILURES as error:
            # What stands behind it: the client tries again until the deadline, whatever it met. A refusal tells most.
            causes = [*met[-8:], error]
            errors = [adapter_error(cause, self._place, seconds) for cause in causes]
            refusals = [at for at, found in enumerate(errors) if isinstance(found, AuthenticationError)]
            at = refusals[0] if refusals else max(0, len(causes) - 2)
            raise errors[at] from causes[at]
        finally:
            is_connecting = False

    async def _make(self, jetstream: JetStreamContext) -> None:
        """Make streams and consumer where they are missing."""
        settings = self._settings
        work = StreamConfig(
            name=self.stream,
            subjects=[self.subject],
            retention=RetentionPolicy.WORK_QUEUE,
            duplicate_window=settings.dedup_window_seconds,
            num_replicas=settings.replicas,
        )
        dead = StreamConfig(name=self.dead_stream, subjects=[f"{self.dead_subject}.*"], num_replicas=settings.replicas)
        for stream in (work, dead):
            try:
                await jetstream.add_stream(stream)
            except BadRequestError as error:
                if error.err_code != _STREAM_EXISTS:
                    raise
        try:
            await jetstream.consumer_info(self.stream, CONSUMER)
        except NotFoundError:
            await jetstream.add_consumer(
                self.stream,
                ConsumerConfig(
                    durable_name=CONSUMER,
                    ack_policy=AckPolicy.EXPLICIT,
                    ack_wait=settings.visibility_seconds,
                    max_deliver=-1,
                    # Those that are not due are pending too: with a bound, enough of them would stop the line.
                    max_ack_pending=-1,
                ),
            )
