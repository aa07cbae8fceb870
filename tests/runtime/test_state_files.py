"""The files for readers outside the process: their published shapes, their bounds, and what a damaged one does."""

import asyncio
import json
import random
from pathlib import Path
from typing import Any

import pytest
from jsonschema import Draft202012Validator, FormatChecker

from oneiric.core import Secret
from oneiric.core.errors import ActivationError
from oneiric.core.events import Bound, CleanedUp, SwapFailed
from oneiric.core.lifecycle import LifecycleManager
from oneiric.core.resolution import Candidate, Policy, Resolver
from oneiric.core.testing import DrivenClock, FakeComponent
from oneiric.runtime._secret_redaction import REDACTOR, Redactor
from oneiric.runtime.state_files import (
    HEALTH_FILE,
    LIFECYCLE_FILE,
    TELEMETRY_FILE,
    EventRecord,
    HandlerRecord,
    HealthFile,
    NodeRecord,
    RuntimeTelemetryRecorder,
    WorkflowRecord,
    json_schema,
    read_health,
    read_lifecycle,
    read_telemetry,
)

SLOT: dict[str, Any] = {"at": 5.0, "domain": "adapter", "key": "cache", "tenant": None, "generation": 1}
BOUND = Bound(**SLOT, provider="redis", previous=None, duration_seconds=0.25, in_flight=0, revision=3)
FAILED = SwapFailed(**SLOT, provider="memory", step="health", reason="ill", rolled_back=True, revision=4)
READERS = {HEALTH_FILE: read_health, TELEMETRY_FILE: read_telemetry, LIFECYCLE_FILE: read_lifecycle}


def conforms(file: str, document: object) -> bool:
    """Whether the document that a reader would get is one of the published schema."""
    validator = Draft202012Validator(json_schema(file), format_checker=FormatChecker())
    validator.validate(json.loads(json.dumps(document, allow_nan=False)))
    return True


class Activity:
    def __init__(self, note: str | None = None) -> None:
        self.paused, self.draining, self.note = True, False, note


@pytest.mark.parametrize("file", [HEALTH_FILE, TELEMETRY_FILE, LIFECYCLE_FILE])
def test_the_schemas_are_schemas(file: str) -> None:
    Draft202012Validator.check_schema(json_schema(file))
    assert json_schema(file)["title"] == file


async def test_telemetry_holds_the_last_event_and_workflow_and_a_history(tmp_path: Path) -> None:
    recorder = RuntimeTelemetryRecorder(tmp_path / TELEMETRY_FILE, clock=DrivenClock(60.0))
    assert conforms(TELEMETRY_FILE, recorder.as_dict())
    handlers = [
        HandlerRecord(handler="a", success=True, duration_ms=1.5),
        HandlerRecord(handler="b", success=False, duration_ms=2.0, attempts=3, error="KeyError"),
    ]
    recorder.event(EventRecord(topic="orders", handlers=handlers, total_duration_ms=4.0))
    nodes = [
        NodeRecord(node="one", task="load", duration_ms=1.0, retry_policy={"attempts": 3, "odd": object()}),
        NodeRecord(node="two", task="send", depends_on=["one"], status="failed", error="x" * 9000),
    ]
    workflow = WorkflowRecord(workflow="nightly", run_id="r1", status="failed", nodes=nodes, total_duration_ms=2.0)
    recorder.workflow(workflow)
    recorder.reload(accepted=False, version=2, digest="abc", by="signal", reason="settings.yml: no such key")
    for event in (BOUND, FAILED, CleanedUp(**SLOT, provider="redis")):
        recorder(event)
    await recorder.flush()
    document = read_telemetry(tmp_path).document
    assert conforms(TELEMETRY_FILE, document)
    assert document["last_event"] == {
        "topic": "orders", "matched_handlers": 2, "failures": 1, "total_duration_ms": 4.0,
        "handlers": [
            {"handler": "a", "success": True, "duration_ms": 1.5, "attempts": 1, "error": None},
            {"handler": "b", "success": False, "duration_ms": 2.0, "attempts": 3, "error": "KeyError"},
        ],
        "recorded_at": "1970-01-01T00:01:00+00:00",
    }  # fmt: skip
    assert document["last_workflow"]["entry_nodes"] == ["one"]
    assert [node["node"] for node in document["last_workflow"]["nodes"]] == ["one", "two"]
    history = document["history"]
    assert [node["node"] for node in history["workflows"][0]["nodes"]] == ["two"]
    assert [(swap["provider"], swap["success"]) for swap in history["swaps"]] == [("redis", True), ("memory", False)]
    assert history["reloads"][0]["reason"] == "settings.yml: no such key"


