"""One request for messages, from asking to a definite end.

nats-py's own ``fetch`` shares an inbox between requests that overlap, and leaves messages in it when it is cancelled.
"""

import asyncio
import json
from contextlib import suppress
from typing import Any, Final

from nats.aio.client import Client
from nats.aio.msg import Msg
from nats.errors import Error as NatsError
from nats.errors import NoRespondersError
from nats.errors import TimeoutError as NatsTimeoutError
from nats.js.errors import APIError

__all__ = ["Pull"]

_ENDED: Final = frozenset(("404", "408"))  # no messages; the request expired
_NO_RESPONDERS: Final = "503"


class Pull:
    """A request for messages of a consumer.

    Args:
        client: Connected.
        subject: Where the consumer is asked.
    """

    def __init__(self, client: Client, subject: str) -> None:
        self._client, self._subject = client, subject
        self._arrived: asyncio.Queue[Msg | None] = asyncio.Queue()
        self._subscription: Any = None
        self._is_ending = False

    async def run(self, most: int, *, expires_seconds: float | None, patience_seconds: float) -> list[Msg]:
        """Return up to *most* messages.

        Args:
            most: From 1.
            expires_seconds: How long the server waits for the first; None takes what is there.
            patience_seconds: How much longer than that an answer may take.

        Raises:
            NatsTimeoutError: There was no answer.
            APIError: The server refused.
        """
        inbox = self._client.new_inbox()
        self._subscription = await self._client.subscribe(inbox, cb=self._arrived.put)
        asked: dict[str, Any] = {"batch": most}
        if expires_seconds is None:
            asked["no_wait"] = True
        else:
            asked["expires"] = int(expires_seconds * 1_000_000_000)
        messages: list[Msg] = []
        try:
            if self._is_ending:  # before it began: nothing was asked for
                return []
            await self._client.publish(self._subject, json.dumps(asked).encode(), inbox)
            while len(messages) < most:
                try:
                    async with asyncio.timeout((expires_seconds or 0.0) + patience_seconds):
                        found = await self._arrived.get()
                except TimeoutError as error:
                    if messages:
                        break
                    raise NatsTimeoutError from error
                if found is None or _is_end(found):
                    break
                messages.append(found)
        finally:
            if not self._client.is_closed and not self._subscription._closed:  # noqa: SLF001 - it does not say
                await self._subscription.unsubscribe()
        return messages

    async def end(self) -> None:
        """Have the server send no more, and `run` return what has arrived."""
        self._is_ending = True
        if self._subscription is not None:
            with suppress(NatsError):  # it may have ended by itself at this moment
                await self._subscription.drain()
        self._arrived.put_nowait(None)


def _is_end(found: Msg) -> bool:
    """Say whether this is not a message but the end of the request.

    Raises:
        NoRespondersError: There is no such consumer, or no JetStream.
        APIError: The server refused.
    """
    status = (found.headers or {}).get("Status")
    if status is None:
        return False
    if status == _NO_RESPONDERS:
        raise NoRespondersError
    if status not in _ENDED:
        raise APIError(code=int(status) if status.isdigit() else None)
    return True
