"""Spans and metrics: what is written of what happens, what it may hold, and that it is free where nobody listens."""

import asyncio
import gzip
import json
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import pytest
from opentelemetry import trace
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

from oneiric.core import Secret
from oneiric.core.errors import ActivationError, LifecycleError
from oneiric.core.lifecycle import LifecycleManager
from oneiric.core.resolution import Candidate, Policy, Resolver
from oneiric.core.testing import FakeComponent
from oneiric.runtime._secret_redaction import REDACTOR
from oneiric.runtime._telemetry_queue import EventQueue
from oneiric.runtime._telemetry_spans import configured
from oneiric.runtime.settings import AppSettings, OneiricSettings
from oneiric.runtime.telemetry import (
    MOST_SERIES,
    OtelHandle,
    Telemetry,
    count,
    decision_id,
    inject_trace_context,
    measure,
    prometheus_text,
    setup_otel,
    span,
)

CANARY = "S3CR3T-of-telemetry-77"


class Listening:
    """An SDK that is set up, and the spans that were ended."""

    def __init__(self, handle: OtelHandle) -> None:
        self.handle = handle
        self._exporter = InMemorySpanExporter()
        assert isinstance(handle.tracer_provider, TracerProvider)
        handle.tracer_provider.add_span_processor(SimpleSpanProcessor(self._exporter))

    def spans(self, name: str | None = None) -> list[Any]:
        return [each for each in self._exporter.get_finished_spans() if name in {None, each.name}]

    def samples(self, name: str) -> dict[tuple[tuple[str, str], ...], float]:
        from prometheus_client.parser import text_string_to_metric_families  # noqa: PLC0415 - of an extra

        text = self.handle.prometheus_text()[0].decode()
        return {
            tuple(sorted((k, v) for k, v in sample.labels.items() if not k.startswith("otel_scope"))): sample.value
            for family in text_string_to_metric_families(text)
            for sample in family.samples
            if sample.name == name
        }


@pytest.fixture
def listening() -> Iterator[Listening]:
    settings = OneiricSettings(app=AppSettings(name="shop", environment="prod"))
    with setup_otel(settings, environ={}, record_spans=True) as handle:
        yield Listening(handle)


class Activity:
    def __init__(self, *, paused: bool = False, draining: bool = False) -> None:
        self.paused, self.draining, self.note = paused, draining, None


def manager(*candidates: Candidate) -> LifecycleManager:
    resolver = Resolver(Policy())
    resolver.apply(add=candidates)
    return LifecycleManager(resolver)


def cache(provider: str, factory: Callable[..., Any] = FakeComponent) -> Candidate:
    return Candidate(domain="adapter", key="cache", provider=provider, factory=factory)


async def test_a_swap_is_a_span_with_the_times_and_the_id_of_the_decision(listening: Listening) -> None:
    async with manager(cache("memory"), cache("redis")) as lifecycle:
        telemetry = Telemetry()
        telemetry.watch(lifecycle.resolver, lifecycle)
        await lifecycle.activate("adapter", "cache")
        await lifecycle.swap("adapter", "cache", "memory")
        revision = lifecycle.resolver.revision
        telemetry.close()
    first, second = listening.spans("lifecycle.swap")
    assert first.attributes["oneiric.provider"] == "redis"
    assert dict(second.attributes) == {
        "oneiric.domain": "adapter",
        "oneiric.key": "cache",
        "oneiric.provider": "memory",
        "oneiric.previous": "redis",
        "oneiric.generation": 2,
        "oneiric.lifecycle.success": True,
        "oneiric.lifecycle.duration_ms": pytest.approx((second.end_time - second.start_time) / 1e6, abs=0.01),
        "oneiric.revision": revision,
        "oneiric.decision.id": decision_id("adapter", "cache", None, revision),
    }
    entry = list(lifecycle.resolver.journal)[-2]
    assert (
        decision_id(entry.domain, entry.key, entry.tenant, entry.revision) == second.attributes["oneiric.decision.id"]
    )


