"""Signals of a running orchestrator: the first asks it to stop, the second forces it, SIGHUP reloads.

They are taken where Python takes them, between two bytecodes of the main thread, and not only by the event loop: a
component that blocks the loop must not keep its process from being ended. Where it blocks in a call, the main thread is
made to look at its signals (`_Nudge`).
"""

import asyncio
import os
import signal
import sys
import threading
import time
from collections.abc import Callable
from contextlib import ExitStack, suppress
from queue import Empty, SimpleQueue
from types import FrameType, TracebackType
from typing import Any, Final, Self

__all__ = ["LastResort", "ProcessSignals"]

_STOPPING: Final = (signal.SIGTERM, signal.SIGINT)
#: How long a forced stop, or one whose time is over, may still take before the process ends whatever it does.
_LAST_SECONDS: Final = 2.0
#: What interrupts a call of the main thread: ignored by whoever does not ask for it.
_NUDGE: Final = signal.SIGURG
#: How long before each nudge; one that comes right before a call begins does not interrupt it.
_NUDGES_SECONDS: Final = (0.0, 0.05, 0.25, 1.0)
#: The same signal again so soon is the same request: timeout(1) and many a wrapper send it to us and to our group.
_ECHO_SECONDS: Final = 0.5


class LastResort:
    """End the process when its time is over, from a thread that waits for that from the beginning.

    A signal's handler must start no thread: it may have interrupted the main thread while that was starting one.

    Args:
        what: What should have ended by then, for the line on stderr.
        says_where: Whether that line names what the main thread does.
    """

    def __init__(self, what: str, *, says_where: bool = False) -> None:
        self._what = what
        self._says_where = says_where
        self._told: SimpleQueue[tuple[float, int] | None] = SimpleQueue()
        threading.Thread(target=self._wait, name=f"last resort of {what}", daemon=True).start()

    def end_in(self, seconds: float, code: int) -> None:
        """End the process with *code* in *seconds*, or when it was told to before, if that is sooner; reentrant."""
        self._told.put((time.monotonic() + seconds, code))

    def cancel(self) -> None:
        """Let the process live. Safe to call twice."""
        self._told.put(None)

    def _wait(self) -> None:
        ends: tuple[float, int] | None = None
        while True:
            try:
                told = self._told.get(timeout=None if ends is None else max(0.0, ends[0] - time.monotonic()))
            except Empty:
                break
            if told is None:
                return
            ends = told if ends is None else min(ends, told)
        frame = sys._current_frames().get(threading.main_thread().ident or 0)  # noqa: SLF001 - the only way to know
        where = f"; the main thread is in {_place(frame)}" if self._says_where and frame is not None else ""
        os.write(2, f"error: {self._what} did not end in time{where}\n".encode())
        os._exit(1 if ends is None else ends[1])


def _place(frame: FrameType) -> str:
    return f"{frame.f_code.co_name}, {frame.f_code.co_filename}:{frame.f_lineno}"


class _Nudge:
    """Have the main thread look at its signals whenever one came, even if it is blocked in a call.

    Signals that come at once may all be given to another thread. Python notes them there and acts on them in the main
    thread, which sleeps on in a call that nothing has interrupted. A thread that waits for such notes interrupts it,
    and hands them on to whoever was given them before: the event loop.
    """

    def __init__(self) -> None:
        self._handler = signal.getsignal(_NUDGE)
        self._writer = -1
        if self._handler not in {signal.SIG_DFL, signal.SIG_IGN}:
            return  # the host has a use of its own for it: then a blocked call may outlast signals that come at once
        reader, self._writer = os.pipe()
        os.set_blocking(self._writer, False)
        signal.signal(_NUDGE, _nothing)
        self._former = signal.set_wakeup_fd(self._writer, warn_on_full_buffer=False)
        # The thread may come to hand a note on when the loop is closed, and its descriptor has become another file's.
        former = os.dup(self._former) if self._former >= 0 else -1
        threading.Thread(target=_nudge, args=(reader, former), name="signals", daemon=True).start()

    def end(self) -> None:
        """Let the main thread be; to be called there."""
        if self._writer < 0:
            return
        current = signal.set_wakeup_fd(self._former)
        if current != self._writer:
            signal.set_wakeup_fd(current)  # somebody else's, who came later
        signal.signal(_NUDGE, self._handler)
        os.close(self._writer)  # ends the thread
        self._writer = -1


