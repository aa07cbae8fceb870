"""What a workflow tells: a span and metrics for each run and node, and a record for the status files."""

from collections.abc import Iterator
from typing import Any

import pytest
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from tests.runtime._workflows import Tasks, engine_of, node, workflow

from oneiric.core.errors import NodeError
from oneiric.runtime.settings import AppSettings, OneiricSettings
from oneiric.runtime.telemetry import setup_otel

CANARY = "S3CR3T-of-workflows-12"


@pytest.fixture
def listening() -> Iterator[tuple[InMemorySpanExporter, Any]]:
    exporter = InMemorySpanExporter()
    with setup_otel(OneiricSettings(app=AppSettings(name="shop")), environ={}, record_spans=True) as handle:
        assert isinstance(handle.tracer_provider, TracerProvider)
        handle.tracer_provider.add_span_processor(SimpleSpanProcessor(exporter))
        yield exporter, handle


async def test_each_run_and_each_node_has_a_span_and_what_they_hold_is_not_in_it(listening: Any) -> None:
    exporter, handle = listening

    def fail(_: Any) -> None:
        raise ValueError(CANARY)

    inner = workflow(node("x"), key="inner")
    spec = workflow(node("a"), node("sub", "a", workflow="inner"), node("b", "sub", task="fail"))
    with pytest.raises(NodeError):
        await engine_of(Tasks(fail=fail), spec, inner).run("w", {"password": CANARY}, run_id="r")
    spans = [each for each in exporter.get_finished_spans() if each.name.startswith("workflow.")]
    assert sorted(each.name for each in spans) == ["workflow.node"] * 4 + ["workflow.run"] * 2
    by_id = {each.context.span_id: each for each in spans}
    for each in spans:
        assert CANARY not in str(each.attributes)
        if each.name == "workflow.node":
            assert by_id[each.parent.span_id].name == "workflow.run"
    text = handle.prometheus_text()[0].decode()
    assert "oneiric_workflow_node_duration_ms" in text
    assert "oneiric_workflow_node_failures_total{" in text
    assert CANARY not in text