async def test_a_failed_swap_is_a_failed_span_and_counted_by_its_step(listening: Listening) -> None:
    async with manager(cache("ill", lambda: FakeComponent({"health": "raise"}))) as lifecycle:
        telemetry = Telemetry()
        telemetry.watch(lifecycle.resolver, lifecycle)
        with pytest.raises(ActivationError):
            await lifecycle.activate("adapter", "cache")
        telemetry.close()
    (failed,) = listening.spans("lifecycle.swap")
    assert not failed.status.is_ok
    assert failed.attributes["oneiric.lifecycle.success"] is False
    assert failed.attributes["oneiric.step"] == "health"
    labels = (("domain", "adapter"), ("key", "cache"), ("provider", "ill"), ("step", "health"))
    assert listening.samples("oneiric_lifecycle_swap_failures_total") == {labels: 1}
    assert listening.samples("oneiric_lifecycle_generations") == {}


async def test_resolving_is_a_span_when_the_winner_changes_and_never_when_it_is_read(listening: Listening) -> None:
    lifecycle = manager(cache("memory"))
    resolver, telemetry = lifecycle.resolver, Telemetry()
    telemetry.watch(resolver)
    for _ in range(100):
        resolver.get("adapter", "cache")
        resolver.resolve("adapter", "cache")
        resolver.explain("adapter", "cache")
    telemetry.flush()
    assert listening.spans() == []
    resolver.register(cache("redis"))
    telemetry.close()
    (changed,) = listening.spans("resolver.resolve")
    assert changed.attributes["oneiric.provider"] == "redis"
    assert changed.attributes["oneiric.previous"] == "memory"
    assert changed.attributes["oneiric.decision.id"] == decision_id("adapter", "cache", None, resolver.revision)
    assert listening.samples("oneiric_resolver_winner_changes_total") == {(("domain", "adapter"),): 1}


async def test_a_swap_belongs_to_the_trace_of_who_asked(listening: Listening) -> None:
    async with manager(cache("memory")) as lifecycle:
        telemetry = Telemetry()
        telemetry.watch(lifecycle.resolver, lifecycle)
        with span("remote.sync", url="x"):
            await lifecycle.activate("adapter", "cache")
        telemetry.close()
    (asked,), (swap,) = listening.spans("remote.sync"), listening.spans("lifecycle.swap")
    assert swap.parent.span_id == asked.context.span_id


async def test_metrics_have_the_published_names_and_follow_what_is_alive(listening: Listening) -> None:
    async with manager(cache("memory")) as lifecycle:
        telemetry = Telemetry()
        telemetry.watch(lifecycle.resolver, lifecycle)
        for _ in range(5):
            await lifecycle.swap("adapter", "cache")
        telemetry.flush()
        labels = (("domain", "adapter"), ("key", "cache"), ("provider", "memory"))
        assert listening.samples("oneiric_lifecycle_swap_duration_ms_count") == {labels: 5}
        assert listening.samples("oneiric_lifecycle_generations") == {(("domain", "adapter"),): 1}
        assert listening.samples("oneiric_resolver_revision") == {(): lifecycle.resolver.revision}
        await lifecycle.retire("adapter", "cache")
        telemetry.close()
    assert listening.samples("oneiric_lifecycle_generations") == {(("domain", "adapter"),): 0}
    assert listening.samples("oneiric_lifecycle_retired_total") == {(("domain", "adapter"), ("key", "cache")): 1}


def test_pausing_draining_and_reloading_are_counted_when_they_change_something(listening: Listening) -> None:
    telemetry = Telemetry()
    telemetry.activity_changed("service", "pay", Activity(paused=True))
    telemetry.activity_changed("service", "pay", Activity(paused=True))
    telemetry.activity_changed("service", "pay", Activity(draining=True))
    telemetry.reloaded(accepted=True)
    telemetry.reloaded(accepted=False)
    pauses = listening.samples("oneiric_activity_pause_events_total")
    assert {dict(labels)["paused"]: value for labels, value in pauses.items()} == {"true": 1, "false": 1}
    assert sum(listening.samples("oneiric_activity_drain_events_total").values()) == 1
    assert listening.samples("oneiric_config_reloads_total") == {
        (("outcome", "accepted"),): 1, (("outcome", "refused"),): 1
    }  # fmt: skip


