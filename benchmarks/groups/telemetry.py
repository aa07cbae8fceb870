"""What watching costs: an idle swap and the hot reads, with and without telemetry, in the same run.

Watched means everything at once: the OpenTelemetry SDK with its Prometheus reader, spans, the recorder's state file,
and the log at INFO into nothing. ``swap`` is what the caller of a swap waits; the rest follows a moment later in the
same loop, and ``all`` counts it too: the metrics, the record and the line, with spans that have ids only, as they do
where nobody exports them. In ``traced`` they are recorded, for nobody.
"""

import asyncio
import os
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from opentelemetry.sdk.trace import TracerProvider

from benchmarks._timing import Contest, Figure
from benchmarks.groups.swap import DOMAIN, KEY, Plain, managed
from oneiric.core.lifecycle import LifecycleManager
from oneiric.runtime._telemetry_spans import use_tracer_provider
from oneiric.runtime.logging import configure_logging, log_event, shutdown_logging
from oneiric.runtime.settings import LoggingSettings
from oneiric.runtime.state_files import RuntimeTelemetryRecorder
from oneiric.runtime.telemetry import Telemetry, setup_otel

ROUNDS = 300


def _swaps(
    contest: Contest, manager: LifecycleManager, telemetry: Telemetry, *, timed: bool, tracing: Any
) -> Callable[[int], float]:
    """Return what swaps so many times and hands the events on, inside the time that is taken or after it."""

    async def swaps(number: int) -> float:
        swap, clock = manager.swap, time.perf_counter
        started = clock()
        for _ in range(number):
            await swap(DOMAIN, KEY)
        seconds = clock() - started
        telemetry.flush()
        return clock() - started if timed else seconds

    def run(number: int) -> float:
        use_tracer_provider(tracing)
        seconds: float = contest.setup(swaps(number))
        return seconds

    return run


def measure(rounds: int) -> list[Figure]:
    """Measure the group."""
    contest = Contest("telemetry", rounds)
    bare, watched = managed(Plain, 10), managed(Plain, 10)
    with (
        tempfile.TemporaryDirectory() as directory,
        Path(os.devnull).open("w") as nothing,
        setup_otel(environ={}) as handle,
    ):
        configure_logging(LoggingSettings(level="INFO", emit_json=True), stream=nothing)
        recorder = RuntimeTelemetryRecorder(Path(directory) / "runtime_telemetry.json")
        telemetry, none = Telemetry(also=[log_event, recorder]), Telemetry()
        telemetry.watch(watched.resolver, watched)
        contest.setup(_activated(bare, watched))
        recording, ids_only = TracerProvider(shutdown_on_exit=False), handle.tracer_provider
        for name, timed, tracing, label in (
            ("bare", False, ids_only, "idle swap"),
            ("swap", False, ids_only, "the same, watched: what its caller waits"),
            ("all", True, ids_only, "the same, with all that follows"),
            ("traced", True, recording, "the same, with spans that are recorded"),
        ):
            manager, watcher = (bare, none) if name == "bare" else (watched, telemetry)
            run = _swaps(contest, manager, watcher, timed=timed, tracing=tracing)
            contest.add_timed(name, run, who="floor" if name == "bare" else "ours", floor="bare", label=label)
        get, names = "get(d, k)", {"d": DOMAIN, "k": KEY}
        unwatched = {"get": bare.resolver.get, **names}
        contest.add("bare_get", get, unwatched, who="floor", floor="bare_get", label="resolver.get")
        observed = {"get": watched.resolver.get, **names}
        contest.add("get", get, observed, floor="bare_get", label="the same, watched")
        contest.run()
        contest.setup(_closed(telemetry, recorder, bare, watched))
        shutdown_logging()
    contest.close()
    return contest.figures()


async def _activated(*managers: LifecycleManager) -> None:
    for manager in managers:
        await manager.activate(DOMAIN, KEY)


async def _closed(telemetry: Telemetry, recorder: RuntimeTelemetryRecorder, *managers: LifecycleManager) -> None:
    await asyncio.gather(*(manager.aclose() for manager in managers))
    telemetry.close()
    await recorder.flush()
