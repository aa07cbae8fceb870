"""ConfigWatcher: one call for each change of the configuration on disk, made when the change is complete."""

import asyncio
import contextlib
import os
import sys
from collections.abc import Awaitable, Callable, Iterable, Mapping
from importlib.util import find_spec
from types import TracebackType
from typing import Any, Final, Literal, Protocol, Self

from oneiric.core.errors import ConfigurationError, MissingExtraError
from oneiric.runtime._watch_files import Look, Scanner
from oneiric.runtime._watch_inotify import Inotify
from oneiric.runtime._watch_notify import RustNotifier
from oneiric.runtime._watch_settling import Settling, Sign
from oneiric.runtime.logging import get_logger

__all__ = ["ConfigWatcher", "WatchMode"]

type WatchMode = Literal["auto", "events", "inotify", "watchfiles", "poll"]
type _StrPath = str | os.PathLike[str]

_MODES: Final = ("auto", "events", "inotify", "watchfiles", "poll")
_SUFFIXES: Final = (".json", ".toml", ".yaml", ".yml")


class _Source(Protocol):
    """What tells that something happened in a directory."""

    name: str

    def watch(self, directories: Mapping[str, tuple[int, int]]) -> bool: ...

    def close(self) -> None: ...


class _Polling:
    """Tells nothing: whoever asks looks for itself from time to time."""

    name = "poll"

    def watch(self, directories: Mapping[str, tuple[int, int]]) -> bool:  # noqa: ARG002 - a port
        return False

    def close(self) -> None:
        pass


