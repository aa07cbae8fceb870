"""Deliveries over real HTTP: each done once, answered always, and never delivered for ever."""

import asyncio
import base64
import json
import ssl
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest

from oneiric.core import Secret
from oneiric.core.errors import CandidateNotFoundError, ConfigurationError, PausedError, WorkflowError
from oneiric.core.lifecycle import LifecycleManager
from oneiric.core.resolution import Candidate, Resolver
from oneiric.core.testing import run_driven
from oneiric.domains import EventBridge
from oneiric.runtime.control import HmacSigner
from oneiric.runtime.dead_letters import DEAD_LETTERS_FILE, DeadLetterStore
from oneiric.runtime.deliveries import (
    DELIVERIES_FILE,
    Answer,
    DeliveryStore,
    SchedulerHTTPServer,
    WorkflowDelivery,
)
from oneiric.runtime.events import EventDispatcher, EventEnvelope, EventHandler
from oneiric.runtime.settings import HttpSettings

NO_TLS = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
TASK = {"X-CloudTasks-TaskName": "t-1", "X-CloudTasks-QueueName": "q"}
PUBSUB = {"User-Agent": "CloudPubSub-Google"}


class Processor:
    """Runs nothing: notes what it is asked, and takes as long or fails as it is told."""

    def __init__(self) -> None:
        self.runs: list[tuple[WorkflowDelivery, str]] = []
        self.fault: Exception | None = None
        self.gate: asyncio.Event | None = None
        self.begun = asyncio.Event()
        self.results: Any = {"extract": {"rows": 3}, "when": complex(1, 2)}

    async def process(self, delivery: WorkflowDelivery, run_id: str) -> Mapping[str, Any]:
        self.runs.append((delivery, run_id))
        self.begun.set()
        if self.gate is not None:
            await self.gate.wait()
        if self.fault is not None:
            raise self.fault
        results: Mapping[str, Any] = self.results
        return results


class Site:
    """A server of deliveries, what it runs, and what it keeps."""

    def __init__(self, directory: Path, **options: Any) -> None:
        self.processor = Processor()
        self.seen: list[EventEnvelope] = []
        self.store = DeliveryStore(directory / DELIVERIES_FILE)
        self.letters = DeadLetterStore(directory / DEAD_LETTERS_FILE)
        self.events = EventDispatcher(dead_letter=self.letters.keep)
        self.events.subscribe(EventHandler(name="seen", call=self.note, topics=("orders.*",)))
        settings = HttpSettings.model_validate({"port": 0} | options.pop("settings", {}))
        given: dict[str, Any] = {"store": self.store, "dead_letters": self.letters, "events": self.events} | options
        self.server = SchedulerHTTPServer(self.processor, settings=settings, **given)

    async def note(self, envelope: EventEnvelope) -> None:
        self.seen.append(envelope)

    async def post(self, path: str, sent: Any, headers: Mapping[str, str] = {}, **more: Any) -> httpx.Response:
        body = sent if isinstance(sent, bytes) else json.dumps(sent).encode()
        base = f"http://127.0.0.1:{self.server.port}"
        async with httpx.AsyncClient(base_url=base, trust_env=False, verify=NO_TLS, timeout=60) as client:
            return await client.request(more.pop("method", "POST"), path, content=body, headers=headers, **more)

    async def run(self, sent: Any, headers: Mapping[str, str] = {}) -> httpx.Response:
        return await self.post("/tasks/workflow", sent, headers)

    async def push(self, sent: Any, headers: Mapping[str, str] = {}) -> httpx.Response:
        return await self.post("/events/push", sent, headers)

    async def kept(self) -> list[tuple[str, str, str]]:
        return [(each.kind, each.subject, each.reason) for each in await self.letters.letters()]


type Serve = Callable[..., AbstractAsyncContextManager[Site]]


@pytest.fixture
def serve(tmp_path: Path) -> Serve:
    @asynccontextmanager
    async def serving(**options: Any) -> AsyncIterator[Site]:
        site = Site(tmp_path, **options)
        await site.server.start()
        try:
            yield site
        finally:
            await site.server.stop()
            await site.server.stop()

    return serving


