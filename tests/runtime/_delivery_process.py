"""A server of deliveries in a process of its own: ``_delivery_process.py DIRECTORY SECONDS_PER_RUN LEASE_SECONDS``.

It prints its port, and appends ``begin RUN_ID`` and ``end RUN_ID`` to the log in the directory.
"""

import asyncio
import os
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from oneiric.runtime.dead_letters import DEAD_LETTERS_FILE, DeadLetterStore
from oneiric.runtime.deliveries import DELIVERIES_FILE, DeliveryStore, SchedulerHTTPServer, WorkflowDelivery
from oneiric.runtime.logging import configure_logging
from oneiric.runtime.settings import HttpSettings, LoggingSettings


class Processor:
    """Notes each run, and takes a while."""

    def __init__(self, log: Path, seconds: float) -> None:
        self._log = os.open(log, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
        self._seconds = seconds

    async def process(self, delivery: WorkflowDelivery, run_id: str) -> Mapping[str, Any]:
        """Note the beginning, wait, and note the end."""
        os.write(self._log, f"begin {run_id}\n".encode())
        await asyncio.sleep(self._seconds)
        os.write(self._log, f"end {run_id}\n".encode())
        return {"attempt": delivery.attempt}


async def main(directory: Path, seconds: float, lease: float) -> None:
    """Serve until killed."""
    configure_logging(LoggingSettings(level="ERROR"))
    server = SchedulerHTTPServer(
        Processor(directory / "log", seconds),
        settings=HttpSettings(port=0),
        store=DeliveryStore(directory / DELIVERIES_FILE, lease_seconds=lease),
        dead_letters=DeadLetterStore(directory / DEAD_LETTERS_FILE),
    )
    await server.start()
    sys.stdout.write(f"{server.port}\n")
    sys.stdout.flush()
    await asyncio.Event().wait()


if __name__ == "__main__":
    asyncio.run(main(Path(sys.argv[1]), float(sys.argv[2]), float(sys.argv[3])))