async def test_history_is_bounded_and_survives_a_restart(tmp_path: Path) -> None:
    recorder = RuntimeTelemetryRecorder(tmp_path / TELEMETRY_FILE, history=10)
    for number in range(25):
        recorder.event(EventRecord(topic=f"t{number}", total_duration_ms=1.0))
    await recorder.flush()
    again = RuntimeTelemetryRecorder(tmp_path / TELEMETRY_FILE, history=10)
    again.event(EventRecord(topic="t25", total_duration_ms=1.0))
    document = again.as_dict()
    assert [entry["topic"] for entry in document["history"]["events"]] == [f"t{number}" for number in range(16, 26)]
    assert document["last_event"]["topic"] == "t25"


async def test_the_file_stays_small_whatever_is_recorded(tmp_path: Path) -> None:
    # Not the process's redactor: it looks in every long text for the secrets of all tests before this one.
    recorder = RuntimeTelemetryRecorder(tmp_path / TELEMETRY_FILE, redact=Redactor().mask)
    long = "x" * 100_000
    handlers = [HandlerRecord(handler=long, success=False, duration_ms=1.0, error=long)] * 1000
    nodes = [NodeRecord(node=long, task=long, depends_on=[long] * 3, status="failed", error=long)] * 1000
    for _ in range(150):
        recorder.event(EventRecord(topic=long, handlers=handlers, total_duration_ms=1.0))
        recorder.workflow(WorkflowRecord(workflow=long, nodes=nodes, total_duration_ms=1.0, error=long))
        recorder.reload(accepted=False, reason=long)
        recorder(FAILED)
    await recorder.flush()
    assert recorder.last_error is None
    assert recorder.path.stat().st_size < 8 * 1024 * 1024
    assert conforms(TELEMETRY_FILE, read_telemetry(tmp_path).document)


async def test_secrets_are_taken_out_before_they_are_kept(tmp_path: Path) -> None:
    def redact(document: Any) -> Any:
        return json.loads(json.dumps(document).replace("S3CR3T", "***"))

    recorder = RuntimeTelemetryRecorder(tmp_path / TELEMETRY_FILE, redact=redact)
    failed = HandlerRecord(handler="a", success=False, duration_ms=1.0, error="S3CR3T")
    recorder.event(EventRecord(topic="S3CR3T", handlers=[failed], total_duration_ms=1.0))
    recorder.reload(accepted=False, reason="S3CR3T")
    health = HealthFile(
        tmp_path / HEALTH_FILE, statuses=list, activity=lambda: {"a": {"k": Activity("S3CR3T")}}, redact=redact
    )
    await health.start()
    await recorder.flush()
    assert "S3CR3T" not in json.dumps(recorder.as_dict())
    assert all("S3CR3T" not in path.read_text() for path in (recorder.path, health.path))


async def test_secrets_the_process_knows_of_are_taken_out_by_default(tmp_path: Path) -> None:
    secret = "S3CR3T-of-state-files-0123456789"
    REDACTOR.add(Secret(secret))
    recorder = RuntimeTelemetryRecorder(tmp_path / TELEMETRY_FILE)
    for before in range(460, 505, 5):
        recorder.reload(accepted=False, reason="x" * before + secret)
    await recorder.flush()
    health = HealthFile(tmp_path / HEALTH_FILE, statuses=list, activity=lambda: {"a": {"k": Activity(secret)}})
    await health.start()
    for path in (recorder.path, health.path):
        assert "S3CR3T" not in path.read_text()