def test_a_flood_of_labels_ends_in_one_overflow_series(listening: Listening) -> None:
    for number in range(3 * MOST_SERIES):
        count("oneiric_remote_sync_failure_total", error=f"e{number}")
        measure("oneiric_event_handler_duration_ms", 1.0, handler=f"h{number}")
    for name in ("oneiric_remote_sync_failure_total", "oneiric_event_handler_duration_ms_count"):
        series = listening.samples(name)
        overflow = [value for labels, value in series.items() if dict(labels)["otel_metric_overflow"] == "true"]
        assert len(series) == MOST_SERIES
        assert overflow == [2 * MOST_SERIES + 1]


def test_no_count_from_any_thread_is_lost(listening: Listening) -> None:
    def many() -> None:
        for _ in range(5000):
            count("oneiric_supervisor_restarts_total", key="pay")

    threads = [threading.Thread(target=many) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert listening.samples("oneiric_supervisor_restarts_total") == {(("key", "pay"),): 20_000}


def test_a_hostile_label_is_one_line_of_the_page(listening: Listening) -> None:
    count("oneiric_remote_sync_failure_total", error='a"} 1\nfake_total 7\n# ' + "x" * 10_000)
    text = listening.handle.prometheus_text()[0].decode()
    assert not any(line.startswith("fake_total") for line in text.splitlines())
    assert len(text) < 5000


async def test_spans_nest_across_tasks_and_a_failed_one_tells_the_type_only(listening: Listening) -> None:
    async def handler() -> None:
        with span("event.handler", event_handler="h", missing=None) as opened:
            opened.set(attempts=2)
            raise ValueError("S3CR3T")

    with span("event.dispatch", event_topic="orders"):
        results = await asyncio.gather(handler(), handler(), return_exceptions=True)
    assert len(results) == 2
    first, second, outer = listening.spans()
    assert {first.parent.span_id, second.parent.span_id} == {outer.context.span_id}
    assert dict(first.attributes) == {"oneiric.event.handler": "h", "oneiric.attempts": 2, "error.type": "ValueError"}
    assert dict(outer.attributes) == {"oneiric.event.topic": "orders"}
    assert "S3CR3T" not in first.to_json()


def test_the_trace_can_be_handed_on(listening: Listening) -> None:
    headers: dict[str, str] = {}
    inject_trace_context(headers)
    assert headers == {}
    with span("workflow.run"):
        inject_trace_context(headers)
    (run,) = listening.spans()
    assert f"{run.context.trace_id:032x}" in headers["traceparent"]


def test_a_trace_that_nobody_records_has_ids_and_is_not_handed_on() -> None:
    headers: dict[str, str] = {}
    with setup_otel(environ={}), span("workflow.run"):
        context = trace.get_current_span().get_span_context()
        inject_trace_context(headers)
    assert context.is_valid
    assert headers == {}


def test_the_application_is_the_resource(listening: Listening) -> None:
    attributes = listening.handle.meter_provider._sdk_config.resource.attributes
    assert attributes["service.name"] == "shop"
    assert attributes["deployment.environment"] == "prod"


def test_one_set_up_at_a_time_and_again_after_a_shutdown(listening: Listening) -> None:
    with pytest.raises(LifecycleError, match="set up already"):
        setup_otel(environ={})
    listening.handle.shutdown()
    listening.handle.shutdown()
    assert prometheus_text()[0] == b""
    with setup_otel(environ={}):
        count("oneiric_supervisor_restarts_total")
        text, content_type = prometheus_text()
    assert b"oneiric_supervisor_restarts_total" in text
    assert content_type.startswith("text/plain")


SENDER = """
from oneiric.runtime.telemetry import count, setup_otel, span
handle = setup_otel()
with span("workflow.run", workflow="nightly"):
    count("oneiric_supervisor_restarts_total", key="pay")
handle.shutdown()
"""


class Collector(ThreadingHTTPServer):
    """Takes what is sent by OTLP; a real server, and the receiver's part of the protocol."""

    def __init__(self) -> None:
        self.received: dict[str, bytes] = {}
        collector = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["content-length"]))
                if self.headers.get("content-encoding") == "gzip":
                    body = gzip.decompress(body)
                collector.received[self.path] = body
                self.send_response(200)
                self.end_headers()

            def log_message(self, *_: object) -> None:
                pass

        super().__init__(("127.0.0.1", 0), Handler)


