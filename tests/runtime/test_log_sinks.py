"""Sinks: a real file that rotates, a real endpoint that hangs, fails and comes back; who logs never waits."""

import json
import os
import shutil
import stat
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from io import StringIO
from pathlib import Path

import pytest
import structlog

from oneiric.core.errors import ConfigurationError
from oneiric.runtime._log_http import HttpSink
from oneiric.runtime._log_sinks import FileSink, StreamSink
from oneiric.runtime.logging import configure_logging, get_logger, logging_status, shutdown_logging
from oneiric.runtime.settings import LoggingSettings, LoggingSinkSettings


@pytest.fixture(autouse=True)
def unconfigured() -> Iterator[None]:
    structlog.reset_defaults()
    yield
    shutdown_logging()
    structlog.reset_defaults()


class Endpoint(ThreadingHTTPServer):
    """Takes batches of lines, and answers as told.

    Attributes:
        answers: Status of the next answers; 200 when there is none left.
        lines: What was taken with a 200.
        hold: While set, an answer waits.
    """

    daemon_threads = True

    def __init__(self) -> None:
        self.answers: list[int] = []
        self.lines: list[dict[str, object]] = []
        self.requests: list[tuple[str, str, dict[str, str]]] = []
        self.changed = threading.Condition()
        self.go = threading.Event()
        self.go.set()
        endpoint = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["content-length"]))
                with endpoint.changed:
                    endpoint.requests.append((self.command, self.path, dict(self.headers)))
                    endpoint.changed.notify_all()
                endpoint.go.wait(20)
                with endpoint.changed:
                    status = endpoint.answers.pop(0) if endpoint.answers else 200
                    if status == 200:
                        endpoint.lines += [json.loads(line) for line in body.splitlines()]
                    endpoint.changed.notify_all()
                self.send_response(status)
                self.send_header("content-length", "0")
                if status == 302:
                    self.send_header("location", "/elsewhere")
                self.end_headers()

            do_PUT = do_POST  # noqa: N815 - as above

            def log_message(self, *_: object) -> None:
                pass

        super().__init__(("127.0.0.1", 0), Handler)

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_port}/ingest?source=test"

    def until(self, condition: Callable[[], bool]) -> None:
        with self.changed:
            assert self.changed.wait_for(condition, 60)


