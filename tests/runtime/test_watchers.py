"""A watch over real files: one call for each content they come to have, however they come to have it."""
# ruff: noqa: ASYNC240 - files of a few bytes, written by the test that waits for them to be seen

from __future__ import annotations

import asyncio
import os
import shutil
import sys
import time
from contextlib import asynccontextmanager
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from oneiric.core.errors import ConfigurationError
from oneiric.runtime import _watch_files
from oneiric.runtime._watch_files import Look, Scanner
from oneiric.runtime._watch_notify import RustNotifier
from oneiric.runtime.watchers import ConfigWatcher, WatchMode

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable

SENTINEL = "sentinel"
MODES: tuple[WatchMode, ...] = (*(("inotify",) if sys.platform == "linux" else ()), "watchfiles", "poll")
#: Long enough that only a notification, and not the look from time to time, can explain what is seen.
NEVER = 3600.0


class Watched:
    """A file, and what a watcher's calls found in it."""

    def __init__(self, file: Path, *, watch: Path | None = None) -> None:
        self.file = file
        self.watch = watch or file
        self.seen: list[str | None] = []
        self._changed = asyncio.Event()

    async def look(self) -> None:
        """Be the call of a watcher."""
        self.seen.append(self.file.read_text() if self.file.exists() else None)
        self._changed.set()

    async def until(self, content: str | None) -> None:
        await self._fulfilled(lambda: bool(self.seen) and self.seen[-1] == content)

    async def called(self, times: int) -> None:
        await self._fulfilled(lambda: len(self.seen) >= times)

    async def _fulfilled(self, is_so: Callable[[], bool]) -> None:
        async with asyncio.timeout(60):
            while not is_so():
                self._changed.clear()
                await self._changed.wait()

    async def finished(self, replace: Callable[[str], None] | None = None) -> list[str | None]:
        """Return what was seen before one last change: a call too many would stand before it."""
        (replace or self.replace)(SENTINEL)
        await self.until(SENTINEL)
        return self.seen[:-1]

    def replace(self, content: str, file: Path | None = None) -> None:
        """Write beside and rename: what editors and deployment tools do."""
        file = file or self.file
        beside = file.with_name(f".{file.name}.new")
        beside.write_text(content)
        beside.replace(file)


@asynccontextmanager
async def watching(watched: Watched, mode: WatchMode, **options: Any) -> AsyncIterator[ConfigWatcher]:
    poll = options.pop("poll_interval", 0.02 if mode == "poll" else NEVER)
    async with ConfigWatcher(watched.watch, watched.look, mode=mode, poll_interval=poll, **options) as watcher:
        yield watcher


@pytest.fixture
def file(tmp_path: Path) -> Path:
    file = tmp_path / "settings" / "oneiric.yml"
    file.parent.mkdir()
    file.write_text("first")
    return file


@pytest.mark.parametrize("mode", MODES)
async def test_an_atomic_rename_is_one_change(file: Path, mode: WatchMode) -> None:
    watched = Watched(file)
    async with watching(watched, mode):
        watched.replace("second")
        await watched.until("second")

        assert await watched.finished() == ["second"]


@pytest.mark.parametrize("mode", MODES)
async def test_a_hundred_renames_are_all_seen(file: Path, mode: WatchMode) -> None:
    watched = Watched(file)
    async with watching(watched, mode, settle_seconds=0.001):
        contents = [str(number) for number in range(20 if mode != "inotify" else 100)]
        for content in contents:
            watched.replace(content)
            await watched.until(content)

        assert await watched.finished() == contents


@pytest.mark.parametrize("mode", MODES)
async def test_an_editor_with_a_swap_file_makes_one_change(file: Path, mode: WatchMode) -> None:
    watched = Watched(file)
    async with watching(watched, mode):
        save_as_vim_does(file, "second")
        await watched.until("second")

        assert await watched.finished() == ["second"]


def save_as_vim_does(file: Path, content: str) -> None:
    swap, probe, backup = file.with_name(f".{file.name}.swp"), file.with_name("4913"), file.with_name(f"{file.name}~")
    swap.write_text("b0VIM")
    probe.touch()
    probe.unlink()
    file.rename(backup)
    file.write_text(content)
    backup.unlink()
    swap.unlink()


