"""Soak: honest clients beside five hundred hostile ones, and ten thousand requests that nobody should send.

The server runs in a process of its own. The hostile clients hold requests open, a byte at a time, and come back when
they are cut. Beside them honest clients ask the control API: none may fail, and 99 of 100 must wait less than 100 ms.
Then requests are put together at random from pieces of real ones: none may be answered by a failure inside.
"""

import argparse
import asyncio
import json
import random
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Sequence
from typing import Any, Final

from oneiric.core.lifecycle import LifecycleManager
from oneiric.core.resolution import Candidate, Resolver
from oneiric.runtime.control import API_PREFIX, OPERATIONS
from oneiric.runtime.control.testing import MemoryPlane
from oneiric.runtime.http import HttpServer, build_app
from oneiric.runtime.settings import HttpSettings

__all__ = ["main"]

HOST: Final = "127.0.0.1"
MOST_WAIT_SECONDS: Final = 0.1
LET_IN: Final = f"GET {API_PREFIX}/status HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n".encode()
HELD: Final = f"POST {API_PREFIX}/swap HTTP/1.1\r\nHost: localhost\r\nContent-Length: 9999\r\nX: ".encode()
PIECES: Final = (
    *(f"{each.method} {API_PREFIX}{each.path} HTTP/1.1\r\n".encode() for each in OPERATIONS if not each.streams),
    *(b"GET ", b"/healthz", b" HTTP/1.1\r\n", b"Host: localhost\r\n", b"Content-Type: application/json\r\n", b"\r\n"),
    *(b"Content-Length: 37\r\n", b"Transfer-Encoding: chunked\r\n", b"\r\n\r\n", b"\n", b"\r", b"\x00", b"\xff", b" "),
    *(b'{"domain": "adapter", "key": "cache"}', b"[" * 50, b'{"a":NaN}', b"25\r\n", b"0\r\n\r\n", b"?domain=a&key=%00"),
)


async def _serve() -> None:
    resolver = Resolver()
    resolver.register(Candidate(domain="adapter", key="cache", provider="memory", factory=dict))
    settings = HttpSettings(port=0, receive_seconds=2)
    async with LifecycleManager(resolver) as lifecycle:
        app = build_app(MemoryPlane(resolver, lifecycle), settings=settings, log=_silent)
        server = HttpServer(app, settings)
        await server.start()
        print(server.port, flush=True)
        await asyncio.to_thread(sys.stdin.read)  # until whoever started us ends
        await server.stop()


def _silent(*_line: object, **_fields: object) -> None:
    pass


async def _hostile(port: int, stop: asyncio.Event) -> None:
    while not stop.is_set():
        try:
            _, writer = await asyncio.open_connection(HOST, port)
            writer.write(HELD)
            while not stop.is_set() and not writer.is_closing():
                writer.write(b"a")
                await writer.drain()
                await asyncio.sleep(0.5)
            writer.transport.abort()
        except OSError:
            await asyncio.sleep(0.05)


async def _asked(port: int, request: bytes) -> tuple[int, float]:
    """Return the status, 0 for none, and the seconds it took."""
    begun = time.perf_counter()
    try:
        reader, writer = await asyncio.open_connection(HOST, port)
        writer.write(request)
        writer.write_eof()
        answer = await reader.read()
        writer.transport.abort()
    except OSError:
        return 0, time.perf_counter() - begun
    words = answer.split(b" ", 2)
    return int(words[1]) if len(words) > 1 else 0, time.perf_counter() - begun


async def _soak(port: int, plan: argparse.Namespace) -> dict[str, Any]:
    stop, chance = asyncio.Event(), random.Random(plan.seed)  # noqa: S311 - repeatable, not secret
    hostile = [asyncio.create_task(_hostile(port, stop)) for _ in range(plan.hostile)]
    await asyncio.sleep(1)
    honest = [await _asked(port, LET_IN) for _ in range(plan.honest)]
    stop.set()
    await asyncio.gather(*hostile)
    statuses: Counter[int] = Counter()
    for _ in range(0, plan.requests, 20):
        batch = [b"".join(chance.choices(PIECES, k=chance.randint(1, 12))) for _ in range(20)]
        statuses.update(status for status, _ in await asyncio.gather(*(_asked(port, each) for each in batch)))
    waits = sorted(seconds for _, seconds in honest)
    figures = {
        "hostile": plan.hostile,
        "honest": plan.honest,
        "honest_failed": sum(status != 200 for status, _ in honest),
        "honest_p99_ms": round(waits[int(len(waits) * 0.99)] * 1000, 1),
        "requests": plan.requests,
        "failures_inside": sum(count for status, count in statuses.items() if status >= 500),
        "statuses": dict(sorted(statuses.items())),
        "alive": (await _asked(port, LET_IN))[0] == 200,
    }
    held = figures["honest_failed"] == 0 and figures["failures_inside"] == 0 and figures["alive"]
    return {**figures, "held": held and waits[int(len(waits) * 0.99)] < MOST_WAIT_SECONDS}


def main(arguments: Sequence[str]) -> int:
    """Run the soak, print its one line of JSON, and return 1 where a promise was not held."""
    parser = argparse.ArgumentParser(prog="http", description=__doc__)
    parser.add_argument("--hostile", type=int, default=500)
    parser.add_argument("--honest", type=int, default=2000)
    parser.add_argument("--requests", type=int, default=10_000)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--serve", action="store_true", help=argparse.SUPPRESS)
    plan = parser.parse_args(arguments)
    if plan.serve:
        asyncio.run(_serve())
        return 0
    command = [sys.executable, "-m", "benchmarks.soak", "http", "--serve"]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as server:
        port = int((server.stdout or sys.stdin).readline())
        outcome = asyncio.run(_soak(port, plan))
        server.communicate("")
    print(json.dumps({"soak": "http", "property": "hostile clients are not felt", "seed": plan.seed, **outcome}))
    return 0 if outcome["held"] else 1