async def test_a_task_runs_its_workflow_and_is_told_what_came_of_it(serve: Serve) -> None:
    async with serve() as site:
        sent = {"workflow": "nightly", "run_id": "r-1", "context": {"a": 1}, "metadata": {"m": 2}, "queued_at": "x"}
        answer = await site.run(sent, {**TASK, "X-CloudTasks-TaskRetryCount": "2"})
        assert answer.status_code == 200
        document = answer.json()
        result = document["result"]
        assert (document["status"], result["workflow"], result["run_id"]) == ("completed", "nightly", "r-1")
        assert (result["workflow_provider"], result["metadata"]) == (None, {"m": 2})
        assert result["results"] == {"extract": {"rows": 3}, "when": "(1+2j)"}
        assert "processed_at" in result
        delivery, run_id = site.processor.runs[0]
        assert (delivery.context, delivery.idempotency_key, delivery.attempt) == ({"a": 1}, 'task:["q", "t-1"]', 3)
        assert run_id == "r-1"


async def test_the_same_task_delivered_again_is_answered_and_not_run_again(serve: Serve) -> None:
    async with serve() as site:
        first = await site.run({"workflow": "nightly"}, TASK)
        second = await site.run({"workflow": "nightly"}, TASK)
        other = await site.run({"workflow": "nightly"}, {**TASK, "X-CloudTasks-TaskName": "t-2"})
        assert first.json() == second.json()
        assert "idempotent-replayed" not in first.headers
        assert second.headers["idempotent-replayed"] == "true"
        assert other.json()["result"]["run_id"] != first.json()["result"]["run_id"]
        assert len(site.processor.runs) == 2


async def test_what_was_done_before_a_restart_is_not_done_again(serve: Serve) -> None:
    async with serve() as site:
        first = await site.run({"workflow": "nightly"}, TASK)
    async with serve() as site:
        assert (await site.run({"workflow": "nightly"}, TASK)).json() == first.json()
        assert site.processor.runs == []


async def test_fifty_deliveries_of_one_task_at_the_same_time_have_one_effect(serve: Serve) -> None:
    async with serve() as site:
        site.processor.gate = asyncio.Event()
        sent = [asyncio.create_task(site.run({"workflow": "nightly"}, TASK)) for _ in range(50)]
        await site.processor.begun.wait()
        site.processor.gate.set()
        answers = await asyncio.gather(*sent)
        assert [answer.status_code for answer in answers] == [200] * 50
        assert len({answer.text for answer in answers}) == 1
        assert len(site.processor.runs) == 1


async def test_a_delivery_that_another_process_is_about_is_asked_to_come_again(serve: Serve, tmp_path: Path) -> None:
    async with serve() as site, DeliveryStore(tmp_path / DELIVERIES_FILE) as elsewhere:
        attempt = await elsewhere.begin('task:["q", "t-1"]')
        answer = await site.run({"workflow": "nightly"}, TASK)
        assert (answer.status_code, answer.json()["error"]) == (503, "delivery-in-progress")
        assert int(answer.headers["retry-after"]) > 0
        assert isinstance(attempt, int)
        await elsewhere.release('task:["q", "t-1"]', attempt)
        assert (await site.run({"workflow": "nightly"}, TASK)).status_code == 200
        late = Answer(status=200, document={"status": "late"})
        assert not await elsewhere.finish('task:["q", "t-1"]', attempt, late)


@pytest.mark.parametrize(
    ("fault", "status", "code"),
    [
        (PausedError("workflow", "nightly"), 503, "workflow-paused"),
        (ValueError("a secret"), 500, "workflow-execution-failed"),
    ],
)
async def test_what_may_succeed_next_time_is_delivered_again(
    serve: Serve, fault: Exception, status: int, code: str
) -> None:
    async with serve() as site:
        site.processor.fault = fault
        answer = await site.run({"workflow": "nightly"}, TASK)
        assert (answer.status_code, answer.json()["error"]) == (status, code)
        assert "a secret" not in answer.text
        assert int(answer.headers["retry-after"]) > 0
        site.processor.fault = None
        assert (await site.run({"workflow": "nightly"}, TASK)).status_code == 200
        first, second = (run_id for _, run_id in site.processor.runs)
        assert first == second
        assert await site.kept() == []


class Hostile:
    def __str__(self) -> str:
        raise ValueError("never shown")

    __repr__ = __str__


