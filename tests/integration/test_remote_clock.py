"""Real processes whose clock is moved: time that passes makes stale, and time that goes back makes nothing fresh."""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NoReturn

import pytest
from benchmarks.soak._remote_system import Consumer, Site

DAY = 86_400.0


@pytest.fixture(scope="session")
def moved(service_missing: Callable[[str], NoReturn]) -> dict[str, str]:
    """Return the variables that give a process a clock that ``FAKETIME`` or a file moves."""
    faketime = shutil.which("faketime")
    if faketime is None:
        service_missing("faketime is not installed")
    told = subprocess.run([faketime, "-m", "-f", "+0", "env"], capture_output=True, text=True, check=True).stdout
    library = dict(line.partition("=")[::2] for line in told.splitlines())["LD_PRELOAD"]
    # The file's new content counts at once. Time that only passes is the true one, and so is that of files. Without the
    # third, its "fix" of waits by that time has them return at once: every wait for the interpreter's lock would spin.
    return {
        "LD_PRELOAD": library,
        "FAKETIME_NO_CACHE": "1",
        "FAKETIME_DONT_FAKE_MONOTONIC": "1",
        "FAKETIME_FORCE_MONOTONIC_FIX": "0",
        "NO_FAKE_STAT": "1",
    }


@pytest.fixture
def site() -> Iterator[Site]:
    with Site() as found:
        found.publish(1)
        yield found


def refusal(answer: tuple[int, Any]) -> tuple[int, str]:
    return answer[0], answer[1]["error"]["type"]


def status(consumer: Consumer, **environ: str) -> tuple[int, bool, list[str], int]:
    """Return what remote-status ends with, whether it is stale and of what, and the version in force."""
    code, document = consumer.run("remote-status", **environ)
    found = document["status"]
    reasons = [reason.partition(" expired")[0] for reason in found["stale_reasons"]]
    return code, found["stale"], reasons, found["manifest"]["version"]


FORWARD = {
    "past what says what is current": ("+2d", ["what says what is current"]),
    "past the manifest": ("+40d", ["the manifest", "what says what is current"]),
    "past the root": ("+400d", ["the manifest", "what says what is current", "the root"]),
}


@pytest.mark.parametrize("where", FORWARD)
def test_a_clock_that_is_ahead_refuses_what_has_expired_and_poisons_nothing(
    where: str, site: Site, tmp_path: Path, moved: dict[str, str]
) -> None:
    offset, stale = FORWARD[where]
    consumer = Consumer(tmp_path / "home", site)
    assert consumer.run("remote-sync")[0] == 0
    site.publish(2)
    ahead = {**moved, "FAKETIME": offset}

    assert refusal(consumer.run("remote-sync", **ahead)) == (5, "ExpiredError")
    assert status(consumer, **ahead) == (3, True, stale, 1)
    assert status(consumer) == (0, False, [], 1)
    assert consumer.run("remote-sync")[1]["manifest"]["version"] == 2
    assert status(consumer) == (0, False, [], 2)


def test_a_clock_that_is_behind_takes_nothing_that_was_signed_in_its_future(
    site: Site, tmp_path: Path, moved: dict[str, str]
) -> None:
    consumer = Consumer(tmp_path / "home", site)

    code, kind = refusal(consumer.run("remote-sync", **moved, FAKETIME="-10d"))

    assert (code, kind) == (5, "ExpiredError")
    assert not consumer.trusted().manifests
    assert consumer.run("remote-sync")[0] == 0


def test_a_clock_that_goes_back_makes_nothing_fresh_again(site: Site, tmp_path: Path, moved: dict[str, str]) -> None:
    consumer = Consumer(tmp_path / "home", site)
    assert consumer.run("remote-sync")[0] == 0
    assert consumer.run("remote-sync", **moved, FAKETIME="-10d")[1]["manifest"]["version"] == 1
    old, site.ahead_seconds = site.files, 3 * DAY
    site.publish(2)
    assert consumer.run("remote-sync", **moved, FAKETIME="+3d")[1]["manifest"]["version"] == 2

    site.files = old

    # By the clock alone it would be current; what was signed three days later has been seen.
    assert refusal(consumer.run("remote-sync")) == (5, "ExpiredError")
    assert status(consumer)[3] == 2


def test_a_clock_that_jumps_under_a_running_system_makes_it_stale_and_no_more(
    site: Site, tmp_path: Path, moved: dict[str, str]
) -> None:
    offset = tmp_path / "offset"
    offset.write_text("+0d")
    consumer = Consumer(tmp_path / "home", site, remote={"refresh_interval": 1})
    consumer.start(**moved, FAKETIME_TIMESTAMP_FILE=str(offset))
    try:
        consumer.until_ready()
        assert consumer.forget_serving() == ("1", "1")

        offset.write_text("+2d")
        consumer.until(lambda: consumer.ask("status")["remote"]["consecutive_failures"] >= 2)
        assert consumer.ask("status")["remote"]["last_refusal"]["error"] == "ExpiredError"
        assert status(consumer) == (3, True, ["what says what is current"], 1)
        offset.write_text("-10d")
        consumer.until(lambda: consumer.ask("status")["remote"]["last_outcome"] == "unchanged")
        assert status(consumer) == (0, False, [], 1)
        # Nothing was started anew for it.
        assert consumer.serving() == ("nothing", "nothing")

        offset.write_text("+0d")
        site.publish(2)
        consumer.until(lambda: consumer.serving() == ("2", "2"))
        assert consumer.stop() == 0
    finally:
        consumer.kill()
