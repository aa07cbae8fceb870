"""An orchestrator as a process: from its start to the first probe it answers, and what asking and telling it costs.

The floor is the smallest program on the same server: one route of starlette's, served by uvicorn. Wall time, since a
process that waits is not there yet either; the two take turns, and their fastest are compared.
"""

import asyncio
import http.client
import os
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from statistics import median
from typing import Final

from benchmarks._processes import clean_environment
from benchmarks._timing import Figure
from oneiric.runtime.activity import DomainActivity, DomainActivityStore
from oneiric.runtime.control import ControlClient, control_socket_path

ROUNDS: Final = 15
CALLS: Final = 200
PAUSES: Final = 20
#: How often the reading process of the benchmark looks; the orchestrator's default is 2 s.
POLL_SECONDS: Final = 0.05

BARE = """\
import sys

import uvicorn
from starlette.applications import Starlette
from starlette.responses import JSONResponse
from starlette.routing import Route


async def healthz(request):
    return JSONResponse({"status": "ok"})


uvicorn.run(Starlette(routes=[Route("/healthz", healthz)]), port=int(sys.argv[1]), log_level="warning")
"""


def measure(rounds: int) -> list[Figure]:
    """Measure the group."""
    with tempfile.TemporaryDirectory() as directory:
        home = Path(directory)
        (home / "bare.py").write_text(BARE, encoding="utf-8")
        return [*_starting(home, rounds), *_asking(home), *asyncio.run(_telling(home))]


def _starting(home: Path, rounds: int) -> list[Figure]:
    bare: list[float] = []
    ours: list[float] = []
    for number in range(rounds + 1):
        first = _until_answered([sys.executable, str(home / "bare.py"), "{port}"], home)
        second = _until_answered([sys.executable, "-m", "oneiric.app", "--set", "http.port={port}"], home)
        if number:  # the first compiles modules and fills the page cache
            bare.append(first)
            ours.append(second)
    return [
        Figure(
            name="serving.bare",
            label="starlette on uvicorn: start to first probe",
            who="floor",
            value=1.0,
            seconds=min(bare),
        ),
        Figure(
            name="serving.first_probe",
            label="the orchestrator: start to first probe",
            who="ours",
            value=min(ours) / min(bare),
            seconds=min(ours),
            floor="bare",
        ),
        Figure(
            name="serving.first_probe_median",
            label="the same, medians",
            who="ours",
            value=median(ours) / median(bare),
            seconds=median(ours),
            floor="bare",
        ),
    ]


def _until_answered(command: Sequence[str], home: Path) -> float:
    port = _free_port()
    began = time.perf_counter()
    process = subprocess.Popen(
        [part.format(port=port) for part in command],
        cwd=home,
        env=clean_environment(),
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    try:
        while not _answers(port):
            if process.poll() is not None:
                raise RuntimeError(f"{command} ended with {process.returncode}")
            time.sleep(0.001)
        return time.perf_counter() - began
    finally:
        process.send_signal(signal.SIGTERM)
        process.wait()


def _answers(port: int) -> bool:
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=10)
    try:
        connection.request("GET", "/healthz")
        return connection.getresponse().status == 200
    except OSError:
        return False
    finally:
        connection.close()


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        found: int = probe.getsockname()[1]
        return found


def _asking(home: Path) -> list[Figure]:
    state = home / "asked"
    with subprocess.Popen(
        [
            sys.executable,
            "-m",
            "oneiric.app",
            "--set",
            "http.enabled=false",
            "--set",
            f"runtime_paths.cache_dir={state}",
        ],
        cwd=home,
        env=clean_environment(),
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    ) as process:
        client = ControlClient(control_socket_path(state), timeout_seconds=10)
        deadline = time.monotonic() + 20
        while time.monotonic() < deadline:
            try:
                if client.call("status")["ready"]:
                    break
            except Exception:  # noqa: BLE001 - not there yet
                time.sleep(0.01)
        times = []
        for _ in range(CALLS):
            began = time.perf_counter()
            client.call("explain", domain="adapter", key="cache")
            times.append(time.perf_counter() - began)
        process.send_signal(signal.SIGTERM)
    return [_plain("serving.round_trip", "explain over the control socket, median", median(times))]


async def _telling(home: Path) -> list[Figure]:
    """Measure how long after a pause in one process another one knows, above its poll interval's share."""
    path = home / "activity.sqlite"
    reader, writer = os.pipe()
    child = os.fork()
    if child == 0:
        os.close(reader)
        asyncio.run(_look(path, writer))
        os._exit(0)
    os.close(writer)
    times = []
    async with DomainActivityStore(path) as store:
        os.read(reader, 1)
        for number in range(PAUSES):
            await store.set("service", f"key{number}", DomainActivity(paused=True))
            began = time.time()
            times.append(float(os.read(reader, 32)) - began)
    await asyncio.to_thread(os.waitpid, child, 0)
    os.close(reader)
    label = f"a pause is known to another process that looks every {POLL_SECONDS:g} s, median"
    return [_plain("serving.pause_elsewhere", label, median(times))]


def _plain(name: str, label: str, seconds: float) -> Figure:
    return Figure(name=name, label=label, who="ours", value=seconds * 1000, unit="ms")


async def _look(path: Path, writer: int) -> None:
    async with DomainActivityStore(path) as store:
        os.write(writer, b"!")
        known = 0
        while known < PAUSES:
            await store.refresh()
            found = len(store.all_for_domain("service"))
            if found > known:
                known = found
                os.write(writer, f"{time.time():<32.6f}".encode())
            await asyncio.sleep(POLL_SECONDS)
