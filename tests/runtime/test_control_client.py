"""The client against a server that is slow, broken or somebody else: always a sentence of ours."""

import pickle
import socket
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from oneiric.core import errors
from oneiric.core.errors import ConfigurationError, DeadlineError, OneiricError, UnavailableError
from oneiric.runtime.control import ControlClient
from oneiric.runtime.control._answers import error_from_answer

type Answering = Callable[[bytes], Path]


@pytest.fixture
def answering(tmp_path: Path) -> Iterator[Answering]:
    """Return what makes a server that answers one request with just these bytes."""
    opened: list[socket.socket] = []
    threads: list[threading.Thread] = []

    def serve(answer: bytes) -> Path:
        path = tmp_path / "control.sock"
        listening = socket.socket(socket.AF_UNIX)
        opened.append(listening)
        listening.bind(str(path))
        listening.listen()

        def run() -> None:
            connection, _ = listening.accept()
            opened.append(connection)
            connection.recv(10_000)
            if answer != b"silence":
                connection.sendall(answer)
                connection.shutdown(socket.SHUT_RDWR)

        threads.append(threading.Thread(target=run, daemon=True))
        threads[-1].start()
        return path

    yield serve
    for thread in threads:
        thread.join()
    for each in opened:
        each.close()


def head(status: str, body: bytes = b"") -> bytes:
    return f"HTTP/1.1 {status}\r\nContent-Length: {len(body)}\r\n\r\n".encode() + body


def test_a_server_that_says_nothing_is_waited_for_just_so_long(answering: Answering) -> None:
    client = ControlClient(answering(b"silence"), timeout_seconds=0.05)
    with pytest.raises(DeadlineError, match=r"the answer of .* to status took longer than its deadline of 0\.05 s"):
        client.call("status")


@pytest.mark.parametrize(
    "answer",
    [
        b"",
        b"SSH-2.0-OpenSSH_9.2\r\n",
        b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\n{",
        head("200 OK", b"hello"),
        head("200 OK", b"[]"),
        head("500 No", b"<html>"),
        head("502 No", b'{"error": "text"}'),
    ],
    ids=["nothing", "another protocol", "half", "no JSON", "no object", "a page", "an error of somebody else"],
)
def test_an_answer_that_is_none_is_said_so(answering: Answering, answer: bytes) -> None:
    client = ControlClient(answering(answer))
    with pytest.raises(UnavailableError):
        client.call("status")


def test_a_stream_is_read_until_it_ends(answering: Answering) -> None:
    text = b': open\n\nid: a-1\nevent: bound\ndata: {"n":1}\n\n: alive\n\nid: a-2\nevent: gap\ndata: {}\n\nid: a-3\n'
    client = ControlClient(answering(b"HTTP/1.1 200 OK\r\nConnection: close\r\n\r\n" + text))

    assert [(event.id, event.name, dict(event.data)) for event in client.stream_events()] == [
        ("a-1", "bound", {"n": 1}),
        ("a-2", "gap", {}),
    ]


@pytest.mark.parametrize("name", errors.__all__)
def test_every_error_comes_back_as_its_class_with_its_words(name: str) -> None:
    kind: type[OneiricError] = getattr(errors, name)
    told = {"error": {"type": name, "message": "it failed", "hint": "something else"}}
    error = error_from_answer(kind.http_status, told)
    again = pickle.loads(pickle.dumps(error))  # noqa: S301 - our own bytes

    for each in (error, again):
        assert isinstance(each, kind)
        assert (each.message, each.hint, str(each)) == ("it failed", "something else", "it failed. Try: something else")
        assert (type(each).__name__, each.exit_code) == (name, kind.exit_code)


@pytest.mark.parametrize(
    ("kind", "status", "expected"),
    [
        ("InvalidRequest", 422, "ConfigurationError"),
        ("Unauthorized", 401, "AuthenticationError"),
        ("NotFound", 404, "ResolutionError"),
        ("PayloadTooLarge", 413, "RejectedError"),
        ("InternalError", 500, "UnavailableError"),
        ("NewerThanThisClient", 409, "RejectedError"),
        ("Exception", 500, "UnavailableError"),
    ],
)
def test_what_is_no_class_of_ours_becomes_the_nearest(kind: str, status: int, expected: str) -> None:
    error = error_from_answer(status, {"error": {"type": kind, "message": "m", "hint": None}})

    assert isinstance(error, getattr(errors, expected))
    assert (error.message, error.hint) == ("m", None)


@pytest.mark.parametrize("target", ["ftp://a", "http://", "unix://x", "https:///path"])
def test_an_address_of_another_kind_is_refused(target: str) -> None:
    with pytest.raises(ConfigurationError, match="is no address of a control API"):
        ControlClient(target)