@pytest.mark.parametrize("results", [{"a": float("nan")}, {(1, 2): 3}, {"a": Hostile()}, None, [1]])
async def test_results_that_json_cannot_say_do_not_make_a_workflow_run_again(serve: Serve, results: Any) -> None:
    async with serve() as site:
        site.processor.results = results
        answers = [await site.run({"workflow": "nightly"}, TASK) for _ in range(2)]
        assert [answer.status_code for answer in answers] == [200, 200]
        assert answers[0].json() == answers[1].json()
        assert len(site.processor.runs) == 1


@pytest.mark.parametrize("length", [10, 5000])
async def test_tasks_of_different_names_are_different_tasks_however_long(serve: Serve, length: int) -> None:
    async with serve() as site:
        for last in ("a", "b", "a"):
            name = "x" * length + last
            assert (await site.run({"workflow": "w"}, {**TASK, "X-CloudTasks-TaskName": name})).status_code == 200
        assert len({run_id for _, run_id in site.processor.runs}) == len(site.processor.runs) == 2


UNKNOWN = CandidateNotFoundError("workflow", "nightly")
MALFORMED = WorkflowError("the workflow has a cycle")


@pytest.mark.parametrize(
    ("fault", "status", "code", "reason"),
    [(UNKNOWN, 404, "workflow-missing", "unknown"), (MALFORMED, 400, "workflow-malformed", "failed")],
)
async def test_what_can_never_be_done_is_kept_and_not_delivered_for_ever(
    serve: Serve, fault: Exception, status: int, code: str, reason: str
) -> None:
    async with serve() as site:
        site.processor.fault = fault
        to_tasks = await site.run({"workflow": "nightly", "context": 3}, TASK)
        to_others = await site.run({"workflow": "nightly"})
        assert (to_tasks.status_code, to_others.status_code) == (200, status)
        assert (to_tasks.json()["status"], to_tasks.json()["error"]) == ("dead-lettered", code)
        assert to_others.json()["error"] == code
        letter = await site.letters.show(to_tasks.json()["dead_letter"])
        assert (letter.kind, letter.subject, letter.reason, letter.body["context"]) == (
            "workflow",
            "nightly",
            reason,
            3,
        )
        again = await site.run({"workflow": "nightly"}, TASK)
        assert again.json() == to_tasks.json()


@pytest.mark.parametrize(
    ("body", "code"),
    [
        (b"{", "invalid-json"),
        (b"\xff", "invalid-json"),
        (b'{"workflow": "a", "workflow": "b"}', "invalid-json"),
        (b"[" * 40 + b"]" * 40, "invalid-json"),
        (b"[]", "payload-must-be-object"),
        (b"{}", "workflow-key-missing"),
        (b'{"workflow": " "}', "workflow-key-missing"),
        (b'{"workflow": 3}', "workflow-key-missing"),
        (b'{"workflow": "a", "run_id": 3}', "payload-field-invalid"),
        (b'{"workflow": "a", "checkpoint": []}', "payload-field-invalid"),
        (json.dumps({"workflow": "a" * 300}).encode(), "payload-field-invalid"),
    ],
)
async def test_a_body_that_makes_no_sense_is_told_by_the_published_code(serve: Serve, body: bytes, code: str) -> None:
    async with serve() as site:
        others = await site.run(body)
        assert (others.status_code, others.json()["error"]) == (400, code)
        tasks = await site.run(body, TASK)
        assert (tasks.status_code, tasks.json()["error"]) == (200, code)
        assert await site.kept() == [("workflow", "", "malformed")] * 2
        assert site.processor.runs == []


def message(data: object, message_id: str = "m-1", **attributes: str) -> dict[str, Any]:
    text = base64.b64encode(json.dumps(data).encode()).decode()
    return {
        "message": {"data": text, "messageId": message_id, "publishTime": "2026-01-02T03:04:05Z",
                    "attributes": attributes},
        "subscription": "projects/p/subscriptions/s",
    }  # fmt: skip


async def test_a_pushed_message_is_dispatched_once(serve: Serve) -> None:
    async with serve() as site:
        sent = message({"total": 3}, topic="orders.created", tenant="acme")
        for _ in range(3):
            answer = await site.push(sent, PUBSUB)
            assert answer.status_code == 200
            assert (answer.json()["status"], answer.json()["matched_handlers"]) == ("dispatched", 1)
        (event,) = site.seen
        assert (event.topic, event.payload, event.id) == ("orders.created", {"total": 3}, "m-1")
        assert (event.headers, event.time) == ({"tenant": "acme"}, "2026-01-02T03:04:05Z")
        await site.push(message({"total": 4}, "m-2", topic="orders.created"), PUBSUB)
        assert len(site.seen) == 2


