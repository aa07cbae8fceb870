"""Signals, really sent to real processes."""

import signal
import subprocess
import sys

import pytest

PROGRAM = """
import asyncio, sys
from oneiric.runtime import _signals
from oneiric.runtime._signals import ProcessSignals

# However slow the machine is, a repetition is an echo, and a forced stop is not over before the next signal.
_signals._ECHO_SECONDS = _signals._LAST_SECONDS = 3600.0

async def main(mode):
    stopped, forced, reloaded = asyncio.Event(), asyncio.Event(), asyncio.Event()
    said = lambda word: print(word, flush=True)
    with ProcessSignals(
        stop=lambda: (said('stop'), stopped.set()),
        force=lambda: (said('force'), forced.set()),
        reload=lambda: (said('reload'), reloaded.set()),
    ) as signals:
        said('ready')
        await stopped.wait()
        if mode == 'forced':
            await forced.wait()
        if mode == 'echo':
            await reloaded.wait()
        if mode == 'deaf':
            await asyncio.Event().wait()
        said(f'{signals.received!s} {signals.forced!s}')

asyncio.run(main(sys.argv[1]))
"""
#: Blocks its loop in a call, as a component may, with threads beside it that signals may be given to.
BLOCKED = """
import asyncio, threading, time
from oneiric.runtime._signals import ProcessSignals

async def main():
    with ProcessSignals(stop=int, force=int):
        for _ in range(3):
            threading.Thread(target=time.sleep, args=(3600,), daemon=True).start()
        print('ready', flush=True)
        time.sleep(3600)

asyncio.run(main())
"""
#: A host with a signal of its own.
HOST = """
import asyncio, os, signal
from oneiric.runtime._signals import ProcessSignals

async def main():
    heard = asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(signal.SIGUSR1, heard.set)
    with ProcessSignals(stop=int, force=int):
        os.kill(os.getpid(), signal.SIGUSR1)
        await heard.wait()
        heard.clear()
    os.kill(os.getpid(), signal.SIGUSR1)
    await heard.wait()

asyncio.run(main())
"""
#: Is asked to stop while its handlers are being put in place.
AT_THE_BEGINNING = """
import asyncio, os, signal
from oneiric.runtime._signals import ProcessSignals

async def main():
    loop, stopped = asyncio.get_running_loop(), asyncio.Event()
    add = loop.add_signal_handler

    def added(number, *given):
        add(number, *given)
        if number == signal.SIGTERM:
            os.kill(os.getpid(), number)

    loop.add_signal_handler = added
    with ProcessSignals(stop=stopped.set, force=int) as signals:
        async with asyncio.timeout(50):
            await stopped.wait()
        assert signals.received == signal.SIGTERM

asyncio.run(main())
"""
#: Goes on after its loop is closed, with files of its own, while a second signal is still to be handed on.
GOES_ON = """
import asyncio, os, signal, time, sys, tempfile, threading
from oneiric.runtime._signals import ProcessSignals

async def main():
    with ProcessSignals(stop=int, force=int, reload=int):
        for _ in range(2):
            os.kill(os.getpid(), signal.SIGHUP)
            await asyncio.sleep(0.05)

asyncio.run(main())
files = [tempfile.TemporaryFile() for _ in range(10)]
for thread in threading.enumerate():
    if thread.name == 'signals':
        thread.join()
sys.exit(any(file.read() for file in files))
"""


def started(mode: str) -> subprocess.Popen[str]:
    process = subprocess.Popen(
        [sys.executable, "-c", PROGRAM, mode], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    assert line(process) == "ready"
    return process


def line(process: subprocess.Popen[str]) -> str:
    assert process.stdout is not None
    return process.stdout.readline().strip()


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_the_first_signal_asks_to_stop(number: signal.Signals) -> None:
    with started("once") as process:
        process.send_signal(number)
        assert (line(process), line(process)) == ("stop", f"{number} None")
        assert process.wait() == 0


def test_the_second_signal_forces() -> None:
    with started("forced") as process:
        process.send_signal(signal.SIGTERM)
        assert line(process) == "stop"
        process.send_signal(signal.SIGINT)
        assert (line(process), line(process)) == ("force", "15 2")
        assert process.wait() == 0


def test_the_echo_of_a_signal_forces_nothing() -> None:
    with started("echo") as process:
        process.send_signal(signal.SIGTERM)
        assert line(process) == "stop"
        process.send_signal(signal.SIGTERM)
        process.send_signal(signal.SIGHUP)
        assert (line(process), line(process)) == ("reload", "15 None")
        assert process.wait() == 0


def test_two_signals_at_once_end_a_process_whose_loop_is_blocked() -> None:
    """The kernel may give both to a thread that cannot act on them: one process alone would often be lucky."""
    processes = [
        subprocess.Popen([sys.executable, "-c", BLOCKED], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True)
        for _ in range(8)
    ]
    try:
        assert [line(process) for process in processes] == ["ready"] * 8
        for process in processes:
            process.send_signal(signal.SIGTERM)
            process.send_signal(signal.SIGINT)
        codes = {process.wait(60) for process in processes}
    finally:
        for process in processes:
            process.kill()
            process.communicate()
    assert codes <= {128 + signal.SIGTERM, 128 + signal.SIGINT}


def test_a_host_goes_on_to_be_told_of_its_own_signals() -> None:
    done = subprocess.run([sys.executable, "-c", HOST], check=False, timeout=60)

    assert done.returncode == 0


def test_a_signal_that_comes_while_the_handlers_are_put_in_place_is_not_lost() -> None:
    done = subprocess.run([sys.executable, "-c", AT_THE_BEGINNING], check=False, timeout=60)

    assert done.returncode == 0


def test_nothing_is_handed_on_to_a_loop_that_is_closed() -> None:
    """Its descriptor is another file's by then."""
    done = subprocess.run([sys.executable, "-c", GOES_ON], check=False, timeout=60)

    assert done.returncode == 0


def test_sighup_reloads_and_stops_nothing() -> None:
    with started("once") as process:
        for _ in range(2):
            process.send_signal(signal.SIGHUP)
            assert line(process) == "reload"
        process.send_signal(signal.SIGTERM)
        assert line(process) == "stop"
        assert process.wait() == 0


def test_a_process_that_does_not_heed_being_forced_is_ended() -> None:
    with started("deaf") as process:
        process.send_signal(signal.SIGTERM)
        assert line(process) == "stop"
        process.send_signal(signal.SIGINT)
        assert line(process) == "force"
        process.send_signal(signal.SIGTERM)
        assert process.wait() == 128 + signal.SIGTERM
