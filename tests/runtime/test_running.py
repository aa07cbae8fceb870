"""A running system inside a host: parts of others, no state, starting, ending by itself."""

import asyncio
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import httpx
import pytest
import structlog

from oneiric.app import App, OrchestrateOptions, PlannedPart, RunningSystem
from oneiric.core import Secret
from oneiric.core.errors import AuthenticationError, ConfigurationError, LifecycleError, OneiricError
from oneiric.core.resolution import Candidate
from oneiric.runtime.control import ControlClient, HmacSigner, control_socket_path
from oneiric.runtime.telemetry import setup_otel

type Offer = Callable[..., Candidate]
type Write = Callable[..., None]

FREE = {"http.port": 0}


@pytest.fixture(autouse=True)
def quiet() -> Any:
    with structlog.testing.capture_logs() as lines:
        yield lines
    structlog.reset_defaults()


class Host:
    """Runs an app until told to stop, and says when it is ready."""

    def __init__(self, app: App, **options: Any) -> None:
        self.ready = asyncio.Event()
        self.running: RunningSystem | None = None
        self.options = OrchestrateOptions(handle_signals=False, on_ready=self._on_ready, **options)
        self.task = asyncio.create_task(app.run_forever(self.options))

    def _on_ready(self, running: RunningSystem) -> None:
        self.running = running
        self.ready.set()

    async def until_ready(self) -> RunningSystem:
        waiting = asyncio.create_task(self.ready.wait())
        await asyncio.wait((waiting, self.task), return_when=asyncio.FIRST_COMPLETED, timeout=60)
        if self.task.done():
            waiting.cancel()
            self.task.result()
        assert self.running is not None
        return self.running

    async def stop(self) -> int:
        assert self.running is not None
        self.running.stop()
        return await self.task


class Extra:
    name = "extra"

    def __init__(self, fault: Exception | None = None) -> None:
        self.steps: list[str] = []
        self.fault = fault
        self.end = asyncio.Event()

    async def start(self) -> None:
        self.steps.append("start")
        if self.fault is not None:
            raise self.fault

    async def wait(self) -> None:
        await self.end.wait()
        raise OSError("its backend is gone")

    async def stop(self) -> None:
        self.steps.append("stop")


async def test_an_app_that_keeps_no_state_serves_probes_and_leaves_no_file(here: Path) -> None:
    host = Host(App.open(environ={}, overrides=FREE))
    running = await host.until_ready()
    assert running.http is not None
    async with httpx.AsyncClient(base_url=f"http://127.0.0.1:{running.http.port}") as client:
        assert (await client.get("/readyz")).json() == {"status": "ready", "reasons": []}
        assert "oneiric_resolver_revision" in (await client.get("/metrics")).text
        status = (await client.get("/api/v1/status")).json()
        assert {part["name"] for part in status["parts"]} == {"http", "app", "secrets", "supervisor"}
    assert await host.stop() == 0
    assert await asyncio.to_thread(lambda: list(here.iterdir())) == []


async def test_parts_of_others_run_beside_and_stop_before_the_instances(here: Path, offer: Offer, shop: Any) -> None:
    extra = Extra()
    app = App.open(environ={}, overrides=FREE | {"services.selections.pay": "stripe"})
    app.resolver.register(offer("stripe"))
    host = Host(app, extend=(lambda given: [PlannedPart(part=extra)] if given is app else [],))
    await host.until_ready()
    assert extra.steps == ["start"]
    assert not shop.made[0].is_closed
    assert await host.stop() == 0
    assert (extra.steps, shop.made[0].is_closed) == (["start", "stop"], True)


async def test_a_part_that_ends_by_itself_ends_the_process_with_its_reason(here: Path) -> None:
    extra = Extra()
    host = Host(App.open(environ={}, overrides=FREE), extend=(lambda _: [PlannedPart(part=extra)],))
    await host.until_ready()
    extra.end.set()
    with pytest.raises(LifecycleError, match="extra: OSError: its backend is gone"):
        await host.task
    assert extra.steps == ["start", "stop"]


