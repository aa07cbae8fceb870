"""Events, schedules and deliveries are seen: spans that hang together, metrics by name, and nothing that grows."""

import asyncio
from collections.abc import Iterator
from typing import Any

import pytest
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

from oneiric.core.lifecycle import LifecycleManager
from oneiric.core.resolution import Candidate, Resolver
from oneiric.core.testing import DrivenClock, run_driven
from oneiric.domains import EventBridge
from oneiric.runtime.dead_letters import DeadLetterStore
from oneiric.runtime.events import EventEnvelope
from oneiric.runtime.scheduler import Schedule, Scheduler, ScheduleStore
from oneiric.runtime.telemetry import OtelHandle, setup_otel


@pytest.fixture
def handle() -> Iterator[OtelHandle]:
    with setup_otel(environ={}, record_spans=True) as built:
        yield built


@pytest.fixture
def spans(handle: OtelHandle) -> InMemorySpanExporter:
    exporter = InMemorySpanExporter()
    assert isinstance(handle.tracer_provider, TracerProvider)
    handle.tracer_provider.add_span_processor(SimpleSpanProcessor(exporter))
    return exporter


def lines(handle: OtelHandle, name: str) -> list[str]:
    return [line for line in handle.prometheus_text()[0].decode().splitlines() if line.startswith(name)]


class Handler:
    async def handle(self, envelope: EventEnvelope) -> None:
        if envelope.payload == "bad":
            raise OSError("gone")


async def test_an_event_is_a_span_with_one_for_each_handler_below(
    handle: OtelHandle, spans: InMemorySpanExporter
) -> None:
    resolver = Resolver()
    async with LifecycleManager(resolver) as lifecycle, DeadLetterStore() as letters:
        events = EventBridge(resolver=resolver, lifecycle=lifecycle, dead_letters=letters)
        for key in ("mail", "archive"):
            resolver.register(Candidate(domain="event", key=key, provider="p", factory=Handler))
        await events.emit("orders.created", "good")
        await events.emit(f"orders.{'x' * 100}", "bad")
    found: list[Any] = [each for each in spans.get_finished_spans() if each.name.startswith("event.")]
    assert [each.name for each in found] == ["event.handler", "event.handler", "event.dispatch"] * 2
    first = found[2]
    assert first.attributes["oneiric.event.topic"] == "orders.created"
    assert {each.parent.span_id for each in found[:2]} == {first.context.span_id}
    assert [each.attributes["oneiric.event.handler"] for each in found[:2]] == ["archive:p", "mail:p"]
    assert [each.status.is_ok for each in found] == [True, True, True, False, False, True]
    assert len(lines(handle, "oneiric_event_handler_failures_total{")) == 2
    assert not any("orders" in line for line in lines(handle, "oneiric_event"))
    assert lines(handle, "oneiric_dead_letters_total{")[0].endswith(" 2.0")


def test_a_slot_is_a_span_and_its_outcome_is_counted(handle: OtelHandle, spans: InMemorySpanExporter) -> None:
    class Port:
        async def fire(self, schedule: Schedule, slot_time: float, idempotency_key: str) -> None:
            if slot_time == 120:
                raise OSError("gone")

    clock = DrivenClock()

    async def scenario() -> None:
        store = ScheduleStore(clock=clock)
        scheduler = Scheduler(store, Port(), clock=clock)
        await scheduler.start()
        await store.add(Schedule(name="s", target="task:x", every_seconds=60))
        await asyncio.sleep(121)
        await scheduler.stop()

    run_driven(scenario(), clock)
    fired: list[Any] = [each for each in spans.get_finished_spans() if each.name == "schedule.fire"]
    assert [each.attributes["oneiric.schedule"] for each in fired] == ["s", "s"]
    counted = lines(handle, "oneiric_schedule_slots_total{")
    assert [('outcome="done"' in line, 'outcome="failed"' in line) for line in sorted(counted)] == [
        (True, False),
        (False, True),
    ]
