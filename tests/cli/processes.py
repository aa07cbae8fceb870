"""Commands that run until they are told to stop."""

import signal
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

__all__ = ["held_until", "until"]


@contextmanager
def held_until(process: "subprocess.Popen[str]") -> Iterator["subprocess.Popen[str]"]:
    """Give a process to the block, and stop it in order at its end."""
    try:
        yield process
        process.send_signal(signal.SIGTERM)
        _, err = process.communicate(timeout=60)
        assert process.returncode == 0, err
    finally:
        if process.poll() is None:
            process.kill()
            process.communicate()


def until(holds: Callable[[], bool], process: "subprocess.Popen[str] | None" = None, seconds: float = 60) -> None:
    """Return once something holds; fail if the process ends before, or it takes too long."""
    deadline = time.monotonic() + seconds
    while not holds():
        assert process is None or process.poll() is None, process.communicate()
        assert time.monotonic() < deadline
        time.sleep(0.02)  # polls another process, which tells nobody
