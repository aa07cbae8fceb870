"""Whole processes: what the operating system counted as their CPU time."""

import os
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

__all__ = ["clean_environment", "in_process", "python"]


def python(*arguments: str) -> list[str]:
    """Return the command that runs this interpreter."""
    return [sys.executable, *arguments]


def in_process(command: Sequence[str], directory: Path) -> Callable[[int], float]:
    """Return a function that runs a command and returns the CPU seconds it took, its children's included.

    CPU time, not the clock's: a process waits for whatever else the machine does.

    Args:
        command: The program, with its path, and its arguments; what it prints is thrown away.
        directory: Where it runs.
    """
    program, *arguments = command
    shell = ["/bin/sh", "-c", 'cd "$0" && exec "$@" >/dev/null 2>&1', str(directory), program, *arguments]
    environment = clean_environment()

    def run(number: int) -> float:
        seconds = 0.0
        for _ in range(number):
            process = os.posix_spawn("/bin/sh", shell, environment)
            _, status, usage = os.wait4(process, 0)
            if status != 0:
                raise RuntimeError(f"{' '.join(command)!r} ended with status {os.waitstatus_to_exitcode(status)}")
            seconds += usage.ru_utime + usage.ru_stime
        return seconds

    return run


def clean_environment() -> dict[str, str]:
    """Return this process's variables, without those that change what is configured or what Python does."""
    # Compiled modules are kept, as they are for a user.
    dropped = ("ONEIRIC_", "PYTHON", "COVERAGE")
    return {name: value for name, value in os.environ.items() if not name.startswith(dropped)}
