"""App: one door to a configured system, inside whatever runs the event loop."""

import asyncio
import gc
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import structlog

from oneiric.app import App
from oneiric.core.errors import (
    ActivationError,
    ConfigurationError,
    InvalidCandidateError,
    LifecycleError,
    LoadError,
    OneiricError,
)
from oneiric.core.lifecycle import LifecycleHooks, read_snapshot
from oneiric.core.resolution import Candidate
from oneiric.domains import AdapterBridge, ServiceBridge, TaskBridge
from oneiric.runtime.notifications import NotificationRecord

type Offer = Callable[..., Candidate]
type Write = Callable[..., None]


def files_in(directory: Path) -> list[Path]:
    return list(directory.iterdir())


@pytest.fixture(autouse=True)
def quiet() -> Any:
    # The host has configured structlog: an App leaves that alone.
    with structlog.testing.capture_logs() as lines:
        yield lines
    structlog.reset_defaults()


async def test_settings_selections_and_bridges_come_together(offer: Offer, write: Write, shop: Any) -> None:
    write(
        c_yml="services:\n  selections: {pay: stripe}\n  provider_settings: {stripe: {retries: 7}}\n"
        "domains: {ledger: {selections: {main: sqlite}}}\n"
    )
    async with App.open("c.yml", environ={}) as app:
        app.resolver.apply(
            add=[
                offer("stripe", settings_model="shop_parts:StripeSettings"),
                offer("adyen", priority=9),
                offer("sqlite", domain="ledger", key="main"),
                offer("memory", domain="ledger", key="main", priority=9),
            ]
        )
        handle = await app.services.use("pay")
        assert (handle.provider, handle.settings.retries) == ("stripe", 7)
        assert (await app.domain("ledger").use("main")).provider == "sqlite"
        assert app.resolver.explain("service", "pay").active == "stripe"
    assert shop.made
    assert all(instance.is_closed for instance in shop.made)


def test_opening_needs_no_event_loop_and_writes_nothing(here: Path, offer: Offer) -> None:
    app = App.open(environ={})
    app.resolver.register(offer("stripe"))
    assert app.services.explain("pay").selected == "stripe"
    assert list(here.iterdir()) == []


async def test_using_an_app_without_a_cache_directory_writes_nothing(here: Path, offer: Offer, shop: Any) -> None:
    async with App.open(environ={}) as app:
        app.resolver.register(offer("stripe"))
        await app.services.use("pay")
    assert files_in(here) == []


async def test_the_status_is_kept_in_the_cache_directory_if_there_is_one(here: Path, offer: Offer, shop: Any) -> None:
    async with App.open(environ={}, overrides=["runtime_paths.cache_dir=state"]) as app:
        app.resolver.register(offer("stripe"))
        await app.services.use("pay")
    statuses = read_snapshot("state/lifecycle_status.json")
    assert [(each["key"], each["state"]) for each in statuses] == [("pay", "retired")]


def test_every_source_of_settings_reaches_the_app(write: Write) -> None:
    write(c_yml="app: {name: x}\nlifecycle: {drain_timeout: 2}\n")
    app = App.open(
        "c.yml", environ={"ONEIRIC_STACK_ORDER": "a:7"}, overrides=["app.environment=test"], profile="serverless"
    )
    assert (app.settings.app.name, app.settings.app.environment) == ("x", "test")
    assert app.settings.profile.name == "serverless"
    assert app.lifecycle.timeouts.drain_seconds == 2
    assert dict(app.resolver.policy.stack_order) == {"a": 7}
    assert app.loaded.origin("app.name") == "c.yml:1"


@pytest.mark.parametrize(("overrides", "environ"), [(["app.nam=x"], {}), ([], {"ONEIRIC_STACK_ORDER": "a:x"})])
def test_wrong_settings_refuse_to_open(overrides: list[str], environ: dict[str, str]) -> None:
    with pytest.raises(ConfigurationError):
        App.open(overrides=overrides, environ=environ)


def test_domains_have_one_bridge_each() -> None:
    app = App.open(environ={})
    assert app.domain("adapter") is app.adapters
    assert app.domain("service") is app.services
    assert app.domain("ledger") is app.domain("ledger")
    assert [type(app.adapters), type(app.services), type(app.domain("task"))] == [
        AdapterBridge,
        ServiceBridge,
        TaskBridge,
    ]
    with pytest.raises(InvalidCandidateError):
        app.domain("No Domain")


def test_what_is_installed_is_registered_and_reported() -> None:
    app = App.open(environ={})
    assert app.report.registered == sum(catalog.registered for catalog in app.report.catalogs)
    assert len(app.resolver.candidates()) == app.report.registered


def test_only_allowed_distributions_may_offer_anything() -> None:
    app = App.open(environ={"ONEIRIC_PLUGINS__ALLOWED_DISTRIBUTIONS": "somebody-else"})
    assert app.resolver.candidates() == ()