async def test_a_part_that_does_not_start_takes_the_rest_down(here: Path, offer: Offer, shop: Any) -> None:
    extra = Extra(LifecycleError("no such queue", "another one"))
    app = App.open(environ={}, overrides=FREE)
    with pytest.raises(LifecycleError, match=r"extra did not start: no such queue\. Try: another one"):
        await Host(app, extend=(lambda _: [PlannedPart(part=extra)],)).task
    assert "stop" in extra.steps


async def test_a_system_that_cannot_be_put_together_leaves_the_process_as_it_was(here: Path) -> None:
    def broken(_app: App) -> tuple[PlannedPart, ...]:
        raise ConfigurationError("nothing comes of this")

    for _ in range(2):
        with pytest.raises(OneiricError, match="nothing comes of this"):
            await Host(App.open(environ={}, overrides=FREE), extend=(broken,)).until_ready()
    setup_otel().shutdown()  # it is not set up any more


async def test_probes_are_answered_before_the_application_is_loaded(here: Path) -> None:
    seen: dict[str, Any] = {}
    loaded = App.open(environ={}, overrides=FREE).loaded

    def make_app() -> App:
        asyncio.run_coroutine_threadsafe(look(), loop).result(20)
        return App(loaded)

    async def look() -> None:
        assert running.http is not None
        async with httpx.AsyncClient(base_url=f"http://127.0.0.1:{running.http.port}") as client:
            for path in ("/healthz", "/readyz", "/api/v1/status"):
                answer = await client.get(path)
                seen[path] = (answer.status_code, answer.text)

    loop = asyncio.get_running_loop()
    options = OrchestrateOptions(handle_signals=False, on_ready=lambda system: system.stop())
    running = RunningSystem(loaded, make_app, keep_state=False, options=options)
    assert await running.run() == 0
    assert [seen[path][0] for path in ("/healthz", "/readyz", "/api/v1/status")] == [200, 503, 503]
    assert json.loads(seen["/api/v1/status"][1])["error"]["message"] == "the system is starting"


def signed_status(port: int, key: str) -> dict[str, Any]:
    client = ControlClient(f"http://127.0.0.1:{port}", timeout_seconds=10, auth=HmacSigner("ops", Secret(key)))
    return client.call("status")


async def test_a_signing_key_that_is_a_secret_is_fetched_before_anybody_may_ask_and_renewed(
    here: Path, write: Write
) -> None:
    settings = "http: {port: 0, auth: {kind: hmac, hmac_keys: {ops: '${secret:ops-key}'}}}\n"
    first, second = "0123456789abcdef0123456789abcdef", "fedcba9876543210fedcba9876543210"
    write(c_yml=f"{settings}secrets: {{inline: {{ops-key: '{first}'}}}}\n")
    app = App.open("c.yml", environ={})
    host = Host(app)
    running = await host.until_ready()
    assert running.http is not None
    port = running.http.port
    assert port is not None
    async with httpx.AsyncClient(base_url=f"http://127.0.0.1:{port}") as client:
        assert (await client.get("/healthz")).status_code == 200
        assert (await client.get("/api/v1/status")).status_code == 401
    assert (await asyncio.to_thread(signed_status, port, first))["ready"]
    write(c_yml=f"{settings}secrets: {{inline: {{ops-key: '{second}'}}}}\n")
    assert (await app.reload()).accepted
    await asyncio.sleep(0)
    with pytest.raises(AuthenticationError):
        await asyncio.to_thread(signed_status, port, first)
    assert (await asyncio.to_thread(signed_status, port, second))["ready"]
    assert await host.stop() == 0


async def test_a_key_that_cannot_be_fetched_is_a_sentence(here: Path, write: Write) -> None:
    write(c_yml="http: {port: 0, auth: {kind: hmac, hmac_keys: {ops: '${secret:none}'}}}\n")
    with pytest.raises(OneiricError, match=r"http did not start: .*none"):
        await Host(App.open("c.yml", environ={})).task