@pytest.mark.parametrize(
    ("asked", "received"),
    [
        ({}, set()),
        ({"OTEL_EXPORTER_OTLP_ENDPOINT": "{url}"}, {"/v1/traces", "/v1/metrics"}),
        ({"OTEL_EXPORTER_OTLP_TRACES_ENDPOINT": "{url}/spans"}, {"/spans"}),
        ({"OTEL_EXPORTER_OTLP_ENDPOINT": "{url}", "OTEL_METRICS_EXPORTER": "none"}, {"/v1/traces"}),
    ],
)
def test_otlp_is_sent_where_the_standard_variables_ask_for_it(asked: dict[str, str], received: set[str]) -> None:
    with Collector() as collector:
        thread = threading.Thread(target=collector.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        url = f"http://127.0.0.1:{collector.server_port}"
        environ = {name: value.format(url=url) for name, value in asked.items()} | {"OTEL_SERVICE_NAME": "orders"}
        done = subprocess.run(
            [sys.executable, "-c", SENDER], env=environ, capture_output=True, text=True, timeout=60, check=False
        )
        collector.shutdown()
        thread.join()
    assert done.returncode == 0, done.stderr
    assert set(collector.received) == received
    for path, body in collector.received.items():
        assert b"orders" in body
        assert (b"oneiric_supervisor_restarts_total" if "metrics" in path else b"workflow.run") in body


FREE = """
import sys, json, time
from oneiric.runtime.telemetry import Telemetry, count, span, measure, prometheus_text, inject_trace_context
with span("workflow.run", workflow="w") as opened:
    opened.set(a=1)
count("x_total"); measure("y_ms", 1.0); inject_trace_context({})
assert prometheus_text()[0] == b""
loaded = [name for name in sys.modules if name.startswith(("opentelemetry", "prometheus", "structlog", "pydantic"))]
print(json.dumps(loaded))
"""


def test_without_an_sdk_nothing_is_even_imported() -> None:
    done = subprocess.run([sys.executable, "-c", FREE], capture_output=True, text=True, check=True)
    assert json.loads(done.stdout) == []


def test_an_sdk_that_the_host_configured_is_used() -> None:
    code = """
from opentelemetry import trace, metrics
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import InMemoryMetricReader
from oneiric.runtime.telemetry import count, span
with span("before"): pass
reader = InMemoryMetricReader()
trace.set_tracer_provider(TracerProvider()); metrics.set_meter_provider(MeterProvider([reader]))
with span("after"):
    assert trace.get_current_span().get_span_context().is_valid
count("oneiric_supervisor_restarts_total")
assert "oneiric_supervisor_restarts_total" in reader.get_metrics_data().to_json()
from oneiric.runtime.telemetry import setup_otel, prometheus_text
host = trace.get_tracer_provider()
with setup_otel() as handle:
    assert handle.tracer_provider is host
    count("oneiric_supervisor_restarts_total")
    assert b"oneiric_supervisor_restarts_total" in prometheus_text()[0]
with span("goes on"):
    assert trace.get_current_span().is_recording()
print("good")
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.stdout == "good\n", done.stderr


async def test_events_are_handed_on_in_their_order_a_moment_later_and_in_turns() -> None:
    told: list[object] = []
    done, turns = asyncio.Event(), 0

    def tell(event: object) -> None:
        told.append(event)
        if len(told) == 500:
            done.set()

    queue = EventQueue(tell, delay_seconds=0)
    for number in range(500):
        queue.put(number)
    assert told == []
    while not done.is_set():
        await asyncio.sleep(0)
        turns += 1
    assert told == list(range(500))
    assert turns > 10


async def test_events_of_threads_are_handed_on_and_none_is_lost() -> None:
    told: list[int] = []
    done = asyncio.Event()

    def tell(event: int) -> None:
        told.append(event)
        if len(told) == 4001:
            done.set()

    queue = EventQueue(tell, delay_seconds=0)
    queue.put(-1)

    def put_many() -> None:
        for number in range(1000):
            queue.put(number)

    await asyncio.gather(*(asyncio.to_thread(put_many) for _ in range(4)))
    await asyncio.wait_for(done.wait(), 60)

    assert sorted(told) == sorted([-1, *list(range(1000)) * 4])


async def test_a_thread_that_goes_on_only_after_its_event_was_handed_on_stops_nothing() -> None:
    told: asyncio.Queue[int] = asyncio.Queue()
    loop, queue = asyncio.get_running_loop(), EventQueue(told.put_nowait, delay_seconds=0)
    turned = threading.Event()

    class Slow:
        def call_soon_threadsafe(self, call: Callable[[], None]) -> None:
            loop.call_soon_threadsafe(call)
            assert turned.wait(60)

    queue.put(1)
    assert await told.get() == 1
    await asyncio.sleep(0)
    queue._loop = Slow()  # type: ignore[assignment]  # stands for a thread that is not given the processor
    putting = asyncio.create_task(asyncio.to_thread(queue.put, 2))
    async with asyncio.timeout(60):
        assert await told.get() == 2
        await asyncio.sleep(0)
        turned.set()
        await putting
        queue.put(3)
        assert await told.get() == 3


def test_events_without_a_loop_are_handed_on_at_once() -> None:
    told: list[object] = []
    queue = EventQueue(told.append)
    queue.put(1)
    assert told == [1]

    async def in_a_loop() -> None:
        queue.put(2)

    asyncio.run(in_a_loop())
    queue.flush()
    queue.put(3)
    queue.flush()
    assert told == [1, 2, 3]


async def test_what_waits_is_bounded_by_who_puts_more() -> None:
    told: list[object] = []
    queue = EventQueue(told.append, delay_seconds=60, most=10)
    for number in range(12):
        queue.put(number)
    assert len(told) >= 11
    queue.flush()
    assert told == list(range(12))


async def test_one_observer_that_fails_keeps_no_other_from_being_told() -> None:
    told: list[object] = []
    reported: list[object] = []
    asyncio.get_running_loop().set_exception_handler(lambda _, context: reported.append(context["exception"]))

    def broken(_: object) -> None:
        raise KeyError("mine")

    async with manager(cache("memory")) as lifecycle:
        telemetry = Telemetry(also=[broken, told.append])
        telemetry.watch(lifecycle.resolver, lifecycle)
        await lifecycle.activate("adapter", "cache")
        telemetry.close()
        await lifecycle.swap("adapter", "cache")
    assert [type(event).__name__ for event in told] == ["Bound"]
    assert [type(error) for error in reported] == [KeyError]


def test_a_known_secret_is_in_no_attribute_and_no_label(listening: Listening) -> None:
    REDACTOR.add(Secret(CANARY))
    with span("remote.sync", url=f"https://host/?key={CANARY}") as opened:
        opened.set(reason=CANARY)
    count("oneiric_remote_sync_failure_total", error=f"{'x' * 120} {CANARY}")
    assert CANARY[:6] not in listening.handle.prometheus_text()[0].decode()
    assert CANARY not in listening.spans()[0].to_json()


def test_a_provider_is_found_also_where_a_release_keeps_it_elsewhere() -> None:
    """What is looked at for speed is private to the API; what is public says the same."""
    for module, kept, ask in (
        ("opentelemetry.trace", "_TRACER_PROVIDER", "get_tracer_provider"),
        ("opentelemetry.metrics._internal", "_METER_PROVIDER", "get_meter_provider"),
    ):
        assert hasattr(sys.modules[module], kept)
        assert configured(module, kept, ask) is configured(module, "_moved", ask)


def test_a_decision_has_one_id() -> None:
    assert decision_id("adapter", "cache", None, 7) == decision_id("adapter", "cache", None, 7)
    asked = {decision_id(*each) for each in [("a", "b", None, 1), ("a", "b", "", 1), ("a", "b", "t", 1),
                                             ("ab", "", None, 1), ("a", "b", None, 2)]}  # fmt: skip
    assert len(asked) == 5
