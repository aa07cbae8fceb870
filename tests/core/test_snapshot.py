"""State files: a reader sees the old document or the new one, and what cannot be written stops nothing."""

import asyncio
import json
import os
import random
import re
import shutil
import stat
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from oneiric.core.snapshot import StateFile, read_json, read_snapshot, write_json, write_snapshot

WRITER = """
import os, sys
from oneiric.core.snapshot import write_json
path, number = sys.argv[1], int(sys.argv[2])
document = {"number": number, "text": "x" * 200_000, "end": number}
os.access("/here-the-write-begins", os.R_OK)
write_json(path, document)
os.access("/here-the-write-ends", os.R_OK)
"""
FOREVER = (
    WRITER
    + """
print("started", flush=True)
while True:
    document["number"] = document["end"] = document["number"] + 1
    write_json(path, document)
"""
)
IN_ITS_OWN_DISK = """
import json, sys
from pathlib import Path
from oneiric.core.snapshot import read_json, write_json
path = Path(sys.argv[1]) / "state.json"
write_json(path, {"number": 1})
print("made", flush=True)
input()
try:
    write_json(path, {"number": 2, "text": "x" * 200_000})
except OSError as error:
    print(json.dumps([error.errno, read_json(path), sorted(each.name for each in path.parent.iterdir())]))
"""


class Writes:
    """Stands for the disk: keeps what was written, and fails as often as told."""

    def __init__(self, fail: int = 0) -> None:
        self.documents: list[object] = []
        self.fail = fail
        self.tried = 0
        self.changed = threading.Condition()

    def __call__(self, _path: Path, document: object) -> None:
        with self.changed:
            self.tried += 1
            self.changed.notify_all()
            if self.tried <= self.fail:
                raise OSError(28, "No space left on device")
            self.documents.append(document)

    def wait(self, condition: Callable[[], bool]) -> None:
        with self.changed:
            assert self.changed.wait_for(condition, 60)

    async def until(self, condition: Callable[[], bool]) -> None:
        await asyncio.to_thread(self.wait, condition)


def file_of(writes: Writes, document: object = None, **given: Any) -> StateFile:
    return StateFile("state.json", lambda: document, write=writes, **given)


def test_a_document_is_read_as_it_was_written(tmp_path: Path) -> None:
    write_json(tmp_path / "deep" / "er" / "state.json", {"number": 1, "text": "né\n"})
    assert read_json(tmp_path / "deep" / "er" / "state.json") == {"number": 1, "text": "né\n"}
    assert [each.name for each in (tmp_path / "deep" / "er").iterdir()] == ["state.json"]


def test_files_are_for_this_user_alone_whatever_the_umask(tmp_path: Path) -> None:
    umask = os.umask(0)
    try:
        write_json(tmp_path / "made" / "state.json", {})
        write_json(tmp_path / "made" / "state.json", {"again": True})
    finally:
        os.umask(umask)
    assert stat.S_IMODE((tmp_path / "made").stat().st_mode) == 0o700
    assert stat.S_IMODE((tmp_path / "made" / "state.json").stat().st_mode) == 0o600


def test_a_directory_everyone_may_write_into_is_refused(tmp_path: Path) -> None:
    tmp_path.chmod(0o777)
    with pytest.raises(PermissionError, match="everyone may write"):
        write_json(tmp_path / "state.json", {})
    tmp_path.chmod(0o1777)
    write_json(tmp_path / "state.json", {})


def test_what_json_cannot_say_leaves_the_old_file(tmp_path: Path) -> None:
    path = tmp_path / "state.json"
    write_json(path, {"number": 1})
    circle: list[object] = []
    circle.append(circle)
    for document, kind in ((float("nan"), ValueError), (circle, ValueError), (object(), TypeError), ("x" * 50, None)):
        with pytest.raises(kind or ValueError):
            write_json(path, document, max_bytes=40)
    assert read_json(path) == {"number": 1}
    assert [each.name for each in tmp_path.iterdir()] == ["state.json"]


def test_a_link_in_the_files_place_is_replaced_by_a_write_and_refused_by_a_read(tmp_path: Path) -> None:
    other, path = tmp_path / "other.json", tmp_path / "state.json"
    other.write_text("{}")
    path.symlink_to(other)
    with pytest.raises(OSError, match=str(path)):
        read_json(path)
    write_json(path, {"number": 1})
    assert other.read_text() == "{}"
    assert not path.is_symlink()
    assert read_json(path) == {"number": 1}