class ConfigWatcher:
    """Call *on_change* once for each content the configuration comes to have; a part of the application.

    The directories are watched, not the files: files that are replaced by a rename, deleted and made again, or reached
    through links that change (as Kubernetes' ``..data`` does) are seen, and so are directories that go away and come
    back. A file that was put in place whole is announced at once. One that is written in place is when the writer has
    closed it and nothing was written for *settle_seconds*; a file that is missing, empty or still open is waited for,
    but nothing longer than *settle_most_seconds*. What changes while *on_change* runs is announced after it.

    Files that are touched or rewritten with the same content, and files that are no settings, are no change.

    Args:
        paths_of: The files and directories to watch, or a call that says so anew after each change. In a directory
            all files count that end in ``.toml .yml .yaml .json`` and do not begin with a dot.
        on_change: Called without arguments and awaited; what it raises is logged, and the watch goes on.
        mode: ``"inotify"`` (Linux), ``"watchfiles"`` (the extra ``watch``), ``"events"`` for whichever there is,
            ``"poll"``, or ``"auto"``: events where there are any, else polling.
        poll_interval: Seconds between two looks when polling. When events are had, a look is taken that often all the
            same: network file systems do not tell of everything.
        settle_seconds: How long nothing has to be written.
        settle_most_seconds: How long a change is waited for at most.
        at_start: Whether to call *on_change* once the watch has begun, for what changed since the settings were read.

    Raises:
        ConfigurationError: *mode* is none of the above, or *poll_interval* is not positive.
    """

    name = "config-watcher"

    def __init__(
        self,
        paths_of: _StrPath | Callable[[], Iterable[_StrPath]],
        on_change: Callable[[], Awaitable[object]],
        *,
        mode: WatchMode = "auto",
        poll_interval: float = 5.0,
        settle_seconds: float = 0.05,
        settle_most_seconds: float = 2.0,
        at_start: bool = False,
    ) -> None:
        if mode not in _MODES:
            raise ConfigurationError(f"there is no way of watching {mode!r}", f"one of {', '.join(_MODES)}")
        if not poll_interval > 0:
            raise ConfigurationError(f"poll_interval must be positive, not {poll_interval!r} s")
        paths: Callable[[], Iterable[_StrPath]] = paths_of if callable(paths_of) else lambda: (paths_of,)
        self._scanner = Scanner(paths, _SUFFIXES)
        self._on_change = on_change
        self._wanted = mode
        self._poll_interval = poll_interval
        self._settle = (settle_seconds, settle_most_seconds)
        self._at_start = at_start
        self._source: _Source = _Polling()
        self._settling = Settling(*self._settle)
        self._last = Look()
        self._is_looking = False
        self._woken = asyncio.Event()
        self._task: asyncio.Task[None] | None = None
        self._holders: dict[int, object] = {}
        self._turn = asyncio.Lock()
        self.problem: str | None = None

    @property
    def mode(self) -> str:
        """How changes are noticed: ``inotify``, ``watchfiles`` or ``poll``."""
        return self._source.name

    @property
    def is_running(self) -> bool:
        """Whether changes are noticed at all."""
        return self._task is not None

    async def start(self) -> None:
        """Begin to watch; what is on disk when this returns is known. Does nothing when it runs.

        Raises:
            MissingExtraError: The mode is ``watchfiles`` or ``events``, and it is needed and not installed.
            ConfigurationError: The mode is ``inotify``, and the system has none.
        """
        await self.hold(self)

    async def stop(self) -> None:
        """End, unless something else still holds the watch. Safe after a failed start, and twice."""
        await self.let_go(self)

    async def hold(self, holder: object) -> None:
        """Make sure the watch runs until *holder* lets go of it; several may share one."""
        async with self._turn:
            if self._task is None:
                await self._begin()
            self._holders[id(holder)] = holder

    async def let_go(self, holder: object) -> None:
        """End when nobody else holds the watch; a call of *on_change* under way is cancelled."""
        async with self._turn:
            self._holders.pop(id(holder), None)
            task = self._task
            if self._holders or task is None:
                return
            self._task = None
            task.cancel()
            try:
                await asyncio.wait((task,))
            finally:
                self._source.close()

    async def _begin(self) -> None:
        self.problem = None
        self._source = self._opened()
        self._settling = Settling(*self._settle)
        began = asyncio.get_running_loop().time()
        try:
            self._settling.announced(await self._look(), began)
        except BaseException:
            self._source.close()
            raise
        self._task = asyncio.create_task(self._run(), name=f"oneiric.{self.name}")

    async def __aenter__(self) -> Self:
        await self.start()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        await self.stop()

    def _opened(self) -> _Source:
        mode = self._wanted
        if mode in {"auto", "events", "inotify"} and sys.platform.startswith("linux"):
            try:
                return Inotify(self._notice)
            except OSError as error:
                if mode == "inotify":
                    raise ConfigurationError(f"inotify cannot be used: {error}", "mode poll") from error
                self._report("inotify cannot be used", error)
                return _Polling()
        if mode == "inotify":
            raise ConfigurationError(f"there is no inotify on {sys.platform}", "mode events or poll")
        if mode == "poll" or (mode == "auto" and find_spec("watchfiles") is None):
            return _Polling()
        try:
            return RustNotifier(self._notice)
        except ImportError as error:
            raise MissingExtraError(self.name, "oneiric-runtime[watch]", "watchfiles") from error

    def _notice(self, entry: str | None, sign: Sign) -> None:
        if entry is None:
            self._settling.lost_sight()
        else:
            if not self._is_looking and not self._scanner.is_relevant(self._last, entry):
                return
            self._settling.note(entry, sign, asyncio.get_running_loop().time())
        self._woken.set()

    async def _run(self) -> None:
        if self._at_start:
            await self._announce()
        while True:
            try:
                await self._step()
            except Exception as error:  # noqa: BLE001 - whatever breaks, changes are still to be seen
                self._report("watching files failed", error)
                self._source.close()
                self._source = _Polling()
                await asyncio.sleep(self._poll_interval)

    async def _step(self) -> None:
        clock = asyncio.get_running_loop().time
        began = clock()
        look = await self._look()
        wait = self._settling.wait(look, began, clock())
        if wait == 0:
            self._settling.announced(look, began)
            await self._announce()
        elif wait is None:
            await self._until_woken(self._poll_interval)
        else:
            # Nobody tells of the end of a write when polling: it has to be looked for.
            await self._until_woken(min(wait, self._settle[0] if self.mode == "poll" else self._poll_interval))

    async def _look(self) -> Look:
        """Look at the disk, and watch what that says is to be watched; again while anything may have been missed."""
        self._is_looking = True
        try:
            while True:
                self._woken.clear()
                if self._settling.has_replaced:
                    # A few files on a disk that notifies: looking takes less than handing it to a thread does.
                    self._last = self._scanner.look()
                else:
                    self._last = await asyncio.to_thread(self._scanner.look)
                if not self._watch():
                    return self._last
        finally:
            self._is_looking = False

    def _watch(self) -> bool:
        try:
            return self._source.watch(self._last.directories)
        except OSError as error:
            self._report("directories cannot be watched", error)
            self._source.close()
            self._source = _Polling()
            return False

    async def _until_woken(self, seconds: float) -> None:
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                await self._woken.wait()

    async def _announce(self) -> None:
        try:
            await self._on_change()
        except Exception as error:  # noqa: BLE001 - the caller's own; the next change is announced all the same
            _log().error("config-change-failed", reason=f"{type(error).__name__}: {error}")

    def _report(self, what: str, error: BaseException) -> None:
        self.problem = f"{what}: {error}; they are polled every {self._poll_interval:g} s"
        _log().warning("config-watch-degraded", reason=self.problem)

    def __repr__(self) -> str:
        return f"<ConfigWatcher {self.mode if self.is_running else 'stopped'}: {len(self._last.files)} files>"


def _log() -> Any:
    return get_logger("oneiric.watchers")