@pytest.mark.parametrize("mode", MODES)
async def test_delete_and_recreate_is_one_change(file: Path, mode: WatchMode) -> None:
    watched = Watched(file)
    async with watching(watched, mode):
        file.unlink()
        file.write_text("second")
        await watched.until("second")

        assert await watched.finished() == ["second"]


@pytest.mark.parametrize("mode", MODES)
async def test_a_deleted_file_is_waited_for(file: Path, mode: WatchMode) -> None:
    watched = Watched(file)
    async with watching(watched, mode, settle_most_seconds=NEVER) as watcher:
        file.unlink()
        await looked(watcher)
        file.write_text("second")
        await watched.until("second")

        assert await watched.finished() == ["second"]


async def looked(watcher: ConfigWatcher) -> None:
    """Let the watcher look at the disk a few times."""
    for _ in range(5):
        await asyncio.sleep(0.005)
    assert watcher.is_running


@pytest.mark.parametrize("mode", MODES)
async def test_a_file_that_stays_deleted_is_a_change_in_the_end(file: Path, mode: WatchMode) -> None:
    watched = Watched(file)
    async with watching(watched, mode, settle_most_seconds=0.1):
        file.unlink()
        await watched.until(None)

        assert await watched.finished() == [None]


class Mounted:
    """A directory as Kubernetes mounts a ConfigMap: files are links through ``..data``, which is swapped."""

    def __init__(self, directory: Path, content: str) -> None:
        self.directory = directory
        self.number = 0
        directory.mkdir()
        self.update(content)
        (directory / "oneiric.yml").symlink_to("..data/oneiric.yml")

    def update(self, content: str) -> None:
        self.number += 1
        fresh = self.directory / f"..2026_{self.number}"
        fresh.mkdir()
        (fresh / "oneiric.yml").write_text(content)
        link, data = self.directory / "..data_tmp", self.directory / "..data"
        before = data.resolve() if data.is_symlink() else None
        link.symlink_to(fresh.name)
        link.replace(data)
        if before is not None:
            (before / "oneiric.yml").unlink()
            before.rmdir()


@pytest.mark.parametrize("watch", ["oneiric.yml", "."], ids=["file", "directory"])
@pytest.mark.parametrize("mode", MODES)
async def test_a_swapped_data_link_is_one_change(tmp_path: Path, mode: WatchMode, watch: str) -> None:
    mounted = Mounted(tmp_path / "mount", "first")
    watched = Watched(tmp_path / "mount" / "oneiric.yml", watch=tmp_path / "mount" / watch)
    async with watching(watched, mode):
        for content in ("second", "third"):
            mounted.update(content)
            await watched.until(content)

        assert await watched.finished(mounted.update) == ["second", "third"]


async def test_nothing_is_missed_while_fewer_directories_are_watched(tmp_path: Path) -> None:
    watched, left = tmp_path / "watched", tmp_path / "left"
    directories = {}
    for directory in (watched, left):
        directory.mkdir()
        directories[str(directory)] = (directory.stat().st_dev, directory.stat().st_ino)
    noticed: list[str | None] = []
    notifier = RustNotifier(lambda entry, _: noticed.append(entry))
    try:
        notifier.watch(directories)
        (watched / "oneiric.yml").write_text("second")
        del directories[str(left)]

        assert notifier.watch(directories), "what it had noticed is gone with the watch that noticed it"
        assert not notifier.watch(directories)
        assert noticed == []
    finally:
        notifier.close()