def test_a_pipe_in_the_files_place_is_refused_and_not_waited_for(tmp_path: Path) -> None:
    path = tmp_path / "state.json"
    os.mkfifo(path)
    with pytest.raises(ValueError, match="not a regular file"):
        read_json(path)


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("", "no JSON document"),
        ("{", "no JSON document"),
        ("\x00" * 10, "no JSON document"),
        ("[" * 100_000, "nested too deeply|no JSON document"),
        ("9" * 5000, "no JSON document"),
        ('"' + "x" * 2000 + '"', "longer than 1000 bytes"),
    ],
)
def test_a_broken_file_is_a_value_error_that_names_it(tmp_path: Path, text: str, reason: str) -> None:
    path = tmp_path / "state.json"
    path.write_text(text)
    with pytest.raises(ValueError, match=f"state.json.*({reason})"):
        read_json(path, max_bytes=1000 if "longer" in reason else 1_000_000)


def test_random_damage_is_a_value_error_or_a_document(tmp_path: Path) -> None:
    path, dice = tmp_path / "state.json", random.Random(7)  # noqa: S311 - dice of a test
    document = {"numbers": list(range(50)), "text": "née"}
    write_json(path, document)
    whole, read, refused = path.read_bytes(), 0, 0
    for _ in range(300):
        damaged = bytearray(whole[: dice.choice([len(whole), dice.randrange(len(whole))])])
        for _ in range(dice.randrange(4)):
            if damaged:
                damaged[dice.randrange(len(damaged))] = dice.randrange(256)
        path.write_bytes(damaged)
        try:
            found = read_json(path)
        except ValueError:
            refused += 1
            assert bytes(damaged) != whole
        else:
            read += 1
            assert found == json.loads(damaged)
    assert read
    assert refused


def test_a_missing_file_is_the_default(tmp_path: Path) -> None:
    assert read_json(tmp_path / "none.json", {"a": 1}) == {"a": 1}
    assert read_snapshot(tmp_path / "none.json") == []


def test_a_snapshot_is_a_list_of_objects(tmp_path: Path) -> None:
    path = tmp_path / "lifecycle_status.json"
    write_snapshot(path, [{"domain": "adapter"}])
    assert read_snapshot(path) == [{"domain": "adapter"}]
    wrongs: list[object] = [{}, [1]]
    for wrong in wrongs:
        write_json(path, wrong)
        with pytest.raises(ValueError, match="not a lifecycle snapshot"):
            read_snapshot(path)


def test_many_changes_are_one_write_of_the_last_state() -> None:
    async def scenario() -> None:
        writes, state = Writes(), {"number": 0}
        file = StateFile("state.json", lambda: dict(state), write=writes)
        for number in range(1000):
            state["number"] = number
            file.mark()
        await writes.until(lambda: bool(writes.documents))
        await file.flush()
        assert writes.documents == [{"number": 999}]
        assert file.writes == 1

    asyncio.run(scenario())


def test_no_mark_from_any_thread_is_lost() -> None:
    async def scenario() -> None:
        writes, counts = Writes(), [0] * 8
        file = StateFile("state.json", lambda: sum(counts), coalesce_seconds=0.001, write=writes)
        file.mark()

        def change(place: int) -> None:
            for _ in range(2000):
                counts[place] += 1
                file.mark()

        await asyncio.gather(*(asyncio.to_thread(change, place) for place in range(8)))
        await writes.until(lambda: writes.documents[-1:] == [16_000])
        assert writes.documents == sorted(writes.documents, key=lambda count: int(str(count)))
        await file.flush()
        await asyncio.to_thread(change, 0)
        await writes.until(lambda: writes.documents[-1:] == [18_000])

    asyncio.run(scenario())


def test_a_mark_from_a_thread_before_any_loop_waits_for_the_flush() -> None:
    writes = Writes()
    file = file_of(writes, "late")
    threading.Thread(target=file.mark).start()
    assert writes.documents == []

    async def scenario() -> None:
        file.mark()
        await file.flush()

    asyncio.run(scenario())
    assert writes.documents == ["late"]


def test_a_mark_after_its_loop_has_closed_is_written_by_the_next_flush() -> None:
    writes = Writes()
    file = file_of(writes, "x")

    async def used() -> None:
        file.mark()
        await file.flush()

    asyncio.run(used())
    file.mark()
    assert writes.documents == ["x"]
    asyncio.run(file.flush())
    assert writes.documents == ["x", "x"]


def test_a_failed_write_is_told_and_tried_again_until_it_succeeds() -> None:
    async def scenario() -> None:
        writes = Writes(fail=2)
        file = file_of(writes, "state", retry_seconds=0.01)
        file.mark()
        await writes.until(lambda: writes.tried >= 1)
        await writes.until(lambda: bool(writes.documents))
        await file.flush()
        assert writes.tried == 3
        assert file.last_error is None

    asyncio.run(scenario())