async def test_health_holds_the_published_fields_and_every_slot(tmp_path: Path) -> None:
    def ill() -> FakeComponent:
        return FakeComponent({"health": "raise"})

    resolver = Resolver(Policy())
    resolver.apply(
        add=[
            Candidate(domain="adapter", key="cache", provider="memory", factory=FakeComponent),
            Candidate(domain="service", key="pay", provider="ill", factory=ill),
        ]
    )
    async with LifecycleManager(resolver, status_snapshot_path=tmp_path / LIFECYCLE_FILE) as lifecycle:
        health = HealthFile(
            tmp_path / HEALTH_FILE,
            statuses=lifecycle.all_statuses,
            activity=lambda: {"service": {"pay": Activity("by hand")}},
            remote_enabled=True,
            clock=DrivenClock(60.0),
        )
        assert conforms(HEALTH_FILE, health.as_dict())
        await lifecycle.activate("adapter", "cache")
        await lifecycle.swap("adapter", "cache", "memory", tenant="acme")
        with pytest.raises(ActivationError):
            await lifecycle.activate("service", "pay")
        health.watchers(running=True)
        health.remote_synced(duration_ms=12.5, registered=3, per_domain={"adapter": 3})
        health.remote_synced(duration_ms=1.0, error="no route")
        await health.start()
        document = read_health(tmp_path).document
        assert conforms(HEALTH_FILE, document)
        assert set(document["lifecycle_state"]["adapter"]) == {"cache", "cache@acme"}
        assert document["lifecycle_state"]["service"]["pay"]["state"] == "failed"
        assert document["activity_state"]["service"]["pay"] == {"paused": True, "draining": False, "note": "by hand"}
        facts = {name: document[name] for name in document if name.startswith("last_remote")}
        assert facts == {
            "last_remote_sync_at": "1970-01-01T00:01:00+00:00", "last_remote_error": "no route",
            "last_remote_registered": 3, "last_remote_per_domain": {"adapter": 3}, "last_remote_skipped": 0,
            "last_remote_duration_ms": 1.0,
        }  # fmt: skip
        assert document["watchers_running"] is document["remote_enabled"] is True
        await health.stop()
        await health.stop()
        assert read_health(tmp_path).document["orchestrator_pid"] is None
    assert conforms(LIFECYCLE_FILE, read_lifecycle(tmp_path).document)
    assert len(read_lifecycle(tmp_path).document) == 3


async def test_a_change_is_in_the_file_soon_and_none_is_written_once_stopped(tmp_path: Path) -> None:
    statuses: list[Any] = []
    health = HealthFile(tmp_path / HEALTH_FILE, statuses=lambda: statuses)
    health.changed(BOUND)
    await health.stop()
    assert not health.path.exists()
    await health.start()
    before = health.path.stat().st_ino
    health.changed(BOUND)

    async def rewritten() -> None:
        while health.path.stat().st_ino == before:  # noqa: ASYNC110 - what a reader outside would do
            await asyncio.sleep(0.01)

    await asyncio.wait_for(rewritten(), 60)
    await health.stop()


@pytest.mark.parametrize("file", [HEALTH_FILE, TELEMETRY_FILE, LIFECYCLE_FILE])
def test_a_damaged_file_is_a_sentence_and_a_missing_one_is_none(tmp_path: Path, file: str) -> None:
    read, path = READERS[file], tmp_path / file
    assert (read(tmp_path).document, read(tmp_path).problem) == (None, None)
    for text in ("", "{", "null", "7", '"text"', '[[1], "x"]', '{"history": 7}', '{"activity_state": [1]}', "\x00\xff"):
        path.write_text(text)
        reading = read(tmp_path)
        assert reading.document is None
        assert reading.problem is not None
        assert str(path) in reading.problem
        assert "\n" not in reading.problem
    path.unlink()
    path.mkdir()
    assert "cannot be read" in str(read(tmp_path).problem)


def test_random_damage_never_raises(tmp_path: Path) -> None:
    dice = random.Random(11)  # noqa: S311 - dice of a test
    recorder = RuntimeTelemetryRecorder(tmp_path / TELEMETRY_FILE)
    recorder.reload(accepted=True)
    recorder(BOUND)
    whole = json.dumps(recorder.as_dict()).encode()
    for _ in range(300):
        damaged = bytearray(whole)
        for _ in range(3):
            damaged[dice.randrange(len(damaged))] = dice.choice(b'0{}[],:"\x00\xff')
        for file, read in READERS.items():
            (tmp_path / file).write_bytes(damaged)
            reading = read(tmp_path)
            assert (reading.document is None) is (reading.problem is not None)
        RuntimeTelemetryRecorder(tmp_path / TELEMETRY_FILE).reload(accepted=True)


def test_a_file_of_a_newer_version_is_not_misread(tmp_path: Path) -> None:
    (tmp_path / HEALTH_FILE).write_text('{"schema": 99, "lifecycle_state": {}}')
    assert "a newer Oneiric wrote it" in str(read_health(tmp_path).problem)


async def test_a_damaged_history_is_told_and_started_anew(tmp_path: Path) -> None:
    (tmp_path / TELEMETRY_FILE).write_text("{")
    recorder = RuntimeTelemetryRecorder(tmp_path / TELEMETRY_FILE)
    assert "cannot be read" in str(recorder.problem)
    recorder.reload(accepted=True)
    await recorder.flush()
    assert len(read_telemetry(tmp_path).document["history"]["reloads"]) == 1


def test_the_path_of_the_health_file_can_be_said(tmp_path: Path) -> None:
    (tmp_path / "mine.json").write_text('{"lifecycle_state": {}}')
    assert read_health("nowhere", path=tmp_path / "mine.json").document == {"lifecycle_state": {}}