async def test_cloudevents_are_dispatched_once_in_both_modes_and_inside_a_message(serve: Serve) -> None:
    attributes = {"ce-specversion": "1.0", "ce-type": "orders.created", "ce-source": "/shop", "ce-id": "1"}
    structured = {"specversion": "1.0", "type": "orders.created", "source": "/shop", "id": "1", "data": {"total": 3}}
    async with serve() as site:
        binary = await site.push({"total": 3}, {**attributes, "Content-Type": "application/json"})
        whole = await site.push(structured, {"Content-Type": "application/cloudevents+json"})
        inside = await site.push(message({"total": 3}, **attributes), PUBSUB)
        assert [each.status_code for each in (binary, whole, inside)] == [200] * 3
        (event,) = site.seen
        assert (event.topic, event.payload, event.source, event.id) == ("orders.created", {"total": 3}, "/shop", "1")


@pytest.mark.parametrize(
    ("sent", "code"),
    [
        (b"{", "invalid-json"),
        ({"message": 3}, "event-malformed"),
        ({"message": {"data": "!", "messageId": "1", "attributes": {"topic": "a"}}}, "event-malformed"),
        ({"message": {"data": "/w==", "messageId": "1", "attributes": {"topic": "a"}}}, "event-malformed"),
        ({"message": {"data": "", "attributes": {"topic": "a"}}}, "event-malformed"),
        ({"message": {"messageId": "1", "attributes": {"topic": 3}}}, "event-malformed"),
        (message(1, topic="a..b"), "event-malformed"),
        (message(1), "event-topic-missing"),
    ],
)
async def test_a_message_that_makes_no_sense_is_kept_and_not_pushed_for_ever(
    serve: Serve, sent: Any, code: str
) -> None:
    async with serve() as site:
        answer = await site.push(sent, PUBSUB)
        assert (answer.status_code, answer.json()["error"]) == (200, code)
        assert await site.kept() == [("event", "", "malformed")]
        assert site.seen == []


async def test_anybody_else_is_told_that_an_event_makes_no_sense(serve: Serve) -> None:
    async with serve() as site:
        assert (await site.push(b"{")).status_code == 400
        odd = await site.push({}, {"ce-specversion": "0.3", "ce-type": "a", "ce-source": "s", "ce-id": "1"})
        assert (odd.status_code, odd.json()["error"]) == (400, "event-malformed")


async def test_text_is_a_payload_and_a_default_topic_stands_in(serve: Serve) -> None:
    async with serve(default_topic="orders.other") as site:
        sent = {"message": {"data": base64.b64encode(b"plain").decode(), "message_id": "1"}, "subscription": "s"}
        assert (await site.push(sent)).status_code == 200
        assert (site.seen[0].topic, site.seen[0].payload) == ("orders.other", "plain")


async def test_what_a_handler_did_not_take_is_a_dead_letter_and_not_pushed_again(serve: Serve) -> None:
    async with serve() as site:

        async def fail(envelope: EventEnvelope) -> None:
            raise OSError("gone")

        site.events.subscribe(EventHandler(name="bad", call=fail))
        answer = await site.push(message(1, topic="orders.created"), PUBSUB)
        assert (answer.status_code, answer.json()["failures"]) == (200, 1)
        assert [(each.handler, each.reason) for each in await site.letters.letters()] == [("bad", "failed")]
        assert len(site.seen) == 1


async def test_an_event_that_everybody_refuses_is_asked_to_come_again(serve: Serve) -> None:
    resolver = Resolver()

    class Mail:
        async def handle(self, envelope: EventEnvelope) -> None:
            handled.append(envelope.id)

    handled: list[str] = []
    resolver.register(Candidate(domain="event", key="mail", provider="smtp", factory=Mail))
    async with LifecycleManager(resolver) as lifecycle:
        bridge = EventBridge(resolver=resolver, lifecycle=lifecycle)
        async with serve(events=bridge, refuses=bridge.refusal) as site:
            bridge.dead_letters = site.letters
            await bridge.set_paused("mail", True, note="maintenance")
            answer = await site.push(message(1, topic="orders.created"), PUBSUB)
            assert (answer.status_code, answer.json()["error"]) == (503, "event-paused")
            assert int(answer.headers["retry-after"]) > 0
            await bridge.resume("mail")
            assert (await site.push(message(1, topic="orders.created"), PUBSUB)).status_code == 200
            assert (handled, await site.kept()) == (["m-1"], [])


