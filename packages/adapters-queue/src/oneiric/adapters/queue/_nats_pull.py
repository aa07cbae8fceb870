"""One request for messages, from asking to a definite end.

nats-py's own ``fetch`` shares an inbox between requests that overlap, and leaves messages in it when it is cancelled.
A request that was made is heard out: the server looks whether anybody listens before it hands a message over, not
when it does, so that one it had just taken for a listener who leaves is nobody's until its visibility ends.
"""

import asyncio
import json
from typing import Any, Final

from nats.aio.client import Client
from nats.aio.msg import Msg
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
        self._arrived: asyncio.Queue[Msg] = asyncio.Queue()

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
        subscription: Any = await self._client.subscribe(inbox, cb=self._arrived.put)
        asked: dict[str, Any] = {"batch": most}
        if expires_seconds is None:
            asked["no_wait"] = True
        else:
            asked["expires"] = int(expires_seconds * 1_000_000_000)
        messages: list[Msg] = []
        try:
            await self._client.publish(self._subject, json.dumps(asked).encode(), inbox)
            while len(messages) < most:
                try:
                    async with asyncio.timeout((expires_seconds or 0.0) + patience_seconds):
                        found = await self._arrived.get()
                except TimeoutError as error:
                    if messages:
                        break
                    raise NatsTimeoutError from error
                if _is_end(found):
                    break
                messages.append(found)
        finally:
            if not self._client.is_closed:
                await subscription.unsubscribe()
        return messages


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