async def test_pause_drain_and_rotate_over_the_socket(here: Path, offer: Offer, shop: Any, write: Write) -> None:
    write(
        c_yml="http: {enabled: false}\n"
        "secrets: {inline: {pay: 'first-password'}}\n"
        "services: {selections: {pay: stripe}, provider_settings: {stripe: {password: '${secret:pay}'}}}\n"
    )
    app = App.open("c.yml", environ={}, keep_state=True)
    app.resolver.register(offer("stripe", settings_model="shop_parts:StripeSettings"))
    host = Host(app)
    await host.until_ready()
    client = ControlClient(control_socket_path(here / ".oneiric_cache"), timeout_seconds=10)

    def ask(operation: str, **fields: Any) -> Any:
        return asyncio.to_thread(client.call, operation, **fields)

    async with app.services.lease("pay"):
        drained = await ask("drain", domain="service", key="pay", note="new ledger")
        assert (drained["draining"], drained["in_flight"]) == (True, 1)
        assert not app.services.should_accept_work("pay")
    assert (await ask("activity"))["activity"][0]["in_flight"] == 0
    await ask("resume", domain="service", key="pay")

    before = shop.made[-1]
    write(c_yml=(here / "c.yml").read_text().replace("first-password", "second-password"))
    applied = await ask("config_apply", by="ops")
    assert applied["accepted"]
    assert shop.made[-1] is not before
    assert shop.made[-1].settings.password.reveal() == "second-password"
    assert await host.stop() == 0


async def test_a_tenant_that_shares_the_base_changes_nothing_for_everybody(here: Path, offer: Offer, shop: Any) -> None:
    app = App.open(environ={}, overrides={"http.enabled": False, "services.selections.pay": "stripe"}, keep_state=True)
    app.resolver.register(offer("stripe"))
    app.resolver.register(offer("adyen"))
    host = Host(app)
    await host.until_ready()
    client = ControlClient(control_socket_path(here / ".oneiric_cache"), timeout_seconds=10)
    serving = shop.made[-1]
    for operation in ("swap", "retire"):
        with pytest.raises(LifecycleError, match="tenant 'acme' has no instance of service:pay of its own"):
            await asyncio.to_thread(client.call, operation, domain="service", key="pay", tenant="acme")
    assert not serving.is_closed
    await asyncio.to_thread(client.call, "swap", domain="service", key="pay", tenant="acme", provider="adyen")
    await asyncio.to_thread(client.call, "retire", domain="service", key="pay", tenant="acme")
    assert not serving.is_closed
    assert await host.stop() == 0


TENANT = """
profile: {watchers_enabled: false}
http: {port: 0}
services: {selections: {pay: stripe}}
tenants: {acme: {service: {pay: adyen}}}
"""


def supervised(running: RunningSystem) -> dict[str, str]:
    assert running.system is not None
    assert running.system.supervisor is not None
    return {child.name: child.state for child in running.system.supervisor.info().children}


def when_stopped(running: RunningSystem, name: str) -> asyncio.Event:
    """Return what is set once a supervised service is stopped from now on."""
    assert running.system is not None
    assert running.system.supervisor is not None
    stopped = asyncio.Event()
    running.system.supervisor.observe(
        lambda event: stopped.set() if (event.name, event.state) == (name, "stopped") else None
    )
    return stopped


async def test_a_service_that_a_tenant_selects_is_started_supervised_and_stopped_like_the_base_one(
    here: Path, offer: Offer, write: Write, shop: Any
) -> None:
    write(c_yml=TENANT)
    app = App.open("c.yml", environ={})
    for provider in ("stripe", "adyen"):
        app.resolver.register(offer(provider))
    host = Host(app)
    running = await host.until_ready()
    base, own = shop.made
    assert supervised(running) == {"service:pay": "running", "service:pay of acme": "running"}
    assert app.lifecycle.get_status("service", "pay", tenant="acme").current_provider == "adyen"

    write(c_yml=TENANT.replace("tenants: {acme: {service: {pay: adyen}}}", ""))
    assert app.reloader.plan().stops == (("service", "pay", "acme"),)
    stopped = when_stopped(running, "service:pay of acme")
    assert (await app.reload()).accepted
    await asyncio.wait_for(stopped.wait(), 20)
    assert supervised(running) == {"service:pay": "running"}
    assert (base.is_closed, own.is_closed) == (False, True), "the base serves the tenant now"

    write(c_yml=TENANT)
    assert app.reloader.plan().starts == (("service", "pay", "acme"),)
    assert (await app.reload()).accepted
    assert supervised(running) == {"service:pay": "running", "service:pay of acme": "running"}
    assert await host.stop() == 0
    assert [made.is_closed for made in shop.made] == [True, True, True]


