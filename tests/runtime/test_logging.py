"""The log: what is written, in which form, and where it never goes."""

import json
import subprocess
import sys
from collections.abc import Iterator
from io import StringIO
from typing import Any

import pytest
import structlog

from oneiric.core import Secret
from oneiric.core.events import Bound, CleanupFailed, DrainTimedOut, Registered, SwapFailed
from oneiric.core.resolution import Candidate
from oneiric.runtime.logging import configure_logging, get_logger, log_event, shutdown_logging
from oneiric.runtime.settings import AppSettings, LoggingSettings

SLOT: dict[str, Any] = {
    "at": 0.0, "domain": "adapter", "key": "cache", "tenant": None, "provider": "memory", "generation": 2
}  # fmt: skip


class Terminal(StringIO):
    def isatty(self) -> bool:
        return True


@pytest.fixture(autouse=True)
def unconfigured() -> Iterator[None]:
    structlog.reset_defaults()
    yield
    shutdown_logging()
    structlog.reset_defaults()


def lines(stream: StringIO) -> list[dict[str, Any]]:
    return [json.loads(line) for line in stream.getvalue().splitlines()]


def test_lines_are_json_where_nobody_watches_and_text_on_a_terminal() -> None:
    file, terminal = StringIO(), Terminal()
    configure_logging(stream=file)
    get_logger("a").info("one", x=1)
    structlog.reset_defaults()
    configure_logging(stream=terminal)
    get_logger("a").info("two", x=1)
    assert lines(file)[0]["event"] == "one"
    assert "two" in terminal.getvalue()
    with pytest.raises(json.JSONDecodeError):
        lines(terminal)


@pytest.mark.parametrize("as_json", [True, False])
def test_the_form_can_be_said(as_json: bool) -> None:
    stream = Terminal() if as_json else StringIO()
    configure_logging(LoggingSettings(emit_json=as_json), stream=stream)
    get_logger("a").info("one")
    assert stream.getvalue().startswith("{") is as_json


def test_a_line_says_who_when_and_how_severe() -> None:
    stream = StringIO()
    configure_logging(app=AppSettings(name="shop", environment="prod"), stream=stream)
    get_logger("a").warning("one")
    line = lines(stream)[0]
    assert line.pop("timestamp").endswith("Z")
    assert line == {
        "event": "one", "level": "warning", "logger": "a",
        "service.name": "shop", "deployment.environment": "prod",
    }  # fmt: skip


@pytest.mark.parametrize(
    ("settings", "app", "written"),
    [
        (LoggingSettings(), AppSettings(), ["info", "error"]),
        (LoggingSettings(), AppSettings(debug=True), ["debug", "info", "error"]),
        (LoggingSettings(level="ERROR"), AppSettings(debug=True), ["error"]),
    ],
)
def test_the_level_is_the_one_said_then_debug_then_info(
    settings: LoggingSettings, app: AppSettings, written: list[str]
) -> None:
    stream = StringIO()
    configure_logging(settings, app=app, stream=stream)
    for level in ("debug", "info", "error"):
        getattr(get_logger("a"), level)(level)
    assert [line["event"] for line in lines(stream)] == written


def test_a_host_that_configured_structlog_keeps_its_configuration() -> None:
    ours = StringIO()
    with structlog.testing.capture_logs():
        assert configure_logging(stream=ours) is False
    assert ours.getvalue() == ""


def test_secrets_are_masked_by_type_and_by_name() -> None:
    stream = StringIO()
    configure_logging(stream=stream)
    get_logger("a").info(
        "one", value=Secret("S3CR3T"), db_password="S3CR3T", max_tokens=5,
        nested={"API-Key": "S3CR3T", "l": [{"token": "S3CR3T"}]},
    )  # fmt: skip
    assert "S3CR3T" not in stream.getvalue()
    assert lines(stream)[0]["max_tokens"] == 5


@pytest.mark.parametrize(
    ("event", "line"),
    [
        (
            Bound(**SLOT, previous="sqlite", duration_seconds=0.1, in_flight=3, revision=7),
            {"event": "swap-complete", "level": "info", "generation": 2, "previous": "sqlite", "duration_ms": 100.0},
        ),
        (
            SwapFailed(**SLOT, step="health", reason="ill", rolled_back=True, revision=7),
            {
                "event": "swap-failed",
                "level": "error",
                "step": "health",
                "reason": "ill",
                "rolled_back": True,
            },
        ),
        (
            DrainTimedOut(**SLOT, in_flight=1, forced=False),
            {"event": "drain-timed-out", "level": "warning", "in_flight": 1, "forced": False},
        ),
        (
            CleanupFailed(**SLOT, reason="stuck"),
            {"event": "swap-cleanup-failed", "level": "warning", "reason": "stuck"},
        ),
    ],
)
def test_events_of_the_lifecycle_are_lines(event: object, line: dict[str, Any]) -> None:
    stream = StringIO()
    configure_logging(stream=stream)
    log_event(event)
    assert line.items() <= lines(stream)[0].items()
    assert {"oneiric.domain": "adapter", "oneiric.key": "cache", "oneiric.provider": "memory"}.items() <= lines(stream)[
        0
    ].items()


def test_a_registration_is_a_line_about_its_candidate() -> None:
    stream = StringIO()
    configure_logging(LoggingSettings(level="DEBUG"), stream=stream)
    candidate = Candidate(domain="service", key="pay", provider="stripe", factory=object)
    log_event(Registered(at=0.0, revision=1, candidate=candidate))
    assert {"oneiric.domain": "service", "oneiric.key": "pay", "oneiric.provider": "stripe"}.items() <= lines(stream)[
        0
    ].items()


def test_an_event_nobody_described_is_no_line() -> None:
    stream = StringIO()
    configure_logging(stream=stream)
    log_event(object())
    assert stream.getvalue() == ""


def test_the_log_goes_to_stderr_and_structlog_is_loaded_when_it_is_used() -> None:
    code = (
        "import sys, oneiric.runtime.logging as log\n"
        "assert 'structlog' not in sys.modules\n"
        "log.configure_logging(); log.get_logger('a').info('one')"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == ""
    assert json.loads(done.stderr)["event"] == "one"