def _nothing(number: int, frame: FrameType | None) -> None:
    """Let whatever was interrupted go on."""


def _nudge(reader: int, former: int) -> None:
    main = threading.main_thread().ident or 0
    with ExitStack() as held:
        notes = held.enter_context(open(reader, "rb", buffering=0))
        if former >= 0:
            held.callback(os.close, former)
        while noted := notes.read(64):
            ours = noted.replace(bytes((_NUDGE,)), b"")
            if not ours:
                continue
            if former >= 0:
                with suppress(OSError):  # full: it knows already; closed: the loop is gone
                    os.write(former, ours)
            for seconds in _NUDGES_SECONDS:
                time.sleep(seconds)
                signal.pthread_kill(main, _NUDGE)


class ProcessSignals:
    """Turn signals into calls on the running loop while the block runs; what was set before is put back.

    Args:
        stop: Called with the first SIGTERM or SIGINT.
        force: Called with the second, unless that repeats the first within half a second. If the process is still
            there two seconds later, or with a third, it exits at once with 128 plus the signal's number.
        reload: Called with each SIGHUP; by default SIGHUP is left alone.
        grace_seconds: How long the block may go on after the first; two seconds later the process exits with 1,
            whatever hangs. None waits forever.

    Attributes:
        received: The signal that asked to stop, or None.
        forced: The signal that forced it, or None.
    """

    def __init__(
        self,
        *,
        stop: Callable[[], object],
        force: Callable[[], object],
        reload: Callable[[], object] | None = None,
        grace_seconds: float | None = None,
    ) -> None:
        self._stop = stop
        self._force = force
        self._reload = reload
        self._grace_seconds = grace_seconds
        self._before: dict[signal.Signals, Any] = {}
        self._last: LastResort | None = None
        self._nudge: _Nudge | None = None
        self._loop: asyncio.AbstractEventLoop | None = None
        self._received_at = 0.0
        self.received: signal.Signals | None = None
        self.forced: signal.Signals | None = None

    def __enter__(self) -> Self:
        # Only the main thread is told of signals; a host that runs us elsewhere keeps its own.
        if threading.current_thread() is threading.main_thread():
            self._loop = asyncio.get_running_loop()
            self._last = LastResort("stopping", says_where=True)
            for number in (*_STOPPING, *(() if self._reload is None else (signal.SIGHUP,))):
                self._before[number] = signal.getsignal(number)
                # The loop's own handler wakes it, whichever thread the signal reaches; ours acts even if it is blocked.
                self._loop.add_signal_handler(number, self._noticed, number)
                signal.signal(number, self._take)
            self._nudge = _Nudge()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        if self._last is not None:
            self._last.cancel()
        if self._nudge is not None:
            self._nudge.end()
        for number, before in self._before.items():
            if self._loop is not None:
                self._loop.remove_signal_handler(number)
            signal.signal(number, before)
        self._before.clear()

    def _take(self, number: int, _: FrameType | None) -> None:
        """Act on a signal; runs between any two bytecodes of the main thread."""
        if number == signal.SIGHUP:
            self._call(self._reload)
        else:
            self._stopping(signal.Signals(number))

    def _noticed(self, number: signal.Signals) -> None:
        """Act on a stop that came before `_take` was in place: the loop is told of each signal, and after it was."""
        if number in _STOPPING and self.received is None:
            self._stopping(number)

    def _stopping(self, number: signal.Signals) -> None:
        if self.received is None:
            self.received, self._received_at = number, time.monotonic()
            if self._grace_seconds is not None:
                self._end_in(self._grace_seconds + _LAST_SECONDS, 1)
            self._call(self._stop)
        elif self.forced is None:
            if number == self.received and time.monotonic() - self._received_at < _ECHO_SECONDS:
                return
            self.forced = number
            self._end_in(_LAST_SECONDS, 128 + number)
            self._call(self._force)
        else:
            os._exit(128 + number)

    def _end_in(self, seconds: float, code: int) -> None:
        if self._last is not None:
            self._last.end_in(seconds, code)

    def _call(self, call: Callable[[], object] | None) -> None:
        if self._loop is not None and call is not None:
            self._loop.call_soon_threadsafe(call)
