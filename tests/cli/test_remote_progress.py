"""Downloads of `oneiric remote-sync`: drawn for who looks at a terminal, gone at the end, and unseen by all others."""

from __future__ import annotations

import os
import pty
import re
import select
import signal
import subprocess
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

import pytest
from tests.cli.publishing import WebPublisher, web_publisher
from tests.cli.systems import command

BAR = re.compile(r"cache-1\.0\.zip  \[#*\.* *\]  *(\d+)%  [0-9.]+ \w+ of ([0-9.]+ \w+)")
_LARGE = 400_000


@pytest.fixture
def publisher() -> Iterator[WebPublisher]:
    with web_publisher(Path.cwd()) as found:
        found.publish(found.entry("1.0", more_bytes=_LARGE))
        yield found


class Terminal:
    """What a process writes to a terminal that is its stderr."""

    def __init__(self, reader: int, process: subprocess.Popen[str]) -> None:
        self.process = process
        self.written = ""
        self._reader = reader

    def read_until(self, holds: Callable[[str], object]) -> None:
        deadline = time.monotonic() + 60
        while not holds(self.written):
            assert time.monotonic() < deadline, self.written
            if select.select([self._reader], [], [], 1.0)[0] and not self._read():
                raise AssertionError(f"it ended before: {self.written!r} {self.process.communicate()}")

    def ended(self) -> str:
        """Return stdout, once the process has ended and the terminal has all of it."""
        out, _ = self.process.communicate(timeout=60)
        while self._read():
            pass
        return out

    def hang_up(self) -> None:
        """Take the terminal away, while the process still writes to it."""
        replaced = os.open(os.devnull, os.O_RDONLY)
        os.dup2(replaced, self._reader)
        os.close(replaced)

    def _read(self) -> bool:
        try:
            data = os.read(self._reader, 65536)
        except OSError:  # the last one who could write has left
            return False
        self.written += data.decode()
        return bool(data)


@contextmanager
def on_terminal(*arguments: str, environ: Mapping[str, str] | None = None) -> Iterator[Terminal]:
    """Run a command whose stderr is a terminal."""
    reader, writer = pty.openpty()
    kept = {name: value for name, value in os.environ.items() if name not in {"CI", "NO_COLOR"}}
    process = subprocess.Popen(
        command(*arguments),
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=writer,
        text=True,
        env={**kept, "TERM": "xterm", **(environ or {})},
    )
    os.close(writer)
    try:
        yield Terminal(reader, process)
    finally:
        process.kill()
        process.communicate()
        os.close(reader)


def shown_at_last(written: str) -> str:
    """Return what stands on the terminal's lines after all of it was drawn."""
    lines = [line.rpartition("\x1b[2K")[2] for line in written.split("\n")]
    return "\n".join(re.sub(r"\x1b\[[?0-9;]*[a-zA-Z]", "", line) for line in lines).replace("\r", "")


SYNC = ("--config", "settings.yml", "remote-sync")


def test_a_download_is_drawn_by_name_and_signed_length_while_it_goes_on_and_is_gone_at_the_end(
    publisher: WebPublisher,
) -> None:
    publisher.held.clear()
    with on_terminal(*SYNC) as terminal:
        terminal.read_until(BAR.search)
        assert terminal.process.poll() is None  # drawn while the rest is not even sent
        publisher.held.set()
        out = terminal.ended()

    assert terminal.process.returncode == 0
    assert "adapter:cache/acme added" in out
    drawn = BAR.findall(terminal.written)
    assert 0 < int(drawn[0][0]) < 100
    assert {of for _, of in drawn} == {f"{publisher.size_of('cache-1.0.zip') / 1024:.1f} KiB"}
    assert shown_at_last(terminal.written).startswith("note: nothing runs")
    assert "cache-1.0.zip" not in shown_at_last(terminal.written)


@pytest.mark.parametrize(
    ("arguments", "environ"),
    [(["--json"], {}), (["--quiet"], {}), ([], {"CI": "true"}), ([], {"TERM": "dumb"}), (["--verbose"], {})],
    ids=["json", "quiet", "ci", "dumb", "verbose"],
)
def test_nothing_is_drawn_for_who_did_not_ask_to_see_it(
    publisher: WebPublisher, arguments: list[str], environ: dict[str, str]
) -> None:
    with on_terminal(*SYNC, *arguments, environ=environ) as terminal:
        terminal.ended()

    assert terminal.process.returncode == 0
    assert "/acme/cache-1.0.zip" in publisher.asked
    assert "\x1b[2K" not in terminal.written
    assert not BAR.search(terminal.written)


def test_nothing_is_drawn_where_stderr_is_a_file_and_a_plan_downloads_as_a_sync_does(publisher: WebPublisher) -> None:
    done = subprocess.run(command(*SYNC), capture_output=True, text=True, timeout=60, check=True)
    assert "/acme/cache-1.0.zip" in publisher.asked
    assert "\x1b" not in done.stderr

    publisher.publish(publisher.entry("1.0", more_bytes=_LARGE))
    with on_terminal(*SYNC, "--plan") as terminal:
        terminal.ended()

    assert BAR.search(terminal.written)
    assert "cache-1.0.zip" not in shown_at_last(terminal.written)


def test_an_interrupted_download_leaves_no_bar_behind_and_exits_with_130(publisher: WebPublisher) -> None:
    publisher.held.clear()
    with on_terminal(*SYNC) as terminal:
        terminal.read_until(BAR.search)
        terminal.process.send_signal(signal.SIGINT)
        terminal.ended()

    assert terminal.process.returncode == 130
    assert "interrupted" in shown_at_last(terminal.written)
    assert "cache-1.0.zip" not in shown_at_last(terminal.written)


def test_a_terminal_that_goes_away_ends_no_download(publisher: WebPublisher) -> None:
    publisher.held.clear()
    with on_terminal(*SYNC, "--plan") as terminal:
        terminal.read_until(BAR.search)
        terminal.hang_up()
        publisher.held.set()
        out, _ = terminal.process.communicate(timeout=60)

    assert "planned" in out


def test_an_artifact_that_is_refused_leaves_its_reason_and_no_bar(publisher: WebPublisher) -> None:
    wrong = publisher.entry("1.0", more_bytes=_LARGE)
    wrong["sha256"] = "0" * 64
    publisher.publish(wrong)
    with on_terminal(*SYNC) as terminal:
        terminal.ended()

    assert terminal.process.returncode == 5
    assert shown_at_last(terminal.written).startswith("error: ")
    assert "cache-1.0.zip  [" not in shown_at_last(terminal.written)


def test_a_system_that_runs_on_a_terminal_draws_no_downloads(publisher: WebPublisher) -> None:
    with on_terminal("--config", "settings.yml", "orchestrate") as terminal:
        terminal.read_until(lambda _: "/acme/cache-1.0.zip" in publisher.asked and "remote-applied" in terminal.written)
        terminal.process.send_signal(signal.SIGTERM)
        terminal.ended()

    assert terminal.process.returncode == 0
    assert "\x1b[2K" not in terminal.written
    assert not BAR.search(terminal.written)