def test_a_flush_that_fails_leaves_the_write_due() -> None:
    async def scenario() -> None:
        writes = Writes(fail=1)
        file = file_of(writes, "state", coalesce_seconds=60, retry_seconds=60)
        file.mark()
        await file.flush()
        assert file.last_error == "OSError: [Errno 28] No space left on device"
        await file.flush()
        assert writes.documents == ["state"]
        await file.flush()
        assert writes.tried == 2

    asyncio.run(scenario())


def test_a_document_that_cannot_be_rendered_is_a_failed_write() -> None:
    def render() -> object:
        raise KeyError("gone")

    async def scenario() -> None:
        file = StateFile("state.json", render, write=Writes())
        file.mark()
        await file.flush()
        assert file.last_error == "KeyError: 'gone'"

    asyncio.run(scenario())


def test_a_flush_waits_for_the_write_under_way_and_writes_what_came_since() -> None:
    async def scenario() -> None:
        started, go, state = threading.Event(), threading.Event(), ["old"]
        written: list[object] = []

        def slow(_path: Path, document: object) -> None:
            started.set()
            assert go.wait(20)
            written.append(document)

        file = StateFile("state.json", lambda: state[0], coalesce_seconds=0, write=slow)
        file.mark()
        await asyncio.to_thread(started.wait, 20)
        state[0] = "new"
        file.mark()
        flushing = asyncio.create_task(file.flush())
        go.set()
        await asyncio.wait_for(flushing, 60)
        assert written == ["old", "new"]

    asyncio.run(scenario())


def test_a_cancelled_flush_leaves_the_write_whole(tmp_path: Path) -> None:
    async def scenario() -> None:
        started, go = threading.Event(), threading.Event()

        def slow(path: Path, document: object) -> None:
            started.set()
            assert go.wait(20)
            write_json(path, document)

        file = StateFile(tmp_path / "state.json", lambda: {"number": 1}, coalesce_seconds=60, write=slow)
        file.mark()
        flushing = asyncio.create_task(file.flush())
        await asyncio.to_thread(started.wait, 20)
        flushing.cancel()
        with pytest.raises(asyncio.CancelledError):
            await flushing
        go.set()

    asyncio.run(scenario())
    assert read_json(tmp_path / "state.json") == {"number": 1}


def test_a_change_during_the_write_of_a_flush_is_written_after_it() -> None:
    async def scenario() -> None:
        started, go, state, writes = threading.Event(), threading.Event(), ["old"], Writes()

        def slow(path: Path, document: object) -> None:
            started.set()
            assert go.wait(20)
            writes(path, document)

        file = StateFile("state.json", lambda: state[0], coalesce_seconds=0, write=slow)
        file.mark()
        flushing = asyncio.create_task(file.flush())
        await asyncio.to_thread(started.wait, 20)
        state[0] = "new"
        file.mark()
        go.set()
        await flushing
        await writes.until(lambda: writes.documents == ["old", "new"])

    asyncio.run(scenario())


def test_the_write_of_a_cancelled_flush_does_not_end_after_a_later_one() -> None:
    async def scenario() -> None:
        started, go, state, writes = threading.Event(), threading.Event(), ["old"], Writes()

        def slow(path: Path, document: object) -> None:
            started.set()
            if document == "old":
                assert go.wait(20)
            writes(path, document)

        file = StateFile("state.json", lambda: state[0], coalesce_seconds=0, write=slow)
        file.mark()
        flushing = asyncio.create_task(file.flush())
        await asyncio.to_thread(started.wait, 20)
        flushing.cancel()
        await asyncio.wait((flushing,))
        state[0] = "new"
        file.mark()
        await asyncio.sleep(0.05)
        go.set()
        await writes.until(lambda: len(writes.documents) == 2)
        assert writes.documents == ["old", "new"]

    asyncio.run(scenario())


def test_what_killed_writers_left_is_swept_and_what_live_ones_write_is_not(tmp_path: Path) -> None:
    old, young = tmp_path / ".state.json.abandon", tmp_path / ".state.json.atwork"
    for each in (old, young):
        each.write_text("half")
    os.utime(old, (time.time() - 3600,) * 2)
    file = StateFile(tmp_path / "state.json", dict)

    async def scenario() -> None:
        file.mark()
        await file.flush()

    asyncio.run(scenario())
    assert sorted(each.name for each in tmp_path.iterdir()) == [".state.json.atwork", "state.json"]


