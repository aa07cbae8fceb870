"""`oneiric remote-sync --watch`: a process of its own, a publisher that goes on, falls silent and comes back."""

from __future__ import annotations

import json
import queue
import signal
import subprocess
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from tests.cli.documents import check
from tests.cli.publishing import WebPublisher, web_publisher
from tests.cli.systems import command, system

from oneiric.remote.testing import tampered

type Run = Callable[..., Any]

WATCH = ("--config", "settings.yml", "remote-sync", "--watch", "--refresh-interval", "1")


@pytest.fixture
def publisher() -> Iterator[WebPublisher]:
    with web_publisher(Path.cwd()) as found:
        found.publish(found.entry("1.0"))
        yield found


class Watching:
    """A command that goes on, and the lines it prints."""

    def __init__(self, *more: str) -> None:
        self.process = subprocess.Popen(
            command(*WATCH, *more), stdout=subprocess.PIPE, stderr=subprocess.PIPE, stdin=subprocess.DEVNULL, text=True
        )
        self._lines: queue.Queue[str | None] = queue.Queue()
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    def _read(self) -> None:
        assert self.process.stdout is not None
        for line in self.process.stdout:
            self._lines.put(line)
        self._lines.put(None)

    def line(self) -> str:
        line = self._lines.get(timeout=60)
        assert line is not None, "it ended"
        return line

    def until(self, holds: Callable[[dict[str, Any]], bool]) -> dict[str, Any]:
        """Return the first document for which something holds."""
        while True:
            document: dict[str, Any] = json.loads(self.line())
            if holds(document):
                return document

    def interrupted(self) -> int:
        self.process.send_signal(signal.SIGINT)
        return self.process.wait(60)

    def close(self) -> None:
        self.process.kill()
        self._reader.join(60)
        self.process.communicate()


@contextmanager
def watching(*more: str) -> Iterator[Watching]:
    found = Watching(*more)
    try:
        yield found
    finally:
        found.close()


def stored_version(oneiric: Run) -> int:
    listed = check("list", oneiric("--config", "settings.yml", "list", "--json").out)
    version: int = listed["stored"]["manifest"]["version"]
    return version


def has(version: int) -> Callable[[dict[str, Any]], bool]:
    return lambda document: "error" not in document and document["manifest"]["version"] == version


def failed(kind: str) -> Callable[[dict[str, Any]], bool]:
    return lambda document: document.get("error", {}).get("type") == kind


def test_what_is_published_is_verified_and_stored_with_the_next_round(publisher: WebPublisher, oneiric: Run) -> None:
    with watching("--json") as rounds:
        first = rounds.until(has(1))
        assert (first["running"], first["outcome"]) == (False, "stored")
        assert stored_version(oneiric) == 1
        publisher.publish(publisher.entry("2.0"))
        second = rounds.until(has(2))
        assert [each["outcome"] for each in second["entries"]] == ["added"]
        assert stored_version(oneiric) == 2
        assert rounds.interrupted() == 130


def test_what_is_refused_is_told_and_what_was_stored_stays(publisher: WebPublisher, oneiric: Run) -> None:
    with watching("--json") as rounds:
        rounds.until(has(1))
        publisher.repository.publish([publisher.entry("2.0")])
        honest = publisher.repository.manifest
        publisher.repository.manifest = tampered(honest, lambda body: body.replace(b'"2.0"', b'"6.6"'))
        publisher.repository.refresh()
        publisher.give_out()
        told = rounds.until(failed("SignatureError"))
        assert "signed by 0" in told["error"]["message"]
        assert stored_version(oneiric) == 1
        publisher.repository.manifest = honest
        publisher.repository.refresh()
        publisher.give_out()
        rounds.until(has(2))
        assert rounds.interrupted() == 130


def test_a_dead_server_is_reported_and_asked_again_until_it_answers(publisher: WebPublisher, oneiric: Run) -> None:
    publisher.stop()
    with watching("--json") as rounds:
        told = rounds.until(failed("FetchError"))
        assert "127.0.0.1" in told["error"]["message"]
        rounds.until(failed("FetchError"))
        publisher.start()
        rounds.until(has(1))
        publisher.stop()
        rounds.until(failed("FetchError"))
        assert stored_version(oneiric) == 1
        assert rounds.interrupted() == 130  # also after a round that failed


def test_people_are_told_the_same_in_words(publisher: WebPublisher) -> None:
    with watching() as rounds:
        assert rounds.line().startswith("stored  acme version 1 from http://127.0.0.1")
        publisher.stop()
        while not rounds.line().startswith("failed  "):
            pass
        assert rounds.interrupted() == 130


def test_a_running_system_is_asked_with_each_round(publisher: WebPublisher, oneiric: Run) -> None:
    with system(publisher.home, Path("settings.yml").read_text()), watching("--json") as rounds:
        assert rounds.until(has(1))["running"] is True
        publisher.publish(publisher.entry("2.0"))
        assert rounds.until(lambda document: document.get("outcome") == "applied")["manifest"]["version"] == 2
        assert rounds.interrupted() == 130


def test_an_interval_that_is_no_number_is_a_usage_error(publisher: WebPublisher, oneiric: Run) -> None:
    done = oneiric("--config", "settings.yml", "remote-sync", "--watch", "--refresh-interval", "soon", "--json")

    assert done.code == 2
    assert "--refresh-interval" in json.loads(done.out)["error"]["message"]
    assert publisher.asked == []
