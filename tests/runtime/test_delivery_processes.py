"""Deliveries to processes that share a store and are killed: the same run goes on, and is answered once it is done."""

import json
import subprocess
import sys
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from http.client import HTTPConnection, HTTPException
from pathlib import Path
from typing import Any

import pytest

PROGRAM = Path(__file__).with_name("_delivery_process.py")
TASK = {"X-CloudTasks-QueueName": "q", "X-CloudTasks-TaskName": "t"}

pytestmark = pytest.mark.xdist_group("delivery-processes")


@contextmanager
def served(directory: Path, seconds: float, *, lease: float = 3600.0) -> Iterator[tuple[subprocess.Popen[str], int]]:
    command = [sys.executable, str(PROGRAM), str(directory), str(seconds), str(lease)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        try:
            assert process.stdout is not None
            yield process, int(process.stdout.readline())
        finally:
            process.kill()


def deliver(port: int, body: object = None) -> tuple[int, Any]:
    connection = HTTPConnection("127.0.0.1", port, timeout=60)
    try:
        connection.request("POST", "/tasks/workflow", json.dumps(body or {"workflow": "nightly"}), TASK)
        answer = connection.getresponse()
        return answer.status, json.loads(answer.read())
    finally:
        connection.close()


def lines(directory: Path, word: str) -> list[str]:
    log = directory / "log"
    text = log.read_text(encoding="utf-8") if log.exists() else ""
    return [line.removeprefix(f"{word} ") for line in text.splitlines() if line.startswith(f"{word} ")]


def until_done(port: int) -> Any:
    """Deliver again as a task queue does, until it is answered 2xx."""
    end = time.monotonic() + 60
    while time.monotonic() < end:
        status, document = deliver(port)
        if status == 200:
            return document
        assert (status, document["error"]) == (503, "delivery-in-progress")
        time.sleep(0.02)
    raise AssertionError("it was never done")


def test_a_delivery_whose_process_is_killed_is_done_by_the_next_under_the_same_run_id(tmp_path: Path) -> None:
    with served(tmp_path, 60, lease=2.0) as (process, port), ThreadPoolExecutor(1) as pool:
        sent = pool.submit(deliver, port)
        end = time.monotonic() + 60
        while not lines(tmp_path, "begin"):
            assert time.monotonic() < end
            time.sleep(0.005)
        process.kill()
        with suppress(HTTPException, OSError):
            sent.result()
        assert sent.exception() is not None
    with served(tmp_path, 0) as (_, port):
        first = until_done(port)
        assert deliver(port) == (200, first)
    assert len(lines(tmp_path, "begin")) == 2
    assert lines(tmp_path, "end") == [first["result"]["run_id"]] == lines(tmp_path, "begin")[:1]


def test_two_processes_that_are_delivered_the_same_task_do_it_once(tmp_path: Path) -> None:
    with (
        served(tmp_path, 0.6) as (_, one),
        served(tmp_path, 0.6) as (_, other),
        ThreadPoolExecutor(20) as pool,
    ):
        answers = list(pool.map(until_done, [one, other] * 10))
    assert len({json.dumps(answer, sort_keys=True) for answer in answers}) == 1
    assert len(lines(tmp_path, "begin")) == 1