def test_two_processes_writing_one_file_leave_a_whole_one(tmp_path: Path) -> None:
    path = tmp_path / "state.json"
    writers = [started(FOREVER, path, number) for number in (0, 1_000_000)]
    try:
        for _ in range(200):
            document = read_json(path)
            assert document["number"] == document["end"]
    finally:
        for writer in writers:
            finish(writer)


def test_a_writer_killed_at_random_leaves_the_old_or_the_new(tmp_path: Path) -> None:
    """A sample: ``kill -9`` lands anywhere in a loop of writes."""
    path, dice = tmp_path / "state.json", random.Random(3)  # noqa: S311 - as above
    for _ in range(3):
        writer = started(FOREVER, path, 0)
        for _ in range(dice.randrange(300)):
            read_json(path)
        finish(writer)
        document = read_json(path)
        assert document["number"] == document["end"]


def test_a_writer_killed_in_any_system_call_leaves_the_old_or_the_new(tmp_path: Path) -> None:
    strace = shutil.which("strace")
    if strace is None:
        pytest.skip("strace is not installed")
    path = tmp_path / "state.json"
    # Once before it is traced: what compiles its modules makes calls that no later process makes.
    subprocess.run([sys.executable, "-c", WRITER, path, "2"], capture_output=True, check=True)
    write_json(path, {"number": 1, "end": 1})
    log = tmp_path / "calls"
    traced = subprocess.run(
        [strace, "-f", "-qq", "-o", log, sys.executable, "-c", WRITER, path, "2"], capture_output=True, check=False
    )
    if traced.returncode:
        pytest.skip(f"strace cannot trace here: {traced.stderr.decode()[-200:]}")
    points = calls_of_the_write(log.read_text())
    assert {"rename", "fsync"} <= {name for name, _ in points}
    seen = set()
    for name, number in points:
        write_json(path, {"number": 1, "end": 1})
        inject = f"inject={name}:signal=KILL:when={number}"
        killed = subprocess.run(
            [strace, "-f", "-qq", "-o", log, "-e", inject, sys.executable, "-c", WRITER, path, "2"],
            capture_output=True,
            check=False,
        )
        document = read_json(path)
        assert killed.returncode != 0, f"{name} {number} was never reached"
        assert document["number"] == document["end"]
        seen.add(document["number"])
    assert seen == {1, 2}


def calls_of_the_write(log: str) -> list[tuple[str, int]]:
    """Return each system call of the write as its name and which one of that name it is in the process."""
    counts: dict[str, int] = {}
    points, inside = [], False
    for line in log.splitlines():
        found = re.match(r"\d+\s+(\w+)\(", line)
        if found is None:
            continue
        name = found[1]
        counts[name] = counts.get(name, 0) + 1
        if "here-the-write-ends" in line:
            break
        if inside and name not in {"brk", "mmap", "munmap", "madvise"}:
            points.append((name, counts[name]))
        inside = inside or "here-the-write-begins" in line
    return points


@pytest.mark.parametrize(
    ("fault", "errno"), [("dd if=/dev/zero of=$0/filler bs=4k 2>/dev/null", 28), ("mount -o remount,ro $0", 30)]
)
def test_a_full_or_read_only_disk_keeps_the_old_file_and_leaves_nothing_half(
    tmp_path: Path, fault: str, errno: int
) -> None:
    """On a file system of its own, in a mount namespace of its own."""
    disk = tmp_path / "disk"
    disk.mkdir(mode=0o700)
    unshare = shutil.which("unshare")
    if unshare is None:
        pytest.skip("unshare is not installed")
    script = f"""
        mount -t tmpfs -o size=64k,mode=700 none $0 || exit 99
        mkfifo $1/told $1/go
        "$2" -c "$3" $0 <$1/go >$1/told & exec 3>$1/go 4<$1/told
        read -r made <&4; {fault}; echo >&3; cat <&4; wait
    """
    done = subprocess.run(
        [unshare, "-Urm", "sh", "-c", script, disk, tmp_path, sys.executable, IN_ITS_OWN_DISK],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    if done.returncode == 99 or "unshare" in done.stderr:
        pytest.skip("no mount namespace can be made here")
    found, document, names = json.loads(done.stdout)
    assert (found, document) == (errno, {"number": 1})
    assert [each for each in names if each.startswith(".")] == []


def started(code: str, path: Path, number: int) -> "subprocess.Popen[str]":
    writer = subprocess.Popen([sys.executable, "-c", code, path, str(number)], stdout=subprocess.PIPE, text=True)
    assert writer.stdout is not None
    assert writer.stdout.readline() == "started\n"
    return writer


def finish(writer: "subprocess.Popen[str]") -> None:
    writer.kill()
    writer.communicate()