async def test_a_refused_reload_leaves_nothing_of_a_tenants_service_behind(
    here: Path, offer: Offer, write: Write, shop: Any
) -> None:
    write(c_yml=TENANT.replace("tenants: {acme: {service: {pay: adyen}}}", ""))
    app = App.open("c.yml", environ={})
    for provider in ("stripe", "adyen"):
        app.resolver.register(offer(provider))
    app.resolver.register(
        Candidate(domain="service", key="ill", provider="ill", factory="shop_parts:Ill", priority=0, stack_level=0)
    )
    host = Host(app)
    running = await host.until_ready()
    (base,) = shop.made

    write(c_yml=TENANT.replace("adyen}", "adyen, ill: ill}"))
    stopped = when_stopped(running, "service:pay of acme")
    refused = await app.reload()
    assert (refused.accepted, "ill" in (refused.reason or "")) == (False, True)
    await asyncio.wait_for(stopped.wait(), 20)
    assert supervised(running) == {"service:pay": "running"}
    assert not base.is_closed
    assert all(made.is_closed for made in shop.made[1:])
    assert len(shop.made) == 3
    assert app.lifecycle.stale() == ()
    assert await host.stop() == 0


async def test_what_goes_wrong_when_it_is_ready_ends_the_process(here: Path) -> None:
    def fail(running: RunningSystem) -> None:
        raise ValueError("the host is not ready")

    app = App.open(environ={}, overrides=FREE)
    with pytest.raises(ValueError, match="the host is not ready"):
        await app.run_forever(OrchestrateOptions(handle_signals=False, on_ready=fail))


async def test_a_pause_that_would_be_over_is_refused(here: Path, offer: Offer, shop: Any) -> None:
    app = App.open(environ={}, overrides={"http.enabled": False}, keep_state=True)
    app.resolver.register(offer("stripe"))
    host = Host(app)
    await host.until_ready()
    client = ControlClient(control_socket_path(here / ".oneiric_cache"), timeout_seconds=10)
    for operation in ("pause", "drain"):
        with pytest.raises(ConfigurationError, match="in the past"):
            await asyncio.to_thread(client.call, operation, domain="service", key="pay", until=1.0)
    assert app.services.should_accept_work("pay")
    assert await host.stop() == 0


async def double(self: Any, payload: int) -> int:
    return 2 * payload


async def test_deliveries_run_workflows_once_and_give_events_to_their_handlers(here: Path, offer: Offer) -> None:
    handled: list[Any] = []

    class Handler:
        async def handle(self, envelope: Any) -> None:
            handled.append(envelope.payload)

    dag = {"nodes": [{"id": "double", "task": "double", "payload": "${context.number}"}]}
    app = App.open(environ={}, overrides=FREE)
    app.resolver.register(offer("p", domain="workflow", key="report", factory=dict, metadata={"dag": dag}))
    app.resolver.register(offer("p", domain="task", key="double", factory=type("Double", (), {"run": double})))
    app.resolver.register(
        offer("p", domain="event", key="orders", factory=Handler, metadata={"topics": ["orders.created"]})
    )
    host = Host(app)
    running = await host.until_ready()
    assert running.http is not None
    async with httpx.AsyncClient(base_url=f"http://127.0.0.1:{running.http.port}") as client:
        task = {"X-CloudTasks-TaskName": "t-1", "X-CloudTasks-QueueName": "q"}
        body = {"workflow": "report", "context": {"number": 4}}
        for _ in range(2):
            answer = await client.post("/tasks/workflow", json=body, headers=task)
            assert (answer.status_code, answer.json()["result"]["results"]) == (200, {"double": 8})
        assert len(await app.workflows.runs("report")) == 1
        event = {"specversion": "1.0", "type": "orders.created", "source": "/s", "id": "1", "data": {"order": 7}}
        pushed = await client.post("/events/push", json=event, headers={"content-type": "application/cloudevents+json"})
        assert (pushed.status_code < 300, handled) == (True, [{"order": 7}])
        running.stop()
        assert running.not_ready() == ["stopping"]
    assert await host.task == 0