async def test_deliveries_are_asked_with_post_uncompressed_and_bounded(serve: Serve) -> None:
    async with serve(settings={"max_body_bytes": 200}) as site:
        wrong = await site.post("/tasks/workflow", b"", method="GET")
        assert (wrong.status_code, wrong.headers["allow"]) == (405, "POST")
        assert (await site.run(b"x", {"Content-Encoding": "gzip"})).status_code == 415
        assert (await site.run({"workflow": "a" * 300})).status_code == 413
        assert (await site.post("/tasks/other", {})).status_code == 404
        assert (await site.post("/api/v1/status", {})).status_code == 404
        assert (await site.post("/healthz", b"", method="GET")).json() == {"status": "ok"}
        assert (await site.run({"workflow": "a"}, {"Host": "evil.example"})).status_code == 403


async def test_whoever_cannot_prove_who_they_are_runs_nothing(serve: Serve) -> None:
    key = "k" * 32
    auth = {"auth": {"kind": "hmac", "hmac_keys": {"me": key}}}
    async with serve(settings=auth) as site:
        body = json.dumps({"workflow": "nightly"}).encode()
        assert (await site.run(body, TASK)).status_code == 401
        signer = HmacSigner("me", Secret(key))
        signed = signer.headers("POST", "/tasks/workflow", body)
        assert (await site.run(body + b" ", {**TASK, **signed})).status_code == 401
        assert site.processor.runs == []
        signed = signer.headers("POST", "/tasks/workflow", body)
        assert (await site.run(body, {**TASK, **signed})).status_code == 200
        assert len(site.processor.runs) == 1


async def test_a_server_that_would_be_open_to_everybody_does_not_start(serve: Serve, tmp_path: Path) -> None:
    site = Site(tmp_path, settings={"host": "0.0.0.0"})  # noqa: S104 - it is refused
    with pytest.raises(ConfigurationError, match="can be reached from outside"):
        await site.server.start()


async def test_answers_are_kept_no_longer_and_no_more_than_they_have_to_be(tmp_path: Path) -> None:
    now = [1000.0]
    async with DeliveryStore(tmp_path / DELIVERIES_FILE, keep_seconds=60, clock=lambda: now[0]) as store:
        done = Answer(status=200, document={"status": "completed", "result": "x" * 300_000})
        first = await store.begin("a")
        assert isinstance(first, int)
        assert await store.finish("a", first, done)
        found = await store.begin("a")
        assert isinstance(found, Answer)
        assert found.document == {"status": "completed", "truncated": True}
        now[0] += 61
        assert await store.begin("b") == 1
        assert await store.begin("a") == 1
        assert await store.begin("b") is None


async def test_a_delivery_that_was_begun_before_the_machine_started_anew_is_nobodys() -> None:
    async with DeliveryStore(lease_seconds=3600) as store:
        assert await store.begin("a") == 1
        assert await store.begin("a") is None
        await store._store.write(lambda database: database.execute("UPDATE deliveries SET boot = 'another'"))
        assert await store.begin("a") == 2


async def test_a_delivery_that_somebody_is_about_is_not_forgotten_however_old_it_is() -> None:
    now = [1000.0]
    async with DeliveryStore(keep_seconds=60, most_answers=1, clock=lambda: now[0]) as store:
        assert await store.begin("a") == 1
        now[0] += 3600
        assert await store.begin("b") == 1
        assert await store.begin("c") == 1
        assert await store.begin("a") is None


def test_a_delivery_whose_process_is_gone_is_done_again_and_the_gone_one_keeps_nothing() -> None:
    async def scenario() -> None:
        async with DeliveryStore(lease_seconds=60) as store:
            done = Answer(status=200, document={"status": "completed"})
            assert await store.begin("a") == 1
            await asyncio.sleep(50)
            assert await store.renew("a", 1)
            await asyncio.sleep(50)
            assert await store.begin("a") is None
            await asyncio.sleep(11)
            assert await store.begin("a") == 2
            assert not await store.renew("a", 1)
            assert not await store.finish("a", 1, done)
            assert await store.finish("a", 2, done)
            assert await store.begin("a") == done

    run_driven(scenario())
