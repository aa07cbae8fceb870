"""ControlClient: ask and change a running system, over its control socket or TCP."""

import json
import os
import socket
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final
from urllib.parse import urlencode, urlsplit

from oneiric.core.errors import ConfigurationError, DeadlineError, InactiveError, UnavailableError
from oneiric.runtime.control._answers import error_from_answer
from oneiric.runtime.control._operations import API_PREFIX, OPERATIONS, Operation
from oneiric.runtime.control._signing import RequestAuth
from oneiric.runtime.control._socket import connect
from oneiric.runtime.control._stream import ControlEvent, read_events

if TYPE_CHECKING:
    from http.client import HTTPConnection, HTTPResponse

__all__ = ["ControlClient"]

_OPERATIONS: Final = {operation.name: operation for operation in OPERATIONS}
_MOST_BYTES: Final = 64 * 1024 * 1024
#: A stream with no heartbeat for this long is broken; the server sends one every 15 s.
_SILENCE_SECONDS: Final = 60.0


class ControlClient:
    """Call the operations of a running system; synchronous, and made of the standard library.

    One connection a call: nothing is held between calls, and any thread may call.

    Args:
        target: The control socket's path (see `control_socket_path`), or ``"http://…"``, ``"https://…"``.
        timeout_seconds: Longest wait for each answer. A swap may take activation and drain deadlines together.
        auth: What proves who asks; the control socket needs none.

    Raises:
        ConfigurationError: *target* is a URL of another kind.
    """

    def __init__(
        self, target: str | os.PathLike[str], *, timeout_seconds: float = 120.0, auth: RequestAuth | None = None
    ) -> None:
        text = os.fspath(target)
        url = urlsplit(text) if "://" in text else None
        if url is not None and (url.scheme not in {"http", "https"} or not url.hostname):
            raise ConfigurationError(f"{text!r} is no address of a control API", "http://127.0.0.1:8080, or a path")
        self._target, self._url = text, url
        self._timeout_seconds, self._auth = timeout_seconds, auth

    def call(self, operation: str, **fields: Any) -> dict[str, Any]:
        """Call an operation and return its answer as plain data.

        Args:
            operation: Its name in `OPERATIONS`; `stream_events` is for ``events``.
            fields: Those of its request model; None leaves a field out.

        Raises:
            InactiveError: Nobody listens there.
            DeadlineError: No answer came in time; whether it was done is not known.
            UnavailableError: The connection broke, or the answer is none of the control API.
            OneiricError: What the running system answered: the class it names, with its message and hint.
            ConfigurationError: There is no such operation, or a field is wrong.
        """
        asked = _OPERATIONS.get(operation)
        if asked is None or asked.streams:
            called = ", ".join(sorted(name for name, each in _OPERATIONS.items() if not each.streams))
            raise ConfigurationError(f"{operation!r} is no operation that can be called", f"one of {called}")
        given = {name: value for name, value in fields.items() if value is not None}
        with self._sent(asked, given, {}) as response:
            document = _document(response.read(_MOST_BYTES))
        if not isinstance(document, dict):
            raise UnavailableError(f"{self._target} answered {operation} with something that is no JSON object")
        return document

    def stream_events(
        self, *, after: str | None = None, domain: str | None = None, key: str | None = None
    ) -> Iterator[ControlEvent]:
        """Yield events as they happen, until the server ends the stream.

        Args:
            after: The id of the last event that was seen, to go on after it.
            domain: Only events of this domain.
            key: Only events of this key.

        Raises:
            InactiveError: Nobody listens there.
            OneiricError: As for `call`.
        """
        given = {name: value for name, value in (("domain", domain), ("key", key)) if value is not None}
        more = {"Accept": "text/event-stream"} | ({} if after is None else {"Last-Event-ID": after})
        with self._sent(_OPERATIONS["events"], given, more) as response:
            yield from read_events(response)

    @contextmanager
    def _sent(
        self, operation: Operation, fields: Mapping[str, Any], more: Mapping[str, str]
    ) -> "Iterator[HTTPResponse]":
        from http.client import HTTPException  # noqa: PLC0415 - a command that calls nobody does not load it

        target, body = _target(operation, fields)
        headers = {"Accept": "application/json", "Connection": "close", **more}
        if operation.method == "POST":
            headers["Content-Type"] = "application/json"
        if self._auth is not None:
            headers |= self._auth.headers(operation.method, target, body)
        seconds = _SILENCE_SECONDS if operation.streams else self._timeout_seconds
        connection = self._connection(seconds)
        try:
            connection.request(operation.method, target, body=body or None, headers=headers)
            response = connection.getresponse()
            if response.status != 200:
                raise error_from_answer(response.status, _document(response.read(_MOST_BYTES)))
            yield response
        except TimeoutError as error:
            raise DeadlineError(f"the answer of {self._target} to {operation.name}", seconds) from error
        except (FileNotFoundError, ConnectionRefusedError) as error:
            raise self._nobody() from error
        except (OSError, HTTPException) as error:
            what = str(error) or type(error).__name__
            raise UnavailableError(f"the connection to {self._target} broke: {what}") from error
        finally:
            connection.close()

    def _connection(self, seconds: float) -> "HTTPConnection":
        from http.client import HTTPConnection, HTTPSConnection  # noqa: PLC0415 - as above

        if self._url is None:
            return _over_socket(Path(self._target), seconds)
        host, port = self._url.hostname or "", self._url.port
        if self._url.scheme == "https":
            import ssl  # noqa: PLC0415 - as above

            return HTTPSConnection(host, port, timeout=seconds, context=ssl.create_default_context())
        return HTTPConnection(host, port, timeout=seconds)

    def _nobody(self) -> InactiveError:
        return InactiveError(f"nothing is running: nobody listens on {self._target}", "oneiric orchestrate")

    def __repr__(self) -> str:
        return f"<ControlClient {self._target}>"


def _over_socket(path: Path, seconds: float) -> "HTTPConnection":
    from http.client import HTTPConnection  # noqa: PLC0415 - as above

    class OverSocket(HTTPConnection):
        sock: socket.socket

        def connect(self) -> None:
            self.sock = connect(path, seconds)

    return OverSocket("localhost", timeout=seconds)


def _target(operation: Operation, fields: Mapping[str, Any]) -> tuple[str, bytes]:
    path = f"{API_PREFIX}{operation.path}"
    if operation.method == "POST":
        return path, json.dumps(fields).encode()
    query = urlencode({name: _in_query(value) for name, value in fields.items()}, doseq=True)
    return (f"{path}?{query}" if query else path), b""


def _in_query(value: object) -> object:
    return str(value).lower() if isinstance(value, bool) else value


def _document(body: bytes) -> object:
    try:
        return json.loads(body)
    except ValueError:
        return None