@pytest.fixture
def endpoint() -> Iterator[Endpoint]:
    with Endpoint() as serving:
        thread = threading.Thread(target=serving.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        yield serving
        serving.go.set()
        serving.shutdown()
        thread.join()


def line(number: int) -> str:
    return json.dumps({"number": number})


def numbers(path: Path) -> list[int]:
    return [json.loads(each)["number"] for each in path.read_text().splitlines()]


def test_lines_arrive_in_their_order_in_batches_over_the_network(endpoint: Endpoint) -> None:
    sinks = (LoggingSinkSettings(target="http", endpoint=endpoint.url, method="PUT"),)
    configure_logging(LoggingSettings(sinks=sinks))
    for number in range(250):
        get_logger("a").info("one", number=number, password="S3CR3T")
    shutdown_logging(20)
    assert [each["number"] for each in endpoint.lines] == list(range(250))
    assert "S3CR3T" not in str(endpoint.lines)
    method, path, headers = endpoint.requests[0]
    assert (method, path, headers["Content-Type"]) == ("PUT", "/ingest?source=test", "application/x-ndjson")
    assert len(endpoint.requests) < 50


def test_lines_that_wait_when_the_process_ends_are_sent(endpoint: Endpoint) -> None:
    code = """
import sys
from oneiric.runtime.logging import configure_logging, get_logger
from oneiric.runtime.settings import LoggingSettings, LoggingSinkSettings
configure_logging(LoggingSettings(sinks=(LoggingSinkSettings(target="http", endpoint=sys.argv[1]),)))
for number in range(20):
    get_logger("a").info("one", number=number)
"""
    subprocess.run([sys.executable, "-c", code, endpoint.url], check=True, timeout=60)
    assert [each["number"] for each in endpoint.lines] == list(range(20))


def test_who_logs_never_waits_for_an_endpoint_that_hangs_and_what_is_dropped_is_told(endpoint: Endpoint) -> None:
    endpoint.go.clear()
    sink = HttpSink(endpoint.url, most_lines=50)
    sink.write(line(-1))
    endpoint.until(lambda: bool(endpoint.requests))
    for number in range(80):  # would take forever if one of them waited
        sink.write(line(number))
    assert (sink.dropped, sink.last_error) == (30, "more lines waited than may")
    endpoint.go.set()
    endpoint.until(lambda: len(endpoint.lines) >= 52)
    told = [each for each in endpoint.lines if each.get("event") == "log-lines-dropped"]
    assert [each["count"] for each in told] == [30]
    assert [each["number"] for each in endpoint.lines if "number" in each] == [-1, *range(50)]
    sink.close(20)


def test_a_batch_is_tried_again_when_that_may_help(endpoint: Endpoint) -> None:
    endpoint.answers = [503, 429]
    sink = HttpSink(endpoint.url, retry_seconds=0.001)
    sink.write(line(1))
    endpoint.until(lambda: len(endpoint.lines) == 1)
    sink.close(20)
    assert (sink.written, sink.dropped, len(endpoint.requests)) == (1, 0, 3)


@pytest.mark.parametrize(("answers", "tries"), [([400], 1), ([302], 1), ([500, 500, 500], 3)])
def test_a_batch_that_is_refused_is_dropped_and_redirects_are_not_followed(
    endpoint: Endpoint, answers: list[int], tries: int
) -> None:
    endpoint.answers = list(answers)
    sink = HttpSink(endpoint.url, retry_seconds=0.001)
    sink.write(line(1))
    endpoint.until(lambda: len(endpoint.requests) == tries and not endpoint.answers)
    sink.write(line(2))
    endpoint.until(lambda: len(endpoint.lines) == 2)
    sink.close(20)
    assert (sink.written, sink.dropped) == (1, 1)
    assert sink.last_error == f"the endpoint answered {answers[-1]}"
    assert endpoint.lines[0] | {"timestamp": ""} == {
        "timestamp": "", "level": "warning", "event": "log-lines-dropped", "count": 1
    }  # fmt: skip


def test_nobody_there_costs_who_logs_nothing() -> None:
    sink = HttpSink("http://127.0.0.1:1/", retry_seconds=0.001)
    sink.write(line(1))
    sink.close(20)
    assert sink.dropped == 1
    assert sink.last_error is not None
    assert "ConnectionRefusedError" in sink.last_error
    sink.write(line(2))
    assert sink.dropped == 2


def test_a_user_in_the_endpoint_is_sent_as_authentication(endpoint: Endpoint) -> None:
    sink = HttpSink(endpoint.url.replace("http://", "http://me:p%40ss@"))
    sink.write(line(1))
    sink.close(20)
    assert endpoint.requests[0][2]["Authorization"] == "Basic bWU6cEBzcw=="


@pytest.mark.parametrize("url", ["ftp://host/", "http://", "/logs", "http://[", "http://host:99999/"])
def test_an_endpoint_that_is_none_is_refused_at_once(url: str) -> None:
    with pytest.raises(ConfigurationError, match="endpoint of an http sink"):
        HttpSink(url)


def test_a_file_is_for_this_user_alone_and_rotates_by_size(tmp_path: Path) -> None:
    path = tmp_path / "logs" / "app.log"
    umask = os.umask(0)
    try:
        sinks = (LoggingSinkSettings(target="file", path=path, max_bytes=2000, backup_count=2),)
        configure_logging(LoggingSettings(sinks=sinks))
        for number in range(60):
            get_logger("a").info("one", number=number)
    finally:
        os.umask(umask)
    names = sorted(each.name for each in path.parent.iterdir())
    assert names == ["app.log", "app.log.1", "app.log.2"]
    kept = [number for name in reversed(names) for number in numbers(path.parent / name)]
    assert kept == list(range(kept[0], 60))
    for name in names:
        found = (path.parent / name).stat()
        assert stat.S_IMODE(found.st_mode) == 0o600
        assert found.st_size <= 2000
    assert stat.S_IMODE(path.parent.stat().st_mode) == 0o700


def test_a_file_that_others_could_read_is_closed_to_them(tmp_path: Path) -> None:
    (tmp_path / "a.log").touch(mode=0o644)
    FileSink(tmp_path / "a.log", max_bytes=0, backup_count=0).close(0)
    assert stat.S_IMODE((tmp_path / "a.log").stat().st_mode) == 0o600


@pytest.mark.parametrize(("max_bytes", "backups", "names"), [(0, 3, ["a.log"]), (50, 0, ["a.log"])])
def test_a_file_need_not_rotate_or_keep_anything(
    tmp_path: Path, max_bytes: int, backups: int, names: list[str]
) -> None:
    sink = FileSink(tmp_path / "a.log", max_bytes=max_bytes, backup_count=backups)
    for number in range(100):
        sink.write(line(number))
    assert [each.name for each in tmp_path.iterdir()] == names
    assert numbers(tmp_path / "a.log")[-1] == 99
    assert (len(numbers(tmp_path / "a.log")) == 100) is (max_bytes == 0)


def test_a_file_that_was_moved_away_or_removed_is_opened_anew(tmp_path: Path) -> None:
    sink = FileSink(tmp_path / "a.log", max_bytes=0, backup_count=0)
    sink.write(line(1))
    (tmp_path / "a.log").rename(tmp_path / "a.old")
    sink.write(line(2))
    (tmp_path / "a.log").unlink()
    sink.write(line(3))
    sink.close(0)
    sink.write(line(4))
    assert numbers(tmp_path / "a.old") == [1]
    assert numbers(tmp_path / "a.log") == [3, 4]


WRITER = """
import json, sys
from pathlib import Path
from oneiric.runtime._log_sinks import FileSink
sink = FileSink(Path(sys.argv[1]), max_bytes=3000, backup_count=200)
for number in range(1000):
    sink.write(json.dumps({"number": number, "by": sys.argv[2], "text": "x" * 50}))
assert sink.dropped == 0, sink.last_error
"""


def test_several_processes_write_one_rotating_file_and_lose_nothing(tmp_path: Path) -> None:
    path = tmp_path / "a.log"
    writers = [subprocess.Popen([sys.executable, "-c", WRITER, path, name]) for name in "abc"]
    assert [writer.wait(60) for writer in writers] == [0, 0, 0]
    found = [json.loads(each) for file in tmp_path.iterdir() for each in file.read_text().splitlines()]
    assert len(found) == 3000
    assert {(each["by"], each["number"]) for each in found} == {(name, n) for name in "abc" for n in range(1000)}


@pytest.mark.parametrize("place", ["link", "pipe", "directory", "below-a-file"])
def test_what_is_no_file_is_refused_at_once(tmp_path: Path, place: str) -> None:
    path = tmp_path / "a.log"
    match place:
        case "link":
            (tmp_path / "other").touch()
            path.symlink_to(tmp_path / "other")
        case "pipe":
            os.mkfifo(path)
        case "directory":
            path.mkdir()
        case _:
            (tmp_path / "file").touch()
            path = tmp_path / "file" / "a.log"
    sinks = (LoggingSinkSettings(), LoggingSinkSettings(target="file", path=path))
    with pytest.raises(ConfigurationError, match=r"logging.sinks\[1\].path: .* cannot be written"):
        configure_logging(LoggingSettings(sinks=sinks))
    assert not structlog.is_configured()


FULL = """
import json, sys
from pathlib import Path
from oneiric.runtime._log_sinks import FileSink
disk = Path(sys.argv[1])
sink = FileSink(disk / "a.log", max_bytes=0, backup_count=0)
for number in range(400):
    sink.write(json.dumps({"number": number, "text": "x" * 1000}))
lost = sink.dropped
(disk / "filler").unlink()
for number in range(400, 410):
    sink.write(json.dumps({"number": number, "text": "x" * 10}))
lines = []
for each in (disk / "a.log").read_text().splitlines():
    try:
        lines.append(json.loads(each)["number"])
    except ValueError:
        lines.append(None)
print(json.dumps([lost, sink.dropped, sink.last_error, lines]))
"""


def test_a_full_disk_costs_lines_and_no_more_and_heals(tmp_path: Path) -> None:
    """On a file system of its own, in a mount namespace of its own."""
    unshare = shutil.which("unshare")
    if unshare is None:
        pytest.skip("unshare is not installed")
    disk = tmp_path / "disk"
    disk.mkdir()
    script = """mount -t tmpfs -o size=256k,mode=700 none $0 || exit 99
        dd if=/dev/zero of=$0/filler bs=4k count=20 2>/dev/null; "$1" -c "$2" $0"""
    done = subprocess.run(
        [unshare, "-Urm", "sh", "-c", script, disk, sys.executable, FULL],
        capture_output=True, text=True, timeout=60, check=False,
    )  # fmt: skip
    if done.returncode == 99 or "unshare" in done.stderr:
        pytest.skip("no mount namespace can be made here")
    assert done.returncode == 0, done.stderr
    lost, dropped, error, lines = json.loads(done.stdout)
    assert lost > 0
    assert dropped == lost
    assert "No space left" in error
    assert lines[-10:] == list(range(400, 410))
    assert lines.count(None) <= 1


def test_a_stream_that_is_closed_or_cannot_say_it_costs_the_line_only() -> None:
    closed = StringIO()
    closed.close()
    sink = StreamSink("stderr", lambda: closed)
    sink.write("one")
    assert (sink.written, sink.dropped) == (0, 1)
    read, write = os.pipe()
    os.close(read)
    pipe = os.fdopen(write, "w", encoding="ascii")
    broken = StreamSink("stderr", lambda: pipe)
    broken.write("é")
    assert broken.dropped == 1
    with suppress(BrokenPipeError):
        pipe.close()


def test_lines_that_a_closing_sink_cannot_deliver_in_time_are_counted(endpoint: Endpoint) -> None:
    endpoint.go.clear()
    sink = HttpSink(endpoint.url)
    sink.write(line(0))
    endpoint.until(lambda: bool(endpoint.requests))
    sink.write(line(1))
    sink.close(0.01)
    assert sink.dropped == 1
    sink.close(0.01)
    assert sink.dropped == 1


def test_a_stream_of_another_encoding_gets_escapes(tmp_path: Path) -> None:
    with (tmp_path / "out").open("w", encoding="ascii") as stream:
        StreamSink("stderr", lambda: stream).write("naïve ☃")
    assert (tmp_path / "out").read_text() == "na\\xefve \\u2603\n"


def test_what_sinks_have_taken_and_dropped_can_be_asked(tmp_path: Path) -> None:
    assert logging_status() == []
    sinks = (LoggingSinkSettings(target="file", path=tmp_path / "a.log"), LoggingSinkSettings(level="ERROR"))
    configure_logging(LoggingSettings(sinks=sinks), stream=StringIO())
    get_logger("a").info("one")
    assert [(each["target"], each["written"], each["dropped"]) for each in logging_status()] == [
        ("file", 1, 0),
        ("stderr", 0, 0),
    ]