async def test_a_failed_start_leaves_nothing_open(offer: Offer, shop: Any) -> None:
    async with App.open(environ={}) as app:
        app.resolver.register(offer("ill", factory="shop_parts:Ill"))
        with pytest.raises(ActivationError):
            await app.services.use("pay")
    assert [instance.is_closed for instance in shop.made] == [True]


async def test_closing_retires_the_last_activated_first(offer: Offer, shop: Any) -> None:
    closed: list[str] = []
    hooks = LifecycleHooks()
    hooks.add_cleanup(lambda instance: closed.append(instance.name))
    async with App.open(environ={}, hooks=hooks) as app:
        for name in ("first", "second", "third"):
            app.resolver.register(offer("one", key=name))
            (await app.services.use(name)).instance.name = name
    assert closed == ["third", "second", "first"]
    await app.aclose()
    assert closed == ["third", "second", "first"]


async def test_an_app_is_entered_once() -> None:
    app = App.open(environ={})
    async with app:
        pass
    with pytest.raises(LifecycleError, match="entered once"):
        await app.__aenter__()


async def test_events_are_logged_until_the_app_is_closed(offer: Offer, shop: Any, quiet: list[dict[str, Any]]) -> None:
    async with App.open(environ={}) as app:
        app.resolver.register(offer("stripe"))
        await app.services.use("pay")
    logged = [(line["event"], line.get("provider")) for line in quiet]
    assert ("swap-complete", "stripe") in logged
    assert ("retired", "stripe") in logged
    quiet.clear()
    app.resolver.withdraw("local")
    assert quiet == []


def test_two_apps_live_side_by_side_each_on_its_own_loop(offer: Offer, shop: Any) -> None:
    async def run(name: str) -> Any:
        async with App.open(environ={}, overrides={"app.name": name}) as app:
            app.resolver.register(offer("stripe"))
            return (await app.services.use("pay")).instance

    assert asyncio.run(run("one")) is not asyncio.run(run("two"))
    gc.collect()  # an unclosed lifecycle would warn here, and warnings are errors


def test_the_app_imports_no_command_line_and_answers_on_stderr_only() -> None:
    code = (
        "import asyncio, sys\n"
        "from oneiric.app import App\n"
        "from oneiric.core.resolution import Candidate\n"
        "async def main():\n"
        "    async with App.open(environ={}) as app:\n"
        "        app.resolver.register(Candidate(domain='service', key='pay', provider='x', factory=object))\n"
        "        await app.services.use('pay')\n"
        "asyncio.run(main())\n"
        "assert not {'typer', 'oneiric.cli', 'yaml'} & set(sys.modules)\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout) == (0, ""), done.stderr
    assert '"event": "swap-complete"' in done.stderr


@pytest.fixture
def own_path(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "path", [*sys.path])


@pytest.mark.usefixtures("own_path")
def test_modules_named_in_the_settings_register_what_they_have(here: Path, write: Write) -> None:
    write(c_yml="plugins: {imports: [my_wares]}\n")
    (here / "my_wares.py").write_text(
        "from oneiric.core import Candidate\n"
        "def register(resolver):\n"
        "    resolver.register(Candidate(domain='service', key='wares', provider='mine', factory=dict))\n"
    )
    assert App.open("c.yml", environ={}).services.explain("wares").selected == "mine"


@pytest.mark.usefixtures("own_path")
@pytest.mark.parametrize(
    ("code", "error", "sentence"),
    [
        (None, ConfigurationError, "plugins.imports no_wares: there is no such module"),
        ("1 / 0", LoadError, "plugins.imports broken_wares: ZeroDivisionError"),
        ("import not_there_at_all", LoadError, "it needs module 'not_there_at_all'"),
    ],
)
def test_a_module_that_cannot_be_imported_is_named(
    here: Path, code: str | None, error: type[Exception], sentence: str
) -> None:
    name = "no_wares" if code is None else "broken_wares"
    if code is not None:
        (here / "broken_wares.py").write_text(code)
    with pytest.raises(error, match=sentence):
        App.open(environ={}, overrides=[f'plugins.imports=["{name}"]'])


class Slack:
    """A messenger that keeps what it sends."""

    def __init__(self) -> None:
        self.sent: list[Any] = []

    async def send(self, message: Any) -> Any:
        self.sent.append(message)
        return SimpleNamespace(message_id="m-1", status_code=200)


async def test_a_notification_goes_to_the_messenger_that_is_selected() -> None:
    overrides = {"adapters.selections": {"notifications.slack": "slack"}}
    async with App.open(environ={}, overrides=overrides) as app:
        app.resolver.register(Candidate(domain="adapter", key="notifications.slack", provider="slack", factory=Slack))
        (receipt,) = await app.notifications.send(NotificationRecord(message="shipped", channel="orders"))
        assert (receipt.target, receipt.message_id) == ("orders", "m-1")


async def test_a_notification_without_a_messenger_is_an_error_with_a_hint() -> None:
    async with App.open(environ={}) as app:
        with pytest.raises(OneiricError, match="Try: "):
            await app.notifications.send(NotificationRecord(message="shipped", channel="orders"))
