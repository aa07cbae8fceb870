"""A scheduler in a process of its own: ``python _scheduler_process.py STORE LOG SECONDS_PER_SLOT LEASE_SECONDS``.

It appends ``begin KEY`` and ``end KEY`` to the log, a line in one write each, and stops in order at SIGTERM.
"""

import asyncio
import os
import signal
import sys

from oneiric.runtime.scheduler import Schedule, Scheduler, ScheduleStore


class Port:
    """Notes each slot, and takes a while."""

    def __init__(self, log: str, seconds: float) -> None:
        self._log = os.open(log, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
        self._seconds = seconds

    async def fire(self, schedule: Schedule, slot_time: float, idempotency_key: str) -> None:
        """Note the beginning, wait, and note the end."""
        os.write(self._log, f"begin {idempotency_key}\n".encode())
        await asyncio.sleep(self._seconds)
        os.write(self._log, f"end {idempotency_key}\n".encode())


async def main(store: str, log: str, seconds: str, lease: str) -> None:
    """Run until SIGTERM."""
    ended = asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, ended.set)
    scheduler = Scheduler(
        ScheduleStore(store), Port(log, float(seconds)), poll_seconds=0.05, lease_seconds=float(lease)
    )
    await scheduler.start()
    sys.stdout.write("started\n")
    sys.stdout.flush()
    await ended.wait()
    await scheduler.stop()


if __name__ == "__main__":
    asyncio.run(main(*sys.argv[1:]))