@pytest.mark.parametrize("moment", ["within a look", "between look and watch"])
@pytest.mark.parametrize("mode", MODES)
async def test_a_directory_that_comes_back_only_to_go_at_once_is_waited_for(
    file: Path, mode: WatchMode, moment: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    watched, look, identify, is_armed = Watched(file), Scanner.look, _watch_files._identify, False

    def go() -> None:
        nonlocal is_armed
        if is_armed and file.exists():
            is_armed = False
            shutil.rmtree(file.parent)

    def looking(scanner: Scanner) -> Look:
        found = look(scanner)
        if moment != "within a look":
            go()
        return found

    def identified(*given: Any) -> None:
        if moment == "within a look":
            go()
        identify(*given)

    monkeypatch.setattr(Scanner, "look", looking)
    monkeypatch.setattr(_watch_files, "_identify", identified)
    async with watching(watched, mode, settle_most_seconds=NEVER) as watcher:
        await looked(watcher)
        shutil.rmtree(file.parent)
        file.parent.mkdir()
        file.write_text("first")
        is_armed = True
        async with asyncio.timeout(60):
            while is_armed:  # noqa: ASYNC110 - the thread that looks tells nobody
                await asyncio.sleep(0.001)
        await looked(watcher)
        file.parent.mkdir()
        file.write_text("second")
        await watched.until("second")

        assert await watched.finished() == ["second"]


@pytest.mark.parametrize("mode", MODES)
async def test_a_link_in_the_middle_of_the_way_is_one_change(tmp_path: Path, mode: WatchMode) -> None:
    for name in ("one", "two", SENTINEL):
        (tmp_path / "releases" / name / "etc").mkdir(parents=True)
        (tmp_path / "releases" / name / "etc" / "oneiric.yml").write_text(name)
    (tmp_path / "current").symlink_to("releases/one")
    (tmp_path / "etc").symlink_to("current/etc")
    (tmp_path / "oneiric.yml").symlink_to(tmp_path / "etc" / "oneiric.yml")
    watched = Watched(tmp_path / "oneiric.yml")

    def release(name: str) -> None:
        (tmp_path / "next").symlink_to(f"releases/{name}")
        (tmp_path / "next").replace(tmp_path / "current")

    async with watching(watched, mode):
        release("two")
        await watched.until("two")

        assert await watched.finished(release) == ["two"]


@pytest.mark.parametrize("mode", MODES)
async def test_a_truncated_file_is_no_change_before_it_is_written_again(file: Path, mode: WatchMode) -> None:
    watched = Watched(file)
    async with watching(watched, mode, settle_most_seconds=NEVER) as watcher:
        with file.open("w") as stream:
            await looked(watcher)
            stream.write("second")
        await watched.until("second")

        assert await watched.finished() == ["second"]


@pytest.mark.skipif(sys.platform != "linux", reason="only inotify tells when a file is closed")
async def test_half_a_file_is_no_change_while_its_writer_has_it_open(file: Path) -> None:
    watched = Watched(file)
    async with watching(watched, "inotify", settle_seconds=0.001, settle_most_seconds=NEVER) as watcher:
        with file.open("w") as stream:
            stream.write("first half, ")
            stream.flush()
            await looked(watcher)
            stream.write("second half")
        await watched.until("first half, second half")

        assert await watched.finished() == ["first half, second half"]


@pytest.mark.parametrize("mode", MODES)
async def test_a_hundred_writes_end_in_one_change_with_the_last_content(file: Path, mode: WatchMode) -> None:
    watched, settle_seconds = Watched(file), 1.0
    written = []
    async with watching(watched, mode, settle_seconds=settle_seconds, settle_most_seconds=NEVER):
        for number in range(100):
            file.write_text(f"content {number}")
            written.append(time.monotonic())
            await asyncio.sleep(0.001)
        await watched.until("content 99")
        changes = await watched.finished()

    # Where the machine itself made a pause, the writes before it may have settled.
    pauses = sum(later - earlier > settle_seconds / 2 for earlier, later in pairwise(written))
    assert changes[-1] == "content 99"
    assert len(changes) <= 1 + pauses


@pytest.mark.parametrize("mode", MODES)
async def test_a_directory_that_goes_away_and_comes_back_is_watched_again(file: Path, mode: WatchMode) -> None:
    watched = Watched(file)
    async with watching(watched, mode):
        for content in ("second", "third"):
            file.unlink()
            file.parent.rmdir()
            file.parent.mkdir()
            file.write_text(content)
            await watched.until(content)

        assert await watched.finished() == ["second", "third"]


@pytest.mark.parametrize("mode", MODES)
async def test_a_directory_that_another_takes_the_place_of_is_watched_there(file: Path, mode: WatchMode) -> None:
    watched = Watched(file)
    other = file.parent.with_name("other")
    other.mkdir()
    (other / file.name).write_text("second")
    async with watching(watched, mode):
        file.parent.rename(file.parent.with_name("former"))
        other.rename(file.parent)
        await watched.until("second")

        assert await watched.finished() == ["second"]


@pytest.mark.parametrize("mode", MODES)
async def test_the_same_content_again_and_files_that_are_no_settings_are_no_change(file: Path, mode: WatchMode) -> None:
    watched = Watched(file, watch=file.parent)
    async with watching(watched, mode) as watcher:
        watched.replace("first")
        os.utime(file)
        (file.parent / "notes.txt").write_text("none of ours")
        await looked(watcher)

        assert await watched.finished() == []


@pytest.mark.parametrize("mode", MODES)
async def test_a_file_that_joins_a_directory_is_a_change(file: Path, mode: WatchMode) -> None:
    watched = Watched(file.parent / "services.yml", watch=file.parent)
    async with watching(watched, mode):
        watched.file.write_text("new")
        await watched.until("new")

        assert await watched.finished() == ["new"]


async def test_what_changes_during_a_call_is_announced_after_it(file: Path) -> None:
    calls: list[str] = []
    last = asyncio.Event()

    async def slow() -> None:
        calls.append(file.read_text())
        if len(calls) == 1:
            watched.replace("second")
            watched.replace("third")
            await asyncio.sleep(0.01)
        else:
            last.set()

    watched = Watched(file)
    async with asyncio.timeout(60), ConfigWatcher(file, slow, poll_interval=NEVER, at_start=True):
        await last.wait()

    assert calls == ["first", "third"]


async def test_a_call_that_fails_does_not_end_the_watch(file: Path) -> None:
    watched = Watched(file)

    async def failing() -> None:
        await watched.look()
        raise RuntimeError("as told")

    async with ConfigWatcher(file, failing, poll_interval=NEVER):
        watched.replace("second")
        await watched.until("second")

        assert await watched.finished() == ["second"]


async def test_a_watch_that_breaks_goes_on_by_polling(file: Path) -> None:
    watched, paths = Watched(file), [file]

    def paths_of() -> list[Path]:
        if not paths:
            paths.append(file)
            raise RuntimeError("as told")
        return paths

    async with ConfigWatcher(paths_of, watched.look, poll_interval=0.02) as watcher:
        paths.clear()
        watched.replace("second")
        await watched.until("second")

        assert watcher.mode == "poll"
        assert "as told" in str(watcher.problem)
        assert await watched.finished() == ["second"]


async def test_the_paths_are_asked_for_again_after_each_change(file: Path) -> None:
    other = file.with_name("other.yml")
    other.write_text("other")
    watched = Watched(file)
    paths = [file]

    async def on_change() -> None:
        paths[:] = [file, other]
        await watched.look()

    async with ConfigWatcher(lambda: paths, on_change, poll_interval=NEVER):
        watched.replace("second")
        await watched.until("second")
        watched.replace("changed", other)
        await watched.called(2)

        assert watched.seen == ["second", "second"]


async def test_a_cancelled_start_leaves_nothing_behind_and_can_be_repeated(file: Path) -> None:
    watched = Watched(file)
    watcher = ConfigWatcher(file, watched.look, poll_interval=NEVER)
    starting = asyncio.create_task(watcher.start())
    await asyncio.sleep(0)
    starting.cancel()
    await asyncio.wait([starting])
    await watcher.stop()
    assert not watcher.is_running
    async with watcher:
        assert await watched.finished() == []


async def test_several_hold_one_watch_until_the_last_lets_go(file: Path) -> None:
    watcher = ConfigWatcher(file, Watched(file).look)
    await watcher.start()
    await watcher.hold("another")
    await watcher.stop()
    assert watcher.is_running
    await watcher.let_go("another")
    assert not watcher.is_running
    await watcher.stop()


async def test_a_watch_that_was_stopped_starts_again(file: Path) -> None:
    watched = Watched(file)
    watcher = ConfigWatcher(file, watched.look, poll_interval=NEVER)
    async with watcher:
        pass
    watched.replace("unseen")
    async with watcher:
        assert await watched.finished() == []


def test_a_mode_or_an_interval_that_cannot_be_is_refused(file: Path) -> None:
    async def nothing() -> None:
        pass

    with pytest.raises(ConfigurationError, match="no way of watching 'often'"):
        ConfigWatcher(file, nothing, mode="often")  # type: ignore[arg-type]  # what a setting may say
    with pytest.raises(ConfigurationError, match="must be positive"):
        ConfigWatcher(file, nothing, poll_interval=0)
