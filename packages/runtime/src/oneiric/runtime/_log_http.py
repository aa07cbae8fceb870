"""HttpSink: sends log lines in batches from a thread of its own, and never makes who logs wait."""

import base64
import http.client
import ssl
import threading
import time
from collections import deque
from typing import Final
from urllib.parse import SplitResult, unquote, urlsplit

from oneiric.core.errors import ConfigurationError
from oneiric.runtime._log_line import as_json, now_iso
from oneiric.runtime._log_sinks import CountingSink

__all__ = ["HttpSink"]

_MOST_LINES: Final = 1000
_BATCH: Final = 100
_TIMEOUT_SECONDS: Final = 5.0
_ATTEMPTS: Final = 3
#: Answers after which the same request may succeed.
_TRY_AGAIN: Final = frozenset({408, 429, 500, 502, 503, 504})


class HttpSink(CountingSink):
    """Sends lines as ``application/x-ndjson``, at most 100 to a request, over one connection.

    Lines wait in a queue of bounded length; what does not fit is dropped and counted, and the first batch that
    arrives after that tells how many. A batch that is refused three times is dropped. Redirects are not followed.

    Args:
        endpoint: An http or https URL; a user and password in it are sent as basic authentication.
        method: ``POST`` or ``PUT``.
        most_lines: Lines that wait at most.
        timeout_seconds: For connecting and for each answer.
        retry_seconds: The wait before the second attempt; it doubles for the third.

    Raises:
        ConfigurationError: *endpoint* is no such URL.
    """

    target = "http"

    def __init__(
        self,
        endpoint: str,
        method: str = "POST",
        *,
        most_lines: int = _MOST_LINES,
        timeout_seconds: float = _TIMEOUT_SECONDS,
        retry_seconds: float = 1.0,
    ) -> None:
        super().__init__()
        self._url = _checked(endpoint)
        self._method = method
        self._most_lines = most_lines
        self._timeout_seconds = timeout_seconds
        self._retry_seconds = retry_seconds
        self._lines: deque[str] = deque()
        self._changed = threading.Condition()
        self._untold = 0
        self._deadline: float | None = None
        self._connection: http.client.HTTPConnection | None = None
        self._thread = threading.Thread(target=self._run, name="oneiric-log-http", daemon=True)
        self._thread.start()

    def write(self, text: str) -> None:
        """Put a line into the queue, or count it where there is no room."""
        with self._changed:
            if len(self._lines) < self._most_lines and self._deadline is None:
                self._lines.append(text)
                self._changed.notify()
                return
            self._untold += 1
        self._lost("more lines waited than may")

    def close(self, seconds: float) -> None:
        """Send what waits, for at most *seconds*, and end the thread."""
        with self._changed:
            self._deadline = time.monotonic() + seconds
            self._changed.notify()
        self._thread.join(seconds)
        with self._changed:
            left = len(self._lines)
            self._lines.clear()
        if left:
            self._lost("the sink was closed before they were sent", left)

    def _run(self) -> None:
        while True:
            batch = self._next_batch()
            if not batch:
                break
            self._deliver(batch)
        if self._connection is not None:
            self._connection.close()

    def _next_batch(self) -> list[str]:
        """Wait for lines and return some; none once the sink is closed and the queue empty, or the time is up."""
        with self._changed:
            self._changed.wait_for(lambda: self._lines or self._deadline is not None)
            if self._deadline is not None and time.monotonic() >= self._deadline:
                return []
            return [self._lines.popleft() for _ in range(min(_BATCH, len(self._lines)))]

    def _deliver(self, batch: list[str]) -> None:
        error: object = None
        with self._changed:
            untold, self._untold = self._untold, 0
        told = [as_json(_told(untold)), *batch] if untold else batch
        for attempt in range(_ATTEMPTS):
            if attempt and not self._may_wait(self._retry_seconds * 2 ** (attempt - 1)):
                break
            try:
                status = self._send("\n".join(told).encode("utf-8", "backslashreplace") + b"\n")
            except (OSError, http.client.HTTPException) as raised:
                self._forget_connection()
                error = raised
                continue
            if 200 <= status < 300:
                self.written += len(batch)
                return
            error = f"the endpoint answered {status}"
            if status not in _TRY_AGAIN:
                break
        with self._changed:
            self._untold += untold + len(batch)
        self._lost(error, len(batch))

    def _may_wait(self, seconds: float) -> bool:
        """Wait before another attempt; False when the sink is closed before that time."""
        with self._changed:
            return not self._changed.wait_for(lambda: self._deadline is not None, seconds)

    def _send(self, body: bytes) -> int:
        if self._connection is None:
            self._connection = self._connected()
        headers = {"Content-Type": "application/x-ndjson", "User-Agent": "oneiric"}
        if self._url.username is not None:
            user = f"{unquote(self._url.username)}:{unquote(self._url.password or '')}"
            headers["Authorization"] = f"Basic {base64.b64encode(user.encode()).decode()}"
        target = (self._url.path or "/") + (f"?{self._url.query}" if self._url.query else "")
        self._connection.request(self._method, target, body, headers)
        with self._connection.getresponse() as answer:
            answer.read(65_536)
            if not answer.isclosed():  # longer than anybody needs to say it
                self._forget_connection()
            return answer.status

    def _connected(self) -> http.client.HTTPConnection:
        host, port = self._url.hostname or "", self._url.port
        if self._url.scheme == "https":
            return http.client.HTTPSConnection(
                host, port, timeout=self._timeout_seconds, context=ssl.create_default_context()
            )
        return http.client.HTTPConnection(host, port, timeout=self._timeout_seconds)

    def _forget_connection(self) -> None:
        if self._connection is not None:
            self._connection.close()
            self._connection = None


def _told(dropped: int) -> dict[str, object]:
    return {"timestamp": now_iso(time.time()), "level": "warning", "event": "log-lines-dropped", "count": dropped}


def _checked(endpoint: str) -> SplitResult:
    try:
        url = urlsplit(endpoint)
        port = url.port
    except ValueError:
        url, port = urlsplit(""), None
    if url.scheme not in {"http", "https"} or not url.hostname or port == 0:
        raise ConfigurationError(
            "logging.sinks: the endpoint of an http sink is no http or https URL with a host",
            "endpoint: https://logs.example.com/ingest",
        )
    return url
